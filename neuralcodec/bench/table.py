"""A table as plain data: neuralcodec.cli.tables draws it in a terminal, the report's page in HTML."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

Cell = str | int | float | None


@dataclass(frozen=True)
class Table:
    """One table. ``rows`` have one cell for each of ``columns``; None is missing or not measured.

    ``source``: the paper and its table or figure. ``notes``: what was measured (clip, frames, threads, date), and what
    a reader must know. ``formats``: Python format specification of the numbers of each column (empty: as they are).
    ``plot``: the columns of a figure, as (series, x, y): rows of one series are points of one line.
    """

    title: str
    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    formats: tuple[str, ...] = ()
    plot: tuple[str, str, str] | None = None

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows) or len(self.formats) not in (0, len(self.columns)):
            raise ValueError(f"{self.title}: rows or formats do not fit {len(self.columns)} columns")
        if self.plot is not None and not set(self.plot) <= set(self.columns):
            raise ValueError(f"{self.title}: the plot names an unknown column")

    @property
    def labels(self) -> int:
        """How many leading columns hold text (a system, a module), which is set to the left."""
        return next(
            (n for n in range(len(self.columns)) if not all(isinstance(row[n], str) for row in self.rows)),
            len(self.columns),
        )

    def text_rows(self) -> list[list[str]]:
        """All cells as text for a reader: "-" for what is missing, "missing" once where a whole row is."""
        formats = self.formats or ("",) * len(self.columns)
        labels, rows = self.labels, []
        for row in self.rows:
            cells = [_text(cell, form) for cell, form in zip(row, formats, strict=True)]
            if labels < len(row) and all(cell is None for cell in row[labels:]):
                cells[labels:] = ["missing", *[""] * (len(row) - labels - 1)]
            rows.append(cells)
        return rows

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_dict(d: dict[str, Any]) -> Table:
        plot = tuple(d["plot"]) if d["plot"] else None
        return Table(
            d["title"],
            d["source"],
            tuple(d["columns"]),
            tuple(map(tuple, d["rows"])),
            tuple(d["notes"]),
            tuple(d["formats"]),
            plot,
        )


def tsv(table: Table) -> str:
    """A table as tab-separated values in full precision, empty where missing; title, source and notes stand before it
    as lines with "#"."""
    head = [f"# {line}" for line in (table.title, table.source, *table.notes) if line]
    lines = ["\t".join("" if cell is None else str(cell) for cell in row) for row in table.rows]
    return "\n".join([*head, "\t".join(table.columns), *lines]) + "\n"


def _text(cell: Cell, form: str) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else format(cell, form)
