"""Tables of the benchmarks, for the terminal or for the documentation."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table


def show(
    title: str, header: Sequence[str], rows: Iterable[Sequence[str]], markdown: bool = False
) -> None:
    """Print a table with its numbers aligned to the right.

    Args:
        title: The text above the table.
        header: The names of the columns.
        rows: The texts of the cells, row by row.
        markdown: Whether to print lines of Markdown, which no width wraps.
    """
    rows = list(rows)
    right = [
        all(not cell or cell[0] in "+-0123456789" for cell in cells)
        for cells in zip(*rows, strict=True)
    ]
    if markdown:
        rule = ["---:" if number else "---" for number in right]
        lines = ["| " + " | ".join(row) + " |" for row in (header, rule, *rows)]
        print(f"{title}\n", *lines, "", sep="\n")
        return
    table = Table(title=title)
    for name, number in zip(header, right, strict=True):
        table.add_column(name, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    # The width is fixed, since a file has none. Markup is off, since names have brackets.
    Console(width=150, markup=False, highlight=False).print(table)
