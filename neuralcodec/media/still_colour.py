"""RGB and 8-bit 4:2:0 of still pictures, in integers: the same on every machine, and row by row, so that large pictures need little memory.

The conversion is JPEG's, BT.601 with chroma samples in the middle of four luma samples, but over the limited range (16 to 235, 16 to 240): the models are
trained on videos, and at equal quality of RGB pictures take fewer bits so. Gray pictures keep their samples, so the full range. Chroma is halved by
(-1, 9, 9, -1) / 16 and brought back by (-3, 29, 111, -9) / 128 (a cubic at a quarter of a sample), in each direction, ends repeated. On the eight pictures
that this was chosen on, over the full range, the pair keeps 52.1 dB of the chroma, means of four samples with JPEG's triangle 50.4 dB; neither filter moves anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

import numpy as np

from neuralcodec.core.types import ColourTags
from neuralcodec.media.pixels import Planes, rgb_of

STRIP_ROWS = 64
"""Rows that are converted at a time: temporaries stay in the cache."""
SRGB = ColourTags(primaries=1, transfer=13, matrix=6, full_range=False, chroma_location=2)
"""Tags of RGB pictures without a profile; those with one have unspecified primaries and transfer."""
GRAY = replace(SRGB, full_range=True)
"""Tags of gray pictures without a profile."""
_LUMA = (16829, 33039, 6416)
_CB, _CR = (-2428, -4768, 7196), (7196, -6026, -1170)
"""In 65536ths and 16384ths: 219/255 and 224/255 of the full range's."""
_WEIGHTS = {1: (Fraction(2126, 10000), Fraction(722, 10000)), 5: (Fraction(299, 1000), Fraction(114, 1000)), 9: (Fraction(2627, 10000), Fraction(593, 10000))}
"""Weights of red and blue by H.273 matrix."""
_SAME_WEIGHTS = {2: 5, 6: 5, 10: 9}


def planes_of_rows(rgb: list[np.ndarray], above: int, below: int) -> Planes:
    """Planes of rows of a picture from an even one on. ``rgb``: red, green and blue (h, W), uint8, that begin ``above`` rows (0 or 1) above them and end
    ``below`` rows (0 or 1) below."""
    rows = slice(above, len(rgb[0]) - below)
    luma = sum(np.multiply(c[rows], k, dtype=np.int32) for c, k in zip(rgb, _LUMA, strict=True))
    halves = [_halve(_halve(c.astype(np.int16), 0, above, below), 1, 0, 0) for c in rgb]
    chroma = []
    for weights in (_CB, _CR):
        total = sum(h * k for h, k in zip(halves, weights, strict=True))
        chroma.append(np.clip((total + (128 << 22) + (1 << 21)) >> 22, 0, 255).astype(np.uint8))
    return ((luma + (16 << 16) + 32768) >> 16).astype(np.uint8), chroma[0], chroma[1]


def full_chroma_of_rows(rgb: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """U and V of rows of a picture at the size of Y. ``rgb``: red, green and blue (h, W), uint8."""
    totals = (sum(np.multiply(c, k, dtype=np.int32) for c, k in zip(rgb, weights, strict=True)) for weights in (_CB, _CR))
    u, v = (np.clip((total + (128 << 14) + (1 << 13)) >> 14, 0, 255).astype(np.uint8) for total in totals)
    return u, v


def halve_chroma(plane: np.ndarray) -> np.ndarray:
    """A chroma plane (H, W) at half its size, as the conversion of a picture to 4:2:0 halves it."""
    total = _halve(_halve(plane.astype(np.int16), 0, 0, 0), 1, 0, 0)
    return np.clip((total + 128) >> 8, 0, 255).astype(np.uint8)


def _halve(x: np.ndarray, axis: int, before: int, after: int) -> np.ndarray:
    """16 times the samples between pairs; ``before`` and ``after`` say whether a sample more is there (else the last one is repeated)."""
    inner = x.shape[axis] - before - after
    padding = [(0, 0), (0, 0)]
    padding[axis] = (1 - before, 1 - after + inner % 2)
    x = np.pad(x, padding, mode="edge")
    x = x if axis == 0 else x.astype(np.int32)
    parts = [np.moveaxis(x, axis, 0)[n : n + inner + inner % 2 : 2] for n in range(4)]
    return np.moveaxis(9 * (parts[1] + parts[2]) - parts[0] - parts[3], 0, axis)


def rgb_strips(planes: Planes, colour: ColourTags) -> Iterator[tuple[int, np.ndarray]]:
    """RGB (h, W, 3), uint8, full range, of a picture in 4:2:0, or in 4:4:4 if its planes have one size: the first row and the strip, from the top down."""
    matrix = _SAME_WEIGHTS.get(colour.matrix, colour.matrix)
    height, width = planes[0].shape
    if matrix not in _WEIGHTS or colour.chroma_location not in (0, 2):
        yield 0, rgb_of(planes, colour)
        return
    factors = _factors(*_WEIGHTS[matrix], bool(colour.full_range))
    for top in range(0, height, STRIP_ROWS):
        bottom = min(top + STRIP_ROWS, height)
        chroma = [_double_rows(p, top, bottom, width) if p.shape != planes[0].shape else p[top:bottom].astype(np.int32) << 6 for p in planes[1:]]
        yield top, _to_rgb(planes[0][top:bottom], *(c - (128 << 6) for c in chroma), factors, bool(colour.full_range))


def _factors(red: Fraction, blue: Fraction, full: bool) -> tuple[int, int, int, int, int]:
    """Of luma in 2**20ths; of V in red, U and V in green, U in blue in 2**14ths."""
    scale = Fraction(1) if full else Fraction(255, 224)
    green, v, u = 1 - red - blue, 2 * (1 - red) * scale, 2 * (1 - blue) * scale
    return round((1 if full else Fraction(255, 219)) * 2**20), *(round(f * 2**14) for f in (v, -blue * u / green, -red * v / green, u))


def _to_rgb(y: np.ndarray, u: np.ndarray, v: np.ndarray, factors: tuple[int, int, int, int, int], full: bool) -> np.ndarray:
    luma, red_v, green_u, green_v, blue_u = factors
    base = (y.astype(np.int32) - (0 if full else 16)) * luma + (1 << 19)
    out = np.empty((*y.shape, 3), np.uint8)
    for channel, total in enumerate((red_v * v, green_u * u + green_v * v, blue_u * u)):
        out[..., channel] = np.clip((total + base) >> 20, 0, 255)
    return out


def _double_rows(plane: np.ndarray, top: int, bottom: int, width: int) -> np.ndarray:
    """Rows ``top`` (even) to ``bottom`` of a chroma plane at twice its size, in 64ths."""
    first, last = top // 2 - 2, (bottom + 1) // 2 + 2
    rows = plane[np.clip(np.arange(first, last), 0, len(plane) - 1)].astype(np.int32)
    rows = _double(rows)[: bottom - top]
    columns = np.pad(rows, ((0, 0), (2, 2)), mode="edge").T
    return (_double(columns).T[:, :width] + 128) >> 8


def _double(x: np.ndarray) -> np.ndarray:
    """128 times the samples a quarter before and after those of x, but for the two first and last ones of it."""
    n = len(x) - 4
    out = np.empty((2 * n, *x.shape[1:]), np.int32)
    a, b, c, d, e = (x[k : k + n] for k in range(5))
    out[0::2] = 111 * c + 29 * b - 3 * a - 9 * d
    out[1::2] = 111 * c + 29 * d - 3 * e - 9 * b
    return out
