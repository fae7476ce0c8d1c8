"""The payload of one frame: a writer that collects and a reader, both over a rANS backend (bitstream_spec/entropy.md).

A caller writes and reads the same sequence of groups; ``put_x`` has its ``get_x``. Every call takes a label under which
its bits are counted (``.bits``, a dict from label to bits), for ``ncodec inspect``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy.backend import current_backend
from neuralcodec.entropy.tables import (
    CLASS_MODEL,
    FLAG_MODELS,
    MAX_SYMBOL,
    RADIUS,
    TABLE_COUNT,
    TABLE_MODELS,
    IntegerModel,
    UniformModel,
    check_symbols,
    check_tables,
)

MAX_BITS = 16
"""Widest field of ``put_bits``."""

MAX_ORDER = 16
"""Highest order of Exp-Golomb numbers."""

_UNIFORM = [UniformModel(bits) for bits in range(MAX_BITS + 1)]
_CLASSES = CLASS_MODEL.alphabet


@dataclass(frozen=True)
class Grouping:
    """Elements sorted by their tables, as a group is coded."""

    order: np.ndarray
    """int64 (n,): numbers of the elements, by table, then by place."""
    runs: tuple[tuple[int, int], ...]
    """Tables, rising, each with the number of its elements."""
    radius: np.ndarray
    """int32 (n,): the radius of each element's table, in that order."""

    @staticmethod
    def of(table_index: np.ndarray) -> Grouping:
        """``table_index``: integers 0..63. Raises UsageError for anything else."""
        tables = check_tables(table_index)
        counts = np.bincount(tables, minlength=TABLE_COUNT)
        runs = tuple((int(table), int(counts[table])) for table in np.flatnonzero(counts))
        return Grouping(np.argsort(tables, kind="stable"), runs, RADIUS.repeat(counts))  # a radix sort, as tables are uint8


