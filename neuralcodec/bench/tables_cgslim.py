"""The tables of paper 000 (cgSlimDecoder with SaEC) from our own models: Tables 1 and 2, and Figure 3 as a table (Table
3: tables_times.py).

"Original" in the paper is the host before it was made slimmable; with us it is the same weights at full width
everywhere.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neuralcodec.bench.bd import LEAST_SHARE, bd
from neuralcodec.bench.ours import Variant
from neuralcodec.bench.points import Point, curve
from neuralcodec.bench.table import Cell, Table
from neuralcodec.bench.tables_counting import CONTEXT_ENCODER, CodingCount
from neuralcodec.bench.tables_systems import CGSLIM_PAPER, HOSTS, found, full, label, printed, without
from neuralcodec.codecs.complexity import INTER
from neuralcodec.codecs.files import LoadedModel
from neuralcodec.nn.selection import WIDTHS

TABLE_1 = {
    "motion decoder": (7, 1, 2, 3),
    "motion refinement": (25, 27, 34, 18),
    "feature extraction": (10, 13, 15, 25),
    "context refinement": (15, 5, 8, 13),
    CONTEXT_ENCODER: (5, 3, 4, 4),
    "contextual decoder": (39, 51, 38, 37),
}
"""The modules of the paper's Table 1, with its figures: percent at the original widths and at levels 1, 2 and 3."""
LEARNED, UNIFORM, UNSKIPPED = (
    "learned widths",
    "uniform slimming",
    "learned widths, nothing skipped",
)


@dataclass(frozen=True)
class CurveSetting:
    """One point of Figure 3: a width table and whether elements are skipped. ``series`` and ``name`` say what it is."""

    series: str
    name: str
    level: int
    widths: bytes
    skip: bool = True

    @property
    def variant(self) -> Variant:
        """How it is measured. Equal variants of one level are the same codec."""
        return Variant(f"{self.series} {self.name}", None if self.skip else (), self.widths)


def curve_settings(loaded: LoadedModel, levels: Sequence[int]) -> list[CurveSetting]:
    """What Figure 3 compares: one width for everything, learned widths at each level (the first in any case) with and
    without skipping.

    The first setting is the anchor."""
    learned = [n for n in sorted({1, *levels}) if n <= loaded.levels]
    count = len(loaded.widths[0])
    return [
        *(
            CurveSetting(UNIFORM, f"{100 * width:.0f} %", 1, bytes([option]) * count)
            for option, width in enumerate(WIDTHS)
        ),
        *(CurveSetting(LEARNED, f"level {n}", n, loaded.widths[n - 1]) for n in learned),
        *(CurveSetting(UNSKIPPED, f"level {n}", n, loaded.widths[n - 1], False) for n in learned),
    ]


def complexity_shares(
    models: Sequence[LoadedModel],
    counts: Mapping[str, Mapping[bytes, CodingCount]],
    levels: Sequence[int],
    notes: tuple[str, ...],
) -> Table:
    """Table 1: the share of each module in decoding a P frame, and its work. ``counts`` by model name and width
    table."""
    heads = ["original", *(f"level {n}" for n in levels)]
    rows: list[tuple[Cell, ...]] = [
        ("cgSlimDecoder(DCVC), as printed in the paper", module, *printed(shares, levels), *[None] * len(heads))
        for module, shares in TABLE_1.items()
    ]
    if not found(models, "dcvc"):
        rows += [("cgSlimDecoder(DCVC)", module, *[None] * 2 * len(heads)) for module in TABLE_1]
    for loaded in models:
        by_widths = counts[loaded.name]
        columns = [
            by_widths[full(loaded)],
            *(by_widths[loaded.widths[n - 1]] if n <= loaded.levels else None for n in levels),
        ]
        work = {m: [c and c.kmacs("decode", INTER, [m]) for c in columns] for m in TABLE_1}
        sums = [c and sum(work[m][i] for m in TABLE_1) for i, c in enumerate(columns)]
        rows += [
            (label(loaded), m, *(s and 100 * w / s for w, s in zip(work[m], sums, strict=True)), *work[m])
            for m in TABLE_1
        ]
        everything = [c and c.kmacs("decode", INTER) for c in columns]
        rest = [s if s is None else e - s for e, s in zip(everything, sums, strict=True)]
        rows.append((label(loaded), "priors (exact, never slimmed)", *[None] * len(heads), *rest))
        rows.append((label(loaded), "all", *[None] * len(heads), *everything))
    columns = ("system", "module", *(f"{h} %" for h in heads), *(f"{h} kMAC" for h in heads))
    return Table(
        "Complexity of the modules that decode a P frame",
        f"{CGSLIM_PAPER}, Table 1",
        columns,
        tuple(rows),
        (
            "%: share of the modules that the paper lists.",
            "kMAC: thousands of multiply-accumulates for a luma sample, counted by hooks.",
            "original: our own weights at full width; the paper's is DCVC.",
            "context encoder: the part of our contextual prior that reads earlier latents.",
            *notes,
        ),
        ("", "", *[".1f"] * len(heads), *[".3f"] * len(heads)),
    )


