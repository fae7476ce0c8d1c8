"""Probabilities of flags that follow from what was coded before, by context (bitstream_spec/entropy.md, sections 8 and 11)."""

from __future__ import annotations

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
