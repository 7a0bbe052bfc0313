"""Differences of declared binary structures, field by field."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from npuc.compiler.emit.layout import Layout
from npuc.compiler.inspect.diff.report import Difference
from npuc.compiler.inspect.diff.values import compare_bytes


def compare_layout(
    layout: Layout, a: bytes, b: bytes, offset: int = 0, follows: Collection[str] = (), name: str = ""
) -> Iterator[Difference]:
    """Fields in which the structures at `offset` differ, then differing bytes of the padding between fields.

    follows: fields that are determined by the rest of the file.  name: put before the fields' names.  Raises InputError
    when one file ends inside the structure.
    """
    first, second = layout.unpack(a, offset), layout.unpack(b, offset)
    head = f"{name}." if name else ""
    for field in layout.names:
        if first[field] != second[field]:
            place = f"{head}{field}"
            yield Difference(place, before=_shown(first[field]), after=_shown(second[field]), derived=field in follows)
    # The padding is what packing the fields does not give back.
    padding_a, padding_b = _padding(layout, a, offset, first), _padding(layout, b, offset, second)
    yield from compare_bytes(padding_a, padding_b, f"{head}padding", offset)


def _padding(layout: Layout, data: bytes, offset: int, values: dict[str, Any]) -> bytes:
    packed = layout.pack(**values)
    return bytes(x ^ y for x, y in zip(data[offset : offset + layout.size], packed, strict=True))


def _shown(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
