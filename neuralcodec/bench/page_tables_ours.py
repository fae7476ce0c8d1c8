"""Tables of the report's page on our codec: levels, kinds of frames, syntax elements, variants."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

import numpy as np

from neuralcodec.bench.bd import mean_bd
from neuralcodec.bench.page_data import View
from neuralcodec.bench.table import Table


def level_table(view: View) -> Table:
    """Our levels: what each costs in rate and saves in work and time."""
    rows, ours = [], [c for c in view.codecs if c.ours]
    for codec in ours:
        rate, clips = (
            (0.0, len(view.clips)) if codec is ours[0] else mean_bd(view.bd(ours[0].name, codec.name).values())
        )
        point = next(p for p in view.points if p.codec == codec.name)
        s = view.speed(codec.name)
        rows.append(
            (codec.label, rate, clips, point.extra.get("kmac_i"), point.extra.get("kmac_p"), s.encode, s.decode)
        )
    return Table(
        "Levels",
        "",
        (
            "codec",
            f"BD-rate % against {ours[0].label.removeprefix('ours, ') if ours else 'level 1'}",
            "clips",
            "I frame, kMAC/sample",
            "P frame, kMAC/sample",
            "encoding, Msamples/s",
            "decoding, Msamples/s",
        ),
        tuple(rows),
        formats=("", "+.1f", "g", ".2f", ".2f", ".3g", ".3g"),
    )


def kind_table(view: View) -> Table:
    """I and P frames beside the other codec's at equal PSNR."""
    labels = {c.name: c.label for c in view.codecs}
    rows = [
        (r.clip, labels.get(r.codec, r.codec), r.kind, r.setting, r.psnr, r.bits, r.anchor_bits, r.ratio)
        for r in view.result.kinds
    ]
    name = view.result.kinds[0].anchor if view.result.kinds else "x265"
    return Table(
        f"Bits of I and P frames beside {name} at the same PSNR of these frames",
        "",
        ("clip", "codec", "frames", "quality", "PSNR, dB", "bits", "its bits", "ours / its"),
        tuple(rows),
        notes=("-: outside its curve, nothing is extrapolated",),
        formats=("", "", "", "g", ".2f", ".0f", ".0f", ".2f"),
    )


def share_tables(view: View) -> list[Table]:
    """Our codec: where the bits go and what is skipped, by level and quality, over all clips."""
    tables = []
    ours = sorted((p for p in view.points if p.ours), key=lambda p: (p.codec, p.setting))
    groups = [(key, list(group)) for key, group in groupby(ours, key=lambda p: (p.codec, p.setting))]
    elements = _names(p.syntax_bits for p in ours)
    if elements:
        rows = [
            (
                codec.replace("ours-l", "level "),
                setting,
                sum(p.bits for p in points) / 8000,
                *(100 * sum(p.syntax_bits.get(e, 0) for p in points) / sum(p.bits for p in points) for e in elements),
            )
            for (codec, setting), points in groups
        ]
        tables.append(
            Table(
                "Bits by syntax element, in % of all",
                "",
                ("level", "quality", "kB, all clips", *elements),
                tuple(rows),
                formats=("", "g", ".1f", *(".1f",) * len(elements)),
            )
        )
    latents = _names(p.skipped for p in ours)
    if latents:
        rows = [
            (
                codec.replace("ours-l", "level "),
                setting,
                *(_mean_of([100 * p.skipped[n] for p in points if n in p.skipped]) for n in latents),
            )
            for (codec, setting), points in groups
        ]
        tables.append(
            Table(
                "Skipped latent elements in %, mean over clips",
                "",
                ("level", "quality", *latents),
                tuple(rows),
                formats=("", "g", *(".1f",) * len(latents)),
            )
        )
    return tables


def variant_tables(view: View) -> list[Table]:
    """Ways to skip, and learned widths against uniform ones, where they were measured."""
    tables = []
    for title, found in (
        ("Ways to skip; BD against the encoder's free choice", view.result.saec),
        ("Widths; BD against the learned ones", view.result.widths),
    ):
        rows = [
            (
                r.clip,
                r.codec.replace("ours-l", "level "),
                r.bd_rate,
                r.bd_psnr,
                s["setting"],
                s["bpp"],
                s["psnr"],
                s.get("entropy_ms"),
                s.get("kmac_i"),
                s.get("kmac_p"),
            )
            for r in found
            for s in r.settings
        ]
        if rows:
            tables.append(
                Table(
                    title,
                    "",
                    (
                        "clip",
                        "variant",
                        "BD-rate %",
                        "BD-PSNR dB",
                        "quality",
                        "bits/sample",
                        "PSNR, dB",
                        "entropy decoding, ms/frame",
                        "I, kMAC/sample",
                        "P, kMAC/sample",
                    ),
                    tuple(rows),
                    formats=("", "", "+.2f", "+.3f", "g", ".4f", ".2f", ".2f", ".2f", ".2f"),
                )
            )
    return tables


def _names(counts: Iterable[dict[str, float]]) -> list[str]:
    return sorted({name for c in counts for name in c})


def _mean_of(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
