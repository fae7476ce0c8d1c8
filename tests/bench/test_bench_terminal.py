"""A bench's tables in a terminal and in a pipe: nothing is cut, whatever there is room for."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from neuralcodec.bench.bd import LEAST_SHARE, bd
from neuralcodec.bench.plan import Result
from neuralcodec.bench.table import Table
from neuralcodec.cli.bench_tables import result_tables, show
from neuralcodec.cli.tables import rich_tables

HEADS = ("level", "quality", *(f"{kind} contextual {what}" for kind in "IPB" for what in ("latent", "hyper", "mode")))
TABLE = Table(
    "Bits",
    "",
    HEADS,
    tuple((f"level {n}", 10.0 * n, *(12345.6 + i for i in range(9))) for n in (1, 2)),
    ("what is below",),
    ("", "g", *(".1f",) * 9),
)


def printed(width: int) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in rich_tables(TABLE, width):
        console.print(part)
    return out.getvalue()


@pytest.mark.parametrize("width", [30, 60, 80, 130, 300])
def test_no_heading_and_no_figure_is_cut(width):
    text = printed(width)
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    for head in HEADS:
        assert set(head.split()) <= set(words)
    for _, *row in TABLE.text_rows():
        assert set(row) <= set(words)
    assert text.count("what is below") == 1
    assert ("(continued)" in " ".join(words)) == (width < 130)


def test_a_pipe_gets_each_row_on_one_line(capsys):
    show([TABLE])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == " ".join(HEADS).split()
    assert [line.split()[2:] for line in lines if line.startswith(" level ")][1:] == [r[1:] for r in TABLE.text_rows()]


CURVE = [(0.02, 32.1), (0.05, 35.0), (0.11, 37.9), (0.24, 40.8)]


def test_why_there_is_no_bd_rate_is_said_once():
    def notes(*found):
        result = Result(bd={"x264": {"ours-l1": {f"clip {n}": b for n, b in enumerate(found)}}})
        return result_tables(result)[0].notes

    fine, apart = bd(CURVE, CURVE), bd(CURVE, [(rate, psnr + 8) for rate, psnr in CURVE])
    short = bd(CURVE, CURVE[:1])
    bound = f"-: refused, the curves share under {100 * LEAST_SHARE:.0f} % of the narrower one's range or 0.5 dB"
    assert notes(fine) == ()
    assert notes(fine, apart, apart) == (bound,)
    assert notes(short) == (short.reason,)
    assert notes(apart, short) == (bound, short.reason)
    assert notes(replace(fine, psnr=None)) == (bound,)
