"""Corrections of decoded planes in a frame's payload (bitstream_spec/entropy.md, section 11): which blocks have one, and their levels.

Blocks are coded in four turns by the parities of row and column, some rows at a time; then the levels of all of them, one position of the block after another. Flags
have contexts, whose probabilities follow what was coded before, in this frame and those before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.core.types import CORRECTION_BLOCK, CORRECTION_STEPS, PlaneCorrections
from neuralcodec.entropy.choices import TURNS
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.entropy.flag_statistics import FlagStatistics, code_by_context
from neuralcodec.entropy.tables import CLASS_MODEL, FLAG_COSTS, model_cost

MAX_LEVEL = 4095
SOME = 2
"""Probability index of the flag that says that a frame has corrections."""
GROUP = 512
"""Blocks, about, whose flags are coded before probabilities change."""
ORDER = tuple(sorted(((u, v) for u in range(CORRECTION_BLOCK) for v in range(CORRECTION_BLOCK)), key=lambda p: (p[0] + p[1], p[0])))
"""Row and column of a block's levels, as they are coded."""
NEAR = ((1, 0), (0, 1), (1, 1), (2, 0), (0, 2))
"""Levels before one, up and to the left, that its flags depend on."""
BANDS, COUNTS = 5, 4
CODED, PLAIN = 0, 9
SIGNIFICANT = PLAIN + 1
LARGER = SIGNIFICANT + (BANDS + 1) * COUNTS
"""First contexts: whether a block has a correction; whether its levels are plain; whether a level is not 0; then whether its magnitude is more than 1, more than 2."""
_MAGNITUDES = 2
CONTEXTS = LARGER + _MAGNITUDES * 2 * COUNTS

CorrectionPlanes = tuple[PlaneCorrections | None, PlaneCorrections | None, PlaneCorrections | None]
NO_CORRECTIONS: CorrectionPlanes = (None, None, None)


FIRST_TOTAL = 32
FIRST_ONES = (
    *(1, 1, 4, 13, 24, 1, 5, 17, 29, 16),
    *(3, 3, 3, 3, 5, 11, 19, 19, 6, 11, 12, 19, 6, 9, 12, 17, 6, 9, 11, 17, 4, 8, 9, 15),
    *(2, 3, 6, 11, 3, 2, 4, 6, 4, 5, 8, 12, 3, 4, 4, 5),
)
"""Of FIRST_TOTAL flags, as it was on average in training pictures with letters and lines drawn over them."""


def _first_counts() -> np.ndarray:
    ones = np.array(FIRST_ONES)
    return np.stack([FIRST_TOTAL - ones, ones], 1)


@dataclass
class CorrectionStatistics(FlagStatistics):
    """Those of flags of corrections, int64 (CONTEXTS, 2)."""

    counts: np.ndarray = field(default_factory=_first_counts)


@dataclass(frozen=True)
class CorrectionState:
    """Of a frame: ``planes`` of corrections, and the statistics for the frame after it."""

    planes: CorrectionPlanes = NO_CORRECTIONS
    statistics: CorrectionStatistics = field(default_factory=CorrectionStatistics)


class _Coding(Protocol):
    """Codes groups: what is ``wanted`` by a writer, else what is read. All return it."""

    def flags(self, wanted: np.ndarray | None, counts: np.ndarray, indexes: np.ndarray) -> np.ndarray: ...

    def numbers(self, wanted: np.ndarray | None, count: int) -> np.ndarray: ...

    def signs(self, wanted: np.ndarray | None, count: int) -> np.ndarray: ...