class FrameEncoder:
    """Collects the groups of one frame. ANS is a stack, so the coding itself happens in ``finish``, backwards."""

    def __init__(self, backend: ModuleType | None = None) -> None:
        self._backend = backend or current_backend()
        self._runs: list[tuple[np.ndarray, IntegerModel | UniformModel]] = []
        self._labels: list[str] = []
        self.bits: dict[str, float] = {}
        """Bits by label, known after ``finish``; they add up to the payload's length within 8 bits."""

    def put(self, symbols: np.ndarray, table_index: np.ndarray, label: str = "") -> None:
        """Add one group: integer ``symbols`` (-32767..32767) and their tables (0..63), two arrays of one shape.

        Raises UsageError on values out of range.
        """
        symbols, tables = check_symbols(symbols, table_index)
        grouping = Grouping.of(tables)
        ordered, radius = symbols[grouping.order], grouping.radius
        escaped = np.abs(ordered) > radius
        indices = np.where(escaped, 2 * radius + 1, ordered + radius)
        start = 0
        for table, count in grouping.runs:
            self._add(indices[start : start + count], TABLE_MODELS[table], label)
            start += count
        if escaped.any():
            values = ordered[escaped]
            self.put_numbers(np.abs(values) - radius[escaped] - 1, 0, label)
            self.put_bits(values < 0, 1, label)

    def put_bits(self, values: np.ndarray | int, nbits: int, label: str = "") -> None:
        """Add unsigned integers of ``nbits`` equiprobable bits each, 0 <= nbits <= 16."""
        values = np.atleast_1d(np.asarray(values)).reshape(-1)
        if not 0 <= nbits <= MAX_BITS:
            raise UsageError(f"bit fields have 0 to {MAX_BITS} bits, not {nbits}")
        if values.size and (values.min() < 0 or values.max() >= 1 << nbits):
            raise UsageError(f"a value does not fit {nbits} bits")
        if nbits:
            self._add(values.astype(np.int32), _UNIFORM[nbits], label)

    def put_flags(self, flags: np.ndarray, probability_index: int, label: str = "") -> None:
        """Add booleans under the static flag probability ``probability_index``, 0..15."""
        self._add(np.asarray(flags, dtype=bool).reshape(-1).astype(np.int32), _flag_model(probability_index), label)

    def put_flag_runs(self, flags: np.ndarray, counts: Sequence[int], probability_indexes: Sequence[int], label: str = "") -> None:
        """Add several groups of booleans, one after the other: ``flags`` (sum of ``counts``,)."""
        start = 0
        for count, probability_index in zip(counts, probability_indexes, strict=True):
            self.put_flags(flags[start : start + count], int(probability_index), label)
            start += count

    def put_numbers(self, values: np.ndarray, order: int, label: str = "") -> None:
        """Add integers 0 <= value < 2^(15 + order) - 2^order by Exp-Golomb codes of ``order`` 0..16."""
        if not 0 <= order <= MAX_ORDER:
            raise UsageError(f"Exp-Golomb orders run from 0 to {MAX_ORDER}")
        shifted = np.asarray(values, dtype=np.int64).reshape(-1) + (1 << order)
        if shifted.size and (shifted.min() < 1 << order or shifted.max() >= 1 << (_CLASSES + order)):
            raise UsageError(f"a number is out of range for order {order}")
        classes = np.frexp(shifted.astype(np.float64))[1].astype(np.int32) - 1 - order
        self._add(classes, CLASS_MODEL, label)
        for number_class in np.unique(classes):
            width = int(number_class) + order
            rest = shifted[classes == number_class] - (1 << width)
            for low, nbits in _fields(width):
                self.put_bits((rest >> low) & ((1 << nbits) - 1), nbits, label)

    def finish(self) -> bytes:
        """The payload: words in little-endian order without the zero bytes at the end. Fills ``bits``."""
        words, run_bits = self._backend.encode_runs(self._runs)
        self.bits = {}
        for label, bits in zip(self._labels, run_bits, strict=True):
            self.bits[label] = self.bits.get(label, 0.0) + bits
        return words.astype("<u4").tobytes().rstrip(b"\0")

    def _add(self, indices: np.ndarray, model: IntegerModel | UniformModel, label: str) -> None:
        if indices.size:
            self._runs.append((indices, model))
            self._labels.append(label)


