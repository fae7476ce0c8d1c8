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


class Filters(NamedTuple):
    """Of a frame: coefficients of Y, U and V, int64 (classes, 12), None for a plane without; and those that were sent last."""

    planes: list[np.ndarray | None]
    sent: list[np.ndarray | None]


NO_FILTERS = Filters([None, None, None], [None, None, None])


def read_filters(rans: Rans, before: Filters | None) -> Filters:
    """Those of a frame; ``before``: of the reference, None in a frame of kind I."""
    if before is not None and read_flags(rans, 1, 14)[0]:
        return before
    planes: list[np.ndarray | None] = [None, None, None]
    sent = list(before.sent) if before is not None else [None, None, None]
    for index in range(3):
        if rans.bits(1) == 0:
            continue
        if sent[index] is None or rans.bits(1) == 1:
            field = rans.bits(2) if index == 0 else 0
            if field == 3:
                raise StreamError("a loop filter of eight classes")
            classes, old = 2**field, sent[index]
            base = np.array([USUAL if old is None else old[k * len(old) // classes] for k in range(classes)])
            table = np.full(12 * classes, 42 if old is None else 38)
            new = base + read_group(rans, table).reshape(classes, 12)
            if np.abs(new).max() > LARGEST:
                raise StreamError("a coefficient of a loop filter is out of range")
            sent[index] = new
        planes[index] = sent[index]
    return Filters(planes, sent)


def filter_plane(t: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """A plane of samples with 14 fractional bits (H, W), int64 -> filtered samples 0..255."""
    n = np.clip((t + 2**9) >> 10, 0, 4080)
    height, width = n.shape
    around = np.pad(n, 2, mode="edge")

    def at(dy: int, dx: int) -> np.ndarray:
        return around[2 + dy : 2 + dy + height, 2 + dx : 2 + dx + width]

    classes = _classes(n) * len(coefficients) // 4 if len(coefficients) > 1 else np.zeros_like(n)
    total = 128 * n
    for (dy, dx), weights in zip(TAPS, coefficients.T, strict=True):
        total += weights[classes] * (at(dy, dx) + at(-dy, -dx) - 2 * n)
    return np.clip((total + 2**10) >> 11, 0, 255)


def _classes(n: np.ndarray) -> np.ndarray:
    """Of each sample, 0..3."""
    height, width = n.shape
    around = np.pad(n, 1, mode="edge")
    across = np.abs(2 * n - around[1:-1, :-2] - around[1:-1, 2:])
    down = np.abs(2 * n - around[:-2, 1:-1] - around[2:, 1:-1])
    rough = np.pad(across + down, 2)
    found = np.zeros_like(n)
    for row in range(0, height, 4):
        for column in range(0, width, 4):
            activity = rough[row : row + 8, column : column + 8].sum()
            found[row : row + 4, column : column + 4] = sum(activity > t for t in THRESHOLDS)
    return found
