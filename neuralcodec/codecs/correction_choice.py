"""Corrections of a frame, as an encoder finds them: nn.corrections says what they do, entropy.corrections what they cost.

Levels minimise squared error plus bits, a position of the block after another, with the contexts that they have by then; blocks that do not pay are left out.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from neuralcodec.core.types import PlaneCorrections
from neuralcodec.entropy.choices import TURNS
from neuralcodec.entropy.corrections import (
    COUNTS,
    ORDER,
    PLAIN,
    CorrectionPlanes,
    CorrectionStatistics,
    coded_contexts,
    correction_bits,
    level_contexts,
)
from neuralcodec.entropy.filters import FilterPlanes
from neuralcodec.nn.corrections import BLOCK, COSINES, STEP_SIZES
from neuralcodec.nn.loop_filter import SAMPLE_FRAC, filtered_sixteenths, halved_luma, three_planes

PLANE_WEIGHTS = (6 / 8, 4 / 8, 4 / 8)
"""Of squared errors, a sample."""
CHROMA_FACTOR = (1.5, 4.0)
"""Those of a chroma plane count the more, between these, the smaller they are beside luma's, for what is measured is the mean of decibels."""
LEFT = 20.0
"""Bits that an error is worth which a block may have after it was corrected, about."""
WORTH = 1.0
"""Beside what a squared step is worth where a residual is rounded (coding.LAMBDAS)."""
LEAST_LEVEL, LEAST_BLOCK = 4.0, 4.0
"""Bits that a level that is not 0 costs, and a block besides, at least, or about: what cannot gain more is not looked at."""
OVERHEAD = 12.0
"""Bits that a plane's corrections must save besides: a frame's flag, a plane's fields."""
STEP_IN_WORTH = 2.6
"""The first step that is tried, where a squared sample is worth a bit; beside it the STEPS_BESIDE next ones."""
STEPS_BESIDE = 1
LARGEST_TRIED = 255
ROUNDS, QUICK_ROUNDS = 3, 2
_COSINES = COSINES / np.linalg.norm(COSINES, axis=1, keepdims=True)


