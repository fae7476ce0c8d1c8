"""Choices of predictions: a small number for each cell of a picture, under probabilities that follow what was coded before
(bitstream_spec/entropy.md, section 8).

Cells are coded in four turns by the parities of row and column, so that all cells of a turn can be coded at once: what a cell's flags depend on are
cells of earlier turns and the frame before. Probabilities change from frame to frame only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.entropy.flag_statistics import FlagStatistics, code_by_context

CHOICES = 10
"""Numbers 0 .. 9; 0 is the usual one."""
TURNS = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Parities of row and column, in the order of coding."""
ANY, SAME, IS = 0, 15, 15 + CHOICES - 1
"""First contexts: whether a cell's choice is not 0; whether it is the expected one, by that; whether it is 1, 2, .."""
CONTEXTS = IS + CHOICES - 2


def _first_counts() -> np.ndarray:
    ones = [1, 3, 8, *(round(4 + 20 * a + 14 * b) for a in range(4) for b in range(3))]  # of 100, for ANY
    return np.array([*((100 - n, n) for n in ones), *((10, 30),) * (CHOICES - 1), *((20, 20),) * (CHOICES - 2)], np.int64)


@dataclass
class ChoiceStatistics(FlagStatistics):
    """Those of flags of choices, int64 (CONTEXTS, 2)."""

    counts: np.ndarray = field(default_factory=_first_counts)


class _Surroundings:
    """What the flags of cells depend on."""

    def __init__(self, before: np.ndarray) -> None:
        """``before`` (h, w): choices of the frame before."""
        there = _bordered(before > 0)
        near = there[:-2, 1:-1] | there[2:, 1:-1] | there[1:-1, :-2] | there[1:-1, 2:]
        self.before, self.around = before, there[1:-1, 1:-1].astype(np.int64) + near

    def of(self, known: np.ndarray, turn: int) -> tuple[np.ndarray, np.ndarray]:
        """Of a turn's cells: contexts of their first flag, and what choice is expected, int64. ``known`` (h + 2, w + 2): choices of this frame within a border
        of zeros, 0 where not coded yet."""
        row, column = TURNS[turn]
        around, expected = self.around[row::2, column::2], self.before[row::2, column::2].astype(np.int64)
        if turn == 0:
            return ANY + around, expected
        # Those of the first turns lie diagonally from a cell of the second, and beside those of the third and fourth.
        steps = ((0, 0), (0, 2), (2, 0), (2, 2)) if turn == 1 else ((1, 0), (1, 2), (0, 1), (2, 1))
        h, w = self.before.shape
        neighbours = [known[row + dy : dy + h : 2, column + dx : dx + w : 2] for dy, dx in steps]
        count = sum((n > 0).astype(np.int64) for n in neighbours)
        for n in reversed(neighbours):
            np.copyto(expected, n, where=n > 0)
        return ANY + 3 + 3 * np.minimum(count, 3) + around, expected


def _bordered(x: np.ndarray) -> np.ndarray:
    """x (h, w) within zeros, (h + 2, w + 2)."""
    out = np.zeros((x.shape[0] + 2, x.shape[1] + 2), x.dtype)
    out[1:-1, 1:-1] = x
    return out


def write_choices(encoder: FrameEncoder, choices: np.ndarray, before: np.ndarray | None, statistics: ChoiceStatistics,
                  label: str = "choices") -> ChoiceStatistics:
    """Add the choices (h, w), 0..9, of a frame; ``before``: those of the frame before, None for all 0. Returns the statistics for the next frame.

    Raises UsageError for other numbers."""
    if choices.ndim != 2 or (choices.size and not 0 <= choices.min() <= choices.max() < CHOICES):
        raise UsageError(f"choices of predictions are an array (h, w) of 0..{CHOICES - 1}")
    encoder.put_bits(int(choices.any()), 1, label)
    if not choices.any():
        return statistics
    indexes = statistics.probability_indexes()

    def code(contexts: Sequence[int], counts: Sequence[int], flags: np.ndarray | None) -> np.ndarray:
        encoder.put_flag_runs(flags, counts, indexes[contexts], label)
        return flags

    return _code(choices, choices.shape, before, statistics, code)[1]


