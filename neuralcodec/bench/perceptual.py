"""Measures of quality beyond PSNR: MS-SSIM, XPSNR and VMAF, each only where what computes it is there.

- MS-SSIM: of the Y plane alone, by the package pytorch-msssim (Gaussian window of 11 samples, five scales, published weights), mean over frames. 4:2:0 is
  so not upsampled, and chroma does not enter. The smaller side must have more than 160 samples; smaller pictures have no MS-SSIM.
- XPSNR: by FFmpeg's filter ``xpsnr`` through PyAV, of each plane, averaged over frames as the filter does (over roots of weighted errors), then weighted
  6:1:1 as PSNR is. The filter takes the weights from its first input, the source.
- VMAF: by an ``ffmpeg`` with libvmaf or a ``vmaf`` on the user's PATH (vmaf.py), with the model VMAF_MODEL.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from neuralcodec.bench import vmaf
from neuralcodec.bench.metrics import IDENTICAL, Planes, check_counts, weighted
from neuralcodec.core.errors import MeasureError

SMALLEST_MS_SSIM = 161
"""Samples of the smaller side: four halvings must leave a window of 11."""
SMALLEST_XPSNR = 2048
"""Luma samples: below, the filter's blocks would have no size (FFmpeg 8.1 then ends the whole process)."""
_CHUNK = 16


@functools.cache
def unavailable(name: str) -> str | None:
    """Why a measure cannot be taken here, as one line; None if it can."""
    if name == "ms_ssim" and importlib.util.find_spec("pytorch_msssim") is None:
        return "MS-SSIM is left out: the package pytorch-msssim is missing (pip install 'neuralcodec[bench]')"
    if name == "xpsnr":
        from av.filter import filters_available

        if "xpsnr" not in filters_available:
            return "XPSNR is left out: this PyAV's FFmpeg has no filter xpsnr"
    if name == "vmaf" and vmaf.find() is None:
        return "VMAF is left out: no ffmpeg with libvmaf and no vmaf on the PATH"
    return None


def ms_ssim(source: Sequence[Planes], decoded: Sequence[Planes]) -> float | None:
    """Mean MS-SSIM (0 to 1) of the Y planes; None for pictures smaller than SMALLEST_MS_SSIM. Raises MeasureError when counts differ."""
    check_counts(source, decoded)
    if min(source[0][0].shape) < SMALLEST_MS_SSIM:
        return None
    import torch
    from pytorch_msssim import ms_ssim as compute

    total = 0.0
    with torch.no_grad():
        for start in range(0, len(source), _CHUNK):
            part = range(start, min(start + _CHUNK, len(source)))
            # Frames stand as channels, which the package filters apart and averages: many times as fast as a batch of single channels.
            a, b = (torch.from_numpy(np.stack([clip[i][0] for i in part])[None]).float().contiguous(memory_format=torch.channels_last)
                    for clip in (source, decoded))  # (1, frames, H, W)
            total += len(part) * float(compute(a, b, data_range=255))
    return total / len(source)


def decibels(similarity: float) -> float:
    """MS-SSIM in dB, IDENTICAL at most."""
    return min(IDENTICAL, -10 * math.log10(max(1 - similarity, 1e-10)))


def xpsnr(source: Sequence[Planes], decoded: Sequence[Planes], rate: Fraction) -> tuple[float, float, float, float] | None:
    """XPSNR in dB of Y, U, V and weighted 6:1:1; ``rate`` in frames a second chooses the filter's measure of motion. Planes that do not differ count as
    IDENTICAL. None for pictures smaller than SMALLEST_XPSNR. Raises MeasureError."""
    check_counts(source, decoded)
    height, width = source[0][0].shape
    if height * width < SMALLEST_XPSNR:
        return None
    import av
    from av.filter import Graph

    from neuralcodec.media.pixels import picture_of

    graph, found = Graph(), []
    arguments = f"video_size={width}x{height}:pix_fmt=yuv420p:time_base={1 / rate}:frame_rate={rate}"
    inputs = [graph.add("buffer", arguments) for _ in range(2)]
    compare, sink = graph.add("xpsnr"), graph.add("buffersink")
    for pad, node in enumerate(inputs):
        node.link_to(compare, 0, pad)
    compare.link_to(sink)

    def drain() -> None:
        while True:
            try:
                picture = sink.pull()
            except (BlockingIOError, EOFError):
                return
            found.append([float(picture.metadata.get(f"lavfi.xpsnr.xpsnr.{plane}", "inf")) for plane in "yuv"])

    try:
        graph.configure()
        for number, pair in enumerate(zip(source, decoded, strict=True)):
            for node, planes in zip(inputs, pair, strict=True):
                picture = picture_of(planes)
                picture.pts, picture.time_base = number, 1 / rate
                node.push(picture)
            drain()
        for node in inputs:
            node.push(None)
        drain()
    except (av.FFmpegError, ValueError) as error:
        raise MeasureError(f"the filter xpsnr failed: {error}") from error
    if len(found) != len(source):
        raise MeasureError(f"the filter xpsnr gave {len(found)} figures for {len(source)} frames")
    roots = np.mean(10 ** (np.array(found) / -20), axis=0)  # (3,): of errors, relative to the greatest
    y, u, v = (min(IDENTICAL, -20 * math.log10(max(float(root), 1e-30))) for root in roots)
    return y, u, v, weighted(y, u, v)
