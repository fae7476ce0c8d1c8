"""A clip of 40 frames that is the same on every machine: integer arithmetic only. ruler_excerpt.json holds what the ruler measured on it."""

from __future__ import annotations

import numpy as np

WIDTH, HEIGHT, COUNT = 176, 144, 40


def pictures() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """8-bit 4:2:0 planes: a texture that pans, and a square that crosses it the other way."""
    still, block = _texture(HEIGHT + 40, WIDTH + 120, 7), _texture(48, 48, 11)
    chroma = [_texture(HEIGHT + 40, WIDTH + 120, seed) for seed in (13, 17)]
    found = []
    for n in range(COUNT):
        y = still[n // 3 : n // 3 + HEIGHT, 2 * n : 2 * n + WIDTH].copy()
        left = 120 - 3 * n
        x0, x1 = max(0, left), min(WIDTH, left + 48)
        if x1 > x0:
            y[40:88, x0:x1] = block[:, x0 - left : x1 - left]
        u, v = (c[n // 6 : n // 6 + HEIGHT // 2, n : n + WIDTH // 2] // 2 + 64 for c in chroma)
        found.append((y, u.copy(), v.copy()))
    return found


def _texture(height: int, width: int, seed: int) -> np.ndarray:
    rows, columns = np.mgrid[0 : height + 12, 0 : width + 12].astype(np.int64)
    noise = (rows * 73856093 ^ columns * 19349663 ^ seed * 83492791) * 2654435761 >> 7 & 0xFF
    for axis in (0, 1):
        noise = sum(np.roll(noise, shift, axis) for shift in range(6)) // 6
    smooth = noise[6 : height + 6, 6 : width + 6]
    waves = (rows[:height, :width] * 3 + columns[:height, :width] * 2) % 97
    return np.clip(4 * (smooth - 128) + 96 + waves // 2, 0, 255).astype(np.uint8)


def y4m() -> bytes:
    """The clip as a file."""
    frames = (b"FRAME\n" + b"".join(plane.tobytes() for plane in planes) for planes in pictures())
    return f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C420jpeg\n".encode() + b"".join(frames)
