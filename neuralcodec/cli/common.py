"""What several commands share: option types, messages, progress, output files."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import click

from neuralcodec.core.errors import InputError, OutputError, UsageError


class FrameRange(click.ParamType):
    """``a:b``: frames a up to, but without, b, counted from 0; either may be left out. Becomes (a, b), b None without
    an end."""

    name = "a:b"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        if isinstance(value, tuple):
            return value
        first, colon, end = value.partition(":")
        if not colon or not all(part == "" or (part.isascii() and part.isdigit()) for part in (first, end)):
            self.fail(f"{value!r} is no range such as 0:100, 50: or :10", param, ctx)
        result = int(first or 0), int(end) if end else None
        if result[1] is not None and result[1] <= result[0]:
            self.fail(f"{value!r} is an empty range", param, ctx)
        return result


class Size(click.ParamType):
    """``WxH`` as (width, height)."""

    name = "WxH"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        width, _, height = value.lower().partition("x")
        if not all(part.isascii() and part.isdigit() and int(part) for part in (width, height)):
            self.fail(f"{value!r} is no size such as 1920x1080", param, ctx)
        return int(width), int(height)


def device_options(command: Callable) -> Callable:
    """--device, --workers, --threads."""
    for option in (
        click.option("--threads", type=click.IntRange(1), metavar="N", help="Threads inside each worker."),
        click.option(
            "--workers",
            type=click.IntRange(1),
            metavar="N",
            help="Groups of pictures, or tiles of one, or files coded at a time (default: one a core).",
        ),
        click.option(
            "--device",
            default="auto",
            metavar="auto|cpu|cuda[:n]",
            help="Where networks run; auto prefers CUDA.",
            show_default=True,
        ),
    ):
        command = option(command)
    return command


def talk_options(command: Callable) -> Callable:
    """-q and -v."""
    command = click.option("-v", "--verbose", is_flag=True, help="Say more; show tracebacks.")(command)
    return click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")(command)


class Talk:
    """Messages and progress on standard error. Progress shows on a terminal only; in a pipe there are notes and nothing
    else."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self.terminal = not quiet and sys.stderr.isatty()
        self._said: set[str] = set()
        self._bar: Any = None

    def note(self, text: str) -> None:
        """One line, once."""
        if text in self._said:
            return
        self._said.add(text)
        if not self.quiet:
            self.line(f"ncodec: {text}")

    def notes(self, texts: list[str]) -> None:
        for text in texts:
            self.note(text)

    def detail(self, text: str) -> None:
        """A line for -v."""
        if self.verbose and not self.quiet:
            self.line(f"ncodec: {text}")

    def summary(self, text: str) -> None:
        """The last line of a command: on a terminal or with -v."""
        if self.terminal or (self.verbose and not self.quiet):
            self.line(text)

    def line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(text, err=True)

    @contextlib.contextmanager
    def steps(self, what: str, count: int) -> Iterator[Callable[[str], None]]:
        """Gives ``step(text)``, to be called as each of ``count`` steps begins."""
        begun = itertools.count()
        with self.progress(what, None, frames=False) as advance:

            def step(text: str) -> None:
                done = next(begun)
                advance(done, f"of {count}  {text}")
                self.detail(f"{done}/{count} {text}")

            yield step

    @contextlib.contextmanager
    def progress(self, what: str, total: int | None, *, frames: bool = True, unit: str = "fps") -> Iterator[Callable[[int, str], None]]:
        """Gives ``advance(frames so far, more text)``; ``unit`` is that of the rate. Without ``frames`` something else is counted, of which the text says how much and how long."""
        if not self.terminal:
            yield lambda frames, text: None
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        started = time.monotonic()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[more]}"),
        )
        if not frames:
            columns = (columns[0], columns[1], TextColumn("{task.completed}"), columns[-1])
        bar = Progress(
            *columns, console=Console(stderr=True), redirect_stdout=False, redirect_stderr=False, transient=True
        )
        task = bar.add_task(what, total=total, rate="", more="")

        def advance(done: int, text: str) -> None:
            rate = done / max(time.monotonic() - started, 1e-9)
            bar.update(task, completed=done, rate=f"{rate:.1f} {unit}", more=text)

        with bar:
            self._bar = bar
            try:
                yield advance
            finally:
                self._bar = None


@contextlib.contextmanager
def output_file(path: str, force: bool) -> Iterator[BinaryIO]:
    """A binary file that gets its name when the block ends well and is removed otherwise; "-" is standard output.

    Raises OutputError when the name is taken and ``force`` is not given."""
    if path == "-":
        if sys.stdout.isatty():
            raise UsageError("a binary stream is not written to a terminal: name a file or use a pipe")
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    from neuralcodec.media.sink import PendingFile

    pending = PendingFile(path, force)
    file = pending.open()
    try:
        yield file
        try:
            file.close()
        except OSError as error:
            raise OutputError(f"{path}: {error.strerror}") from error
        pending.commit()
    except BaseException:
        with contextlib.suppress(OSError):
            file.close()
        pending.discard()
        raise


@contextlib.contextmanager
def input_stream(path: str) -> Iterator[BinaryIO]:
    """An .nvc file for reading; "-" is standard input. Raises InputError."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    with file:
        yield file


def bits_per_pixel(size: int, frames: int, width: int, height: int) -> float:
    """Bits for a luma sample of ``size`` bytes for ``frames`` frames."""
    return 8 * size / max(1, frames * width * height)
