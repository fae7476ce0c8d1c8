"""The encoder's choice of a mask. Not part of the specification: any mask that ``write_mask`` accepts is valid.

The rule. Coding element i costs its bits by the integer tables; skipping it costs ``lam`` * d_i, d_i being the
squared error that is added (the squared residual, where its real value is not given). So coding it gains g_i = lam * d_i - bits_i, and a mask's merit is the sum of g_i over its
coded elements, less the bits of the mask itself and less ``price`` for each of them, which stands for the decoder's time. Each mode makes its best mask; the highest merit wins, ties go to the
lowest mode. Costs lie on a grid of 2^-20; with ``lam`` on that grid too, sums do not depend on the order of additions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neuralcodec.core.errors import UsageError
from neuralcodec.entropy.coder import MAX_ORDER
from neuralcodec.entropy.masks import BLOCK, GROUP_CHANNELS, MaskMode, _expand_flags
from neuralcodec.entropy.tables import CLASS_MODEL, FLAG_COSTS, TABLE_COUNT, cost_bits, model_cost

DEFAULT_LAMBDA = 8.0
"""Bits that a squared residual unit is worth. At high rate a uniform quantiser of step 1 has distortion D = 1/12 and
dR/dD = 1 / (2 ln 2 D) = 8.7 bits."""

_LARGEST_LAMBDA = 2.0**20
_CLASS_COST = model_cost(CLASS_MODEL)


class MaskChoice(NamedTuple):
    """A mode, its parameter and the mask (bool, (C, H, W), True where coded)."""

    mode: MaskMode
    parameter: int
    mask: np.ndarray


def choose_mask(
    residual: np.ndarray,
    scale_index: np.ndarray,
    derived: np.ndarray | None = None,
    lam: float | np.ndarray = DEFAULT_LAMBDA,
    modes: tuple[MaskMode, ...] = tuple(MaskMode),
    real: np.ndarray | None = None,
    price: float = 0.0,
) -> MaskChoice:
    """The mask with the best merit among ``modes`` (modes 0 and 1 only where ``derived`` is given).

    ``residual``: integers, ``scale_index``: integers 0..63, ``derived``: bool or None, all (C, H, W). ``lam``: bits for
    a squared residual unit, one number or (C, H, W); infinity drops no residual unless the mode leaves no choice (DERIVED does as it is told).
    ``real``: what the residual was before it was rounded, (C, H, W). ``price``: bits that coding an element has to save besides, a multiple of 2^-20.
    Raises UsageError when no mode is possible.
    """
    usable = [m for m in modes if derived is not None or m in (MaskMode.SENT, MaskMode.THRESHOLD)]
    if not usable:
        raise UsageError("no mask mode is possible: modes 0 and 1 need a derived mask")
    lam = np.broadcast_to(np.minimum(lam, _LARGEST_LAMBDA), residual.shape)
    gain = -price - cost_bits(residual, scale_index)
    nonzero = np.flatnonzero(residual)
    symbols = residual.reshape(-1)[nonzero].astype(np.float64)
    error = symbols if real is None else np.round((2 * real.reshape(-1)[nonzero].astype(np.float64) - symbols) * 2.0**16) * 2.0**-16
    gain.reshape(-1)[nonzero] += lam.reshape(-1)[nonzero] * error * symbols

    candidates = []
    if MaskMode.DERIVED in usable:
        candidates.append((float(gain[derived].sum()), MaskChoice(MaskMode.DERIVED, 0, derived)))
    if MaskMode.DERIVED_WITH_EXCEPTIONS in usable:
        candidates.append(_best_exceptions(gain, derived))
    if MaskMode.SENT in usable:
        candidates.append(_best_blocks(gain))
    if MaskMode.THRESHOLD in usable:
        candidates.append(_best_threshold(gain, scale_index))
    return max(candidates, key=lambda c: c[0])[1]


def _best_threshold(gain: np.ndarray, scale_index: np.ndarray) -> tuple[float, MaskChoice]:
    by_index = np.bincount(scale_index.reshape(-1), weights=gain.reshape(-1), minlength=TABLE_COUNT)
    merit = by_index[::-1].cumsum()[::-1]
    threshold = int(merit.argmax())
    return float(merit[threshold]), MaskChoice(MaskMode.THRESHOLD, threshold, scale_index >= threshold)


def _best_exceptions(gain: np.ndarray, derived: np.ndarray) -> tuple[float, MaskChoice]:
    skipped = np.flatnonzero(~derived)
    skipped_gain = gain.reshape(-1)[skipped]
    chosen = np.flatnonzero(skipped_gain > 0)
    # The price of a position depends on how many there are: two rounds, starting from all that would gain anything.
    for _ in range(2):
        price = np.log2(max(skipped.size, 1) / max(chosen.size, 1)) + 2.0
        chosen = np.flatnonzero(skipped_gain > price)
    order, position_bits = _best_order(np.diff(chosen, prepend=-1) - 1)
    count_bits = 5 + max(int(chosen.size).bit_length() - 1, 0)
    mask = derived.copy()
    mask.reshape(-1)[skipped[chosen]] = True
    merit = gain[derived].sum() + skipped_gain[chosen].sum() - position_bits - count_bits
    return float(merit), MaskChoice(MaskMode.DERIVED_WITH_EXCEPTIONS, order, mask)


def _best_order(gaps: np.ndarray) -> tuple[int, float]:
    """The Exp-Golomb order that codes ``gaps`` with the fewest bits, of those near the mean gap's, and those bits."""
    if not gaps.size:
        return 0, 0.0
    near = int(np.log2(gaps.mean() + 1))
    best = (MAX_ORDER, np.inf)
    for order in {*range(max(near - 2, 0), min(near + 3, MAX_ORDER)), MAX_ORDER}:  # the highest order fits any gap
        classes = np.frexp((gaps + (1 << order)).astype(np.float64))[1] - 1 - order
        if classes.max() >= len(_CLASS_COST):
            continue
        bits = float((_CLASS_COST[classes] + classes + order).sum())
        if bits < best[1]:
            best = (order, bits)
    return best


def _best_blocks(gain: np.ndarray) -> tuple[float, MaskChoice]:
    channels, height, width = gain.shape
    padded = np.zeros((channels, -(-height // BLOCK) * BLOCK, -(-width // BLOCK) * BLOCK))
    padded[:, :height, :width] = gain
    blocks = padded.reshape(channels, padded.shape[1] // BLOCK, BLOCK, padded.shape[2] // BLOCK, BLOCK).sum(axis=(2, 4))
    best = (-np.inf, 0, np.zeros(0, dtype=bool))
    for choice, size in enumerate(GROUP_CHANNELS):
        grouped = np.add.reduceat(blocks, np.arange(0, channels, size or channels), axis=0)
        for probability, (zero, one) in enumerate(FLAG_COSTS):
            flags = grouped > one - zero
            count = int(flags.sum())
            merit = grouped[flags].sum() - count * one - (flags.size - count) * zero
            if merit > best[0]:
                best = (float(merit), choice << 4 | probability, flags)
    merit, parameter, flags = best
    return merit, MaskChoice(MaskMode.SENT, parameter, _expand_flags(flags, parameter, gain.shape))