def read_choices(decoder: FrameDecoder, shape: tuple[int, int], before: np.ndarray | None, statistics: ChoiceStatistics,
                 label: str = "choices") -> tuple[np.ndarray, ChoiceStatistics]:
    """What ``write_choices`` wrote: uint8 (h, w), and the statistics for the next frame."""
    if not decoder.get_bits(1, 1, label)[0]:
        return np.zeros(shape, np.uint8), statistics
    indexes = statistics.probability_indexes()
    return _code(None, shape, before, statistics, lambda contexts, counts, flags: decoder.get_flag_runs(counts, indexes[contexts], label))


def choice_costs(choices: np.ndarray, before: np.ndarray | None, statistics: ChoiceStatistics) -> np.ndarray:
    """Bits of each choice in each cell, were the others as ``choices`` (h, w) says: float64 (h, w, CHOICES). For encoders."""
    bits, before = statistics.bits(), _or_zeros(before, choices.shape)
    costs = np.empty((*choices.shape, CHOICES))
    surroundings, known = _Surroundings(before), _bordered(choices)
    for turn, (row, column) in enumerate(TURNS):
        any_, expected = surroundings.of(known, turn)
        cost = costs[row::2, column::2]
        cost[..., 0] = bits[any_, 0]
        foretold, same = expected > 0, SAME + np.maximum(expected, 1) - 1
        for value in range(1, CHOICES):
            other = np.where(foretold, bits[same, 0], 0.0)
            for v in range(1, min(value, CHOICES - 2) + 1):
                certain = (expected == v) | ((v == CHOICES - 2) & (expected == CHOICES - 1))
                other += np.where(certain, 0.0, bits[IS + v - 1, int(v == value)])
            cost[..., value] = bits[any_, 1] + np.where(expected == value, bits[same, 1], other)
    return costs


def _or_zeros(before: np.ndarray | None, shape: tuple[int, int]) -> np.ndarray:
    return np.zeros(shape, np.uint8) if before is None else before


def _code(choices: np.ndarray | None, shape: tuple[int, int], before: np.ndarray | None, statistics: ChoiceStatistics,
          code: Callable[[Sequence[int], Sequence[int], np.ndarray | None], np.ndarray]) -> tuple[np.ndarray, ChoiceStatistics]:
    """``choices``: None where they are read. ``code(contexts, counts, flags)`` codes so many flags of each context and returns them all."""
    surroundings = _Surroundings(_or_zeros(before, shape))
    bordered = _bordered(np.zeros(shape, np.uint8))
    known = bordered[1:-1, 1:-1]
    seen = np.zeros((CONTEXTS, 2), np.int64)

    def flags_of(contexts: np.ndarray, wanted: np.ndarray | None) -> np.ndarray:
        """Flags (n,) of these contexts (n,), coded with the contexts in rising order."""
        flags, found = code_by_context(contexts, wanted, CONTEXTS, code)
        np.add(seen, found, out=seen)
        return flags

    def flags_of_one(context: int, count: int, wanted: np.ndarray | None) -> np.ndarray:
        flags = code([context], [count], wanted)
        ones = np.count_nonzero(flags)
        seen[context] += count - ones, ones
        return flags

    for turn, (row, column) in enumerate(TURNS):
        contexts, expected = (a.reshape(-1) for a in surroundings.of(bordered, turn))
        target = None if choices is None else choices[row::2, column::2].reshape(-1)
        value = np.zeros(len(contexts), np.uint8)
        left = np.flatnonzero(flags_of(contexts, None if target is None else target > 0))  # cells whose choice is still open
        guess = expected[left]
        foretold = left[guess > 0]
        same = flags_of(SAME + guess[guess > 0] - 1, None if target is None else target[foretold] == expected[foretold])
        value[foretold[same]] = expected[foretold[same]]
        for v in range(1, CHOICES):
            left = left[value[left] == 0]
            if not left.size:
                break
            guess = expected[left]
            asked = guess != v
            # The last one that is left needs no flag.
            certain = asked & ((v == CHOICES - 1) | ((v == CHOICES - 2) & (guess == CHOICES - 1)))
            value[left[certain]] = v
            asked = left[asked & ~certain]
            if asked.size:
                found = flags_of_one(IS + v - 1, asked.size, None if target is None else target[asked] == v)
                value[asked[found]] = v
        known[row::2, column::2] = value.reshape(known[row::2, column::2].shape)
    return known.copy(), statistics.updated(seen)
