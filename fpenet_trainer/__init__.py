"""FPENet: keypoint schemes, the Recombinator network, its losses, metrics, task and commands."""
