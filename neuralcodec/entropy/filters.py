"""Coefficients of loop filters in a frame's payload (bitstream_spec/entropy.md, section 9).

Three planes, each without a filter, with the one that was sent for it last in the group of pictures, or with a new one, whose coefficients are coded as differences
from that one (from USUAL where there is none).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder

Coefficients = np.ndarray | None
"""int64 (classes, 12), -31..31, or None: no filter."""
FilterPlanes = tuple[Coefficients, Coefficients, Coefficients]
"""Y with 1, 2 or 4 classes, U and V with one."""
CLASS_COUNTS = (1, 2, 4)
LIMIT = 31
USUAL = np.array([16, 14, 5, 7, 4, -3, -2, -2, 0, 0, 1, -1])
"""What coefficients tend to be, in the order of nn.loop_filter.TAPS."""
AGAIN = 14
"""Probability index of the flag that says that nothing changes."""
FIRST_TABLE, NEXT_TABLE = 42, 38
"""Scale indexes of differences from USUAL and from a filter."""
NONE: FilterPlanes = (None, None, None)


@dataclass(frozen=True)
class FilterState:
    """After a frame: ``planes`` that it has, and the filter ``sent`` last for each."""

    planes: FilterPlanes = NONE
    sent: FilterPlanes = NONE


def write_filters(encoder: FrameEncoder, planes: FilterPlanes, before: FilterState | None, label: str = "filters") -> FilterState:
    """Add a frame's filters; ``before``: the state after the frame before, None in an intra frame. Raises UsageError for what cannot be sent."""
    for index, c in enumerate(planes):
        if c is not None and (c.shape not in [(n, len(USUAL)) for n in CLASS_COUNTS[: 1 if index else None]] or np.abs(c).max() > LIMIT):
            raise UsageError(f"coefficients {c.shape} of a loop filter: classes 1, 2 or 4 in Y and 1 in U and V, {len(USUAL)} each, at most {LIMIT}")
    if before is not None:
        again = all(same(a, b) for a, b in zip(planes, before.planes, strict=True))
        encoder.put_flags(np.array([again]), AGAIN, label)
        if again:
            return before
    sent = list(NONE if before is None else before.sent)
    for index, c in enumerate(planes):
        encoder.put_bits(int(c is not None), 1, label)
        if c is None:
            continue
        if sent[index] is not None:
            encoder.put_bits(int(not same(c, sent[index])), 1, label)
            if same(c, sent[index]):
                continue
        if index == 0:
            encoder.put_bits(CLASS_COUNTS.index(len(c)), 2, label)
        base, table = expected(sent[index], len(c))
        encoder.put(c - base, np.full(c.shape, table), label)
        sent[index] = c
    return FilterState(planes, tuple(sent))


def read_filters(decoder: FrameDecoder, before: FilterState | None, label: str = "filters") -> FilterState:
    """What ``write_filters`` wrote. Raises StreamError."""
    if before is not None and decoder.get_flags(1, AGAIN, label)[0]:
        return before
    sent = list(NONE if before is None else before.sent)
    planes: list[Coefficients] = [None, None, None]
    for index in range(3):
        if not decoder.get_bits(1, 1, label)[0]:
            continue
        if sent[index] is None or decoder.get_bits(1, 1, label)[0]:
            count = int(decoder.get_bits(2, 1, label)[0]) if index == 0 else 0
            if count >= len(CLASS_COUNTS):
                raise StreamError("a loop filter has a number of classes that there is not")
            base, table = expected(sent[index], CLASS_COUNTS[count])
            sent[index] = decoder.get(np.full(base.shape, table), label) + base
            if np.abs(sent[index]).max() > LIMIT:
                raise StreamError("a coefficient of a loop filter is out of range")
        planes[index] = sent[index]
    return FilterState(tuple(planes), tuple(sent))


def expected(sent: Coefficients, classes: int) -> tuple[np.ndarray, int]:
    """What coefficients (classes, 12) are coded as differences from, and the scale index of these."""
    if sent is None:
        return np.tile(USUAL, (classes, 1)), FIRST_TABLE
    return sent[np.arange(classes) * len(sent) // classes], NEXT_TABLE


def same(a: Coefficients, b: Coefficients) -> bool:
    """Whether two planes have the same filter, or none."""
    return np.array_equal(a, b) if a is not None and b is not None else a is b