def skip_shares(
    models: Sequence[LoadedModel],
    points: Mapping[str, Sequence[Point]],
    qualities: Sequence[float],
    notes: tuple[str, ...],
) -> Table:
    """Table 2: the share of elements that are not coded, by latent and quality, at the highest complexity; mean over
    clips."""
    qualities = sorted(qualities, reverse=True)
    rows: list[tuple[Cell, ...]] = []
    if not found(models, "fvc"):
        rows += [("cgSlimDecoder+SaEC(FVC)", latent, *[None] * len(qualities)) for latent in ("P motion", "P residual")]
    for loaded in models:
        own = points[loaded.name]
        for latent in sorted(
            {name for p in own for name in p.skipped}, key=lambda name: (name[0] != "P", name != "P motion", name)
        ):
            shares = [
                [100 * p.skipped[latent] for p in own if p.setting == q and latent in p.skipped] for q in qualities
            ]
            rows.append((label(loaded), latent, *(statistics.fmean(s) if s else None for s in shares)))
    columns = ("system", "latent", *(f"quality {q:g}" for q in qualities))
    return Table(
        "Skipped elements, percent, at level 1",
        f"{CGSLIM_PAPER}, Table 2",
        columns,
        tuple(rows),
        (
            "The paper, FVC on MCL-JCV, lambda 2048 / 1024 / 512 / 256:",
            "motion 99.60 / 99.74 / 99.79 / 99.83, residual 85.90 / 91.54 / 94.27 / 96.21.",
            "P contextual stands in the place of the paper's residual.",
            *notes,
        ),
        ("", "", *[".2f"] * len(qualities)),
    )


def slimming_curves(
    models: Sequence[LoadedModel],
    points: Mapping[str, Mapping[CurveSetting, Sequence[Point]]],
    counts: Mapping[str, Mapping[bytes, CodingCount]],
    notes: tuple[str, ...],
) -> Table:
    """Figure 3: BD-PSNR against complexity, mean over clips; the anchor is the model at full width with skipping.
    ``points`` by model and setting, the anchor first."""
    rows: list[tuple[Cell, ...]] = [
        (f"cgSlimDecoder({host}), {series}", *[None] * 6)
        for host in without(models, HOSTS)
        for series in (LEARNED, UNSKIPPED, UNIFORM)
    ]
    reasons: dict[str, None] = {}
    for loaded in models:
        by_setting = points[loaded.name]
        anchor_setting, anchor = next(iter(by_setting.items()))
        work = {s: counts[loaded.name][s.widths] for s in by_setting}
        kmacs = {s: c.kmacs("decode", INTER) for s, c in work.items()}
        for setting, own in by_setting.items():
            results = [
                bd(curve([a for a in anchor if a.clip == clip]), curve([p for p in own if p.clip == clip]))
                for clip in dict.fromkeys(p.clip for p in anchor)
            ]
            psnr, rate = (
                [v for v in values if v is not None]
                for values in ([r.psnr for r in results], [r.rate for r in results])
            )
            reasons |= dict.fromkeys(f"{setting.series}, {setting.name}: {r.reason}" for r in results if r.reason)
            rows.append(
                (
                    f"{label(loaded)}, {setting.series}",
                    setting.name,
                    kmacs[setting],
                    100 * kmacs[setting] / kmacs[anchor_setting],
                    statistics.fmean(psnr) if psnr else None,
                    statistics.fmean(rate) if rate else None,
                    f"{len(psnr)} of {len(results)}",
                )
            )
    return Table(
        "BD-PSNR against decoding complexity",
        f"{CGSLIM_PAPER}, Figure 3",
        ("series", "setting", "kMAC", "complexity %", "BD-PSNR dB", "BD-rate %", "clips"),
        tuple(rows),
        (
            "Against our own weights at full width with skipping.",
            "kMAC: for a luma sample of a P frame, priors included, counted by hooks.",
            "Uniform slimming uses the same weights: unlike the paper's baseline not trained at that width alone.",
            f"-: the curves share under {LEAST_SHARE:.0%} of the narrower one's range.",
            *reasons,
            *notes,
        ),
        ("", "", ".3f", ".1f", "+.3f", "+.2f", ""),
        ("series", "complexity %", "BD-PSNR dB"),
    )
