"""Differences of symbol tables, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from npuc.compiler.inspect.diff.report import Difference, only_in


def compare_symbols(
    a: Mapping[str, int], b: Mapping[str, int], moved_to: Mapping[int, int], title: str = ""
) -> Iterator[Difference]:
    """Two tables, name -> address.  An address that moved with the code (moved_to: first -> second file) follows."""
    for name in {**a, **b}:
        place = f"{title} symbol {name}".strip()
        if name not in b:
            yield only_in(True, place, f"{a[name]:#x}")
        elif name not in a:
            yield only_in(False, place, f"{b[name]:#x}")
        elif a[name] != b[name]:
            follows = moved_to.get(a[name]) == b[name]
            yield Difference(place, before=f"{a[name]:#x}", after=f"{b[name]:#x}", derived=follows)
