"""What changed from one bench to another, beyond noise: rate, quality, speed ratio, memory.

Points are compared where both reports have the same clip, codec and setting. Rate and quality together are one BD-rate
of the new curve against the old one; speed is the decoding (and encoding) time for each second that x264 took right
afterwards to decode the same clip, so that two reports need not come from equally busy machines. Noise: rate and
quality have none on one machine (the bounds are for rounding), times and memory have.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from neuralcodec.bench.bd import bd, mean_bd
from neuralcodec.bench.metrics import MEASURES
from neuralcodec.bench.points import Point, curve
from neuralcodec.bench.table import Table
from neuralcodec.core.errors import InputError

WORSE = 9
"""Exit code when something of ours got worse."""
RATE_PERCENT, PSNR_DB, BITS_PERCENT, SPEED_PERCENT, MEMORY_PERCENT = 0.2, 0.02, 0.2, 10.0, 5.0
"""What lies within these bounds is noise."""
LAST_FRAMES = 16
"""Their PSNR is compared on its own, where clips are longer: of one long group beside shorter ones it says what errors add up to (drift)."""


@dataclass(frozen=True)
class Change:
    """One figure of one codec: old and new, the change in ``unit``, and whether it is "worse", "better", "same" or, of
    another's codec, "other"."""

    codec: str
    what: str
    old: float | None
    new: float | None
    change: float
    unit: str
    verdict: str
    over: int


def read_points(path: Path) -> list[Point]:
    """The points of a report. Raises InputError."""
    try:
        document = json.loads(path.read_text())
        return [Point.from_dict(d) for d in document["points"]]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no report of a bench (report.json)") from error


def differences(old: Sequence[Point], new: Sequence[Point]) -> list[Change]:
    """All figures that both have, by codec. Raises InputError where the two share no point."""
    pairs = _pairs(old, new)
    if not pairs:
        raise InputError("the two reports have no point in common (same clip, frames, codec and setting)")
    changes: list[Change] = []
    for codec in dict.fromkeys(n.codec for _, n in pairs):
        changes += _codec(codec, [p for p in pairs if p[1].codec == codec])
    return changes


def _pairs(old: Iterable[Point], new: Iterable[Point]) -> list[tuple[Point, Point]]:
    before = {(p.clip, p.frames, p.codec, p.setting): p for p in old}
    return [(o, p) for p in new if (o := before.get((p.clip, p.frames, p.codec, p.setting))) is not None]


def _codec(codec: str, pairs: list[tuple[Point, Point]]) -> list[Change]:
    ours = pairs[0][1].ours

    def judge(
        what: str, before: float | None, after: float | None, change: float, unit: str, noise: float, over: int
    ) -> Change:
        verdict = "same" if abs(change) <= noise else "other" if not ours else "worse" if change > 0 else "better"
        return Change(codec, what, before, after, change, unit, verdict, over)

    found = []
    clips = list(dict.fromkeys(n.clip for _, n in pairs))
    curves = [
        bd(curve(o for o, n in pairs if n.clip == clip), curve(n for _, n in pairs if n.clip == clip)) for clip in clips
    ]
    rate, count = mean_bd(curves)
    if rate is not None:
        found.append(judge("BD-rate, new against old", None, None, rate, "%", RATE_PERCENT, count))
        worst = max((b.rate, clip) for b, clip in zip(curves, clips, strict=True) if b.rate is not None)
        if count > 1:
            found.append(judge(f"BD-rate, worst clip ({worst[1]})", None, None, worst[0], "%", RATE_PERCENT, 1))
    found += _alone(codec, pairs, rate is None and ours)
    found += _last(codec, pairs)
    for measure, label, unit in ((m.name, m.label, m.unit) for m in MEASURES.values() if m.name != "psnr"):
        both = [
            (o.quality(measure), n.quality(measure))
            for o, n in pairs
            if o.quality(measure) is not None and n.quality(measure) is not None
        ]
        if both:
            before, after = (statistics.mean(side) for side in zip(*both, strict=True))
            change = after - before
            found.append(
                Change(
                    codec, label, before, after, change, unit, "same" if abs(change) <= PSNR_DB else "other", len(both)
                )
            )
    for what, field in (("decoding time", "decode_s"), ("encoding time", "encode_s")):
        if ratios := _ratios(pairs, field):
            before, after = (statistics.geometric_mean(side) for side in zip(*ratios, strict=True))
            found.append(
                judge(
                    f"{what} / x264's decoding",
                    before,
                    after,
                    100 * (after / before - 1),
                    "%",
                    SPEED_PERCENT,
                    len(ratios),
                )
            )
    for what, field in (("encoding memory", "encode_memory"), ("decoding memory", "decode_memory")):
        both = [(getattr(o, field), getattr(n, field)) for o, n in pairs if getattr(o, field) and getattr(n, field)]
        if both:
            before, after = (max(side) for side in zip(*both, strict=True))
            found.append(
                judge(
                    f"peak {what}, MB",
                    before / 1e6,
                    after / 1e6,
                    100 * (after / before - 1),
                    "%",
                    MEMORY_PERCENT,
                    len(both),
                )
            )
    return found


