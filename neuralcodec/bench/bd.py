"""Bjontegaard deltas between rate-distortion curves, and reading one curve at a given PSNR.

Piecewise cubic (PCHIP) interpolation of log rate over PSNR, or of PSNR over log rate, by the ``bjontegaard`` package.
Refused where the curves share less than half of the narrower one's range, or less than half a decibel: there the mean
would speak of too little.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from neuralcodec.core.errors import MeasureError

Curve = Sequence[tuple[float, float]]
"""Points (rate, PSNR in dB, or another measure of quality where that is said) in any order; the rate's unit is free but
for being the same in curves that are compared."""
LEAST_SHARE = 0.5
LEAST_DB = 0.5


@dataclass(frozen=True)
class BdResult:
    """``rate`` in percent (negative: the tested curve needs fewer bits), ``psnr`` in dB (positive: the tested curve is
    better); None where refused, and then ``reason`` says why. ``overlap_db`` is the shared range of PSNR, ``overlap``
    its share of the narrower curve's; ``apart``: refused because that is too little."""

    rate: float | None
    psnr: float | None
    overlap_db: float
    overlap: float
    reason: str = ""
    apart: bool = False


def rising(curve: Curve) -> list[tuple[float, float]]:
    """A curve in rising order of PSNR, without points that cost no more than a worse one. Rates must be positive."""
    kept: list[tuple[float, float]] = []
    for rate, psnr in sorted(curve, key=lambda p: (p[1], p[0])):
        if rate <= 0:
            raise MeasureError(f"a rate of {rate:g} is no point of a curve")
        if not kept or (psnr > kept[-1][1] + 1e-6 and rate > kept[-1][0]):
            kept.append((rate, psnr))
    return kept


def bd(anchor: Curve, tested: Curve, least: float = LEAST_DB, unit: str = "dB") -> BdResult:
    """BD-rate and BD-PSNR of ``tested`` against ``anchor``; with another measure of quality, the same in its unit,
    ``least`` of which must be shared. Where the ``bjontegaard`` package is missing, that is the reason of a refusal."""
    a, b = rising(anchor), rising(tested)
    if min(len(a), len(b)) < 2:
        return BdResult(None, None, 0.0, 0.0, "a curve has fewer than two usable points")
    quality = _overlap([p for _, p in a], [p for _, p in b])
    rates = _overlap([math.log(r) for r, _ in a], [math.log(r) for r, _ in b])
    if quality[0] < least or quality[1] < LEAST_SHARE:
        reason = f"the curves share {quality[0]:.2f} {unit}, {100 * quality[1]:.0f} % of the narrower one's range"
        return BdResult(None, None, *quality, reason, apart=True)
    try:
        import bjontegaard
    except ImportError:
        return BdResult(None, None, *quality, "the package bjontegaard is missing (pip install 'neuralcodec[bench]')")
    arguments = [*zip(*a, strict=True), *zip(*b, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about overlaps that are fine by the bounds above
        options = {"method": "pchip", "require_matching_points": False}
        rate = float(bjontegaard.bd_rate(*arguments, **options))
        psnr = float(bjontegaard.bd_psnr(*arguments, **options)) if rates[1] >= LEAST_SHARE else None
    return BdResult(rate, psnr, *quality)


def mean_bd(results: Iterable[BdResult], figure: str = "rate") -> tuple[float | None, int]:
    """Mean BD-rate (or, of ``figure`` "psnr", BD-PSNR) over clips, and over how many; clips where it was refused do not
    count."""
    found = [value for r in results if (value := getattr(r, figure)) is not None]
    return (sum(found) / len(found) if found else None), len(found)


def rate_at(curve: Curve, psnr: float) -> float | None:
    """The rate at which a curve has a PSNR, by PCHIP of log rate over PSNR; None outside the curve: nothing is
    extrapolated."""
    points = rising(curve)
    if not points or not points[0][1] <= psnr <= points[-1][1]:
        return None
    if len(points) == 1:
        return points[0][0]
    from scipy.interpolate import PchipInterpolator

    return math.exp(float(PchipInterpolator([p for _, p in points], [math.log(r) for r, _ in points])(psnr)))


def _overlap(a: list[float], b: list[float]) -> tuple[float, float]:
    """Length of the range that two rising lists share, and its share of the narrower range."""
    shared = max(0.0, min(a[-1], b[-1]) - max(a[0], b[0]))
    narrower = min(a[-1] - a[0], b[-1] - b[0])
    return shared, (shared / narrower if narrower > 0 else 0.0)
