"""Tables that adapt, of entropy.md, section 10."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from .tables import TABLES

LARGEST_OFFSET = 3072


def _moments(frequencies: np.ndarray) -> tuple[int, int]:
    """M and Q of a table."""
    radius = len(frequencies) // 2 - 1
    pairs = [(abs(k - radius), int(f)) for k, f in enumerate(frequencies)]  # the escape, the last one, counts as radius + 1
    return sum(m * f for m, f in pairs), sum(m * m * f for m, f in pairs)


MOMENTS = [_moments(t) for t in TABLES]
VARIANCES = [2**24 * q - m * m for m, q in MOMENTS]


def growth(table: int) -> int:
    """g of a table."""
    if table in (0, 63):
        return 2 * abs(MOMENTS[table][0] - MOMENTS[abs(table - 1)][0])
    return MOMENTS[table + 1][0] - MOMENTS[table - 1][0]


def score(table: int, magnitude: int) -> int:
    radius = len(TABLES[table]) // 2 - 1
    v = VARIANCES[table]
    return (2**16 * growth(table) * (2**24 * min(magnitude, radius + 1) - MOMENTS[table][0]) + v) // (2 * v)


INFORMATION = [(2**16 * growth(i) ** 2 + 2 * VARIANCES[i]) // (4 * VARIANCES[i]) for i in range(64)]


class Offsets:
    """a and I of each channel."""

    def __init__(self, channels: int) -> None:
        self.a, self.i = [0] * channels, [0] * channels

    def tables(self, index: np.ndarray, channel: np.ndarray) -> np.ndarray:
        """Scale indexes of elements of these channels -> their tables, both int64 of one shape."""
        steps = np.array([(a + 128) // 256 for a in self.a])
        return np.clip(index.astype(np.int64) + steps[channel], 0, 63)

    def learn(self, tables: np.ndarray, channel: np.ndarray, symbols: np.ndarray) -> None:
        """From the coded elements of a part: their tables, channels and symbols, all (n,)."""
        scores, informations = [0] * len(self.a), [0] * len(self.a)
        for t, c, v in zip(tables.tolist(), channel.tolist(), symbols.tolist(), strict=True):
            scores[c] += score(t, abs(v))
            informations[c] += INFORMATION[t]
        for c in range(len(self.a)):
            self.i[c] = self.i[c] + informations[c] - self.i[c] // 64
            a = self.a[c] + 256 * scores[c] // (self.i[c] + 2**16)
            self.a[c] = min(max(a, -LARGEST_OFFSET), LARGEST_OFFSET)


@dataclass
class Adaptation:
    """Of one latent: a and I of its channels, for the first part and for the later ones (the same object but for vectors), and of its hyper latent's; X, Y
    and the hyper latent of the reference."""

    first: Offsets
    later: Offsets
    hyper: Offsets
    x: np.ndarray
    y: np.ndarray
    before: np.ndarray

    @staticmethod
    def start(channels: int, hyper_shape: tuple[int, int, int], vectors: bool) -> Adaptation:
        first, zeros = Offsets(channels), np.zeros(hyper_shape[0], dtype=np.int64)
        return Adaptation(
            first,
            Offsets(channels) if vectors else first,
            Offsets(hyper_shape[0]),
            zeros,
            zeros,
            np.zeros(hyper_shape, dtype=np.int64),
        )

    def next(self) -> Adaptation:
        """One that goes on from here."""
        return copy.deepcopy(self)

    def prediction(self) -> np.ndarray:
        """What is added to the symbols of the hyper latent."""
        c = np.clip(256 * self.x // (self.y + 20), -256, 256)
        return (c[:, None, None] * self.before + 128) // 256

    def learn_hyper(self, tables: np.ndarray, symbols: np.ndarray, z: np.ndarray) -> None:
        channel = np.arange(len(z))[:, None, None] + np.zeros_like(z)
        self.hyper.learn(tables.reshape(-1), channel.reshape(-1), symbols.reshape(-1))
        self.x = self.x + (z * self.before).sum((1, 2)) - self.x // 16
        self.y = self.y + (self.before * self.before).sum((1, 2)) - self.y // 16
        self.before = z
