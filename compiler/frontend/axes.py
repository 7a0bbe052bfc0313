"""Moving axes through reshapes and indexing maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.loop_nest import is_zero
from npuc.compiler.frontend.values import LABELS, Atom, Axes, Axis

# [S, D], [H, S, D] and [B, H, S, D]
RANKS = (2, 3, 4)


GROUPS = "attn.sdpa takes K and V of fewer heads than Q"


class AxisError(Exception):
    """A reshape or map that the axes cannot follow; the text says why."""

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


def extent(axis: Axis) -> Size:
    """How many elements an axis has; None where that is open."""
    sizes = [atom.extent for atom in axis]
    return None if None in sizes else math.prod(size for size in sizes if size is not None)


def named_axes(labels: Sequence[str], shape: Sequence[Size]) -> Axes:
    """An axis a dimension; dimensions of one element have none."""
    return tuple((Atom(label, size),) if size != 1 else () for label, size in zip(labels, shape, strict=True))


def argument_axes(number: int, shape: Sequence[Size]) -> Axes:
    """The axes of argument `number`; of other ranks than [B, H, S, D], [H, S, D] and [S, D] they match no other's."""
    rank = len(shape)
    return named_axes(LABELS[4 - rank :] if rank in RANKS else [f"{number}.{i}" for i in range(rank)], shape)


def iteration_axes(axes: Axes, map_: Any, dimensions: int) -> Axes:
    """Axes over a loop nest's dimensions of a tensor that is read through `map_` (an affine map).

    Dimensions the map does not use get (). Raises AxisError for maps that are no projected permutation; a constant 0
    may stand for a dimension along which the tensor does not vary.
    """
    from torch_mlir import ir

    found: list[Axis] = [()] * dimensions
    used: set[int] = set()
    for axis, expression in zip(axes, map_.results, strict=True):
        if isinstance(expression, ir.AffineDimExpr):
            if expression.position in used:
                raise AxisError("its indexing map reads a diagonal")
            used.add(expression.position)
            found[expression.position] = axis
        elif axis or not is_zero(expression):
            raise AxisError(f"its indexing map reads ({expression})")
    return tuple(found)


def result_axes(axes: Axes, map_: Any) -> Axes:
    """Axes of a result written through `map_`, a permutation of loop dimensions but for constants (`loop_nest`)."""
    from torch_mlir import ir

    return tuple(axes[e.position] if isinstance(e, ir.AffineDimExpr) else () for e in map_.results)


def collapse(axes: Axes, shape: Sequence[Size], groups: Sequence[Sequence[int]]) -> Axes:
    """Axes after tensor.collapse_shape of a tensor of `shape`."""
    result = []
    for group in groups:
        joined = tuple(atom for dimension in group for atom in axes[dimension])
        if joined and any(not axes[dimension] and shape[dimension] != 1 for dimension in group):
            raise AxisError(
                "it merges a repeated dimension with another: grouped heads are not recognised in this form", GROUPS
            )
        result.append(joined)
    return tuple(result)


def expand(axes: Axes, groups: Sequence[Sequence[int]], shape: Sequence[Size]) -> Axes:
    """Axes after tensor.expand_shape to `shape`: atoms must fall whole into the new dimensions."""
    result: list[Axis] = [()] * len(shape)
    for axis, group in zip(axes, groups, strict=True):
        atoms = list(axis)
        for dimension in group if axis else ():
            result[dimension] = _take(atoms, shape[dimension], axis)
        if atoms:
            raise _splits(axis)
    return tuple(result)


def _take(atoms: list[Atom], size: Size, axis: Axis) -> Axis:
    """Remove from the front of `atoms` those that make a dimension of `size`."""
    taken: list[Atom] = []
    while atoms and (size is None or extent(tuple(taken)) != size):
        taken.append(atoms.pop(0))
        reached = extent(tuple(taken))
        if reached == size:
            break
        if reached is None or size is None or reached > size:
            raise _splits(axis)
    if extent(tuple(taken)) != size:
        raise _splits(axis)
    return tuple(taken)


def _splits(axis: Axis) -> AxisError:
    return AxisError(f"it splits the axis {label(axis)} of {extent(axis) or 'open length'} elements")


def label(axis: Axis) -> str:
    return "*".join(atom.label for atom in axis) or "of one element"


def row_aligned(row: Axes, full: Axes, key: str) -> bool:
    """Whether `row` has the axes of `full` but for `key`, along which it does not vary."""
    if len(row) != len(full):
        return False
    return all(r == f or (r == () and [a.label for a in f] == [key]) for r, f in zip(row, full, strict=True))
