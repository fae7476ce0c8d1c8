"""The real decoder's md5 of the pictures of a conformance stream."""

from __future__ import annotations

import io
from pathlib import Path

import torch

from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.core.digest import RunningMd5
from neuralcodec.pipeline.decoder import DecodedFrame, DecodeOptions, StreamDecoder


def pictures_md5(stream: Path, loaded: LoadedModel) -> str:
    """Of all frames of an exact stream, in order."""
    reader, md5 = StreamReader(io.BytesIO(stream.read_bytes()), strict=True), RunningMd5()
    for item in StreamDecoder(reader, loaded, DecodeOptions(workers=1, threads=1), torch.device("cpu")).run():
        if isinstance(item, DecodedFrame):
            md5.update(item.frame)
    return md5.hexdigest()
