"""Distortion of decoded clips: PSNR of 8-bit planes at their original size, and the list of all measures (the others: perceptual.py)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neuralcodec.core.errors import MeasureError

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
IDENTICAL = 100.0
"""PSNR in dB of planes that do not differ."""
WEIGHTS = (6, 1, 1)
"""Of Y, U and V in the weighted PSNR."""


@dataclass(frozen=True)
class Measure:
    """One measure of quality as a curve's second axis. ``least`` is the shortest range (in ``unit``) over which two curves are compared."""

    name: str
    label: str
    unit: str
    least: float


MEASURES = {m.name: m for m in (
    Measure("psnr", "PSNR 6:1:1", "dB", 0.5),
    Measure("psnr_rgb", "PSNR RGB", "dB", 0.5),
    Measure("ms_ssim", "MS-SSIM of luma", "dB", 0.5),
    Measure("xpsnr", "XPSNR 6:1:1", "dB", 0.5),
    Measure("vmaf", "VMAF", "points", 2.0),
)}
"""What BD figures exist for. MS-SSIM enters in dB, -10 log10(1 - MS-SSIM): near 1 its own scale says nothing."""


class FramePsnr(NamedTuple):
    """PSNR in dB of a picture's planes, and their mean weighted 6:1:1."""

    y: float
    u: float
    v: float
    yuv: float


def plane_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of two uint8 planes of one shape, (H, W) or, for RGB, (H, W, 3); IDENTICAL where they do not differ. Raises MeasureError when
    sizes differ."""
    if a.shape != b.shape:
        raise MeasureError(f"planes of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} samples cannot be compared")
    difference = (a.astype(np.int32) - b).astype(np.int64)
    squares = int(np.vdot(difference, difference))
    return 10 * float(np.log10(255**2 * a.size / squares)) if squares else IDENTICAL


def weighted(y: float, u: float, v: float) -> float:
    """The mean of three planes' figures, weighted 6:1:1."""
    return sum(w * p for w, p in zip(WEIGHTS, (y, u, v), strict=True)) / sum(WEIGHTS)


def frame_psnr(source: Planes, decoded: Planes) -> FramePsnr:
    """PSNR of one picture. Raises MeasureError when sizes differ."""
    y, u, v = (plane_psnr(a, b) for a, b in zip(source, decoded, strict=True))
    return FramePsnr(y, u, v, weighted(y, u, v))


def check_counts(source: Sequence[Planes], decoded: Sequence[Planes]) -> None:
    """Pictures are compared by index. Raises MeasureError when counts differ or there is nothing to compare."""
    if len(source) != len(decoded):
        raise MeasureError(f"frame count: {len(source)} in, {len(decoded)} out")
    if not source:
        raise MeasureError("no frames to compare")


def clip_psnr(source: Sequence[Planes], decoded: Sequence[Planes]) -> list[FramePsnr]:
    """PSNR of each picture, compared by index. Raises MeasureError when counts or sizes differ, or there is nothing to compare."""
    check_counts(source, decoded)
    return [frame_psnr(a, b) for a, b in zip(source, decoded, strict=True)]


def mean_psnr(frames: Sequence[FramePsnr]) -> FramePsnr:
    """Each figure's mean over frames: the PSNR of a clip."""
    return FramePsnr(*(float(np.mean(figure)) for figure in zip(*frames, strict=True)))
