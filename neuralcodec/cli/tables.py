"""Tables of the bench in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neuralcodec.bench.table import Table


def rich_table(table: Table) -> Any:
    """A bench table as a table of rich: source and notes stand below it."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    drawn = RichTable(
        title=Text(table.title, "bold"),
        title_justify="left",
        caption=Text("\n".join([*([f"Source: {table.source}"] if table.source else []), *table.notes])),
        caption_justify="left",
        box=box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for number, column in enumerate(table.columns):
        label = number < table.labels
        drawn.add_column(Text(column), justify="left" if label else "right", no_wrap=not label, overflow="fold")
    for row in table.text_rows():
        drawn.add_row(*map(Text, row))
    return drawn
