"""Tables, symbols, escapes and numbers of entropy.md, sections 3 to 5."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .rans import Rans, StreamError

_DOCUMENT = json.loads((Path(__file__).resolve().parent.parent / "entropy_tables.json").read_text("ascii"))

LARGEST_SYMBOL = 32767


def _table(scale_index: int) -> np.ndarray:
    entry = _DOCUMENT["tables"][scale_index]
    radius = len(entry["positive"])
    frequencies = np.zeros(2 * radius + 2, dtype=np.int64)
    for k, frequency in enumerate(entry["positive"], start=1):
        frequencies[radius + k] = frequencies[radius - k] = frequency
    frequencies[2 * radius + 1] = entry["escape"]
    frequencies[radius] = 2**24 - frequencies.sum()
    return frequencies


TABLES = [_table(i) for i in range(64)]
CLASSES = np.array(_DOCUMENT["classes"], dtype=np.int64)
FLAGS = [np.array([2**24 - one, one], dtype=np.int64) for one in _DOCUMENT["flags"]]


def read_flags(rans: Rans, count: int, probability_index: int) -> list[bool]:
    """``count`` flags under the static probability ``probability_index``, 0..15."""
    return [rans.symbol(FLAGS[probability_index]) == 1 for _ in range(count)]


def read_numbers(rans: Rans, count: int, order: int) -> list[int]:
    """``count`` Exp-Golomb numbers: all classes, then the rest of the numbers class by class."""
    widths = [rans.symbol(CLASSES) + order for _ in range(count)]
    rests = [0] * count
    for width in range(order, order + 15):
        members = [i for i in range(count) if widths[i] == width]
        if width > 16:
            for i in members:
                rests[i] = rans.bits(width - 16) * 2**16
        for i in members:
            rests[i] += rans.bits(min(width, 16))
    return [2**width + rest - 2**order for width, rest in zip(widths, rests, strict=True)]


def read_group(rans: Rans, scale_index: np.ndarray) -> np.ndarray:
    """One group: scale indexes (n,) to symbols, int64 (n,)."""
    symbols = np.zeros(len(scale_index), dtype=np.int64)
    escapes = []  # positions, in the order of decoding
    for table in range(64):
        radius = len(TABLES[table]) // 2 - 1
        for i in range(len(scale_index)):
            if scale_index[i] == table:
                index = rans.symbol(TABLES[table])
                symbols[i] = index - radius
                if index == 2 * radius + 1:
                    escapes.append(i)
    magnitudes = []
    for i, rest in zip(escapes, read_numbers(rans, len(escapes), 0), strict=True):
        magnitudes.append(int(symbols[i]) + rest)  # an escape left radius + 1 there
        if magnitudes[-1] > LARGEST_SYMBOL:
            raise StreamError(f"escaped symbol of magnitude {magnitudes[-1]}")
    for i, magnitude in zip(escapes, magnitudes, strict=True):
        symbols[i] = -magnitude if rans.bits(1) else magnitude
    return symbols
