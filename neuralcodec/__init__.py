"""neuralcodec: a learned video and image codec with a real bitstream."""

__version__ = "0.1.0"
