"""Shapes of MLIR tensor types as plain sizes: None for a dimension that is open (`?`)."""

from __future__ import annotations

from typing import Any

from npuc.compiler.frontend.attention import Size, Sizes


def sizes_of(type_: Any) -> Sizes:
    """The shape of a ranked tensor type."""
    return tuple(None if type_.is_dynamic_dim(n) else type_.shape[n] for n in range(type_.rank))


def four(shape: Sizes) -> tuple[Size, Size, Size, Size]:
    """[B, H, S, D] of a shape that leaves leading dimensions out: they have one element."""
    full = (1,) * (4 - len(shape)) + shape
    return full[0], full[1], full[2], full[3]
