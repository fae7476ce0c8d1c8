"""Graphics over pictures: letters, lines, boxes and ellipses of one colour with sharp edges, as captions, clocks, diagrams and screens have them.

Clips show hardly any. On the validation picture that has some over a smooth sky the intra model was furthest behind x265 (models/flagship.md).
"""

from __future__ import annotations

import string

import cv2
import numpy as np

MOST = 5
"""Shapes in a sample."""
LETTERS = string.ascii_letters + string.digits + " .,:-%"
FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_TRIPLEX)


def draw_graphics(rng: np.random.Generator, y: np.ndarray, uv: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """y (T, S, S), uv (T, 2, S/2, S/2) uint8 -> the same with 1 to MOST shapes over them, which do not move."""
    y, uv = y.astype(np.float32), uv.astype(np.float32)
    for _ in range(rng.integers(1, MOST, endpoint=True)):
        cover = _draw(rng, y.shape[1]).astype(np.float32) / 255
        luma, *chroma = _colour(rng).astype(np.float32)
        y += cover * (luma - y)
        uv += cv2.resize(cover, uv.shape[:1:-1], interpolation=cv2.INTER_AREA) * (np.stack(chroma)[:, None, None] - uv)
    return tuple(np.rint(planes).clip(0, 255).astype(np.uint8) for planes in (y, uv))


def _colour(rng: np.random.Generator) -> np.ndarray:
    """Y, U, V of black, white, a gray, or any colour."""
    rgb = np.repeat(rng.choice([0, 255, rng.integers(256)]), 3) if rng.random() < 0.5 else rng.integers(0, 256, 3)
    return cv2.cvtColor(rgb.astype(np.uint8)[None, None], cv2.COLOR_RGB2YCrCb)[0, 0, [0, 2, 1]]


def _draw(rng: np.random.Generator, size: int) -> np.ndarray:
    """How much a shape covers of each sample, uint8 (size, size)."""
    cover = np.zeros((size, size), np.uint8)
    first, second = (tuple(map(int, p)) for p in rng.integers(0, size, (2, 2)))
    thickness = int(rng.integers(1, 5))
    kind = rng.choice(["text", "line", "box", "ellipse"], p=[0.5, 0.25, 0.15, 0.1])
    if kind == "text":
        text = "".join(rng.choice(list(LETTERS), rng.integers(1, 16)))
        start = (first[0] - size // 3, first[1])
        cv2.putText(cover, text, start, int(rng.choice(FONTS)), float(rng.uniform(0.3, 1.5)), 255, 1 + thickness // 3, cv2.LINE_AA)
    elif kind == "line":
        cv2.line(cover, first, second, 255, thickness, cv2.LINE_AA)
    elif kind == "box":
        cv2.rectangle(cover, first, second, 255, cv2.FILLED if rng.random() < 0.5 else thickness)
    else:
        axes = tuple(map(int, rng.integers(2, size // 3, 2)))
        cv2.ellipse(cover, first, axes, float(rng.uniform(0, 180)), 0, 360, 255, cv2.FILLED if rng.random() < 0.5 else thickness, cv2.LINE_AA)
    return cover
