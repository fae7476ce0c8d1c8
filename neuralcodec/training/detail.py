"""Finer detail than the clips have: luma sharpened, and chroma with luma's detail in it.

Clips that were scaled down and compressed before have soft pictures and hardly any high frequencies in chroma. Transforms that see nothing else stop carrying
them, and lose them where a picture has them (coloured textures in sharp pictures). Where a coloured surface is lit or textured, chroma's detail follows luma's.
"""

from __future__ import annotations

import cv2
import numpy as np

RADIUS = 1.0
"""Standard deviation, in samples, of the Gaussian that detail is what differs from."""
COLOURED = 0.5
"""Most of luma's detail that enters chroma, with either sign, beside what ``most`` says of sharpening."""


def add_detail(rng: np.random.Generator, y: np.ndarray, uv: np.ndarray, most: float) -> tuple[np.ndarray, np.ndarray]:
    """y (T, S, S), uv (T, 2, S/2, S/2) uint8 -> the same with their detail up to 1 + ``most`` times as strong, and luma's in chroma."""
    luma, chroma = rng.uniform(0, most, 2)
    mixed = rng.uniform(-COLOURED * most, COLOURED * most, 2)
    sharp, coloured = np.empty_like(y), np.empty_like(uv)
    for t in range(len(y)):
        plane = y[t].astype(np.float32)
        sharp[t] = _samples(plane + luma * _detail(plane))
        fine = _detail(cv2.resize(plane, uv.shape[:1:-1], interpolation=cv2.INTER_AREA))
        for c in range(2):
            plane = uv[t, c].astype(np.float32)
            coloured[t, c] = _samples(plane + chroma * _detail(plane) + mixed[c] * fine)
    return sharp, coloured


def _detail(plane: np.ndarray) -> np.ndarray:
    return plane - cv2.GaussianBlur(plane, (0, 0), RADIUS)


def _samples(plane: np.ndarray) -> np.ndarray:
    return np.rint(plane).clip(0, 255).astype(np.uint8)
