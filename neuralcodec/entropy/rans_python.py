"""rANS in plain Python, word for word the same as constriction's (bitstream_spec/entropy.md, section 2)."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache

import numpy as np

from neuralcodec.entropy.backend import size_in_bits
from neuralcodec.entropy.tables import PRECISION, TOTAL, IntegerModel, UniformModel

_MASK = TOTAL - 1
_LOWER_BOUND = 1 << 32


@cache
def _prepare(model: IntegerModel) -> tuple[list[int], list[int]]:
    frequencies = model.frequencies.tolist()
    return frequencies, [0, *np.cumsum(model.frequencies)[:-1].tolist()]


def encode_runs(runs: list[tuple[np.ndarray, IntegerModel | UniformModel]]) -> tuple[np.ndarray, list[float]]:
    """See backend.py."""
    state, words, bits = 0, [], []
    before = 0.0
    for indices, model in reversed(runs):
        if isinstance(model, UniformModel):
            shift = PRECISION - model.bits
            pairs = ((1 << shift, i << shift) for i in reversed(indices.tolist()))
        else:
            frequencies, lefts = _prepare(model)
            pairs = ((frequencies[i], lefts[i]) for i in reversed(indices.tolist()))
        for frequency, left in pairs:
            if state >> (64 - PRECISION) >= frequency:
                words.append(state & 0xFFFFFFFF)
                state >>= 32
            state = (state // frequency << PRECISION) + left + state % frequency
        after = size_in_bits(len(words), state)
        bits.append(after - before)
        before = after
    while state:
        words.append(state & 0xFFFFFFFF)
        state >>= 32
    return np.array(words, dtype=np.uint32), bits[::-1]


class _Decoder:
    def __init__(self, words: np.ndarray) -> None:
        self._words = words.tolist()
        self._state = 0
        while self._words and self._state < _LOWER_BOUND:
            self._state = self._state << 32 | self._words.pop()

    def decode(self, model: IntegerModel | UniformModel, count: int) -> np.ndarray:
        uniform = isinstance(model, UniformModel)
        symbols = self._decode_uniform(model.bits, count) if uniform else self._decode_table(model, count)
        return np.array(symbols, dtype=np.int32)

    def _decode_table(self, model: IntegerModel, count: int) -> list[int]:
        frequencies, lefts = _prepare(model)
        state, words, symbols = self._state, self._words, []
        for _ in range(count):
            quantile = state & _MASK
            symbol = bisect_right(lefts, quantile) - 1
            state = (state >> PRECISION) * frequencies[symbol] + quantile - lefts[symbol]
            if state < _LOWER_BOUND and words:
                state = state << 32 | words.pop()
            symbols.append(symbol)
        self._state = state
        return symbols

    def _decode_uniform(self, bits: int, count: int) -> list[int]:
        shift = PRECISION - bits
        low = (1 << shift) - 1
        state, words, symbols = self._state, self._words, []
        for _ in range(count):
            symbols.append((state & _MASK) >> shift)
            state = (state >> PRECISION << shift) + (state & low)
            if state < _LOWER_BOUND and words:
                state = state << 32 | words.pop()
        self._state = state
        return symbols

    def position(self) -> float:
        return size_in_bits(len(self._words), self._state)

    def is_empty(self) -> bool:
        return self._state == 0 and not self._words


def open_decoder(words: np.ndarray) -> _Decoder:
    """See backend.py."""
    return _Decoder(words)
