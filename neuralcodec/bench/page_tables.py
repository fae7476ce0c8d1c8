"""Tables of the report's page; those of our codec alone are in page_tables_ours.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuralcodec.bench.bd import BdResult, mean_bd
from neuralcodec.bench.metrics import MEASURES
from neuralcodec.bench.page_data import MEAN, View
from neuralcodec.bench.plan import SPEED_ANCHOR
from neuralcodec.bench.points import Point
from neuralcodec.bench.table import Cell, Table

REFUSED = "refused"
"""In place of a BD-rate between curves that share too little."""


def points_table(view: View, clip: str) -> Table:
    """All points of a clip, or of the mean over clips."""
    rows: list[tuple[Cell, ...]] = []
    metrics = view.metrics
    if clip == MEAN:
        for codec in view.codecs:
            by_metric = [
                {text: (bpp, value) for bpp, value, text in view.plotted(MEAN, codec.name, m)} for m in metrics
            ]
            rows += [
                (codec.label, float(text.split()[1]), bpp, *(m.get(text, (0, None))[1] for m in by_metric))
                for text, (bpp, _) in by_metric[0].items()
            ]
        columns, times = ("codec", "setting", "bits/sample"), ()
    else:
        columns, times = ("codec", "setting", "bits/sample", "kB", "file kB"), ("encode s", "decode s", "first frame s")
        for codec in view.codecs:
            points = view.of(clip, codec.name)
            rows += [
                (
                    codec.label,
                    p.setting,
                    p.bpp,
                    p.bits / 8000,
                    p.file_bytes / 1000,
                    *(m.value(p) for m in metrics),
                    p.encode_s,
                    p.decode_s,
                    p.first_frame_s,
                )
                for p in points
            ]
            if not points:
                rows += [
                    (
                        codec.label,
                        None,
                        bpp,
                        None,
                        None,
                        *((psnr if m.key == "psnr" else None) for m in metrics),
                        None,
                        None,
                        None,
                    )
                    for bpp, psnr in view.curve(clip, codec.name)
                ]
    formats = (
        "",
        "g",
        ".4f",
        *(".1f",) * (len(columns) - 3),
        *(f".{m.digits}f" for m in metrics),
        *(".3f",) * len(times),
    )
    heads = (*columns, *(f"{m.title}{m.unit and ', ' + m.unit}" for m in metrics), *times)
    return Table("All points", "", heads, tuple(rows), formats=formats)


def bd_tables(view: View) -> list[Table]:
    """For each of our codecs: BD-rate by clip and anchor; the last rows are their mean and over how many clips it
    is."""
    tables, labels = [], {c.name: c.label for c in view.codecs}
    for codec in (c for c in view.codecs if c.ours):
        against = {anchor: codecs[codec.name] for anchor, codecs in view.result.bd.items() if codec.name in codecs}
        if not against:
            continue
        rows = [(clip, *(_rate(clips.get(clip)) for clips in against.values())) for clip in view.clips]
        means = [mean_bd(clips.values()) for clips in against.values()]
        rows.append(("mean", *(REFUSED if mean is None else mean for mean, _ in means)))
        rows.append(
            (
                "clips in the mean",
                *(f"{count} of {len(clips)}" for clips, (_, count) in zip(against.values(), means, strict=True)),
            )
        )
        tables.append(
            Table(
                f"BD-rate of {codec.label}, in %",
                "",
                ("clip", *(f"against {labels.get(a, a)}" for a in against)),
                tuple(rows),
                formats=("", *("+.1f",) * len(against)),
            )
        )
    return tables


def measure_table(view: View) -> Table:
    """Mean BD-rate of our first level by measure of quality and anchor, in measures beside PSNR that the bench took."""
    ours = next((c for c in view.codecs if c.ours), None)
    by_measure = {"psnr": view.result.bd, **view.result.bd_measures}
    anchors = [a for a, codecs in view.result.bd.items() if ours and ours.name in codecs]
    rows = []
    for name, found in by_measure.items():
        means = [
            mean_bd(found.get(a, {}).get(ours.name, {}).values())[0] if found.get(a, {}).get(ours.name) else None
            for a in anchors
        ]
        refused = [
            mean is None and bool(found.get(a, {}).get(ours.name)) for a, mean in zip(anchors, means, strict=True)
        ]
        rows.append((MEASURES[name].label, *(REFUSED if r else mean for r, mean in zip(refused, means, strict=True))))
    labels = {c.name: c.label for c in view.codecs}
    return Table(
        f"Mean BD-rate of {ours.label if ours else 'ours'} by measure, in %",
        "",
        ("measure", *(f"against {labels.get(a, a)}" for a in anchors)),
        tuple(rows),
        formats=("", *("+.1f",) * len(anchors)),
    )


def _rate(result: BdResult | None) -> Cell:
    return None if result is None else REFUSED if result.rate is None else result.rate


def overlap_table(view: View) -> Table:
    """Every BD figure with what it rests on, refusals with their reason."""
    labels = {c.name: c.label for c in view.codecs}
    rows = [
        (
            labels.get(anchor, anchor),
            labels.get(codec, codec),
            clip,
            b.rate,
            b.psnr,
            b.overlap_db,
            100 * b.overlap,
            b.reason or "",
        )
        for anchor, codecs in view.result.bd.items()
        for codec, clips in codecs.items()
        for clip, b in clips.items()
    ]
    return Table(
        "BD figures with overlap",
        "",
        ("anchor", "codec", "clip", "BD-rate %", "BD-PSNR dB", "overlap dB", "overlap %", "refused because"),
        tuple(rows),
        formats=("", "", "", "+.1f", "+.2f", ".2f", ".0f", ""),
    )


def speed_table(view: View) -> Table:
    """Each codec's speed and peak memory beside its BD-rate against the report's anchor; codecs with neither are left
    out."""
    rows = []
    for codec in view.codecs:
        s = view.speed(codec.name)
        memory = [None if m is None else m / 1e6 for m in (s.encode_memory, s.decode_memory)]
        if s.decode is None and not any(memory):
            continue
        rows.append((codec.label, s.bd_rate, s.encode, s.decode, s.ratio, s.first_ms, s.threads, *memory))
    return Table(
        "Speed and memory",
        "",
        (
            "codec",
            f"BD-rate % against {view.anchor}",
            "encoding, Msamples/s",
            "decoding, Msamples/s",
            f"decoding time / {SPEED_ANCHOR}",
            "first frame decoded, ms",
            "threads, decoding",
            "peak memory, encoding, MB",
            "decoding, MB",
        ),
        tuple(rows),
        formats=("", "+.1f", ".3g", ".3g", ".2f", ".1f", "g", ".0f", ".0f"),
    )


def frame_table(points: Sequence[Point], label: Callable[[str], str]) -> Table:
    """The text beside a plot by frame: kinds of frames with their mean bits, and the range of PSNR."""
    rows = []
    for p in points:
        kinds = [p.of_kind(kind) for kind in "IPB"]
        rows.append(
            (
                label(p.codec),
                p.setting,
                p.bpp,
                *(k and k[0] / 1000 for k in kinds),
                *(k and k[1] for k in kinds),
                min(p.frame_psnr),
                max(p.frame_psnr),
            )
        )
    return Table(
        "Frames",
        "",
        (
            "codec",
            "setting",
            "bits/sample",
            "I, kbit",
            "P, kbit",
            "B, kbit",
            "I, dB",
            "P, dB",
            "B, dB",
            "lowest dB",
            "highest dB",
        ),
        tuple(rows),
        formats=("", "g", ".4f", *(".1f",) * 3, *(".2f",) * 5),
    )
