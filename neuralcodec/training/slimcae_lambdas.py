"""Lambda scheduling of SlimCAE (paper 004): which rate-distortion tradeoff each width shall have.

All widths start with one lambda. Then, from the widest pair of neighbours to the narrowest, the lambdas of all widths below the pair's upper one are
lowered step by step, with training in between, as long as the slope of the curve between the two points falls: at equal lambda the narrow width
saves hardly any bits for the quality that it loses, and far below its best one the curve is steep again.

The slides say "update lambdas according to schedule"; the step of 0.8, the slope (PSNR over rate) and the most steps for a pair are those of the
authors' published program. There the last step, which made it worse, stays; here it is taken back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FACTOR = 0.8
MOST_STEPS = 7
Point = tuple[float, float]
"""Bits per pixel, PSNR in dB."""


def slope(wide: Point, narrow: Point) -> float:
    """Decibels that a bit per pixel buys between two widths; infinite where the narrow one needs no fewer bits."""
    saved = wide[0] - narrow[0]
    return (wide[1] - narrow[1]) / saved if saved > 0 else math.inf


@dataclass
class LambdaSchedule:
    """``shares``: each width's lambda, of a common one, the widest first. The rest is the state of the search."""

    shares: list[float]
    pair: int = 0
    """Index of the wider of the two widths between which the slope is watched."""
    steps: int = 0
    """How often the lambdas below it were lowered."""
    lowest: float | None = None
    """Slope of the pair so far, None before it is known."""
    measured: int = 0
    """Calls of ``advance``."""

    @property
    def done(self) -> bool:
        return self.pair >= len(self.shares) - 1

    @property
    def most_measurements(self) -> int:
        """Calls of ``advance`` after which the search is over at the latest."""
        return MOST_STEPS * (len(self.shares) - 1) + 1

    def advance(self, points: list[Point]) -> None:
        """Make the next change. ``points``: what each width reaches, after some training with the present shares."""
        self.measured += 1
        while not self.done and not self._lowered(slope(points[self.pair], points[self.pair + 1])):
            self.pair, self.steps, self.lowest = self.pair + 1, 0, None

    def _lowered(self, now: float) -> bool:
        """Lower the lambdas below the pair, whose slope is ``now``; False where that is over, a last step that made it worse being taken back."""
        if self.lowest is not None and math.isfinite(self.lowest) and now >= self.lowest:
            self._scale(1 / FACTOR)
            return False
        if self.steps == MOST_STEPS:
            return False
        self.lowest = now
        self.steps += 1
        self._scale(FACTOR)
        return True

    def _scale(self, factor: float) -> None:
        for i in range(self.pair + 1, len(self.shares)):
            self.shares[i] *= factor
