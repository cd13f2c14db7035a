"""FaceNet: the GridBox network, grid targets, losses, clustering, metrics, pruning, task and commands."""