class _Writing:
    def __init__(self, encoder: FrameEncoder, label: str) -> None:
        self.encoder, self.label = encoder, label

    def flags(self, wanted: np.ndarray, counts: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        self.encoder.put_flag_runs(wanted, counts, indexes, self.label)
        return wanted

    def numbers(self, wanted: np.ndarray, count: int) -> np.ndarray:
        self.encoder.put_numbers(wanted, 0, self.label)
        return wanted

    def signs(self, wanted: np.ndarray, count: int) -> np.ndarray:
        self.encoder.put_bits(wanted, 1, self.label)
        return wanted


class _Reading:
    def __init__(self, decoder: FrameDecoder, label: str) -> None:
        self.decoder, self.label = decoder, label

    def flags(self, wanted: None, counts: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        return self.decoder.get_flag_runs(counts, indexes, self.label)

    def numbers(self, wanted: None, count: int) -> np.ndarray:
        return self.decoder.get_numbers(count, 0, self.label)

    def signs(self, wanted: None, count: int) -> np.ndarray:
        return self.decoder.get_bits(1, count, self.label).astype(bool)


class _Metering:
    """Adds up bits."""

    def __init__(self) -> None:
        self.bits = 0.0

    def flags(self, wanted: np.ndarray, counts: np.ndarray, indexes: np.ndarray) -> np.ndarray:
        self.bits += float(FLAG_COSTS[np.repeat(indexes, counts), wanted.astype(np.int64)].sum())
        return wanted

    def numbers(self, wanted: np.ndarray, count: int) -> np.ndarray:
        classes = np.frexp(wanted + 1.0)[1] - 1
        self.bits += float((model_cost(CLASS_MODEL)[classes] + classes).sum())
        return wanted

    def signs(self, wanted: np.ndarray, count: int) -> np.ndarray:
        self.bits += count
        return wanted


class _Flags:
    """Codes flags by context and learns from them."""

    def __init__(self, coding: _Coding, statistics: CorrectionStatistics) -> None:
        self.coding, self.statistics = coding, statistics

    def code(self, contexts: np.ndarray, wanted: np.ndarray | None) -> np.ndarray:
        """Flags bool (n,) of these contexts (n,), coded with the contexts in rising order."""
        indexes = self.statistics.probability_indexes()
        flags, seen = code_by_context(contexts, wanted, CONTEXTS, lambda present, counts, own: self.coding.flags(own, counts, indexes[present]))
        self.statistics = self.statistics.updated(seen)
        return flags


def write_corrections(encoder: FrameEncoder, planes: CorrectionPlanes, shapes: tuple[tuple[int, int], ...], before: CorrectionStatistics,
                      label: str = "corrections") -> CorrectionState:
    """Add a frame's corrections. ``shapes``: (rows, columns) of blocks of Y, U and V; ``before``: the statistics after the frame before, first ones in an intra frame.
    Raises UsageError for what cannot be sent."""
    some = any(p is not None for p in planes)
    encoder.put_flags(np.array([some]), SOME, label)
    if not some:
        return CorrectionState(NO_CORRECTIONS, before)
    coding, statistics = _Writing(encoder, label), before
    for plane, shape in zip(planes, shapes, strict=True):
        encoder.put_bits(int(plane is not None), 1, label)
        if plane is not None:
            _check(plane, shape)
            encoder.put_bits(plane.step, 5, label)
            statistics = _code(coding, statistics, shape, plane)[1]
    return CorrectionState(planes, statistics)


def read_corrections(decoder: FrameDecoder, shapes: tuple[tuple[int, int], ...], before: CorrectionStatistics, label: str = "corrections") -> CorrectionState:
    """What ``write_corrections`` wrote. Raises StreamError."""
    if not decoder.get_flags(1, SOME, label)[0]:
        return CorrectionState(NO_CORRECTIONS, before)
    coding, statistics, planes = _Reading(decoder, label), before, []
    for shape in shapes:
        plane = None
        if decoder.get_bits(1, 1, label)[0]:
            step = int(decoder.get_bits(5, 1, label)[0])
            (where, plain, levels), statistics = _code(coding, statistics, shape, None)
            plane = PlaneCorrections(step, where, plain, levels)
        planes.append(plane)
    return CorrectionState(tuple(planes), statistics)


def correction_bits(plane: PlaneCorrections, shape: tuple[int, int], statistics: CorrectionStatistics) -> tuple[float, CorrectionStatistics]:
    """Bits of a plane's corrections, and statistics after them. For encoders."""
    coding = _Metering()
    _, after = _code(coding, statistics, shape, plane)
    return coding.bits + 5, after


def _check(plane: PlaneCorrections, shape: tuple[int, int]) -> None:
    n = len(plane.where)
    if plane.levels.shape != (n, CORRECTION_BLOCK, CORRECTION_BLOCK) or plane.plain.shape != (n,) or not 0 <= plane.step < CORRECTION_STEPS:
        raise UsageError(f"corrections of {n} blocks: levels {plane.levels.shape}, step {plane.step}")
    if n and (np.abs(plane.levels).max() > MAX_LEVEL or (np.diff(plane.where) <= 0).any() or plane.where[0] < 0 or plane.where[-1] >= shape[0] * shape[1]):
        raise UsageError(f"corrections lie in rising blocks of {shape}, and their levels are at most {MAX_LEVEL}")


def _code(coding: _Coding, statistics: CorrectionStatistics, shape: tuple[int, int], plane: PlaneCorrections | None) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], CorrectionStatistics]:
    """``plane``: None where it is read. Returns its blocks, which are plain, and levels; and statistics for what comes next."""
    flags = _Flags(coding, statistics)
    target = None
    if plane is not None:
        target = np.zeros(shape, bool)
        target.reshape(-1)[plane.where] = True
    where = np.flatnonzero(_code_blocks(flags, shape, target))
    count = len(where)
    plain = flags.code(np.full(count, PLAIN), None if plane is None else plane.plain)
    levels = _code_levels(flags, plain, None if plane is None else plane.levels)
    return (where, plain, levels), flags.statistics


