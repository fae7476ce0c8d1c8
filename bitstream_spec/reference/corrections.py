"""Corrections of entropy.md, section 11, and pictures.md, section 13."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .choices import TURNS, probability_index, remembered
from .rans import Rans, StreamError
from .tables import read_flags, read_numbers

LARGEST = 4095
"""Magnitude of a level."""
STRIP = 512
"""Flags that are read before probabilities change, about."""
ORDER = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0), (0, 3), (1, 2), (2, 1), (3, 0), (1, 3), (2, 2), (3, 1), (2, 3), (3, 2), (3, 3)]
PLAIN, NOT_0, MORE = 9, 10, 34
"""Numbers of the first contexts."""
FIRST = [1, 1, 4, 13, 24, 1, 5, 17, 29, 16, 3, 3, 3, 3, 5, 11, 19, 19, 6, 11, 12, 19, 6, 9, 12, 17, 6, 9, 11, 17, 4, 8, 9, 15, 2, 3, 6, 11, 3, 2, 4, 6, 4, 5, 8, 12, 3, 4, 4, 5]
"""Of 32, by context: ones in frames of kind I."""
COSINES = np.array([[64, 64, 64, 64], [83, 36, -36, -83], [64, -64, -64, 64], [36, -83, 83, -36]], dtype=np.int64)


class Corrected(NamedTuple):
    """A plane's corrections: the step's index, and by number of a block whether it is plain and its levels, int64 (4, 4)."""

    step: int
    blocks: dict[int, tuple[bool, np.ndarray]]


class Corrections(NamedTuple):
    """Of a frame: those of Y, U and V, None for a plane without; and the counts of flags for the next frame, by context."""

    planes: list[Corrected | None]
    counts: list[tuple[int, int]]


NO_CORRECTIONS = Corrections([None, None, None], [])
"""Of a packet in a stream without them."""


class _Flags:
    """Reads flags by context."""

    def __init__(self, rans: Rans, counts: list[tuple[int, int]]) -> None:
        self.rans, self.counts = rans, list(counts)

    def read(self, contexts: list[int]) -> list[bool]:
        """A flag for each of these contexts, those of the lowest context first; probabilities change after them."""
        found = [False] * len(contexts)
        for context in sorted(set(contexts)):
            where = [i for i, c in enumerate(contexts) if c == context]
            flags = read_flags(self.rans, len(where), probability_index(*self.counts[context]))
            for i, flag in zip(where, flags, strict=True):
                found[i] = flag
            zeros, ones = self.counts[context]
            self.counts[context] = remembered(zeros + flags.count(False), ones + flags.count(True))
        return found


def read_corrections(rans: Rans, rows: int, columns: int, before: Corrections | None) -> Corrections:
    """Those of a frame of ``rows`` and ``columns`` of latents; ``before``: those of the reference, None in a frame of kind I."""
    counts = before.counts if before else [(32 - n, n) for n in FIRST]
    if not read_flags(rans, 1, 2)[0]:
        return Corrections([None, None, None], counts)
    flags = _Flags(rans, counts)
    planes: list[Corrected | None] = []
    for blocks in (4, 2, 2):
        planes.append(_read_plane(flags, blocks * rows, blocks * columns) if rans.bits(1) == 1 else None)
    return Corrections(planes, flags.counts)


def _read_plane(flags: _Flags, rows: int, columns: int) -> Corrected:
    step = flags.rans.bits(5)
    coded: set[tuple[int, int]] = set()
    for turn, (odd_row, odd_column) in enumerate(TURNS):
        across = range(odd_column, columns, 2)
        down = range(odd_row, rows, 2)
        strip = max(1, STRIP // max(len(across), 1))
        for top in range(0, len(down), strip):
            blocks = [(r, c) for r in down[top : top + strip] for c in across]
            contexts = []
            for r, c in blocks:
                steps = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if turn == 1 else ((0, -1), (0, 1), (-1, 0), (1, 0))
                near = min(sum((r + dr, c + dc) in coded for dr, dc in steps), 3)
                contexts.append((0, 1 + near, 5 + near, 5 + near)[turn])
            coded.update(block for block, flag in zip(blocks, flags.read(contexts), strict=True) if flag)
    where = sorted(r * columns + c for r, c in coded)
    plain = flags.read([PLAIN] * len(where))
    return Corrected(step, dict(zip(where, zip(plain, _read_levels(flags, plain), strict=True), strict=True)))


def _read_levels(flags: _Flags, plain: list[bool]) -> list[np.ndarray]:
    levels = [np.zeros((4, 4), dtype=np.int64) for _ in plain]
    for u, v in ORDER:
        near = []
        for k in levels:
            before = [(u - 1, v), (u, v - 1), (u - 1, v - 1), (u - 2, v), (u, v - 2)]
            near.append(min(sum(min(abs(int(k[at])), 2) for at in before if min(at) >= 0), 3))
        bands = [5 if p else min(u + v, 4) for p in plain]
        there = _those(range(len(plain)), flags.read([NOT_0 + 4 * band + n for band, n in zip(bands, near, strict=True)]))
        magnitudes = dict.fromkeys(there, 1)
        left = there
        for more in range(2):
            left = _those(left, flags.read([MORE + 8 * more + 4 * plain[i] + near[i] for i in left]))
            for i in left:
                magnitudes[i] += 1
        for i, rest in zip(left, read_numbers(flags.rans, len(left), 0), strict=True):
            magnitudes[i] += rest
            if magnitudes[i] > LARGEST:
                raise StreamError("a level of a correction is out of range")
        for i in there:
            levels[i][u, v] = -magnitudes[i] if flags.rans.bits(1) else magnitudes[i]
    return levels


def _those(numbers: list[int] | range, flags: list[bool]) -> list[int]:
    return [i for i, flag in zip(numbers, flags, strict=True) if flag]


def correction(corrected: Corrected, rows: int, columns: int) -> np.ndarray:
    """What is added to a plane of ``rows`` and ``columns`` of samples, in sixteenths, int64."""
    size = int(np.floor(16 * 2 ** (corrected.step / 4) + 0.5))
    plane = np.zeros((rows, columns), dtype=np.int64)
    for number, (plain, levels) in corrected.blocks.items():
        row, column = divmod(number, columns // 4)
        c = levels * size
        block = c if plain else (COSINES.T @ c @ COSINES + 2**13) >> 14
        plane[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = np.clip(block, -4080, 4080)
    return plane
