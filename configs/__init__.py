"""The configuration schema, and the YAML groups that fill it."""
