"""``ncodec bench`` as a user runs it."""

from __future__ import annotations

import pytest

from neuralcodec.cli import main


def run(capsys, *arguments):
    """Exit code, standard output and standard error."""
    with pytest.raises(SystemExit) as stop:
        main(["bench", *map(str, arguments)])
    out, err = capsys.readouterr()
    return stop.value.code, out, err
