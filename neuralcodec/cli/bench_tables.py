"""A bench's findings as tables in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from neuralcodec.cli.tables import natural_width, rich_table, rich_tables

if TYPE_CHECKING:
    from neuralcodec.bench.compare import KindRow, VariantRow
    from neuralcodec.bench.metrics import Measure
    from neuralcodec.bench.plan import Result
    from neuralcodec.bench.points import Point
    from neuralcodec.bench.table import Table
    from neuralcodec.bench.timing import Steadiness

PIPE_WIDTH = 170
"""Characters of a line in a file or pipe where a table does not need more."""


def show(tables: Iterable[Table]) -> None:
    """Print tables on standard output: on a terminal in parts where it is too narrow, in a file or pipe on lines as
    long as they need to be."""
    from rich.console import Console

    console = Console(highlight=False)
    for table in tables:
        if console.is_terminal:
            for part in rich_tables(table, console.width):
                console.print(part)
        else:
            drawn = rich_table(table)
            Console(highlight=False, width=max(PIPE_WIDTH, natural_width(drawn))).print(drawn)


def print_result(result: Result) -> None:
    """All of a bench's tables."""
    show(result_tables(result))


def result_tables(result: Result) -> list[Table]:
    """Points by clip, BD figures by measure, speeds, frames by kind, bits by syntax element, and variants."""
    from neuralcodec.bench.metrics import MEASURES

    tables = []
    for clip in result.anchor_curves:
        if rows := [p for p in result.points if p.clip == clip and not p.variant]:
            tables.append(_points(clip, rows))
    for measure in MEASURES.values():
        found = result.bd if measure.name == "psnr" else result.bd_measures.get(measure.name)
        if found:
            tables.append(_bd(found, measure, whole=measure.name == "psnr"))
    if result.speeds:
        tables.append(_speeds(result))
    if result.kinds:
        tables.append(_kinds(result.kinds))
    for codec in dict.fromkeys(p.codec for p in result.points if p.syntax_bits and not p.variant):
        tables.append(_shares(codec, [p for p in result.points if p.codec == codec]))
    for title, rows in (
        ("Ways to skip; BD against the encoder's free choice", result.saec),
        ("Widths; BD against the learned ones", result.widths),
    ):
        if rows:
            tables.append(variants_table(title, rows))
    return tables


def _points(clip: str, points: list[Point]) -> Table:
    from neuralcodec.bench.table import Table

    optional = [
        (name, head, form)
        for name, head, form in (
            ("psnr_rgb", "RGB", ".2f"),
            ("ms_ssim", "MS-SSIM", ".4f"),
            ("xpsnr", "XPSNR", ".2f"),
            ("vmaf", "VMAF", ".2f"),
        )
        if any(getattr(p, name) is not None for p in points)
    ]
    rows = [
        (
            p.codec,
            p.setting,
            p.bpp,
            p.file_bytes / 1000,
            p.psnr,
            p.psnr_y,
            p.psnr_u,
            p.psnr_v,
            *(getattr(p, name) for name, _, _ in optional),
            p.encode_s,
            p.decode_s,
            p.first_frame_s,
        )
        for p in points
    ]
    columns = (
        "codec",
        "setting",
        "bits/pixel",
        "file kB",
        "PSNR",
        "Y",
        "U",
        "V",
        *(head for _, head, _ in optional),
        "enc s",
        "dec s",
        "first s",
    )
    formats = ("", "g", ".4f", ".1f", *(".2f",) * 4, *(form for _, _, form in optional), *(".3f",) * 3)
    frames = f"{points[0].frames} frame{'s' * (points[0].frames != 1)}"
    return Table(f"{clip}, {points[0].width}x{points[0].height}, {frames}", "", columns, tuple(rows), (), formats)


def _bd(found: Mapping[str, Any], measure: Measure, *, whole: bool) -> Table:
    """Each clip and the mean; of measures beside PSNR the means alone, unless there is one clip."""
    from neuralcodec.bench.bd import LEAST_SHARE, mean_bd
    from neuralcodec.bench.table import Table

    rows, reasons, apart = [], set(), False
    for anchor, codecs in found.items():
        for codec, clips in codecs.items():
            if whole or len(clips) == 1:
                rows += [
                    (codec, anchor, clip, b.rate, b.psnr, b.overlap_db, 100 * b.overlap) for clip, b in clips.items()
                ]
            reasons |= {b.reason for b in clips.values() if b.rate is None and not b.apart}
            # BD-PSNR alone is missing where the curves share too little of their rates.
            apart |= any(b.apart or (b.rate is not None and b.psnr is None) for b in clips.values())
            if len(clips) > 1:
                rate, count = mean_bd(clips.values())
                mean = [sum(getattr(b, f) for b in clips.values()) / len(clips) for f in ("overlap_db", "overlap")]
                rows.append(
                    (
                        codec,
                        anchor,
                        f"mean of {count} of {len(clips)}",
                        rate,
                        mean_bd(clips.values(), "psnr")[0],
                        mean[0],
                        100 * mean[1],
                    )
                )
    bound = f"{100 * LEAST_SHARE:.0f} % of the narrower one's range or {measure.least:g} {measure.unit}"
    notes = (*([f"-: refused, the curves share under {bound}"] if apart else ()), *sorted(reasons))
    columns = ("codec", "against", "clip", "BD-rate %", f"BD {measure.unit}", f"overlap {measure.unit}", "overlap %")
    formats = ("", "", "", "+.1f", "+.2f", ".2f", ".0f")
    return Table(f"BD-rate by {measure.label}", "", columns, tuple(rows), notes, formats)


