"""Just-unpenalized model capacity (AdaNIC, paper 003, section 3.4): the least capacity at which a block's cost stays within a tolerance.

With the squared error D and the rate R of a block, both for a pixel, and lambda' of the picture's quality::

    D' = lambda' / mu D                           (5)
    cost of a downgrade = mu (D'new - D'old) + Rnew - Rold       (6)
    tolerance = d sqrt(1 + mu^2)                  (8), from (7)
    label = the least capacity whose cost is within the tolerance of the largest one's     (9)

The paper does not say which mu and d it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

MU = 1.0
DISTANCE = 0.006
"""d, in bits for a luma sample."""


def tolerance(mu: float = MU, distance: float = DISTANCE) -> float:
    """epsilon of equation 8, in bits for a luma sample."""
    return distance * math.sqrt(1 + mu * mu)


def cost(rate: np.ndarray, error: np.ndarray, lam: float) -> np.ndarray:
    """L' = mu D' + R, in which mu cancels out. ``rate`` in bits and ``error`` squared, samples in 0..1, both for a luma sample."""
    return lam * error + rate


def find_capacities(costs: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int], widest: int, narrowest: int, epsilon: float) -> np.ndarray:
    """Options (rows, columns) of blocks, by a binary search over capacities in all blocks at once.

    ``costs(options)`` codes the picture with a map and gives what each block costs; it is called once for the widest option and then for
    ceil(log2(number of options)) maps at most. Costs are taken to rise with the option."""
    low, high = np.full(shape, widest), np.full(shape, narrowest + 1)  # within the tolerance; beyond it, or no option
    most = costs(low) + epsilon if widest < narrowest else None
    while (open_ := high - low > 1).any():
        middle = np.where(open_, (low + high) // 2, low)
        within = costs(middle) <= most
        low, high = np.where(open_ & within, middle, low), np.where(open_ & ~within, middle, high)
    return low
