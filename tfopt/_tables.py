"""Tables as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells under their titles, the first column to the left and the others to the right; what has no title stands as it is."""
    titles = len(rows[0])
    widths = [max(len(row[at]) for row in rows) for at in range(titles)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=False)]
        lines.append("  ".join([first.ljust(widths[0]), *cells, *others[titles - 1 :]]).rstrip())
    return "\n".join(lines)