def _code_blocks(flags: _Flags, shape: tuple[int, int], target: np.ndarray | None) -> np.ndarray:
    """Which blocks have a correction, bool of ``shape``."""
    bordered = np.zeros((shape[0] + 2, shape[1] + 2), np.int64)
    known = bordered[1:-1, 1:-1]
    for turn, (row, column) in enumerate(TURNS):
        own = known[row::2, column::2]
        rows, columns = own.shape
        if not own.size:
            continue
        contexts = coded_contexts(bordered, turn)
        step = max(1, GROUP // columns)
        for top in range(0, rows, step):
            part = slice(top, top + step)
            wanted = None if target is None else target[row::2, column::2][part].reshape(-1)
            own[part] = flags.code(contexts[part].reshape(-1), wanted).reshape(own[part].shape)
    return known.astype(bool)


def coded_contexts(bordered: np.ndarray, turn: int) -> np.ndarray:
    """Of a turn's blocks, by how many neighbours of earlier turns have a correction. ``bordered`` int64 (rows + 2, columns + 2) within zeros."""
    row, column = TURNS[turn]
    rows, columns = bordered.shape[0] - 2, bordered.shape[1] - 2
    if turn == 0:
        return np.full(((rows + 1) // 2, (columns + 1) // 2), CODED)
    # Those of the first turn lie diagonally from a block of the second; those of both beside one of the third and fourth.
    steps = ((0, 0), (0, 2), (2, 0), (2, 2)) if turn == 1 else ((1, 0), (1, 2), (0, 1), (2, 1))
    near = sum(bordered[row + dy : dy + rows : 2, column + dx : dx + columns : 2] for dy, dx in steps)
    return CODED + (1 if turn == 1 else 5) + np.minimum(near, COUNTS - 1)


def level_contexts(plain: np.ndarray, magnitudes: np.ndarray, u: int, v: int) -> tuple[np.ndarray, np.ndarray]:
    """Contexts of a level at row u, column v in each block, int64 (n,): whether it is not 0, and whether it is more than 1. ``magnitudes`` (n, 4, 4) of those before it."""
    near = sum((np.minimum(magnitudes[:, u - a, v - b], 2) for a, b in NEAR if u >= a and v >= b), np.zeros(len(plain), np.int64))
    near = np.minimum(near, COUNTS - 1)
    band = np.where(plain, BANDS, min(u + v, BANDS - 1))
    return SIGNIFICANT + COUNTS * band + near, LARGER + COUNTS * plain + near


def _code_levels(flags: _Flags, plain: np.ndarray, wanted: np.ndarray | None) -> np.ndarray:
    """int64 (n, 4, 4)."""
    count = len(plain)
    levels = np.zeros((count, CORRECTION_BLOCK, CORRECTION_BLOCK), np.int64)
    magnitudes = np.zeros_like(levels)
    target = None if wanted is None else np.abs(wanted)
    for u, v in ORDER:
        contexts, larger = level_contexts(plain, magnitudes, u, v)
        own = None if target is None else target[:, u, v]
        left = np.flatnonzero(flags.code(contexts, None if own is None else own > 0))
        there = left
        magnitudes[left, u, v] = 1
        for more in range(_MAGNITUDES):
            left = left[flags.code(larger[left] + more * 2 * COUNTS, None if own is None else own[left] > more + 1)]
            magnitudes[left, u, v] += 1
        if left.size:
            magnitudes[left, u, v] += flags.coding.numbers(None if own is None else own[left] - _MAGNITUDES - 1, left.size)
            if magnitudes[left, u, v].max() > MAX_LEVEL:
                raise StreamError(f"a correction's level is more than {MAX_LEVEL}")
        if there.size:
            negative = flags.coding.signs(None if wanted is None else wanted[there, u, v] < 0, there.size)
            levels[there, u, v] = np.where(negative, -magnitudes[there, u, v], magnitudes[there, u, v])
    return levels
