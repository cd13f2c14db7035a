"""Annotation formats in, samples and batches out. Knows images, boxes and points; knows no network."""
