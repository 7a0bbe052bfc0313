"""How a source, and so its callers, have an argument that is not [B, H, S, D]."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, TypeAlias

# A length, or None where it is open (`?` in a type): each call gives it.
Size: TypeAlias = "int | None"
Sizes: TypeAlias = "tuple[Size, ...]"

AXES = "BHSD"  # by their places in [B, H, S, D]: of K and V, S stands for the keys, of a mask D does
ROW_MAJOR = "row-major"  # the layout, in metadata, of what lies as its shape says

# For each dimension, outermost first, the axes that it walks, outermost first, with their extents.
Layout: TypeAlias = "tuple[tuple[tuple[str, Size], ...], ...]"


def layout_from_json(value: Any) -> Layout:
    """Lists of [axis, extent] pairs, a dimension each. Raises TypeError or ValueError where they are none."""
    layout = tuple(tuple((str(axis), size) for axis, size in dimension) for dimension in value)
    for axis, size in (pair for dimension in layout for pair in dimension):
        if axis not in tuple(AXES) or not (size is None or (type(size) is int and size > 0)):
            raise ValueError(f"a layout walks {axis!r} of {size!r} elements")
    return layout


def layout_shape(layout: Layout) -> Sizes:
    """The shape of a tensor that is laid out so."""
    return tuple(_product(size for _, size in dimension) for dimension in layout)


def full_shape(layout: Layout) -> tuple[Size, Size, Size, Size]:
    """Its [B, H, S, D]."""
    walked = [pair for dimension in layout for pair in dimension]
    b, h, s, d = (_product(size for axis, size in walked if axis == name) for name in AXES)
    return b, h, s, d


def _product(sizes: Iterable[Size]) -> Size:
    found = list(sizes)
    return None if None in found else math.prod(size for size in found if size is not None)
