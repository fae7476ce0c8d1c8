"""The group of all commands: imports a command when it is used, turns every error into one line and a code."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import click

from neuralcodec.core.errors import NcodecError

INTERRUPTED = 130
READER_GONE = 141
"""As a shell reports a program that SIGPIPE ended."""
INTERNAL_ERROR = 70


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM. Not a KeyboardInterrupt, which click would turn into something else."""


class _ReaderGone(Exception):
    """The program that reads our standard output has ended."""


class LazyGroup(click.Group):
    """A click group whose commands are given as "module:attribute".

    ``main`` raises SystemExit: 0, the ``exit_code`` of an NcodecError, 2 for wrong usage, 130 when interrupted, 70 for
    an error that nobody expected. Each error is one line on standard error; ``-v`` adds the traceback.
    """

    def __init__(self, *args: Any, commands_by_path: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._paths = commands_by_path or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._paths, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._paths:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self._paths[cmd_name].partition(":")
        return getattr(importlib.import_module(module), attribute)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error
        except BrokenPipeError as error:
            raise _ReaderGone from error
        except NcodecError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise _ReaderGone from error
            raise

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:
        arguments = list(sys.argv[1:] if args is None else args)
        verbose = bool({"-v", "--verbose"} & set(arguments))
        extra["standalone_mode"] = False
        at_once = False
        try:
            with _signals():
                result = super().main(arguments, prog_name or "ncodec", **extra)
            code = result if isinstance(result, int) else 0
        except (_Interrupted, KeyboardInterrupt, click.Abort):
            _say("interrupted")
            code, at_once = INTERRUPTED, True
        except _ReaderGone:
            with contextlib.suppress(OSError, ValueError):  # nothing is left to be flushed to a reader that has gone
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code, at_once = READER_GONE, True
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.UsageError as error:
            command = error.ctx.command_path if error.ctx else "ncodec"
            _say(f"{error.format_message()} (see {command} --help)")
            code = error.exit_code
        except click.ClickException as error:
            _say(error.format_message())
            code = error.exit_code
        except NcodecError as error:
            if verbose:
                traceback.print_exc()
            _say(str(error))
            code = error.exit_code
        except MemoryError:
            _say("out of memory: fewer --workers or a smaller picture may help")
            code = INTERNAL_ERROR
        except Exception as error:  # noqa: BLE001 - the last resort of the whole program
            if verbose:
                traceback.print_exc()
            hint = "" if verbose else " (-v shows where)"
            _say(f"internal error: {type(error).__name__}: {error}{hint}")
            code = INTERNAL_ERROR
        if at_once and args is None:
            # Threads may be inside a network or wait for a pipe that stays silent; what they hold is gone with the
            # process.
            sys.stderr.flush()
            os._exit(code)
        raise SystemExit(code)


def _say(text: str) -> None:
    click.echo("ncodec: " + " ".join(text.split()), err=True)


@contextlib.contextmanager
def _signals() -> Iterator[None]:
    """SIGTERM and SIGHUP act as Ctrl-C does, so that nothing half-written stays behind."""
    changed = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                changed[number] = signal.signal(number, _interrupt)
    try:
        yield
    finally:
        for number, before in changed.items():
            signal.signal(number, before)


def _interrupt(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
