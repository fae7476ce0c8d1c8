"""``ncodec bench``: our codec beside classical ones on the user's clips."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from neuralcodec.cli.bench_modes import DEMO_FRAMES, cache_folder, mode_of, run_mode
from neuralcodec.cli.common import Talk, talk_options

if TYPE_CHECKING:
    from neuralcodec.bench.plan import Plan
    from neuralcodec.bench.run import Step

_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".avif")
_DIR, _FILE = click.Path(path_type=Path, file_okay=False), click.Path(path_type=Path)


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
@click.argument("clips", nargs=-1, metavar="CLIP...")
@click.option(
    "--against",
    metavar="NAME,...",
    help="Classical encoders: x264, x265, svtav1, jpeg, webp, avif, x265-intra, a set (ruler, elfvc, stills) or a "
    "condition's full name; none for none.  [default: x264,x265; for pictures: stills]",
)
@click.option("--levels", type=Numbers(int), help="Levels of our codec (default: all that the model has).")
@click.option("--qualities", type=Numbers(float), help="Qualities of our codec.  [default: 10,30,50,70,90]")
@click.option(
    "--metrics",
    metavar="NAME,...",
    help="Beside PSNR: ms_ssim, xpsnr, vmaf; none for none (default: all that this machine can compute).",
)
@click.option("--model", metavar="NAME", help="One of `ncodec models`, or a model file.")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="Only the first N frames of each clip.")
@click.option(
    "--gop",
    type=click.IntRange(0),
    default=32,
    show_default=True,
    metavar="N",
    help="Frames in a group of pictures of our codec.",
)
@click.option("--effort", type=int, metavar="0..3", help="Of our encoder.  [default: as `encode` has it]")
@click.option("--anchors", type=_FILE, metavar="FILE.json", help="Curves of the classical encoders, measured before.")
@click.option("--out", type=_DIR, metavar="DIR", help="Write index.html, report.json and points.tsv there.")
@click.option("--quick", is_flag=True, help="A subset that ends within two minutes on two cores.")
@click.option("--saec", is_flag=True, help="Also compare ways to skip latents, at the first level.")
@click.option("--widths", is_flag=True, help="Also compare learned widths with uniform ones.")
@click.option(
    "--memory/--no-memory",
    default=True,
    show_default=True,
    help="Peak memory of each codec on the largest picture, in processes of its own.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    metavar="N",
    help="Processes (default: one a core). With more than one, only the middle point of each curve "
    "is timed, alone; with 1, every point.",
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="Threads of every decoder in timed runs (default: one a core).",
)
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda[:n]")
@click.option(
    "--cache",
    "cache_folder",
    type=_DIR,
    metavar="DIR",
    help="Where measured points are kept (default: in the user's cache folder).",
)
@click.option("--no-cache", is_flag=True, help="Measure everything anew and keep nothing.")
@click.option(
    "--tables",
    is_flag=True,
    help=f"Instead: the papers' tables from our models, on the clips (default: {DEMO_FRAMES} frames of the demo clip).",
)
@click.option(
    "--check-timing",
    is_flag=True,
    help="Instead: time decoding twice; exit code 10 if the ratios to x264 differ by 10 % or more.",
)
@click.option(
    "--arithmetic",
    is_flag=True,
    help="Instead: exact pictures against the same model in floating point: decoding time, and what exactness costs in "
    "rate, of all and of each part of the decoder.",
)
@click.option("--routes", is_flag=True, help="Instead: the capacities of an AdaNIC model by block, by picture and everywhere the same, on pictures.")
@click.option(
    "--compare",
    nargs=2,
    type=_FILE,
    metavar="OLD.json NEW.json",
    help="Instead: what changed between two reports; exit code 9 if worse.",
)
@click.option(
    "--figures",
    nargs=2,
    type=_FILE,
    metavar="REPORT.json README.md",
    help="Instead: write a report's figures into a marked block.",
)
@talk_options
@click.pass_context
def bench(ctx: click.Context, clips: tuple[str, ...], quiet: bool, verbose: bool, **options: Any) -> None:
    """Encode and decode each CLIP (video or picture) with our codec and with classical encoders, and compare them.

    Rates are of our whole file without side streams and of the classical encoders' elementary streams without
    supplemental information; PSNR is the mean over frames of (6 Y + U + V) / 8 on 8-bit planes; BD-rate by piecewise
    cubic interpolation, for each clip, then the mean. What was measured once is kept: the same command goes on where it
    was interrupted.

    A clip or encoder that cannot be had costs one line and the exit code; 9: --compare found something worse; 10: times
    are unsteady."""
    talk = Talk(quiet, verbose)
    if (mode := mode_of(ctx)) is not None:
        ctx.exit(run_mode(mode, talk, clips, options))
    if not clips:
        raise click.UsageError("Missing argument 'CLIP...'.", ctx)
    ctx.exit(_bench(talk, clips, options))


def _bench(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    from neuralcodec.bench.report import write_report
    from neuralcodec.bench.run import run
    from neuralcodec.cli.bench_tables import print_result

    plan, last = _plan(talk, clips, options), None

    def show(step: Step) -> None:
        nonlocal last
        last = step
        p = step.point
        if step.doing:
            advance(step.done, step.doing)
            talk.detail(step.doing)
            return
        text = f"{p.clip} {p.codec} {p.setting:g}: {p.bpp:.4f} bits/pixel, {p.psnr:.2f} dB" if p else ""
        text += " (kept)" if step.cached else ""
        advance(step.done, f"of {step.count}{_left(step.left)}  {text}")
        talk.detail(f"{step.done}/{step.count}{_left(step.left)} {text}")

    try:
        with talk.progress("bench", None, frames=False) as advance:
            result = run(plan, show)
    except KeyboardInterrupt:
        if last is not None and plan.cache:
            talk.note(f"{last.done} of {last.count} points are kept: the same command goes on from there")
        raise
    talk.notes(result.notes)
    for line in result.failures:
        click.echo(f"ncodec: {line}", err=True)
    print_result(result)
    if options["out"] is not None and result.points:
        written, why = write_report(options["out"], result.plan, result)
        talk.note("written: " + ", ".join(map(str, written)))
        if why:
            talk.note(why)
    return result.exit_code


def _left(seconds: float | None) -> str:
    """Such as "; about 3 min left"; nothing where it is unknown."""
    if seconds is None:
        return ""
    return f"; about {math.ceil(seconds / 60)} min left" if seconds > 90 else f"; about {math.ceil(seconds)} s left"


def _plan(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> Plan:
    from neuralcodec.bench.check import check_video
    from neuralcodec.bench.metrics import MEASURES
    from neuralcodec.bench.perceptual import unavailable
    from neuralcodec.bench.plan import Plan, load_anchors
    from neuralcodec.bench.quick import quick
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name

    folder = cache_folder(options)
    stills = all(c.lower().endswith(_PICTURES) for c in clips)
    against = options["against"] or ("stills" if stills else "x264,x265")
    if options["metrics"] is None:
        names = [n for n in MEASURES if n != "psnr"]
        reasons = {n: unavailable(n) for n in names}
        talk.notes([reason for reason in reasons.values() if reason])
        measures = tuple(n for n in names if not reasons[n])
    else:
        measures = tuple(n for n in options["metrics"].split(",") if n not in ("none", "psnr"))
        if unknown := [n for n in measures if n not in MEASURES]:
            raise click.UsageError(f"Unknown metric {unknown[0]!r}; choose from {', '.join(MEASURES)}, none.")
        measures = ("psnr_rgb", *(n for n in measures if n != "psnr_rgb"))
    name = options["model"] or DEFAULT_MODEL
    for option in ("saec", "widths"):
        if options[option]:
            check_video(by_name(name), f"--{option}")
    plan = Plan(
        clips,
        name,
        () if against == "none" else tuple(against.split(",")),
        options["levels"] or tuple(range(1, by_name(name).levels + 1)),
        options["qualities"] or Plan.qualities,
        options["gop"],
        options["frames"],
        options["device"],
        options["saec"],
        options["widths"],
        options["jobs"],
        load_anchors(options["anchors"]) if options["anchors"] else {},
        measures,
        threads=options["threads"],
        memory=options["memory"],
        cache=folder,
        effort=options["effort"],
    )
    if options["quick"]:
        plan = quick(
            plan, levels=not options["levels"], qualities=not options["qualities"], frames=not options["frames"]
        )
    return plan
