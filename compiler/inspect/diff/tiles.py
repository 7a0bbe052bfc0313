"""Names of sets of tiles."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby


def tiles_name(kind: str, tiles: Sequence[tuple[int, int]]) -> str:
    """Tiles of a kind in short: `core(0,2)`, `core(0..3,2..5)` for a full rectangle, else by rows of like columns."""
    columns = sorted({column for column, _ in tiles})
    by_column = {column: tuple(sorted(row for c, row in tiles if c == column)) for column in columns}
    named = []
    for rows, same in groupby(columns, key=lambda column: by_column[column]):
        named.append(f"{kind}({_span(list(same))},{_span(rows)})")
    return " ".join(named)


def _span(numbers: Sequence[int]) -> str:
    if len(numbers) > 1 and numbers[-1] - numbers[0] == len(numbers) - 1:
        return f"{numbers[0]}..{numbers[-1]}"
    return "+".join(map(str, numbers))
