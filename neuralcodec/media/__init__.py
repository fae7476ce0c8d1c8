"""Reading and writing of video files, pictures, pipes and raw planes; imports only core (and PyAV, numpy)."""

from neuralcodec.media.sink import Sink, open_sink
from neuralcodec.media.source import Source, open_source

__all__ = ["Sink", "Source", "open_sink", "open_source"]
