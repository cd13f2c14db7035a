"""What commands print at their end: the tables of the report, and where the results are."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table as RichTable

from .report import Table, number


def print_tables(tables: Sequence[Table], lines: Sequence[str] = ()) -> None:
    """Prints the tables, then the lines as they are. Where a table is too wide, text is folded, numbers stay whole."""
    console = Console()
    for table in tables:
        shown = RichTable(title=table.caption, title_justify="left")
        for i, name in enumerate(table.header):
            numeric = any(not isinstance(row[i], str) for row in table.rows)
            shown.add_column(
                name, justify="right" if numeric else "left", no_wrap=numeric and " " not in name, overflow="fold"
            )
        for row in table.rows:
            shown.add_row(*(cell if isinstance(cell, str) else number(cell) for cell in row))
        console.print(shown)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
