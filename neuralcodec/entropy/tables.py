"""The integer frequency tables (bitstream_spec/entropy.md, section 3), loaded from data and never computed.

Table ``i`` (a *scale index*, 0 to 63) is a discretised zero-mean Gaussian of scale ``SCALES[i]`` over the symbols
``-RADIUS[i]`` to ``RADIUS[i]``, in that order, and one escape symbol after them. Its frequencies sum to 2^24.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from neuralcodec.core.errors import UsageError

PRECISION = 24
TOTAL = 1 << PRECISION
TABLE_COUNT = 64

MAX_SYMBOL = 32767
"""Largest magnitude of a symbol."""


@dataclass(frozen=True, eq=False)
class IntegerModel:
    """Frequencies of the symbols 0..n-1, int64, each at least 1, with sum 2^24. Compared and hashed by identity."""

    frequencies: np.ndarray

    @property
    def alphabet(self) -> int:
        return len(self.frequencies)


@dataclass(frozen=True)
class UniformModel:
    """Symbols 0..2^bits-1 of equal probability, 1 <= bits <= 16."""

    bits: int

    @property
    def alphabet(self) -> int:
        return 1 << self.bits


def _frozen(values: list, dtype: type) -> np.ndarray:
    array = np.array(values, dtype=dtype)
    array.flags.writeable = False
    return array


def _expand(table: dict) -> np.ndarray:
    positive, escape = table["positive"], table["escape"]
    zero = TOTAL - 2 * sum(positive) - escape
    return _frozen([*reversed(positive), zero, *positive, escape], np.int64)


_DATA = files("neuralcodec.entropy").joinpath("entropy_tables.json").read_bytes()
_DOCUMENT = json.loads(_DATA)

TABLES_SHA256: str = hashlib.sha256(_DATA).hexdigest()
"""Hash of the table file; part of a model's identity."""

SCALES: np.ndarray = _frozen(_DOCUMENT["scales"], np.float64)
"""Standard deviations of the 64 tables, float64 (64,), for training only: decoding never reads them."""

TABLE_MODELS: tuple[IntegerModel, ...] = tuple(IntegerModel(_expand(t)) for t in _DOCUMENT["tables"])
RADIUS: np.ndarray = _frozen([len(t["positive"]) for t in _DOCUMENT["tables"]], np.int32)
"""Largest magnitude that each table codes without an escape, int32 (64,)."""

FLAG_MODELS: tuple[IntegerModel, ...] = tuple(
    IntegerModel(_frozen([TOTAL - one, one], np.int64)) for one in _DOCUMENT["flags"]
)
"""Flag models by probability index 0..15, in ascending probability of a 1."""

CLASS_MODEL = IntegerModel(_frozen(_DOCUMENT["classes"], np.int64))
"""Exp-Golomb classes 0..14: class c has probability 2^-(c+1), the last one twice that."""


def _on_grid(bits: np.ndarray) -> np.ndarray:
    # Multiples of 2^-20 add exactly in float64, so that a sum (and a choice by it) does not depend on its order.
    return np.round(bits * 2.0**20) * 2.0**-20


def model_cost(model: IntegerModel) -> np.ndarray:
    """Information content in bits of each symbol of ``model``, float64, on a grid of 2^-20."""
    return _on_grid(PRECISION - np.log2(model.frequencies))


FLAG_COSTS: np.ndarray = np.array([model_cost(m) for m in FLAG_MODELS])
"""Bits of a 0 and of a 1 by probability index, float64 (16, 2)."""

_COSTS = np.concatenate([model_cost(m) for m in TABLE_MODELS])
_ZERO_OFFSET = np.cumsum([0] + [m.alphabet for m in TABLE_MODELS[:-1]]) + RADIUS
_COST_OF_ZERO = _COSTS[_ZERO_OFFSET]


def cost_bits(symbols: np.ndarray, table_index: np.ndarray) -> np.ndarray:
    """Information content of each symbol in bits by the integer tables, escapes included.

    ``symbols``: integers of any shape, magnitudes up to 32767. ``table_index``: integers 0..63 of the same shape.
    Returns float64 of that shape, on a grid of 2^-20, so that sums are exact. Raises UsageError on values out of range.
    """
    symbols, tables = check_symbols(symbols, table_index)
    bits = _COST_OF_ZERO[tables]
    where = np.flatnonzero(symbols)  # nearly all symbols of a latent are zero
    values, tables = symbols[where], tables[where]
    radius = RADIUS[tables]
    magnitude = np.abs(values)
    escaped = magnitude > radius
    costs = _COSTS[_ZERO_OFFSET[tables] + np.where(escaped, radius + 1, values)]
    remainder_class = np.frexp((magnitude - radius)[escaped].astype(np.float64))[1] - 1
    costs[escaped] += model_cost(CLASS_MODEL)[remainder_class] + remainder_class + 1
    bits[where] = costs
    return bits.reshape(np.shape(table_index))


def check_tables(table_index: np.ndarray) -> np.ndarray:
    """``table_index`` flat, as uint8. Raises UsageError where it is not an integer in 0..63."""
    tables = np.asarray(table_index)
    if tables.dtype.kind not in "iu":
        raise UsageError(f"table indexes are integers, not {tables.dtype}")
    tables = tables.reshape(-1)
    if tables.size and (tables.max() >= TABLE_COUNT or (tables.dtype.kind == "i" and tables.min() < 0)):
        raise UsageError(f"table indexes run from 0 to {TABLE_COUNT - 1}")
    return tables.astype(np.uint8, copy=False)


def check_symbols(symbols: np.ndarray, table_index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both flat, as int32 and uint8. Raises UsageError where they do not match or are out of range."""
    symbols = np.asarray(symbols)
    if symbols.dtype.kind not in "iu":
        raise UsageError(f"symbols are integers, not {symbols.dtype}")
    if symbols.shape != np.shape(table_index):
        raise UsageError(f"symbols {symbols.shape} and table indexes {np.shape(table_index)} differ in shape")
    symbols = symbols.reshape(-1)
    if symbols.size and (symbols.max() > MAX_SYMBOL or symbols.min() < -MAX_SYMBOL):
        raise UsageError(f"symbols run from -{MAX_SYMBOL} to {MAX_SYMBOL}")
    return symbols.astype(np.int32, copy=False), check_tables(table_index)
