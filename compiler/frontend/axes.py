"""Moving axes through reshapes and indexing maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.loop_nest import is_zero
from npuc.compiler.frontend.values import LABELS, LEFT, REPEAT, RIGHT, Atom, Axes, Axis, Operand

# [S, D], [H, S, D] and [B, H, S, D]
RANKS = (2, 3, 4)


GROUPS = "attn.sdpa takes K and V of fewer heads than Q"


# Digits that a loop dimension walks together in two tensors, outermost first; None where one does not vary.
Pairs: TypeAlias = "list[tuple[Atom | None, Atom | None]]"


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
    """The axes of argument `number` at first sight; those of other ranks than [B, H, S, D], [H, S, D] and [S, D] match
    no other's (see `layouts`). Of three dimensions the first is the batch where it is open, as heads never are."""
    rank = len(shape)
    labels = LABELS[4 - rank :] if rank in RANKS else [f"{number}.{i}" for i in range(rank)]
    axes = named_axes("BSD" if rank == 3 and shape[0] is None else labels, shape)
    return tuple(
        tuple(replace(a, open=f"{number}.{d}" if a.extent is None else None) for a in axis)
        for d, axis in enumerate(axes)
    )


def operand_axes(value: Operand, shape: Sequence[Size]) -> Axes:
    """The axes that an operand of `shape` has where it is [B, H, S, D], or an argument of another rank as it comes."""
    return named_axes(LABELS[4 - len(shape) :], shape) if len(shape) in RANKS else argument_axes(value.argument, shape)


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
    return tuple(joined([axes[d] for d in group], [shape[d] for d in group]) for group in groups)


def joined(parts: Sequence[Axis], sizes: Sequence[Size]) -> Axis:
    """The axis of dimensions that become one. Raises AxisError."""
    found: list[Atom] = []
    for part, size in zip(parts, sizes, strict=True):
        if not part and size is None and any(parts):
            raise AxisError("it merges a repeated dimension of open length with another", GROUPS)
        found += part if part or size == 1 else [Atom(REPEAT, size)]
    return merged(found)


def merged(atoms: Sequence[Atom]) -> Axis:
    """Neighbouring digits of one axis as one; () where nothing but repetition is left."""
    found: list[Atom] = []
    for atom in atoms:
        last = found[-1] if found else None
        if last is not None and last.label == atom.label and _continues(last, atom):
            found[-1] = Atom(atom.label, _times(last.extent, atom.extent), atom.step)
        else:
            found.append(atom)
    return () if all(atom.label == REPEAT for atom in found) else tuple(found)


def _continues(outer: Atom, inner: Atom) -> bool:
    return outer.label == REPEAT or (inner.extent is not None and outer.step == inner.step * inner.extent)


def _times(left: Size, right: Size) -> Size:
    return None if left is None or right is None else left * right


def split(atom: Atom, outer: int) -> tuple[Atom, Atom]:
    """A digit as two, the outer one of `outer` elements. Raises AxisError where it cannot be."""
    if atom.extent is None or atom.extent % outer or not _splittable(atom.label):
        raise _splits((atom,))
    inner = atom.extent // outer
    step = 1 if atom.label == REPEAT else atom.step
    return Atom(atom.label, outer, step if atom.label == REPEAT else step * inner), Atom(atom.label, inner, step)


def _splittable(name: str) -> bool:
    """Lengths of scores and positions stay whole: softmaxes and masks are said of all of them."""
    return name not in (LEFT, RIGHT) and not name.startswith("#")


def expand(axes: Axes, groups: Sequence[Sequence[int]], shape: Sequence[Size]) -> Axes:
    """Axes after tensor.expand_shape to `shape`. Raises AxisError."""
    result: list[Axis] = [()] * len(shape)
    for axis, group in zip(axes, groups, strict=True):
        parts = [axis] if len(group) == 1 else divided(axis, [shape[d] for d in group])
        for dimension, part in zip(group, parts, strict=True):
            result[dimension] = part
    return tuple(result)


def divided(axis: Axis, sizes: Sequence[Size]) -> list[Axis]:
    """An axis as several dimensions. Raises AxisError where digits do not fall into them."""
    if not axis:
        return [()] * len(sizes)
    total = extent(axis)
    if total is not None and list(sizes).count(None) == 1:
        known = math.prod(size for size in sizes if size is not None)
        sizes = [total // max(known, 1) if size is None else size for size in sizes]
    atoms = list(axis)
    parts = [merged(take(atoms, size, axis)) for size in sizes]
    if atoms:
        raise _splits(axis)
    return parts


def take(atoms: list[Atom], size: Size, axis: Axis) -> list[Atom]:
    """Remove from the front of `atoms` those that make a dimension of `size`."""
    if size is None:
        if not atoms or atoms[0].extent is not None:
            raise _splits(axis)
        return [atoms.pop(0)]
    taken: list[Atom] = []
    while size != 1:
        if not atoms or atoms[0].extent is None or size == 0:
            raise _splits(axis)
        atom = atoms.pop(0)
        assert atom.extent is not None
        if size % atom.extent:
            atom, rest = split(atom, size)
            atoms.insert(0, rest)
        taken.append(atom)
        assert atom.extent is not None
        size //= atom.extent
    return taken


def aligned(left: Axis, right: Axis) -> Pairs | None:
    """Digits of two axes that a loop dimension walks together, None where one repeats; None where they do not fit."""
    if not left or not right:
        alone: Pairs = [(atom, None) for atom in left if atom.label != REPEAT]
        return alone + [(None, atom) for atom in right if atom.label != REPEAT]
    a, b = list(left), list(right)
    pairs: Pairs = []
    while a and b:
        x, y = a.pop(0), b.pop(0)
        try:
            if x.extent is not None and y.extent is not None and x.extent > y.extent:
                x, rest = split(x, y.extent)
                a.insert(0, rest)
            elif x.extent is not None and y.extent is not None and x.extent < y.extent:
                y, rest = split(y, x.extent)
                b.insert(0, rest)
        except AxisError:
            return None
        if x.extent != y.extent:
            return None
        pair = (None if x.label == REPEAT else x, None if y.label == REPEAT else y)
        if pair != (None, None):
            pairs.append(pair)
    return None if a or b else pairs


def _splits(axis: Axis) -> AxisError:
    return AxisError(f"it splits the axis {label(axis)} of {extent(axis) or 'open length'} elements")


def label(axis: Axis) -> str:
    return "*".join(atom.label for atom in axis) or "of one element"


def row_aligned(row: Axes, full: Axes, key: str) -> bool:
    """Whether `row` has the axes of `full` but for `key`, along which it does not vary."""
    if len(row) != len(full):
        return False
    return all(r == f or (r == () and [a.label for a in f] == [key]) for r, f in zip(row, full, strict=True))
