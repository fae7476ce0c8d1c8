"""Tables of the bench in a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralcodec.bench.table import Table

_BESIDE = 2
"""Blanks beside a column, and beside a table."""
_UNLIMITED = 10_000
_LONGEST_LABEL = 24
"""Labels longer than that may wrap before a table is parted."""


def rich_table(table: Table) -> Any:
    """A bench table as a table of rich: source and notes stand below it."""
    return _drawn(table, range(len(table.columns)), table.title, _below(table), tight=False)


def natural_width(drawn: Any) -> int:
    """Characters a line that a table of rich takes when nothing in it is wrapped."""
    from rich.console import Console

    return Console(width=_UNLIMITED).measure(drawn).maximum


def rich_tables(table: Table, width: int) -> list[Any]:
    """The same for ``width`` characters a line. A table that is wider has headings in several lines, and comes in parts
    where that is not enough, each with the columns of labels."""
    whole = rich_table(table)
    if natural_width(whole) <= width:
        return [whole]
    labels, rows = table.labels, table.text_rows()
    needed = [_BESIDE + _whole(column, [row[n] for row in rows]) for n, column in enumerate(table.columns)]
    room = width - _BESIDE - sum(min(n, _BESIDE + _LONGEST_LABEL) for n in needed[:labels])
    parts: list[list[int]] = [[]]
    for number in range(labels, len(table.columns)):
        if parts[-1] and sum(needed[n] for n in (*parts[-1], number)) > room:
            parts.append([])
        parts[-1].append(number)
    last = len(parts) - 1
    return [
        _drawn(
            table,
            [*range(labels), *part],
            table.title if number == 0 else f"{table.title} (continued)",
            _below(table) if number == last else "",
            tight=True,
        )
        for number, part in enumerate(parts)
    ]


def _below(table: Table) -> str:
    return "\n".join([*([f"Source: {table.source}"] if table.source else []), *table.notes])


def _whole(column: str, cells: Sequence[str]) -> int:
    """Characters of a column whose cells stay whole; its heading may wrap at blanks."""
    return max(map(len, (*cells, *column.split())), default=0)


def _drawn(table: Table, columns: Sequence[int], title: str, below: str, *, tight: bool) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(title, "bold"),
        title_justify="left",
        caption=Text(below) if below else None,
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    rows = [[row[n] for n in columns] for row in table.text_rows()]
    for place, number in enumerate(columns):
        label = number < table.labels
        width = _whole(table.columns[number], [row[place] for row in rows]) if tight and not label else None
        drawn.add_column(
            Text(table.columns[number]), justify="left" if label else "right", width=width, overflow="fold"
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    return drawn
