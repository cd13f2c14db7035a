"""The fast store."""
