"""``ncodec bench``: our codec beside classical ones on the user's clips."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.common import Talk, talk_options

if TYPE_CHECKING:
    from neuralcodec.bench.compare import KindRow, VariantRow
    from neuralcodec.bench.points import Point
    from neuralcodec.bench.run import Plan, Result


class Numbers(click.ParamType):
    """Numbers with commas between them, as a tuple."""

    def __init__(self, kind: type) -> None:
        self.kind, self.name = kind, "N,N,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(self.kind(part) for part in value.split(",")))
        except ValueError:
            self.fail(f"{value!r} is no list of numbers such as 1,2,3", param, ctx)


@click.command(short_help="Measure rate, distortion and speed beside classical codecs.")
@click.argument("clips", nargs=-1, required=True, metavar="CLIP...")
@click.option("--against", default="x264-medium-ld32,x265-medium-ld32", show_default=True, metavar="NAME,...",
              help="Classical encoders: x264, x265, svtav1, or a condition's full name; none for none.")
@click.option("--levels", type=Numbers(int), help="Levels of our codec (default: all that the model has).")
@click.option("--qualities", type=Numbers(float), default="10,30,50,70,90", show_default=True)
@click.option("--model", metavar="NAME", help="One of `ncodec models`, or a model file.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Only the first N frames of each clip.")
@click.option("--gop", type=click.IntRange(0), default=32, show_default=True, metavar="N", help="Frames in a group of pictures of our codec.")
@click.option("--anchors", type=click.Path(path_type=Path), metavar="FILE.json", help="Curves of the classical encoders, measured before.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Write points.tsv, report.json and rd.png there.")
@click.option("--saec", is_flag=True, help="Also compare ways to skip latents, at the first level.")
@click.option("--widths", is_flag=True, help="Also compare learned widths with uniform ones.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, metavar="N", help="Processes. With more than one, few points are timed.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:n]")
@talk_options
@click.pass_context
def bench(ctx: click.Context, clips: tuple[str, ...], against: str, levels: tuple[int, ...] | None, qualities: tuple[float, ...], model: str | None,
          frames: int | None, gop: int, anchors: Path | None, out: Path | None, saec: bool, widths: bool, jobs: int, device: str, quiet: bool,
          verbose: bool) -> None:
    """Encode and decode each CLIP with our codec and with classical encoders, and compare them.

    Rates are of our whole file without side streams and of the classical encoders' elementary streams without supplemental
    information; PSNR is the mean over frames of (6 Y + U + V) / 8 on 8-bit planes; BD-rate by piecewise cubic interpolation,
    for each clip, then the mean. A clip that cannot be read costs one line and the exit code.
    """
    from neuralcodec.bench.report import write_report
    from neuralcodec.bench.run import Plan, load_anchors, run
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name

    talk = Talk(quiet, verbose)
    loaded = by_name(model or DEFAULT_MODEL)
    names = () if against == "none" else tuple(against.split(","))
    plan = Plan(clips, model or DEFAULT_MODEL, names, levels or tuple(range(1, loaded.levels + 1)), qualities, gop, frames, device, saec, widths,
                jobs, load_anchors(anchors) if anchors else {})
    with talk.progress("bench", None) as advance:

        def show(done: int, count: int, point: Point | None) -> None:
            text = f"{point.clip} {point.codec} {point.setting:g}: {point.bpp:.4f} bits/pixel, {point.psnr:.2f} dB" if point else ""
            advance(done, f"of {count}  {text}")
            talk.detail(f"{done}/{count} {text}")

        result = run(plan, show)
    for line in result.failures:
        click.echo(f"ncodec: {line}", err=True)
    _print(plan, result)
    if out is not None and result.points:
        written = write_report(out, plan, result)
        talk.note("written: " + ", ".join(map(str, written)))
        if not (out / "rd.png") in written:
            talk.note("no plot: the package matplotlib is missing (pip install 'neuralcodec[bench]')")
    ctx.exit(result.exit_code)


def _print(plan: Plan, result: Result) -> None:
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)  # nothing is cut off in a file
    for clip in result.anchor_curves:
        rows = [p for p in result.points if p.clip == clip and " " not in p.codec]
        if rows:
            console.print(_points_table(clip, sorted(rows, key=lambda p: (not p.codec.startswith("ours"), p.codec, p.setting))))
    if result.bd:
        console.print(_bd_table(result))
    if result.kinds:
        console.print(_kinds_table(result.kinds))
    for title, rows in (("Ways to skip; BD against the encoder's free choice", result.saec), ("Widths; BD against the learned ones", result.widths)):
        if rows:
            console.print(_variants_table(title, rows))


def _table(title: str, *columns: str, left: int = 1) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", caption_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        if number < left:
            table.add_column(column, overflow="fold")
        else:
            table.add_column(column, justify="right", no_wrap=True)
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _points_table(clip: str, points: list[Point]) -> Any:
    table = _table(f"{clip}, {points[0].width}x{points[0].height}, {points[0].frames} frames", "codec", "setting", "bits/pixel", "PSNR", "Y", "U",
                   "V", "enc s", "dec s", "first s")
    for p in points:
        table.add_row(p.codec, f"{p.setting:g}", f"{p.bpp:.4f}", *(f"{v:.2f}" for v in (p.psnr, p.psnr_y, p.psnr_u, p.psnr_v)),
                      *(_number(v, ".2f") for v in (p.encode_s, p.decode_s, p.first_frame_s)))
    return table


def _bd_table(result: Result) -> Any:
    from neuralcodec.bench.bd import LEAST_DB, LEAST_SHARE, mean_bd

    table = _table("BD-rate", "codec", "against", "clip", "BD-rate %", "BD-PSNR dB", "overlap dB", "overlap", left=3)
    reasons = set()
    for anchor, codecs in result.bd.items():
        for codec, clips in codecs.items():
            for clip, b in clips.items():
                table.add_row(codec, anchor, clip, _number(b.rate, "+.1f"), _number(b.psnr, "+.2f"), f"{b.overlap_db:.2f}", f"{b.overlap:.0%}")
                reasons.add(b.reason if b.overlap >= LEAST_SHARE and b.overlap_db >= LEAST_DB else "")
            mean, count = mean_bd(clips.values())
            table.add_row(codec, anchor, f"mean of {count} of {len(clips)}", _number(mean, "+.1f"), "", "", "", end_section=True)
    table.caption = "\n".join([f"-: refused, the curves share under {LEAST_SHARE:.0%} of the narrower one's range", *sorted(reasons - {""})])
    return table


def _kinds_table(rows: list[KindRow]) -> Any:
    table = _table(f"Bits a frame beside {rows[0].anchor} at the same PSNR of these frames", "clip", "codec", "quality", "kind",
                   "PSNR", "bits", "its bits", "ours / its", left=2)
    table.caption = "-: outside its curve"
    for r in rows:
        table.add_row(r.clip, r.codec, f"{r.setting:g}", r.kind, f"{r.psnr:.2f}", f"{r.bits:.0f}", _number(r.anchor_bits, ".0f"),
                      _number(r.ratio, ".2f"))
    return table


def _variants_table(title: str, rows: list[VariantRow]) -> Any:
    latents = sorted({name for row in rows for s in row.settings for name in s["skipped"]})
    table = _table(title, "clip", "codec", "BD-rate %", "BD-PSNR", "quality", "bits", "PSNR", *(f"skip {name}" for name in latents), "entropy ms",
                   "kMAC I", "P", left=2)
    for row in rows:
        for number, s in enumerate(row.settings):
            head = (row.clip, row.codec, _number(row.bd_rate, "+.2f"), _number(row.bd_psnr, "+.3f")) if number == 0 else ("",) * 4
            table.add_row(*head, f"{s['setting']:g}", str(s["bits"]), f"{s['psnr']:.2f}",
                          *("-" if name not in s["skipped"] else f"{s['skipped'][name]:.1%}" for name in latents),
                          _number(s.get("entropy_ms"), ".2f"), f"{s['kmac_i']:.2f}", f"{s['kmac_p']:.2f}", end_section=number == len(row.settings) - 1)
    return table
