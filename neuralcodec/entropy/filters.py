"""Coefficients of loop filters in a frame's payload (bitstream_spec/entropy.md, section 9).

Three planes, each without a filter, with the one that was sent for it last in the group of pictures, or with a new one, whose coefficients are coded as differences
from that one (from USUAL where there is none).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.core.types import PlaneFilter
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder

FilterPlanes = tuple[PlaneFilter | None, PlaneFilter | None, PlaneFilter | None]
"""Y with 1, 2, 4 or 8 classes, U and V with one; None: no filter."""
CLASS_COUNTS = (1, 2, 4, 8)
PLAIN_COUNTS = 3
"""So many of them are in streams without directions."""
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


def write_filters(encoder: FrameEncoder, planes: FilterPlanes, before: FilterState | None, directed: bool = False, label: str = "filters") -> FilterState:
    """Add a frame's filters; ``before``: the state after the frame before, None in an intra frame; ``directed``: the stream's filters may have directions, clipped
    differences, and luma's in chroma. Raises UsageError for what cannot be sent."""
    for index, f in enumerate(planes):
        _check(f, index, directed)
    if before is not None:
        again = planes == before.planes
        encoder.put_flags(np.array([again]), AGAIN, label)
        if again:
            return before
    sent = list(NONE if before is None else before.sent)
    for index, f in enumerate(planes):
        encoder.put_bits(int(f is not None), 1, label)
        if f is None:
            continue
        if sent[index] is not None:
            encoder.put_bits(int(f != sent[index]), 1, label)
            if f == sent[index]:
                continue
        if index == 0:
            encoder.put_bits(CLASS_COUNTS.index(f.classes), 2, label)
        if directed:
            encoder.put_bits(f.clip, 2, label)
        base, table = expected(sent[index], f.classes)
        if directed and index:
            encoder.put_bits(int(f.luma is not None), 1, label)
        encoder.put(f.coefficients - base, np.full(base.shape, table), label)
        if f.luma is not None:
            encoder.put(f.luma - expected_luma(sent[index]), np.full(f.luma.shape, NEXT_TABLE), label)
        sent[index] = f
    return FilterState(planes, tuple(sent))


def _check(f: PlaneFilter | None, index: int, directed: bool) -> None:
    if f is None:
        return
    counts = CLASS_COUNTS[:1] if index else CLASS_COUNTS[: None if directed else PLAIN_COUNTS]
    luma = f.luma is None or (bool(index) and directed and f.luma.shape == (1, len(USUAL)) and np.abs(f.luma).max() <= LIMIT)
    if f.coefficients.shape not in [(n, len(USUAL)) for n in counts] or np.abs(f.coefficients).max() > LIMIT or (f.clip and not directed) or not luma:
        raise UsageError(f"coefficients {f.coefficients.shape} of a loop filter: classes {', '.join(map(str, counts))}, {len(USUAL)} each, at most {LIMIT}")


def read_filters(decoder: FrameDecoder, before: FilterState | None, directed: bool = False, label: str = "filters") -> FilterState:
    """What ``write_filters`` wrote. Raises StreamError."""
    if before is not None and decoder.get_flags(1, AGAIN, label)[0]:
        return before
    sent = list(NONE if before is None else before.sent)
    planes: list[PlaneFilter | None] = [None, None, None]
    for index in range(3):
        if not decoder.get_bits(1, 1, label)[0]:
            continue
        if sent[index] is None or decoder.get_bits(1, 1, label)[0]:
            count = int(decoder.get_bits(2, 1, label)[0]) if index == 0 else 0
            if count >= PLAIN_COUNTS and not directed:
                raise StreamError("a loop filter has a number of classes that there is not")
            clip = int(decoder.get_bits(2, 1, label)[0]) if directed else 0
            has_luma = directed and index and decoder.get_bits(1, 1, label)[0]
            base, table = expected(sent[index], CLASS_COUNTS[count])
            coefficients, luma = decoder.get(np.full(base.shape, table), label) + base, None
            if has_luma:
                luma = decoder.get(np.full((1, len(USUAL)), NEXT_TABLE), label) + expected_luma(sent[index])
            if max(np.abs(c).max() for c in (coefficients, luma) if c is not None) > LIMIT:
                raise StreamError("a coefficient of a loop filter is out of range")
            sent[index] = PlaneFilter(coefficients, clip, luma)
        planes[index] = sent[index]
    return FilterState(tuple(planes), tuple(sent))


def expected(sent: PlaneFilter | None, classes: int) -> tuple[np.ndarray, int]:
    """What coefficients (classes, 12) are coded as differences from, and the scale index of these."""
    if sent is None:
        return np.tile(USUAL, (classes, 1)), FIRST_TABLE
    return sent.coefficients[np.arange(classes) * sent.classes // classes], NEXT_TABLE


def expected_luma(sent: PlaneFilter | None) -> np.ndarray:
    """What coefficients of luma (1, 12) are coded as differences from, with scale index NEXT_TABLE."""
    return np.zeros((1, len(USUAL)), np.int64) if sent is None or sent.luma is None else sent.luma
