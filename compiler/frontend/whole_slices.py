"""tensor.extract_slice and insert_slice that take all of a tensor, as front ends and destination passing leave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npuc.compiler.frontend.attention import Sizes
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import Axes, Axis, Opaque, Value, moved


def extract_slice(operation: Any, source: Value) -> Value:
    type_ = operation.operands[0].type
    if not _takes_all(operation, sizes_of(type_)):
        return Opaque(operation, "it takes a part of a tensor")
    return _reshaped(source, sizes_of(type_), sizes_of(operation.results[0].type))


def insert_slice(operation: Any, source: Value) -> Value:
    """The source in the destination's place: nothing of the destination is left."""
    destination = sizes_of(operation.results[0].type)
    if not _takes_all(operation, destination):
        return Opaque(operation, "it replaces a part of a tensor")
    return _reshaped(source, sizes_of(operation.operands[0].type), destination)


def _takes_all(operation: Any, shape: Sizes) -> bool:
    """Offsets of 0, strides of 1 and the sizes of `shape`, all of them numbers."""
    offsets, sizes, strides = (list(operation.attributes[f"static_{n}"]) for n in ("offsets", "sizes", "strides"))
    return not any(offsets) and tuple(sizes) == shape and all(stride == 1 for stride in strides)


def _reshaped(value: Value, old: Sizes, new: Sizes) -> Value:
    """Axes after dimensions of one element come or go."""
    found: Value = moved(value, lambda axes: _squeezed(axes, old, new))
    return found


def _squeezed(axes: Axes, old: Sequence[int | None], new: Sequence[int | None]) -> Axes:
    kept: list[Axis] = [axis for axis, size in zip(axes, old, strict=True) if size != 1]
    return tuple(() if size == 1 else kept.pop(0) for size in new)
