"""What comes from NVIDIA's TAO: its experiment specs, and the files of its networks."""