def _alone(codec: str, pairs: list[tuple[Point, Point]], judged: bool) -> list[Change]:
    """Rate alone and quality alone say what moved. Without a curve they are judged too: more bits for no better
    pictures, or worse pictures for no fewer bits, are worse."""
    bits = [sum(p.bits for p in side) for side in zip(*pairs, strict=True)]
    psnr = [statistics.mean(p.psnr for p in side) for side in zip(*pairs, strict=True)]
    moved = [100 * (bits[1] / bits[0] - 1), psnr[1] - psnr[0]]
    signs = [
        0 if abs(m) <= noise else 1 if m > 0 else -1 for m, noise in zip(moved, (BITS_PERCENT, PSNR_DB), strict=True)
    ]
    verdict = "other"
    if judged and signs[0] * signs[1] <= 0:
        verdict = "worse" if signs[0] > 0 or signs[1] < 0 else "better"
    return [
        Change(codec, what, *figures, change, unit, verdict if sign else "same", len(pairs))
        for what, figures, change, unit, sign in zip(
            ("bits", "PSNR 6:1:1"), (bits, psnr), moved, ("%", "dB"), signs, strict=True
        )
    ]


def _last(codec: str, pairs: list[tuple[Point, Point]]) -> list[Change]:
    """PSNR of the last frames: the mean over points, and the point where it fell most."""
    ends = [(n, *(statistics.mean(p.frame_psnr[-LAST_FRAMES:]) for p in (o, n))) for o, n in pairs if len(n.frame_psnr) > LAST_FRAMES]
    if not ends:
        return []
    rows = [("", statistics.mean(e[1] for e in ends), statistics.mean(e[2] for e in ends), len(ends))]
    if len(ends) > 1:
        point, old, new = min(ends, key=lambda e: e[2] - e[1])
        rows.append((f", least ({point.clip}, {point.setting:g})", old, new, 1))
    return [
        Change(codec, f"PSNR 6:1:1, last {LAST_FRAMES} frames{which}", old, new, new - old, "dB", "same" if abs(new - old) <= PSNR_DB else "other", over)
        for which, old, new, over in rows
    ]


def _ratios(pairs: list[tuple[Point, Point]], field: str) -> list[tuple[float, float]]:
    """For each pair of points that were timed on as many threads, the time of either for each second of its own
    reference."""
    return [
        tuple(getattr(p, field) / p.reference_s for p in pair)
        for pair in pairs
        if pair[0].threads == pair[1].threads and all(getattr(p, field) and p.reference_s for p in pair)
    ]


def got_worse(changes: Iterable[Change]) -> bool:
    """Whether anything of ours did, beyond noise."""
    return any(c.verdict == "worse" for c in changes)


def table(changes: Sequence[Change], names: tuple[str, str]) -> Table:
    """Changes beyond noise, and for each codec how many figures stayed the same."""
    rows = [
        (c.codec, c.what, c.old, c.new, c.change, c.unit, c.verdict, c.over) for c in changes if c.verdict != "same"
    ]
    same = sum(c.verdict == "same" for c in changes)
    counted = (
        f"{same} of {len(changes)} figures are the same within noise: BD-rate {RATE_PERCENT} %, bits {BITS_PERCENT} %, "
        f"PSNR {PSNR_DB} dB, times {SPEED_PERCENT:g} %, memory {MEMORY_PERCENT:g} %."
    )
    other = (
        '"other": moved, which alone is neither better nor worse (a classical codec, or rate or quality where the '
        "curve decides)."
    )
    return Table(
        f"Changes from {names[0]} to {names[1]}",
        "",
        ("codec", "figure", "old", "new", "change", "unit", "verdict", "points"),
        tuple(rows),
        (counted, other),
        ("", "", ".4g", ".4g", "+.3g", "", "", ""),
    )
