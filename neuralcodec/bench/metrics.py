"""Distortion of decoded clips: PSNR of 8-bit planes at their original size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from neuralcodec.core.errors import MeasureError

Planes = tuple[np.ndarray, np.ndarray, np.ndarray]
IDENTICAL = 100.0
"""PSNR in dB of planes that do not differ."""
WEIGHTS = (6, 1, 1)
"""Of Y, U and V in the weighted PSNR."""


class FramePsnr(NamedTuple):
    """PSNR in dB of a picture's planes, and their mean weighted 6:1:1."""

    y: float
    u: float
    v: float
    yuv: float


def plane_psnr(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB of two uint8 planes (H, W); IDENTICAL where they do not differ. Raises MeasureError when sizes differ."""
    if a.shape != b.shape:
        raise MeasureError(f"planes of {a.shape[1]}x{a.shape[0]} and {b.shape[1]}x{b.shape[0]} samples cannot be compared")
    difference = a.astype(np.int32) - b
    squares = int(np.vdot(difference.astype(np.int64), difference))
    return 10 * float(np.log10(255**2 * a.size / squares)) if squares else IDENTICAL


def frame_psnr(source: Planes, decoded: Planes) -> FramePsnr:
    """PSNR of one picture. Raises MeasureError when sizes differ."""
    y, u, v = (plane_psnr(a, b) for a, b in zip(source, decoded, strict=True))
    return FramePsnr(y, u, v, sum(w * p for w, p in zip(WEIGHTS, (y, u, v), strict=True)) / sum(WEIGHTS))


def clip_psnr(source: Sequence[Planes], decoded: Sequence[Planes]) -> list[FramePsnr]:
    """PSNR of each picture, compared by index. Raises MeasureError when counts or sizes differ, or there is nothing to compare."""
    if len(source) != len(decoded):
        raise MeasureError(f"frame count: {len(source)} in, {len(decoded)} out")
    if not source:
        raise MeasureError("no frames to compare")
    return [frame_psnr(a, b) for a, b in zip(source, decoded, strict=True)]


def mean_psnr(frames: Sequence[FramePsnr]) -> FramePsnr:
    """Each figure's mean over frames: the PSNR of a clip."""
    return FramePsnr(*(float(np.mean(figure)) for figure in zip(*frames, strict=True)))
