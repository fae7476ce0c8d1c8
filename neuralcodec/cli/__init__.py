"""The command line: ``ncodec``. Heavy packages are imported inside the commands, so that help comes at once."""

from __future__ import annotations

import click

from neuralcodec import __version__
from neuralcodec.cli.group import LazyGroup

COMMANDS = {
    "encode": "neuralcodec.cli.encode:encode",
    "decode": "neuralcodec.cli.decode:decode",
    "inspect": "neuralcodec.cli.inspect:inspect",
    "models": "neuralcodec.cli.models:models",
    "demo": "neuralcodec.cli.demo:demo",
    "bench": "neuralcodec.cli.bench:bench",
    "train": "neuralcodec.cli.train:train",
}
"""Subcommands by name: "module:attribute", imported when they are used or listed. A module imports click and light
modules at its top."""


@click.group(cls=LazyGroup, commands_by_path=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ncodec")
def main() -> None:
    """A learned video and image codec with a real bitstream."""
