"""Still pictures in tiles, with alpha: the reference decoder, which knows no windows, and the real one agree."""

from __future__ import annotations

import io
from fractions import Fraction

import numpy as np
import pytest
import torch
from reference.container import read_stream
from reference.decode import decode_alpha, decode_pictures
from reference.model import read_model
from reference.rans import StreamError

from neuralcodec.bitstream import StreamReader
from neuralcodec.codecs.files import load_model
from neuralcodec.core.types import VideoProperties
from neuralcodec.pipeline.decoder import DecodeOptions
from neuralcodec.pipeline.encoder import EncodeOptions
from neuralcodec.pipeline.still_decoder import StillDecoder
from neuralcodec.pipeline.stills import StillEncoder
from tests.bitstream.damage import split

CPU, HEIGHT, WIDTH = torch.device("cpu"), 70, 131


class Ramps:
    """A source of ramps, with alpha and a profile."""

    name, has_alpha, attachments = "ramps", True, [(1, b"icc")]

    def __init__(self, gray: bool, full: bool = False) -> None:
        self.properties = VideoProperties(WIDTH, HEIGHT, Fraction(1, 25), still=True, gray=gray, full_chroma=full)

    def planes(self, top: int, bottom: int):
        y, x = np.mgrid[top:bottom, :WIDTH]
        luma = (2 * x // 3 + y + 40 * (x // 30 % 2)).astype(np.uint8)
        chroma = luma[::2, ::2]
        return luma, chroma, 255 - chroma

    def chroma(self, top: int, bottom: int):
        luma = self.planes(top, bottom)[0]
        return luma // 2 + 60, 200 - luma // 2

    def alpha(self, top: int, bottom: int) -> np.ndarray:
        return (255 - self.planes(top, bottom)[0]).astype(np.uint8)


@pytest.mark.parametrize(("tile", "gray", "full"), [(64, False, False), (0, False, False), (0, True, False), (64, False, True), (0, False, True)])
def test_samples_and_opacity_agree(tiny_exact_model, tile, gray, full):
    loaded = load_model(tiny_exact_model)
    encoder = StillEncoder(loaded, EncodeOptions(2, 60), CPU, tile_size=tile, whole_pixels=0 if tile else 1 << 26)
    data = encoder.encode(Ramps(gray, full)).data
    still = StillDecoder(StreamReader(io.BytesIO(data)), loaded, DecodeOptions(), CPU).run()
    stream, model = read_stream(data), read_model(tiny_exact_model.read_bytes())
    ((_, _, planes),) = decode_pictures(stream, model)
    assert all(np.array_equal(a, b) for a, b in zip(planes, still.frame.planes, strict=True))
    assert np.array_equal(decode_alpha(stream, model), still.alpha)
    assert stream.attachments == still.attachments == {1: b"icc"}
    assert (planes[1] == 128).all() == gray
    assert (planes[1].shape == planes[0].shape) == full


def test_a_missing_tile_is_refused(tiny_exact_model):
    loaded = load_model(tiny_exact_model)
    chunks = split(StillEncoder(loaded, EncodeOptions(2, 60), CPU, tile_size=64, whole_pixels=0).encode(Ramps(False)).data)
    last = max(i for i, chunk in enumerate(chunks) if i and chunk[0] >> 4 == 8)
    stream = read_stream(b"".join(chunk for i, chunk in enumerate(chunks) if i != last))
    with pytest.raises(StreamError, match="tiles"):
        list(decode_pictures(stream, read_model(tiny_exact_model.read_bytes())))
