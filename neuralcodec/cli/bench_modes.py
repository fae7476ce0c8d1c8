"""What ``ncodec bench`` does instead of a bench: the papers' tables, timing twice, exact pictures against inexact ones, AdaNIC's routes,
comparing reports, the README's figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from neuralcodec.cli.bench_arithmetic import run_arithmetic
from neuralcodec.cli.bench_routes import run_routes
from neuralcodec.cli.common import Talk

if TYPE_CHECKING:
    from neuralcodec.bench.points import Clip
    from neuralcodec.core.errors import NcodecError

DEMO_FRAMES = 16
"""Frames of the demo clip that tables are measured on where no clip is named: each goes through a dozen codecs."""
_MEASURING = ("clips", "levels", "qualities", "model", "frames", "gop", "threads", "device")
_MODES = {
    "compare": (),
    "figures": (),
    "tables": (*_MEASURING, "out", "cache_folder", "no_cache"),
    "check_timing": _MEASURING,
    "arithmetic": _MEASURING,
    "routes": ("clips", "qualities", "model", "threads", "device"),
}
"""Modes with the parameters that they heed."""
_ALWAYS = ("quiet", "verbose")


def mode_of(ctx: click.Context) -> str | None:
    """The mode that is asked for; None for a bench. Raises click.UsageError for what it does not heed."""
    given = [p for p in ctx.command.params if ctx.get_parameter_source(p.name) is not ParameterSource.DEFAULT]
    given = [p for p in given if ctx.params[p.name] not in ((), None)]  # no clip at all may count as given
    mode = next((name for name in _MODES if ctx.params[name]), None)
    if mode is not None:
        wrong = [_name(p) for p in given if p.name not in (mode, *_MODES[mode], *_ALWAYS)]
        if wrong:
            raise click.UsageError(f"{', '.join(wrong)}: of no use with --{mode.replace('_', '-')}.", ctx)
    return mode


def _name(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else "CLIP"


def run_mode(mode: str, talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    """Returns the exit code. Raises NcodecError and click.UsageError."""
    if mode == "compare":
        return _compare(*options["compare"])
    if mode == "figures":
        from neuralcodec.bench.readme import rewrite

        rewrite(*options["figures"])
        return 0
    return {"tables": _tables, "check_timing": _check_timing, "arithmetic": run_arithmetic, "routes": run_routes}[mode](talk, clips, options)


class Failures:
    """Lines about what cannot be had, and the exit code of the first."""

    def __init__(self, talk: Talk) -> None:
        self.code, self._talk = 0, talk

    def say(self, line: str, code: int) -> None:
        self._talk.line(f"ncodec: {line}")
        self.code = self.code or code

    def of(self, clip: Clip, error: NcodecError) -> None:
        self.say(f"{clip.name}: {error}", error.exit_code)

    def read(self, paths: tuple[str, ...], frames: int | None, use: Callable[[Clip], None]) -> None:
        """Read clips one after the other, each for ``use``. One that cannot be read, fails there, or has another's name
        costs a line."""
        from neuralcodec.bench.points import read_clip
        from neuralcodec.core.errors import NcodecError, UsageError

        names: set[str] = set()
        for path in dict.fromkeys(paths):
            try:
                clip = read_clip(path, frames)
            except NcodecError as error:
                self.say(str(error), error.exit_code)
                continue
            if clip.name in names:
                self.say(
                    f"{clip.name}: another clip has this name; only the first one is measured", UsageError.exit_code
                )
                continue
            names.add(clip.name)
            try:
                use(clip)
            except NcodecError as error:
                self.of(clip, error)


def _compare(old: Path, new: Path) -> int:
    from neuralcodec.bench.difference import WORSE, differences, got_worse, read_points, table
    from neuralcodec.cli.bench_tables import show

    changes = differences(read_points(old), read_points(new))
    show([table(changes, (old.name, new.name))])
    return WORSE if got_worse(changes) else 0


def _tables(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    from neuralcodec.bench import cache
    from neuralcodec.bench.check import check, check_video
    from neuralcodec.bench.report import write_tables
    from neuralcodec.bench.tables import installed_models, paper_tables
    from neuralcodec.cli.bench_tables import show
    from neuralcodec.codecs.registry import by_name
    from neuralcodec.core.resources import demo_clip
    from neuralcodec.pipeline import choose_device

    folder, device = cache_folder(options), choose_device(options["device"])
    models = [by_name(options["model"])] if options["model"] else installed_models()
    wanted = {"levels": options["levels"], "qualities": options["qualities"], "threads": options["threads"]}
    for loaded in models:
        check_video(loaded, "--tables")
        check(loaded, (), options["qualities"] or ())
    frames = options["frames"] or (None if clips else DEMO_FRAMES)
    failures, read = Failures(talk), []
    failures.read(clips or (str(demo_clip()),), frames, read.append)
    if not read:
        return failures.code
    store = cache.Store(folder)
    with talk.progress("tables", None, frames=False) as advance:

        def step(done: int, count: int, text: str) -> None:
            advance(done, f"of {count}  {text}")
            talk.detail(f"{done}/{count} {text}")

        tables = paper_tables(
            models,
            read,
            on_progress=step,
            gop=options["gop"],
            device=device,
            store=store,
            on_failure=failures.of,
            **{k: v for k, v in wanted.items() if v},
        )
    if store.broken:
        talk.note(store.broken)
    if tables:
        show(tables)
        if options["out"] is not None:
            talk.note("written: " + ", ".join(map(str, write_tables(options["out"], tables))))
    return failures.code


def cache_folder(options: dict[str, Any]) -> Path | None:
    """Where points are kept; None for nowhere. Raises click.UsageError."""
    from neuralcodec.bench import cache

    if options["cache_folder"] and options["no_cache"]:
        raise click.UsageError("--cache and --no-cache exclude each other.")
    return None if options["no_cache"] else options["cache_folder"] or cache.default_folder()


def _check_timing(talk: Talk, clips: tuple[str, ...], options: dict[str, Any]) -> int:
    from neuralcodec.bench import classical, timing
    from neuralcodec.bench.check import check
    from neuralcodec.bench.plan import SPEED_ANCHOR
    from neuralcodec.cli.bench_tables import show, steadiness_table
    from neuralcodec.codecs.registry import DEFAULT_MODEL, by_name
    from neuralcodec.core.errors import MeasureError
    from neuralcodec.pipeline import choose_device
    from neuralcodec.pipeline.device import core_count

    if not clips:
        raise click.UsageError("Missing argument 'CLIP...'.")
    if len(qualities := options["qualities"] or (50.0,)) > 1:
        raise click.UsageError("--check-timing takes one quality.")
    loaded = by_name(options["model"] or DEFAULT_MODEL)
    levels = options["levels"] or tuple(range(1, loaded.levels + 1))
    threads, device = options["threads"] or core_count(), choose_device(options["device"])
    check(loaded, levels, qualities)
    if (reason := classical.missing(SPEED_ANCHOR)) is not None:
        raise MeasureError(reason)
    failures, rows = Failures(talk), {}

    def twice(clip: Clip) -> None:
        rows[clip.name] = timing.check(
            clip, loaded, levels, qualities[0], gop=options["gop"], threads=threads, device=device
        )
        talk.detail(f"{clip.name}: timed twice")

    failures.read(clips, options["frames"], twice)
    if rows:
        show([steadiness_table(rows, threads)])
    unsteady = any(r.percent >= timing.BOUND_PERCENT for found in rows.values() for r in found)
    return failures.code or (timing.UNSTEADY if unsteady else 0)