@torch.no_grad()
def choose_corrections(real: tuple[Tensor, Tensor], source: tuple[Tensor, Tensor], filters: FilterPlanes, size: tuple[int, int], worth: float,
                       before: CorrectionStatistics, importance: Tensor | None = None, thorough: bool = True) -> CorrectionPlanes:
    """Corrections for planes y (1, 1, H, W), uv (1, 2, H/2, W/2) that are not filtered yet, by those of the ``source``, a picture of ``size`` (height, width) and what it is padded with.

    ``worth``: bits for a squared sample; ``before``: statistics that their coding begins with; ``importance`` (1, 1, H/16, W/16): what errors count at each position. Not
    ``thorough``: one step of the quantiser and fewer rounds, sooner and a little worse."""
    luma = halved_luma(real[0]) if any(f is not None and f.luma is not None for f in filters) else None
    errors, prices, left = [], [], []
    for index, (x, s, f) in enumerate(zip(three_planes(*real), three_planes(*source), filters, strict=True)):
        error = (s - filtered_sixteenths(x, f, luma) * 2.0**-SAMPLE_FRAC)[0, 0].double().cpu()
        price = torch.full((error.shape[0] // BLOCK, error.shape[1] // BLOCK), WORTH * worth * PLANE_WEIGHTS[index], dtype=torch.float64)
        rows, columns = (-(-n // (2 * BLOCK if index else BLOCK)) for n in size)
        price[rows:], price[:, columns:] = 0, 0  # what will be cut off needs none
        if importance is not None:
            price *= F.interpolate(importance.double().cpu(), size=price.shape, mode="nearest")[0, 0]
        errors.append(error.numpy().reshape(price.shape[0], BLOCK, price.shape[1], BLOCK).transpose(0, 2, 1, 3))
        prices.append(price.numpy())
        left.append(float(np.minimum(np.square(errors[-1]).sum((2, 3)) * prices[-1], LEFT).sum()) / PLANE_WEIGHTS[index])
    chosen: list[PlaneCorrections | None] = []
    statistics = before
    for index, (error, price) in enumerate(zip(errors, prices, strict=True)):
        factor = np.clip(left[0] / (4 * max(left[index], 1e-8)), *CHROMA_FACTOR) if index else 1.0
        plane, statistics = _choose(error, factor * price, statistics, thorough)
        chosen.append(plane)
    return tuple(chosen)


def _choose(error: np.ndarray, price: np.ndarray, statistics: CorrectionStatistics, thorough: bool) -> tuple[PlaneCorrections | None, CorrectionStatistics]:
    """The best corrections of a plane by its ``error`` in blocks (H/4, W/4, 4, 4), samples, and bits for a squared sample in each, ``price`` (H/4, W/4); None where none
    pay; and statistics after them."""
    shape = price.shape
    blocks = error.reshape(-1, BLOCK, BLOCK)
    worth = np.square(blocks).sum((1, 2)) * price.reshape(-1)
    looked = np.flatnonzero(worth > LEAST_BLOCK + LEAST_LEVEL)
    blocks, prices = blocks[looked], price.reshape(-1)[looked]
    coefficients = np.stack([_COSINES @ blocks @ _COSINES.T, blocks])
    gains = np.maximum(np.square(coefficients) * prices[:, None, None] - LEAST_LEVEL, 0).sum((2, 3)).max(0)
    paying = np.flatnonzero(gains > LEAST_BLOCK)
    none = None, statistics
    if not paying.size:
        return none
    looked, prices, coefficients = looked[paying], prices[paying], coefficients[:, paying]
    worth = worth[looked]
    usual = min(max(round(4 * np.log2(STEP_IN_WORTH / np.sqrt(np.average(prices, weights=worth)))), 0), len(STEP_SIZES) - 1)
    best, best_cost = none, -OVERHEAD
    beside, rounds = (STEPS_BESIDE, ROUNDS) if thorough else (0, QUICK_ROUNDS)
    for step in sorted(range(max(usual - beside, 0), min(usual + beside + 1, len(STEP_SIZES))), key=lambda n: abs(n - usual)):
        if step != usual and best is none:
            break  # where one step gains nothing, the ones beside it seldom do
        expected, coded = statistics, np.zeros(shape, np.int64)
        for _ in range(rounds):
            bits = expected.bits()
            found = [_quantise(c, step, prices, bits, plain) for plain, c in enumerate(coefficients)]
            cost = np.stack([f[1] for f in found])
            plain = cost.argmin(0)
            levels = np.where(plain[:, None, None], found[1][0], found[0][0])
            price_of_flag = _flag_prices(coded, bits).reshape(-1)[looked]
            paid = (cost.min(0) + price_of_flag < worth) & levels.any((1, 2))
            coded = np.zeros(shape, np.int64)
            coded.reshape(-1)[looked[paid]] = 1
            if not paid.any():
                break
            plane = PlaneCorrections(step, looked[paid], plain[paid].astype(bool), levels[paid])
            total, after = correction_bits(plane, shape, statistics)
            total += float((cost.min(0) - np.where(plain, found[1][2], found[0][2]) - worth)[paid].sum())  # errors' worth, without the bits
            if total < best_cost:
                best, best_cost = (plane, after), total
            expected = after
    return best


def _flag_prices(coded: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """What it costs more to say that a block has a correction than that it has none, were the others as ``coded`` says."""
    bordered = np.pad(coded, 1)
    prices = np.empty(coded.shape)
    for turn, (row, column) in enumerate(TURNS):
        contexts = coded_contexts(bordered, turn)
        prices[row::2, column::2] = bits[contexts, 1] - bits[contexts, 0]
    return prices


def _quantise(coefficients: np.ndarray, step: int, prices: np.ndarray, bits: np.ndarray, plain: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Levels int64 (n, 4, 4) of ``coefficients`` (n, 4, 4), samples; what each block costs, in bits with the worth of its error, (n,); and its bits alone."""
    size = STEP_SIZES[step] / 2.0**SAMPLE_FRAC
    magnitudes = np.zeros(coefficients.shape, np.int64)
    scaled = np.abs(coefficients) / size
    kinds = np.full(len(prices), plain)
    worth = prices * size**2
    taken = np.full(len(prices), bits[PLAIN, plain])
    cost = taken.copy()
    for u, v in ORDER:
        significant, larger = level_contexts(kinds, magnitudes, u, v)
        low = np.minimum(np.floor(scaled[:, u, v]), LARGEST_TRIED).astype(np.int64)
        tried = np.stack([np.zeros_like(low), low, low + 1])
        paid = _level_bits(tried, bits[significant], bits[larger], bits[larger + 2 * COUNTS])
        costs = paid + worth * np.square(scaled[:, u, v] - tried)
        which = costs.argmin(0)[None]
        magnitudes[:, u, v] = np.take_along_axis(tried, which, 0)[0]
        cost += np.take_along_axis(costs, which, 0)[0]
        taken += np.take_along_axis(paid, which, 0)[0]
    return np.where(coefficients < 0, -magnitudes, magnitudes), cost, taken


def _level_bits(magnitudes: np.ndarray, significant: np.ndarray, larger: np.ndarray, largest: np.ndarray) -> np.ndarray:
    """Of magnitudes (k, n), with what their flags cost, each (n, 2)."""
    beyond = 2 * np.log2(np.maximum(magnitudes - 2, 1)) + 1  # an Exp-Golomb number, about
    more = np.where(magnitudes > 2, largest[:, 1] + beyond, largest[:, 0])
    more = np.where(magnitudes > 1, larger[:, 1] + more, larger[:, 0])
    return np.where(magnitudes > 0, significant[:, 1] + 1 + more, significant[:, 0])


