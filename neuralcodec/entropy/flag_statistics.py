"""Probabilities of flags that follow from what was coded before, by context (bitstream_spec/entropy.md, sections 8 and 11)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from neuralcodec.entropy.tables import FLAG_COSTS, FLAG_MODELS, TOTAL

COUNTED = 400
"""Flags that a context remembers."""
_ONES = [int(model.frequencies[1]) for model in FLAG_MODELS]
_THRESHOLDS = np.array([a + b for a, b in zip(_ONES[:-1], _ONES[1:], strict=True)])
"""Twice the frequencies of 1 halfway between those of successive probability indexes."""


@dataclass
class FlagStatistics:
    """How often flags were 0 and 1: ``counts`` int64 (contexts, 2)."""

    counts: np.ndarray

    def probability_indexes(self) -> np.ndarray:
        """Of each context, int64 (contexts,), 0..15."""
        total = self.counts.sum(1)
        return (2 * TOTAL * self.counts[:, 1:] >= _THRESHOLDS * total[:, None]).sum(1)

    def bits(self) -> np.ndarray:
        """What a flag of each context costs: float64 (contexts, 2)."""
        return FLAG_COSTS[self.probability_indexes()]

    def updated(self, seen: np.ndarray) -> Self:
        """Statistics for what comes next. ``seen``: flags by context and value, as ``counts``."""
        counts = self.counts + seen
        while (large := counts.sum(1) > COUNTED).any():
            counts[large] = (counts[large] + 1) // 2
        return type(self)(counts)


def code_by_context(contexts: np.ndarray, wanted: np.ndarray | None, count: int,
                    code: Callable[[np.ndarray, np.ndarray, np.ndarray | None], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Flags bool (n,) of ``contexts`` (n,), which are below ``count``, coded with the contexts in rising order; and how many were 0 and 1, int64 (count, 2). ``wanted``:
    the flags, None where they are read; ``code(present, counts, flags)`` codes so many flags of each context that is there, in that order, and returns them all."""
    if not contexts.size:
        return np.zeros(0, bool), np.zeros((count, 2), np.int64)
    counts = np.bincount(contexts, minlength=count)
    present = np.flatnonzero(counts)
    order = np.argsort(contexts.astype(np.uint8), kind="stable")
    flags = np.empty(len(contexts), bool)
    flags[order] = code(present, counts[present], None if wanted is None else wanted[order])
    ones = np.bincount(contexts[flags], minlength=count)
    return flags, np.stack([counts - ones, ones], 1)
