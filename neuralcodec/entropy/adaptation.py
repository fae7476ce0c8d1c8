"""Tables of P frames that follow what has been coded (bitstream_spec/entropy.md, section 10), in streams that say so: encoder and decoder learn the same, nothing is sent.

A model's prior says how widely a symbol spreads. In one clip a channel spreads wider than it says, in another less: from the symbols of parts and frames
before, within a group of pictures, each channel learns how many scale indexes are to be added. Hyper latents, which have one table for each channel, learn
that as well, and how much of the hyper latent of the frame before comes back. All of it is integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from neuralcodec.entropy.latents import Elements
from neuralcodec.entropy.tables import PRECISION, RADIUS, TABLE_COUNT, TABLE_MODELS

INFORMATION_BITS, OFFSET_BITS = 16, 8
"""Fraction of scores and of information; of offsets, in scale indexes."""
PRIOR_INFORMATION = 1 << INFORMATION_BITS
"""What speaks for an offset of 0: as much as some sixty symbols of wide tables do, more of narrow ones."""
MOST_OFFSET = 12 << OFFSET_BITS
FORGET, FORGET_HYPER = 6, 4
"""Of information (of products of hyper latents), 2^-FORGET is forgotten with each part (frame)."""
PRIOR_SQUARE = 20
RATIO_BITS = 8


@cache
def slopes() -> tuple[np.ndarray, np.ndarray]:
    """Of each table: the score of a magnitude, int64 (64, 257), and the information of a symbol, int64 (64,), both with 16 fractional bits.

    A symbol's score is how far its magnitude is above the table's mean, over the variance, times what the mean grows by for an index: the step by which
    an index approaches what the symbols say is the sum of scores over that of information. Magnitudes above the radius count as radius + 1."""
    first, second = [], []
    for model, radius in zip(TABLE_MODELS, RADIUS.tolist(), strict=True):
        frequencies = model.frequencies.tolist()
        magnitudes = [*range(radius, 0, -1), *range(radius + 1), radius + 1]
        first.append(sum(m * f for m, f in zip(magnitudes, frequencies, strict=True)))
        second.append(sum(m * m * f for m, f in zip(magnitudes, frequencies, strict=True)))
    score = np.zeros((TABLE_COUNT, int(RADIUS.max()) + 2), np.int64)
    information = np.zeros(TABLE_COUNT, np.int64)
    for i in range(TABLE_COUNT):
        low, high = max(i - 1, 0), min(i + 1, TABLE_COUNT - 1)
        growth = (first[high] - first[low]) * (2 // (high - low))  # for two indexes
        variance = (second[i] << PRECISION) - first[i] ** 2
        information[i] = ((growth**2 << INFORMATION_BITS) + 2 * variance) // (4 * variance)
        for m in range(score.shape[1]):
            above = (min(m, int(RADIUS[i]) + 1) << PRECISION) - first[i]
            score[i, m] = ((above * growth << INFORMATION_BITS) + variance) // (2 * variance)
    return score, information


@dataclass
class Offsets:
    """What each of n channels adds to its scale indexes, int64 (n,) in 1/256, and the ``information`` that this rests on, int64 (n,)."""

    offset: np.ndarray
    information: np.ndarray

    @staticmethod
    def none(channels: int) -> Offsets:
        return Offsets(np.zeros(channels, np.int64), np.zeros(channels, np.int64))

    def copy(self) -> Offsets:
        return Offsets(self.offset.copy(), self.information.copy())

    def tables(self, index: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """``index``: scale indexes, uint8, ``channel``: their channels, both (m,) -> the tables to use, uint8 (m,)."""
        steps = ((self.offset + (1 << OFFSET_BITS - 1)) >> OFFSET_BITS).astype(np.int8)
        tables = steps[channel]
        tables += index.view(np.int8)  # within -12 and 75
        return np.clip(tables, 0, TABLE_COUNT - 1, out=tables).view(np.uint8)

    def learn(self, tables: np.ndarray, channel: np.ndarray, coded: np.ndarray, elements: Elements) -> None:
        """``tables``, ``channel`` and ``coded`` (bool), (m,): elements that were skipped say nothing. ``elements``: those that may be other than 0, by their
        numbers among the m, all of them coded."""
        score, information = slopes()
        channels = len(self.offset)
        bins = TABLE_COUNT + 1  # the last one for what was skipped
        counts = np.bincount(channel * bins + np.where(coded, tables, TABLE_COUNT), minlength=channels * bins).reshape(channels, bins)[:, :TABLE_COUNT]
        others = np.flatnonzero(elements.symbols)
        where = elements.where[others]
        own = tables[where]
        magnitude = np.minimum(np.abs(elements.symbols[others]), score.shape[1] - 1)
        # Sums of integers below 2^53 are exact in float64, whatever their order.
        above = np.bincount(channel[where], score[own, magnitude] - score[own, 0], channels).astype(np.int64) + counts @ score[:, 0]
        self.information += counts @ information - (self.information >> FORGET)
        step = (above << OFFSET_BITS) // (self.information + PRIOR_INFORMATION)
        self.offset = np.clip(self.offset + step, -MOST_OFFSET, MOST_OFFSET)


@dataclass
class HyperAdaptation:
    """Of a hyper latent of n channels: ``before``, int64 (n, h, w), that of the frame before; ``product`` and ``square``, int64 (n,): sums of what it was times what
    came after it, and of its squares."""

    offsets: Offsets
    product: np.ndarray
    square: np.ndarray
    before: np.ndarray

    @staticmethod
    def none(shape: tuple[int, int, int]) -> HyperAdaptation:
        return HyperAdaptation(Offsets.none(shape[0]), np.zeros(shape[0], np.int64), np.zeros(shape[0], np.int64), np.zeros(shape, np.int64))

    def tables(self, index: np.ndarray) -> np.ndarray:
        """``index`` uint8 (n,) -> the tables to use, uint8 (n, h, w)."""
        return np.broadcast_to(self.offsets.tables(index, np.arange(len(index)))[:, None, None], self.before.shape)

    def copy(self) -> HyperAdaptation:
        return HyperAdaptation(self.offsets.copy(), self.product.copy(), self.square.copy(), self.before)

    def latent_of(self, symbols: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """The hyper latent, int64 (n, h, w), that integers ``symbols`` mean, which were coded with ``tables``; learns from it."""
        latent = symbols + self._prediction()
        self._learn(symbols, latent, tables)
        return latent

    def symbols_of(self, latent: np.ndarray, tables: np.ndarray) -> np.ndarray:
        """The symbols, int64 (n, h, w), that mean a hyper ``latent`` of integers, to be coded with ``tables``; learns as ``latent_of`` will."""
        latent = latent.astype(np.int64)
        symbols = latent - self._prediction()
        self._learn(symbols, latent, tables)
        return symbols

    def _prediction(self) -> np.ndarray:
        ratio = np.clip((self.product << RATIO_BITS) // (self.square + PRIOR_SQUARE), -(1 << RATIO_BITS), 1 << RATIO_BITS)
        return (ratio[:, None, None] * self.before + (1 << RATIO_BITS - 1)) >> RATIO_BITS

    def _learn(self, symbols: np.ndarray, latent: np.ndarray, tables: np.ndarray) -> None:
        channel = np.repeat(np.arange(len(latent)), latent[0].size)
        self.offsets.learn(tables.reshape(-1), channel, np.ones(channel.size, bool), Elements.of(symbols))
        self.product += (latent * self.before).sum((1, 2)) - (self.product >> FORGET_HYPER)
        self.square += (self.before**2).sum((1, 2)) - (self.square >> FORGET_HYPER)
        self.before = latent


@dataclass
class Adaptation:
    """Of one latent of P frames, from frame to frame. ``groups``: parts from the second on have offsets of their own where there are two."""

    hyper: HyperAdaptation
    groups: list[Offsets]

    @staticmethod
    def none(channels: int, hyper: tuple[int, int, int], groups: int) -> Adaptation:
        """``hyper``: the shape of the hyper latent; ``groups``: 1 or 2."""
        return Adaptation(HyperAdaptation.none(hyper), [Offsets.none(channels) for _ in range(groups)])

    def copy(self) -> Adaptation:
        """One that can learn while this one stays."""
        return Adaptation(self.hyper.copy(), [g.copy() for g in self.groups])

    def of_part(self, part: int) -> Offsets:
        return self.groups[min(part, len(self.groups) - 1)]
