"""What the points of a bench come to: BD figures, frames by kind, variants, speeds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from neuralcodec.bench import ours
from neuralcodec.bench.bd import BdResult, Curve, bd
from neuralcodec.bench.compare import SKIPPING, VariantRow, beside, uniform_widths, variant_row
from neuralcodec.bench.metrics import MEASURES
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.plan import KIND_ANCHOR, Plan, Result, SpeedRow
from neuralcodec.bench.points import Point, curve
from neuralcodec.codecs.registry import by_name


def evaluate(plan: Plan, result: Result) -> None:
    """Fill a result's figures from its points."""
    result.bd = _bd(plan, result, "psnr")
    for name in MEASURES:
        if name != "psnr" and any(p.quality(name) is not None for p in result.points):
            result.bd_measures[name] = _bd(plan, result, name)
    for clip in result.anchor_curves:
        their = result.of(clip, KIND_ANCHOR)
        for level in plan.levels:
            result.kinds += beside(result.of(clip, ours.codec_name(level)), their) if their else []
        _variants(plan, result, clip)
    result.speeds = speeds(result.points)


def _bd(plan: Plan, result: Result, measure: str) -> dict[str, dict[str, dict[str, BdResult]]]:
    level_names = [ours.codec_name(level) for level in plan.levels]
    found: dict[str, dict[str, dict[str, BdResult]]] = {}
    what = MEASURES[measure]
    for clip in result.anchor_curves:
        anchors: dict[str, Curve] = {}
        for name in (*plan.against, *level_names[:1]):
            known = result.anchor_curves[clip].get(name) if measure == "psnr" else None
            anchors[name] = known or curve(result.of(clip, name), measure)
        for name, anchor in anchors.items():
            for codec in level_names:
                tested = curve(result.of(clip, codec), measure)
                if tested and anchor and codec != name:
                    found.setdefault(name, {}).setdefault(codec, {})[clip] = bd(anchor, tested, what.least, what.unit)
    return found


def _variants(plan: Plan, result: Result, clip: str) -> None:
    for level in plan.levels:
        if plan.saec and level == plan.levels[0]:
            result.saec += _variant_rows(result, clip, level, SKIPPING)
        if plan.widths and level > 1:
            result.widths += _variant_rows(result, clip, level, uniform_widths(by_name(plan.model), level))


def _variant_rows(result: Result, clip: str, level: int, variants: Iterable[Variant]) -> list[VariantRow]:
    """The codec as it is, then its variants; those without points are left out."""
    plain = result.of(clip, ours.codec_name(level))
    rows = [plain, *(result.of(clip, ours.codec_name(level, variant)) for variant in variants)]
    return [variant_row(points, plain) for points in rows if points and plain]


def speeds(points: list[Point]) -> list[SpeedRow]:
    """One row for each codec with timed points, in their order."""
    timed: dict[str, list[Point]] = {}
    for p in points:
        if p.decode_s is not None and not p.variant:
            timed.setdefault(p.codec, []).append(p)
    rows = []
    for codec, group in timed.items():
        ratios = [p.decode_ratio for p in group if p.decode_ratio is not None]
        memory = [
            [m for p in points if p.codec == codec and (m := getattr(p, f"{verb}_memory")) is not None]
            for verb in ("encode", "decode")
        ]
        rows.append(
            SpeedRow(
                codec,
                len(group),
                _fps(group, "encode_s"),
                _fps(group, "decode_s"),
                1000 * statistics.mean(p.first_frame_s for p in group),
                statistics.geometric_mean(ratios) if ratios else None,
                *(max(m, default=None) for m in memory),
            )
        )
    return rows


def _fps(points: list[Point], seconds: str) -> float:
    """Frames a second over all points, end to end."""
    return sum(p.frames for p in points) / max(1e-9, sum(getattr(p, seconds) for p in points))
