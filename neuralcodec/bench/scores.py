"""A point's figures of quality beyond PSNR, and the times of repeated runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from neuralcodec.bench import perceptual, vmaf
from neuralcodec.bench.metrics import Planes, plane_psnr
from neuralcodec.bench.points import Clip, rgb_source
from neuralcodec.media.still_files import to_image

MOST_RUNS, LEAST_RUNS = 20, 3
ENOUGH_SECONDS = 1.0
"""Decoding is timed several times, until this much time is spent: at least LEAST_RUNS times unless one run takes longer than LONG_SECONDS."""
LONG_SECONDS = 4.0


def scores(clip: Clip, decoded: Sequence[Planes], measures: Iterable[str], rgb: np.ndarray | None = None) -> dict[str, float | None]:
    """Fields of Point by name: those of ``measures`` (metrics.MEASURES; "psnr" is not among them) that can be taken of this clip. ``rgb`` are the
    samples of a decoded still, (H, W, 3), where they are not to be computed from its planes. Raises MeasureError."""
    found: dict[str, float | None] = {}
    if "ms_ssim" in measures:
        found["ms_ssim"] = perceptual.ms_ssim(clip.planes, decoded)
    if "xpsnr" in measures:
        xpsnr = perceptual.xpsnr(clip.planes, decoded, clip.rate)
        found["xpsnr"] = xpsnr[3] if xpsnr else None
    if "vmaf" in measures:
        found["vmaf"] = vmaf.vmaf(clip.planes, decoded, clip.rate)
    if "psnr_rgb" in measures and clip.still and clip.path:
        samples = np.asarray(to_image(decoded[0], clip.video).convert("RGB")) if rgb is None else rgb
        found["psnr_rgb"] = plane_psnr(rgb_source(clip), samples)
    return found


def repeat(run: Callable[[], tuple[float, float]]) -> tuple[float, float]:
    """The quickest of several runs; a run gives its seconds and those until the first picture. Noise of a machine only ever adds."""
    started, runs = time.perf_counter(), []
    while len(runs) < MOST_RUNS:
        runs.append(run())
        spent = time.perf_counter() - started
        if max(r[0] for r in runs) > LONG_SECONDS or (len(runs) >= LEAST_RUNS and spent > ENOUGH_SECONDS):
            break
    return min(runs)
