"""Our curves of classical encoders agree with those of the ruler, a program apart from this project: within 1 % of rate and 0.02 dB.

ruler_excerpt.json is what the ruler measured on ruler_clip.py. Its conventions are written down a second time below, so that the two ways of counting
are held against each other on whatever encoders this machine has.
"""

from __future__ import annotations

import io
import json
import math
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import ruler_clip

from neuralcodec.bench import classical
from neuralcodec.bench.classical import measure
from neuralcodec.bench.conditions import CONDITIONS, SETS
from neuralcodec.bench.points import Clip, read_clip
from neuralcodec.bench.zeroed_memory import fill_allocations, zeroed_memory

EXCERPT = json.loads((Path(__file__).parent / "ruler_excerpt.json").read_text())
RATE, DECIBELS = 0.01, 0.02


@pytest.fixture(scope="module")
def ruler_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ruler") / "ruler.y4m"
    path.write_bytes(ruler_clip.y4m())
    return path


@pytest.fixture(scope="module")
def clip(ruler_file) -> Clip:
    return read_clip(ruler_file)


@pytest.mark.parametrize(("name", "known"), [(name, known) for name in SETS["ruler"] for known in EXCERPT[name]],
                         ids=lambda v: v if isinstance(v, str) else str(v["value"]))
def test_the_rulers_excerpt(clip, name, known):
    if classical.missing(name):
        pytest.skip("this FFmpeg has no such encoder")
    part = Clip(clip.name, clip.video, clip.frames[: known.get("n")])  # the slowest encoder had fewer frames
    point = measure(part, name, known["value"], timed=False)
    assert point.bpp == pytest.approx(known["bpp"], rel=RATE)
    assert point.psnr == pytest.approx(known["psnr"], abs=DECIBELS)
    assert point.psnr_y == pytest.approx(known["psnr_y"], abs=DECIBELS)


@pytest.mark.parametrize("name", ["x264-medium-ld32", "x265-medium-ld32", "svtav1-p6"])
def test_the_same_counted_a_second_time(ruler_file, clip, name):
    if classical.missing(name):
        pytest.skip("this FFmpeg has no such encoder")
    setting = CONDITIONS[name].crf[2]
    bpp, psnr = counted_again(ruler_file, CONDITIONS[name], setting)
    point = measure(clip, name, setting, timed=False)
    assert point.bpp == pytest.approx(bpp, rel=1e-9)
    assert point.psnr == pytest.approx(psnr, abs=1e-9)


def test_what_was_in_memory_before_does_not_matter(clip):
    """x264 reads memory that it has not written."""
    name = "x264-medium-ld32"
    if classical.missing(name):
        pytest.skip("this FFmpeg has no such encoder")
    setting = CONDITIONS[name].crf[2]
    clean = measure(clip, name, setting, timed=False)
    fill_allocations(254)
    try:
        soiled = measure(clip, name, setting, timed=False)
    finally:
        fill_allocations(None)
    assert (soiled.bits, soiled.psnr) == (clean.bits, clean.psnr)


def counted_again(path, condition, setting) -> tuple[float, float]:
    """Bits for a luma sample of the elementary stream without SEI units, and mean (6 Y + U + V) / 8."""
    with av.open(str(path)) as container:
        source = [frame.to_ndarray() for frame in container.decode(video=0)]  # (H * 3 / 2, W): Y, then U and V
    height, width = source[0].shape[0] * 2 // 3, source[0].shape[1]
    buffer = io.BytesIO()
    with zeroed_memory(), av.open(buffer, "w", format=condition.container) as container:
        stream = container.add_stream(condition.encoder, rate=Fraction(25), options=condition.options | {condition.key: str(setting)})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, samples in enumerate(source):
            frame = av.VideoFrame.from_ndarray(samples, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    data = buffer.getvalue()
    size = len(data)
    if condition.container != "ivf":
        starts = [found.start() for found in re.finditer(rb"\x00\x00\x01", data)] + [len(data)]
        kinds = [data[s + 3] & 31 if condition.container == "h264" else data[s + 3] >> 1 & 63 for s in starts[:-1]]
        size -= sum(end - start for start, end, kind in zip(starts, starts[1:], kinds, strict=False)
                    if kind in ((6,) if condition.container == "h264" else (39, 40)))
    with av.open(io.BytesIO(data)) as container:
        decoded = [frame.to_ndarray(format="yuv420p") for frame in container.decode(video=0)]
    assert len(decoded) == len(source)
    figures = []
    for a, b in zip(source, decoded, strict=True):
        y, u, v = (10 * math.log10(255**2 / np.mean((p.astype(float) - q) ** 2)) for p, q in zip(split(a, height), split(b, height), strict=True))
        figures.append((6 * y + u + v) / 8)
    return 8 * size / (width * height * len(source)), float(np.mean(figures))


def split(samples: np.ndarray, height: int) -> list[np.ndarray]:
    chroma = samples[height:].reshape(2, -1)
    return [samples[:height], chroma[0], chroma[1]]
