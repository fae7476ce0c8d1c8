"""The pictures of the small test clips."""

from __future__ import annotations

import numpy as np

WIDTH, HEIGHT, FRAMES = 48, 36, 7


def picture(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Y, U, V of a smooth moving picture with some texture."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    luma = 120 + 60 * np.sin((x + 2 * number) / 5) + 30 * np.cos(y / 4)
    u, v = 128 + luma[::2, ::2] / 8, 128 - luma[::2, ::2] / 8
    return tuple(p.astype(np.uint8) for p in (luma, u, v))


def planes(count: int = FRAMES) -> bytes:
    """Raw 4:2:0 frames one after another."""
    return b"".join(p.tobytes() for n in range(count) for p in picture(n))
