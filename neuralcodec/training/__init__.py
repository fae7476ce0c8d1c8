"""Training: clips, losses, stages. Uses the codecs that code files; there is no second implementation."""
