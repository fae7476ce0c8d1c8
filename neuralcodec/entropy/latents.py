"""One latent tensor in a frame's payload: the elements that its mask marks as coded, in raster order, as one group."""

from __future__ import annotations

import numpy as np

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy.coder import FrameDecoder, FrameEncoder


def code_latent(
    encoder: FrameEncoder,
    residual: np.ndarray,
    scale_index: np.ndarray,
    mask: np.ndarray | None = None,
    label: str = "",
) -> None:
    """Add the coded elements of ``residual`` to the payload.

    ``residual``: integers -32767..32767, ``scale_index``: integers 0..63, ``mask``: bool (True: coded; None: all), all
    of one shape, (C, H, W). What the mask skips is not looked at; the decoder gets 0 there.
    """
    if mask is None:
        encoder.put(residual, scale_index, label)
        return
    _check(mask, scale_index)
    if residual.shape != mask.shape:
        raise UsageError(f"residual {residual.shape} and mask {mask.shape} differ in shape")
    coded = np.flatnonzero(mask)
    encoder.put(residual.reshape(-1)[coded], scale_index.reshape(-1)[coded], label)


def decode_latent(
    decoder: FrameDecoder, scale_index: np.ndarray, mask: np.ndarray | None = None, label: str = ""
) -> np.ndarray:
    """Read what ``code_latent`` wrote: int32 of the shape of ``scale_index``, 0 where skipped. Raises StreamError."""
    if mask is None:
        return decoder.get(scale_index, label)
    _check(mask, scale_index)
    coded = np.flatnonzero(mask)
    residual = np.zeros(scale_index.size, dtype=np.int32)
    residual[coded] = decoder.get(scale_index.reshape(-1)[coded], label)
    return residual.reshape(scale_index.shape)


def _check(mask: np.ndarray, scale_index: np.ndarray) -> None:
    if mask.dtype != np.bool_ or mask.shape != scale_index.shape:
        raise UsageError(f"a mask is a bool array of shape {scale_index.shape}, not {mask.dtype} {mask.shape}")