def _speeds(result: Result) -> Table:
    from neuralcodec.bench.plan import SPEED_ANCHOR, SPEED_SETTING
    from neuralcodec.bench.table import Table

    rows = [
        (
            s.codec,
            s.points,
            s.encode_fps,
            s.decode_fps,
            s.first_ms,
            s.decode_ratio,
            *(m and m / 1e6 for m in (s.encode_memory, s.decode_memory)),
        )
        for s in result.speeds
    ]
    threads = result.plan.threads if result.plan else None
    note = (
        f"Decoders on {threads} threads, end to end, the least of several runs; x264 is {SPEED_ANCHOR} at "
        f"CRF {SPEED_SETTING}, decoded beside every timed point; peak memory of a whole process, on the "
        "largest picture."
    )
    return Table(
        "Speed",
        "",
        (
            "codec",
            "timed points",
            "encode fps",
            "decode fps",
            "first picture ms",
            "decoding / x264's",
            "encode MB",
            "decode MB",
        ),
        tuple(rows),
        (note,),
        ("", "", ".2f", ".2f", ".1f", ".2f", ".0f", ".0f"),
    )


def _kinds(rows: Sequence[KindRow]) -> Table:
    from neuralcodec.bench.table import Table

    cells = tuple((r.clip, r.codec, r.setting, r.kind, r.psnr, r.bits, r.anchor_bits, r.ratio) for r in rows)
    return Table(
        f"Bits a frame beside {rows[0].anchor} at the same PSNR of these frames",
        "",
        ("clip", "codec", "quality", "kind", "PSNR", "bits", "its bits", "ours / its"),
        cells,
        ("-: outside its curve",),
        ("", "", "g", "", ".2f", ".0f", ".0f", ".2f"),
    )


def _shares(codec: str, points: Sequence[Point]) -> Table:
    """Bits by syntax element and skipped elements of latents by quality, in percent: of all clips' bits, and means over
    clips."""
    from neuralcodec.bench.table import Table

    settings = sorted({p.setting for p in points})
    groups = [[p for p in points if p.setting == setting] for setting in settings]
    rows: list[tuple] = [("bits", *(sum(p.bits for p in group) for group in groups))]
    for name in dict.fromkeys(name for p in points for name in p.syntax_bits):
        rows.append(
            (
                f"{name}, %",
                *(f"{100 * sum(p.syntax_bits.get(name, 0.0) for p in g) / sum(p.bits for p in g):.1f}" for g in groups),
            )
        )
    for name in dict.fromkeys(name for p in points for name in p.skipped):
        kept = [[p.skipped[name] for p in group if name in p.skipped] for group in groups]
        rows.append(
            (f"{name}: skipped, %", *(f"{100 * sum(values) / len(values):.1f}" if values else None for values in kept))
        )
    return Table(
        f"Bits by syntax element and skipped elements, {codec}",
        "",
        ("quality", *(f"{s:g}" for s in settings)),
        tuple(rows),
    )


def variants_table(title: str, rows: Sequence[VariantRow]) -> Table:
    """Variants of our codec with their BD figures, and a row for each setting."""
    from neuralcodec.bench.table import Table

    latents = sorted({name for row in rows for s in row.settings for name in s["skipped"]})
    cells = []
    for row in rows:
        for number, s in enumerate(row.settings):
            head = (row.clip, row.codec) if number == 0 else ("", "")
            bd = (row.bd_rate, row.bd_psnr) if number == 0 else (None, None)
            skipped = (s["skipped"].get(name) for name in latents)
            cells.append(
                (
                    *head,
                    *bd,
                    s["setting"],
                    s["bits"],
                    s["psnr"],
                    *(None if v is None else 100 * v for v in skipped),
                    s.get("entropy_ms"),
                    s["kmac_i"],
                    s["kmac_p"],
                )
            )
    columns = (
        "clip",
        "codec",
        "BD-rate %",
        "BD-PSNR",
        "quality",
        "bits",
        "PSNR",
        *(f"skip {name} %" for name in latents),
        "entropy ms",
        "kMAC I",
        "P",
    )
    return Table(
        title,
        "",
        columns,
        tuple(cells),
        (),
        ("", "", "+.2f", "+.3f", "g", "", ".2f", *(".1f",) * len(latents), ".2f", ".2f", ".2f"),
    )


def steadiness_table(rows: Mapping[str, Sequence[Steadiness]], threads: int) -> Table:
    """Two runs of the timing part beside each other."""
    from neuralcodec.bench.plan import SPEED_ANCHOR
    from neuralcodec.bench.table import Table

    cells = tuple(
        (clip, r.codec, *(1000 * s for s in r.seconds), *r.ratios, r.percent)
        for clip, found in rows.items()
        for r in found
    )
    return Table(
        f"Decoding in two runs, on {threads} threads",
        "",
        (
            "clip",
            "codec",
            "first run ms",
            "second run ms",
            f"first / {SPEED_ANCHOR}",
            f"second / {SPEED_ANCHOR}",
            "difference %",
        ),
        cells,
        (),
        ("", "", ".1f", ".1f", ".2f", ".2f", ".1f"),
    )
