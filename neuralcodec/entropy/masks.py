"""Skip masks of a latent: which elements are coded (bitstream_spec/entropy.md, section 6; SaEC's skip, four modes).

A mask is a bool array (C, H, W), True where an element is coded. Each latent of a packet has a mode and a parameter,
together one byte (``pack_mask_mode``), and, in modes 1 and 2, some side information in the ANS payload.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from neuralcodec.core.errors import StreamError, UsageError
from neuralcodec.entropy.coder import MAX_ORDER, FrameDecoder, FrameEncoder

BLOCK = 4
"""Side of a SENT block in latent elements."""

GROUP_CHANNELS = (1, 4, 16, 0)
"""Consecutive channels that share a SENT flag, by the two high bits of the parameter; 0 stands for all channels."""

_COUNT_LENGTH_BITS = 5


class MaskMode(IntEnum):
    """How a mask reaches the decoder."""

    DERIVED = 0
    """By the mode prediction network; parameter 0."""
    DERIVED_WITH_EXCEPTIONS = 1
    """The same, with elements coded nevertheless; the parameter is the Exp-Golomb order of their gaps, 0..16."""
    SENT = 2
    """A flag for each 4x4 block of a group of channels; parameter: 16 * index in GROUP_CHANNELS + flag probability."""
    THRESHOLD = 3
    """Coded where the scale index is at least the parameter; 0 codes everything."""


def pack_mask_mode(mode: MaskMode, parameter: int) -> int:
    """One byte: the mode in the two high bits, the parameter in the six low ones. Raises UsageError."""
    try:
        _check_parameter(MaskMode(mode), parameter)
    except (StreamError, ValueError) as error:
        raise UsageError(str(error)) from error
    return int(mode) << 6 | parameter


def unpack_mask_mode(byte: int) -> tuple[MaskMode, int]:
    """Inverse of ``pack_mask_mode``. Raises StreamError on a parameter that the mode does not have."""
    if not 0 <= byte <= 255:
        raise StreamError(f"mask mode {byte} is not a byte")
    mode, parameter = MaskMode(byte >> 6), byte & 63
    _check_parameter(mode, parameter)
    return mode, parameter


def write_mask(
    encoder: FrameEncoder,
    mode: MaskMode,
    parameter: int,
    mask: np.ndarray,
    scale_index: np.ndarray,
    derived: np.ndarray | None = None,
    label: str = "mask",
) -> None:
    """Add the mask's side information, so that ``read_mask`` with the same mode and parameter gives ``mask``.

    ``mask`` and ``derived`` are bool, ``scale_index`` integers 0..63, all (C, H, W). Raises UsageError for a mask that
    the mode cannot express.
    """
    pack_mask_mode(mode, parameter)
    if mask.dtype != np.bool_ or mask.shape != scale_index.shape or mask.ndim != 3:
        raise UsageError(f"a mask is a bool array (C, H, W) like the scale indexes {scale_index.shape}")
    if mode == MaskMode.SENT:
        flags = _block_flags(mask, parameter)
        if not np.array_equal(_expand_flags(flags, parameter, mask.shape), mask):
            raise UsageError("this mask is not made of whole blocks")
        encoder.put_flags(flags, parameter & 15, label)
    elif mode == MaskMode.THRESHOLD:
        if not np.array_equal(scale_index >= parameter, mask):
            raise UsageError("this mask is not a threshold of the scale indexes")
    else:
        if derived is None or derived.shape != mask.shape or (derived & ~mask).any():
            raise UsageError("this mask is not the derived one with exceptions")
        exceptions = np.flatnonzero(mask[~derived])
        if mode == MaskMode.DERIVED_WITH_EXCEPTIONS:
            _write_positions(encoder, exceptions, parameter, label)
        elif exceptions.size:
            raise UsageError("this mask differs from the derived one")


def read_mask(
    decoder: FrameDecoder,
    mode: MaskMode,
    parameter: int,
    scale_index: np.ndarray,
    derived: np.ndarray | None = None,
    label: str = "mask",
) -> np.ndarray:
    """The mask of a latent: bool (C, H, W).

    ``scale_index``: integers 0..63, (C, H, W). ``derived``: bool of that shape, needed by modes 0 and 1 (None: the
    model has no mode prediction, a stream that uses them is refused). Raises StreamError.
    """
    mode, parameter = unpack_mask_mode(int(mode) << 6 | parameter)
    if mode == MaskMode.THRESHOLD:
        return scale_index >= parameter
    if mode == MaskMode.SENT:
        flags = decoder.get_flags(_flag_count(parameter, scale_index.shape), parameter & 15, label)
        return _expand_flags(flags, parameter, scale_index.shape)
    if derived is None:
        raise StreamError(f"mask mode {mode.name} in a stream whose model has no mode prediction")
    if derived.dtype != np.bool_ or derived.shape != scale_index.shape:
        raise UsageError(f"a derived mask is a bool array of shape {scale_index.shape}")
    if mode == MaskMode.DERIVED:
        return derived
    skipped = np.flatnonzero(~derived)
    mask = derived.copy()
    mask.reshape(-1)[skipped[_read_positions(decoder, skipped.size, parameter, label)]] = True
    return mask


def _check_parameter(mode: MaskMode, parameter: int) -> None:
    limit = {MaskMode.DERIVED: 0, MaskMode.DERIVED_WITH_EXCEPTIONS: MAX_ORDER}.get(mode, 63)
    if not 0 <= parameter <= limit:
        raise StreamError(f"mask mode {mode.name} has no parameter {parameter}")


# Exceptions: their number (5 bits for its bit length, then the bits below its leading one), then the gaps between them.


def _write_positions(encoder: FrameEncoder, positions: np.ndarray, order: int, label: str) -> None:
    length = int(positions.size).bit_length()
    encoder.put_bits(length, _COUNT_LENGTH_BITS, label)
    rest = positions.size - (1 << length - 1) if length else 0
    for low in _low_bits(length):
        encoder.put_bits(rest >> low & 0xFFFF, min(length - 1 - low, 16), label)
    encoder.put_numbers(np.diff(positions, prepend=-1) - 1, order, label)


def _read_positions(decoder: FrameDecoder, limit: int, order: int, label: str) -> np.ndarray:
    length = int(decoder.get_bits(_COUNT_LENGTH_BITS, 1, label)[0])
    count = 1 << length - 1 if length else 0
    for low in _low_bits(length):
        count += int(decoder.get_bits(min(length - 1 - low, 16), 1, label)[0]) << low
    if count > limit:
        raise StreamError(f"mask: {count} exceptions among {limit} skipped elements")
    positions = np.cumsum(decoder.get_numbers(count, order, label) + 1) - 1
    if count and positions[-1] >= limit:
        raise StreamError(f"mask: exception at {positions[-1]} among {limit} skipped elements")
    return positions


def _low_bits(length: int) -> list[int]:
    """Lowest bits of the fields of a count of ``length`` bits, leading one left out: high part first."""
    return [low for low in (16, 0) if low < length - 1]


# Sent flags, in the order group, block row, block column.


def _block_shape(parameter: int, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(channels in a group, groups, block rows, block columns)."""
    channels, height, width = shape
    size = GROUP_CHANNELS[parameter >> 4] or max(channels, 1)
    return size, -(-channels // size), -(-height // BLOCK), -(-width // BLOCK)


def _flag_count(parameter: int, shape: tuple[int, ...]) -> int:
    _, groups, rows, columns = _block_shape(parameter, shape)
    return groups * rows * columns


def _expand_flags(flags: np.ndarray, parameter: int, shape: tuple[int, ...]) -> np.ndarray:
    size, groups, rows, columns = _block_shape(parameter, shape)
    channels, height, width = shape
    wide = flags.reshape(groups, rows, columns).repeat(BLOCK, axis=2)[:, :, :width]
    return wide.repeat(BLOCK, axis=1)[:, :height].repeat(size, axis=0)[:channels]


def _block_flags(mask: np.ndarray, parameter: int) -> np.ndarray:
    size = _block_shape(parameter, mask.shape)[0]
    return mask[::size, ::BLOCK, ::BLOCK]
