"""One latent tensor in a frame's payload: the elements that its mask marks as coded, in raster order, as one group, those that are nearly certain before."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder
from neuralcodec.entropy.sparse import CERTAIN, read_sparse, write_sparse


class Elements(NamedTuple):
    """Some elements of a latent; all others are 0. Most of a latent is 0."""

    where: np.ndarray
    """int64 (n,): their numbers in raster order, each at most once."""
    symbols: np.ndarray
    """Integers (n,)."""

    @staticmethod
    def of(latent: np.ndarray) -> Elements:
        """Those that are not 0."""
        where = np.flatnonzero(latent)
        return Elements(where, latent.reshape(-1)[where])


def code_latent(
    encoder: FrameEncoder,
    residual: np.ndarray,
    scale_index: np.ndarray,
    mask: np.ndarray | None = None,
    label: str = "",
    sparse: bool = False,
) -> None:
    """Add the coded elements of ``residual`` to the payload.

    ``residual``: integers -32767..32767, ``scale_index``: integers 0..63, ``mask``: bool (True: coded; None: all), all
    of one shape, (C, H, W). What the mask skips is not looked at; the decoder gets 0 there. ``sparse``: nearly certain
    elements are coded in groups, see sparse.py.
    """
    if mask is None:
        mask = np.ones(scale_index.shape, bool)
    _check(mask, scale_index)
    if residual.shape != mask.shape:
        raise UsageError(f"residual {residual.shape} and mask {mask.shape} differ in shape")
    coded = np.flatnonzero(mask)
    symbols, tables = residual.reshape(-1)[coded], scale_index.reshape(-1)[coded]
    if sparse:
        certain = tables < CERTAIN
        write_sparse(encoder, symbols[certain], label)
        symbols, tables = symbols[~certain], tables[~certain]
    encoder.put(symbols, tables, label)


def decode_latent(
    decoder: FrameDecoder, scale_index: np.ndarray, mask: np.ndarray | None = None, label: str = "", sparse: bool = False
) -> np.ndarray:
    """Read what ``code_latent`` wrote: int32 of the shape of ``scale_index``, 0 where skipped. Raises StreamError."""
    residual = np.zeros(scale_index.size, dtype=np.int32)
    elements = decode_elements(decoder, scale_index, mask, label, sparse)
    residual[elements.where] = elements.symbols
    return residual.reshape(scale_index.shape)


def decode_elements(
    decoder: FrameDecoder, scale_index: np.ndarray, mask: np.ndarray | None = None, label: str = "", sparse: bool = False
) -> Elements:
    """The same, without what is skipped. Raises StreamError."""
    if mask is None:
        mask = np.ones(scale_index.shape, bool)
    _check(mask, scale_index)
    coded, tables = mask.reshape(-1), scale_index.reshape(-1)
    if not sparse:
        where = np.flatnonzero(coded)
        return Elements(where, decoder.get(tables[where], label))
    uncertain = tables >= CERTAIN
    uncertain &= coded
    where = np.flatnonzero(uncertain)
    certain, values = read_sparse(decoder, np.count_nonzero(coded) - where.size, label)
    symbols = decoder.get(tables[where], label)
    if not certain.size:
        return Elements(where, symbols)
    certain = np.flatnonzero(coded ^ uncertain)[certain]
    return Elements(np.concatenate([where, certain]), np.concatenate([symbols, values.astype(np.int32)]))


def _check(mask: np.ndarray, scale_index: np.ndarray) -> None:
    if mask.dtype != np.bool_ or mask.shape != scale_index.shape:
        raise UsageError(f"a mask is a bool array of shape {scale_index.shape}, not {mask.dtype} {mask.shape}")
