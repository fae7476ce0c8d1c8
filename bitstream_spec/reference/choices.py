"""Choices of predictions of entropy.md, section 8."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .rans import Rans
from .tables import FLAGS, read_flags

LARGEST = 9
"""Of a choice."""
TURNS = ((0, 0), (1, 1), (0, 1), (1, 0))
ANY, SAME, IS = 0, 15, 24
"""Numbers of the first contexts."""
ONES = [int(flag[1]) for flag in FLAGS]


class Choices(NamedTuple):
    """Choices of a frame's cells, int64 (h, w), the counts of flags for the next frame, by context, and whether the frame is a long-term reference."""

    value: np.ndarray | None
    counts: list[tuple[int, int]]
    lasting: bool


NO_CHOICES = Choices(None, [], False)
"""Of a packet in a stream without them."""


def first_counts() -> list[tuple[int, int]]:
    """Those of the first frame that has choices."""
    ones = [1, 3, 8] + [4 + 20 * a + 14 * b for a in range(4) for b in range(3)]
    return [(100 - n, n) for n in ones] + 9 * [(10, 30)] + 8 * [(20, 20)]


def probability_index(zeros: int, ones: int) -> int:
    """The index whose frequency is the nearest."""
    return sum(2**25 * ones >= (a + b) * (zeros + ones) for a, b in zip(ONES[:-1], ONES[1:], strict=True))


def read_choices(rans: Rans, rows: int, columns: int, before: Choices | None) -> Choices:
    """The choices of a frame; ``before``: those of the reference, None if it has none."""
    old = before.value if before else np.zeros((rows, columns), dtype=np.int64)
    counts = before.counts if before else first_counts()
    now = np.zeros((rows, columns), dtype=np.int64)
    lasting = rans.bits(1) == 1
    if rans.bits(1) == 0:
        return Choices(now, counts, lasting)
    seen = [[0, 0] for _ in counts]

    def flags(contexts: list[int]) -> list[bool]:
        """A flag for each of these contexts: those of the lowest context first."""
        found = [False] * len(contexts)
        for context in sorted(set(contexts)):
            where = [i for i, c in enumerate(contexts) if c == context]
            for i, flag in zip(where, read_flags(rans, len(where), probability_index(*counts[context])), strict=True):
                found[i] = flag
                seen[context][flag] += 1
        return found

    for turn, (odd_row, odd_column) in enumerate(TURNS):
        cells = [(r, c) for r in range(odd_row, rows, 2) for c in range(odd_column, columns, 2)]
        expected, contexts = {}, []
        for r, c in cells:
            beside = [_at(old, r + dr, c + dc) > 0 for dr, dc in ((-1, 0), (1, 0), (0, -1), (0, 1))]
            b = int(old[r, c] > 0) + int(any(beside))
            around: list[int] = []
            if turn:
                steps = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if turn == 1 else ((0, -1), (0, 1), (-1, 0), (1, 0))
                around = [n for n in (_at(now, r + dr, c + dc) for dr, dc in steps) if n > 0]
            contexts.append(ANY + b if turn == 0 else ANY + 3 + 3 * min(len(around), 3) + b)
            expected[r, c] = around[0] if around else int(old[r, c])
        left = [cell for cell, flag in zip(cells, flags(contexts), strict=True) if flag]
        foretold = [cell for cell in left if expected[cell] > 0]
        same = flags([SAME + expected[cell] - 1 for cell in foretold])
        for cell, flag in zip(foretold, same, strict=True):
            if flag:
                now[cell] = expected[cell]
        for value in range(1, LARGEST + 1):
            asked = [cell for cell in left if now[cell] == 0 and expected[cell] != value]
            # What is the only choice that is left has no flag.
            sure = [cell for cell in asked if value == LARGEST or (value == LARGEST - 1 and expected[cell] == LARGEST)]
            asked = [cell for cell in asked if cell not in sure]
            for cell, flag in zip(asked, flags([IS + value - 1] * len(asked)), strict=True):
                now[cell] = value if flag else 0
            for cell in sure:
                now[cell] = value
    return Choices(now, [remembered(n + s[0], m + s[1]) for (n, m), s in zip(counts, seen, strict=True)], lasting)


def _at(x: np.ndarray, row: int, column: int) -> int:
    return int(x[row, column]) if 0 <= row < x.shape[0] and 0 <= column < x.shape[1] else 0


def remembered(zeros: int, ones: int) -> tuple[int, int]:
    """Counts of a context once flags were added."""
    while zeros + ones > 400:
        zeros, ones = (zeros + 1) // 2, (ones + 1) // 2
    return zeros, ones
