"""Scale jitter: crops of other sizes, resized to the size that is trained on; softer or sharper than the clips are, and faster or slower."""

from __future__ import annotations

import math

import cv2
import numpy as np

from neuralcodec.codecs.estimation import CELL


def draw_side(rng: np.random.Generator, size: int, scale: float, most: int) -> int:
    """Side of the crop to resize to ``size``: between size / e ** scale and size * e ** scale, rounded to a multiple of CELL, at most ``most``."""
    side = round(size * math.exp(rng.uniform(-scale, scale)) / CELL) * CELL
    return min(max(side, CELL), most // CELL * CELL)


def rescale(y: np.ndarray, uv: np.ndarray, flow: np.ndarray | None, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """y (T, S, S), uv (T, 2, S/2, S/2) uint8 and flow (T-1, 2, S/8, S/8) in luma samples -> the same of ``size`` in place of S."""
    ratio = size / y.shape[-1]
    y = np.stack([_resize(p, size) for p in y])
    uv = np.stack([np.stack([_resize(p, size // 2) for p in pair]) for pair in uv])
    if flow is not None:
        flow = np.stack([np.stack([_resize(p, size // CELL) for p in pair]) for pair in flow]) * np.float32(ratio)
    return y, uv, flow


def _resize(plane: np.ndarray, side: int) -> np.ndarray:
    if side < plane.shape[-1]:
        how = cv2.INTER_AREA
    else:
        how = cv2.INTER_CUBIC if plane.dtype == np.uint8 else cv2.INTER_LINEAR
    return cv2.resize(np.ascontiguousarray(plane), (side, side), interpolation=how)
