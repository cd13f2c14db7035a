"""The specs of `fpenet`, and the YAML groups that fill them."""
