"""Loop filters of entropy.md, section 9, and pictures.md, section 12."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .rans import Rans, StreamError
from .tables import read_flags, read_group

LARGEST = 31
USUAL = [16, 14, 5, 7, 4, -3, -2, -2, 0, 0, 1, -1]
TAPS = [(0, 1), (1, 0), (1, 1), (1, -1), (0, 2), (2, 0), (1, 2), (1, -2), (2, 1), (2, -1), (2, 2), (2, -2)]
THRESHOLDS = (2048, 5120, 10240)


TURNED = [1, 0, 2, 3, 5, 4, 8, 9, 6, 7, 10, 11]
CLIPS = [4080, 32, 16, 8]


class PlaneFilter(NamedTuple):
    """Coefficients, int64 (classes, 12), how differences are clipped, 0..3, and coefficients of luma's, (1, 12), None without."""

    coefficients: np.ndarray
    clip: int
    luma: np.ndarray | None = None


class Filters(NamedTuple):
    """Of a frame: filters of Y, U and V, None for a plane without; and those that were sent last."""

    planes: list[PlaneFilter | None]
    sent: list[PlaneFilter | None]


NO_FILTERS = Filters([None, None, None], [None, None, None])


def read_filters(rans: Rans, before: Filters | None, directed: bool) -> Filters:
    """Those of a frame; ``before``: of the reference, None in a frame of kind I; ``directed``: the stream has feature 32."""
    if before is not None and read_flags(rans, 1, 14)[0]:
        return before
    planes: list[PlaneFilter | None] = [None, None, None]
    sent = list(before.sent) if before is not None else [None, None, None]
    for index in range(3):
        if rans.bits(1) == 0:
            continue
        if sent[index] is None or rans.bits(1) == 1:
            field = rans.bits(2) if index == 0 else 0
            if field == 3 and not directed:
                raise StreamError("a loop filter of eight classes")
            clip = rans.bits(2) if directed else 0
            has_luma = directed and index > 0 and rans.bits(1) == 1
            classes, old = 2**field, sent[index]
            base = np.array([USUAL if old is None else old.coefficients[k * len(old.coefficients) // classes] for k in range(classes)])
            table = np.full(12 * classes, 42 if old is None else 38)
            new = base + read_group(rans, table).reshape(classes, 12)
            luma = None
            if has_luma:
                luma = read_group(rans, np.full(12, 38)).reshape(1, 12)
                luma = luma + (0 if old is None or old.luma is None else old.luma)
            if any(np.abs(c).max() > LARGEST for c in (new, luma) if c is not None):
                raise StreamError("a coefficient of a loop filter is out of range")
            sent[index] = PlaneFilter(new, clip, luma)
        planes[index] = sent[index]
    return Filters(planes, sent)


def sixteenths(t: np.ndarray) -> np.ndarray:
    """Of samples with 14 fractional bits."""
    return np.clip((t + 2**9) >> 10, 0, 4080)


def _difference(n: np.ndarray, dy: int, dx: int) -> np.ndarray:
    height, width = n.shape
    return np.pad(n, 2, mode="edge")[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width] - n


def filter_plane(t: np.ndarray, plane_filter: PlaneFilter, y: np.ndarray | None = None, added: np.ndarray | None = None) -> np.ndarray:
    """A plane of samples with 14 fractional bits (H, W), int64 -> filtered samples 0..255; ``y``: that of luma (2 H, 2 W), for planes of chroma;
    ``added`` (H, W): corrections, in sixteenths."""
    n = sixteenths(t)

    def difference(dy: int, dx: int) -> np.ndarray:
        return np.clip(_difference(n, dy, dx), -CLIPS[plane_filter.clip], CLIPS[plane_filter.clip])

    w = plane_filter.coefficients
    activity, direction = _classes(n)
    classes = 2 * activity + (direction > 0) if len(w) == 8 else activity * len(w) // 4
    total = 128 * n
    for i, (dy, dx) in enumerate(TAPS):
        weights = w[classes, i]
        if len(w) == 8:
            weights = np.where(direction == 2, w[classes, TURNED[i]], weights)
        total += weights * (difference(dy, dx) + difference(-dy, -dx))
    if plane_filter.luma is not None:
        luma = sixteenths(y)
        halved = (luma[::2, ::2] + luma[::2, 1::2] + luma[1::2, ::2] + luma[1::2, 1::2] + 2) >> 2
        for weight, (dy, dx) in zip(plane_filter.luma[0], TAPS, strict=True):
            total += weight * (_difference(halved, dy, dx) + _difference(halved, -dy, -dx))
    if added is not None:
        total += 128 * added
    return np.clip((total + 2**10) >> 11, 0, 255)


def _classes(n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each sample: class of activity, 0..3, and direction, 0..2."""
    around = np.pad(n, 1, mode="edge")
    along = np.pad(np.abs(2 * n - around[1:-1, :-2] - around[1:-1, 2:]), 2)
    across = np.pad(np.abs(2 * n - around[:-2, 1:-1] - around[2:, 1:-1]), 2)
    activity, direction = np.zeros_like(n), np.zeros_like(n)
    for row in range(0, n.shape[0], 4):
        for column in range(0, n.shape[1], 4):
            a, b = (x[row : row + 8, column : column + 8].sum() for x in (along, across))
            here = slice(row, row + 4), slice(column, column + 4)
            activity[here] = sum(a + b > t for t in THRESHOLDS)
            direction[here] = 1 if 2 * a > 3 * b else 2 if 2 * b > 3 * a else 0
    return activity, direction