class FrameDecoder:
    """Reads the groups of one frame from ``payload``. Raises StreamError where the payload breaks the specification.

    ANS never runs dry: a damaged payload gives wrong symbols, and most often an error in ``finish``. What a call
    allocates depends on its arguments only, never on the payload.
    """

    def __init__(self, payload: bytes, backend: ModuleType | None = None) -> None:
        data = bytes(payload)
        if data.endswith(b"\0"):
            raise StreamError("entropy payload: zero byte at the end")
        words = np.frombuffer(data + bytes(-len(data) % 4), dtype="<u4").astype(np.uint32)
        self._decoder = (backend or current_backend()).open_decoder(words)
        self.bits: dict[str, float] = {}
        """Bits read so far, by label."""

    def get(self, table_index: np.ndarray, label: str = "") -> np.ndarray:
        """Read one group: ``table_index`` (integers 0..63 of any shape) to int32 symbols of that shape."""
        return self.get_grouped(Grouping.of(table_index), label).reshape(np.shape(table_index))

    def get_grouped(self, grouping: Grouping, label: str = "") -> np.ndarray:
        """The same for tables that were sorted before: int32 symbols (n,)."""
        if not grouping.runs:
            return np.zeros(0, np.int32)
        before, radius = self._decoder.position(), grouping.radius
        ordered = np.concatenate([self._decoder.decode(TABLE_MODELS[table], count) for table, count in grouping.runs])
        ordered -= radius
        escaped = np.flatnonzero(ordered > radius)
        self._count(label, before)
        if escaped.size:
            magnitude = self.get_numbers(escaped.size, 0, label) + radius[escaped] + 1
            if magnitude.max() > MAX_SYMBOL:
                raise StreamError(f"entropy payload: escaped symbol of magnitude {magnitude.max()}")
            negative = self.get_bits(1, escaped.size, label)
            ordered[escaped] = np.where(negative, -magnitude, magnitude)
        symbols = np.empty_like(ordered)
        symbols[grouping.order] = ordered
        return symbols

    def get_bits(self, nbits: int, count: int = 1, label: str = "") -> np.ndarray:
        """Read ``count`` unsigned integers of ``nbits`` bits each: int32 (count,)."""
        if not 0 <= nbits <= MAX_BITS:
            raise UsageError(f"bit fields have 0 to {MAX_BITS} bits, not {nbits}")
        return self._run(_UNIFORM[nbits], count, label) if nbits else np.zeros(count, np.int32)

    def get_flags(self, count: int, probability_index: int, label: str = "") -> np.ndarray:
        """Read ``count`` booleans: bool (count,)."""
        return self._run(_flag_model(probability_index), count, label).astype(bool)

    def get_flag_runs(self, counts: Sequence[int], probability_indexes: Sequence[int], label: str = "") -> np.ndarray:
        """Read several groups of booleans (n,), one after the other: bool (sum of ``counts``,)."""
        before = self._decoder.position()
        runs = [self._decoder.decode(_flag_model(int(p)), int(n)) for n, p in zip(counts, probability_indexes, strict=True) if n]
        self._count(label, before)
        return np.concatenate(runs).astype(bool) if runs else np.zeros(0, bool)

    def get_numbers(self, count: int, order: int, label: str = "") -> np.ndarray:
        """Read ``count`` Exp-Golomb numbers of ``order`` 0..16: int64 (count,), each below 2^(15 + order)."""
        if not 0 <= order <= MAX_ORDER:
            raise StreamError(f"entropy payload: Exp-Golomb order {order}")
        classes = self._run(CLASS_MODEL, count, label)
        numbers = np.empty(count, dtype=np.int64)
        for number_class in np.flatnonzero(np.bincount(classes)):
            where = np.flatnonzero(classes == number_class)
            width = int(number_class) + order
            value = np.full(where.size, (1 << width) - (1 << order), dtype=np.int64)
            for low, nbits in _fields(width):
                value += self.get_bits(nbits, where.size, label).astype(np.int64) << low
            numbers[where] = value
        return numbers

    @property
    def remaining(self) -> float:
        """Bits of the payload that were not read yet. With fewer than 24, a decoder soon gives each table's first symbol for ever."""
        return self._decoder.position()

    def finish(self) -> None:
        """Check that the payload was consumed: no word left and the state back at 0. Raises StreamError if not."""
        if not self._decoder.is_empty():
            raise StreamError("entropy payload: not at its end after the last symbol")

    def _run(self, model: IntegerModel | UniformModel, count: int, label: str) -> np.ndarray:
        if not count:
            return np.zeros(0, np.int32)
        before = self._decoder.position()
        symbols = self._decoder.decode(model, count)
        self._count(label, before)
        return symbols

    def _count(self, label: str, before: float) -> None:
        self.bits[label] = self.bits.get(label, 0.0) + before - self._decoder.position()


def _fields(width: int) -> list[tuple[int, int]]:
    """(lowest bit, bits) of the fields of a ``width``-bit integer: what exceeds 16 bits first, then the low 16."""
    if not width:
        return []
    return [(0, width)] if width <= MAX_BITS else [(MAX_BITS, width - MAX_BITS), (0, MAX_BITS)]


def _flag_model(probability_index: int) -> IntegerModel:
    if not 0 <= probability_index < len(FLAG_MODELS):
        raise UsageError(f"flag probability indexes run from 0 to {len(FLAG_MODELS) - 1}")
    return FLAG_MODELS[probability_index]
