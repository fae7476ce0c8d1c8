"""From frames to streams and back: groups of pictures, order, workers, progress. Knows nothing of files and pixel formats."""

from neuralcodec.pipeline.decoder import DecodeOptions, StreamDecoder
from neuralcodec.pipeline.device import choose_device
from neuralcodec.pipeline.encoder import EncodeOptions, StreamEncoder

__all__ = ["DecodeOptions", "EncodeOptions", "StreamDecoder", "StreamEncoder", "choose_device"]
