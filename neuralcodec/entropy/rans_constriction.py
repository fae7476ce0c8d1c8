"""rANS through constriction's AnsCoder: 32-bit words, 64-bit state, 24-bit precision, start state 0."""

from __future__ import annotations

from functools import cache

import constriction
import numpy as np

from neuralcodec.entropy.backend import size_in_bits
from neuralcodec.entropy.tables import IntegerModel, UniformModel

_AnsCoder = constriction.stream.stack.AnsCoder
_models = constriction.stream.model


@cache
def _prepare(model: IntegerModel | UniformModel) -> object:
    if isinstance(model, UniformModel):
        return _models.Uniform(1 << model.bits)
    # With perfect=False constriction gives each symbol a frequency of 1 and shares the other 2^24 - n in proportion.
    # Weights of T - 1 have exactly that sum, so the frequencies come back as T.
    return _models.Categorical((model.frequencies - 1).astype(np.float64), lazy=False, perfect=False)


def encode_runs(runs: list[tuple[np.ndarray, IntegerModel | UniformModel]]) -> tuple[np.ndarray, list[float]]:
    """See backend.py."""
    coder = _AnsCoder()
    bits = []
    before = 0.0
    for indices, model in reversed(runs):  # a stack: last in, first out
        coder.encode_reverse(indices, _prepare(model))
        after = size_in_bits(*coder.pos())
        bits.append(after - before)
        before = after
    return coder.get_compressed(), bits[::-1]


class _Decoder:
    def __init__(self, words: np.ndarray) -> None:
        self._coder = _AnsCoder(words)

    def decode(self, model: IntegerModel | UniformModel, count: int) -> np.ndarray:
        return self._coder.decode(_prepare(model), count)

    def position(self) -> float:
        return size_in_bits(*self._coder.pos())

    def is_empty(self) -> bool:
        return self._coder.is_empty()


def open_decoder(words: np.ndarray) -> _Decoder:
    """See backend.py."""
    return _Decoder(words)
