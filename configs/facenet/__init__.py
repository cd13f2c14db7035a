"""The specs of `facenet`, and the YAML groups that fill them."""
