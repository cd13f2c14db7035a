"""facetrain: train, prune and export FPENet (facial keypoints) and FaceNet (face detection)."""

__version__ = "0.1.0"
