"""Faces and scenes that are drawn."""
