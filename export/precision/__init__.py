"""Half precision and INT8."""
