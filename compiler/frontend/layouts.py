"""Which axis each dimension of an argument is, by its part in the contractions, where it is not [B, H, S, D].

A contraction that does not fit the labels its operands have says which labels would (`Layouts`); the function is then
read once more with those. They are names only: what is recognised under them is held to the same rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from npuc.compiler.argument_layout import Layout, Size
from npuc.compiler.frontend.axes import RANKS, AxisError, Pairs, aligned, merged
from npuc.compiler.frontend.values import (
    BATCH,
    DEPTH,
    HEAD,
    LABELS,
    LEFT,
    LENGTH,
    RIGHT,
    Atom,
    Axes,
    Exponentials,
    Operand,
    Probabilities,
    Scores,
)

# The axes of arguments, by their numbers.
Layouts: TypeAlias = "Mapping[int, Axes]"
_Names: TypeAlias = "dict[Atom, Atom]"  # digits as they are labelled, and as they should be


def of_scores(left: Operand, right: Operand, dimension: int) -> Layouts | None:
    """Layouts of two arguments that meet in Q K^T along loop dimension `dimension`; None where they do not."""
    walked = [aligned(a, b) for a, b in zip(left.axes, right.axes, strict=True)]
    depth = walked.pop(dimension)
    if depth is None or len(depth) != 1 or None in depth[0]:
        return None
    pairs: Pairs = []
    for found in walked:
        if found is None:
            return None
        pairs += found
    only_left = [x for x, y in pairs if y is None and x is not None]
    only_right = [y for x, y in pairs if x is None and y is not None]
    shared = [(x, y) for x, y in pairs if x is not None and y is not None]
    query, key = left, right
    x_depth, y_depth = depth[0]
    if len(only_right) > len(only_left):
        query, key, only_left, only_right = right, left, only_right, only_left
        shared, x_depth, y_depth = [(y, x) for x, y in shared], y_depth, x_depth
    assert x_depth is not None and y_depth is not None
    if len(only_right) > 1:
        return None
    length = _length(query, key, only_left, only_right, shared)
    groups = [atom for atom in only_left if atom is not length]
    new = _names_of_query(query, shared, groups, length, x_depth)
    group = math.prod(atom.extent or 0 for atom in groups)
    other = {y: _of_key(new[x], y, group) for x, y in shared} | {y_depth: replace(y_depth, label=DEPTH, step=1)}
    other |= {atom: replace(atom, label=LENGTH, step=1) for atom in only_right}
    return _layouts((query, new), (key, other))


def of_values(weights: Probabilities | Exponentials, value: Operand, dimension: int) -> Layouts | None:
    """The layout of the argument that is summed over along loop dimension `dimension`, as V."""
    names: _Names = {}
    groups: list[Atom] = []
    pairs: Pairs = []
    for index, (a, b) in enumerate(zip(weights.axes, value.axes, strict=True)):
        found = aligned(a, b)
        if found is None or (index == dimension and (len(found) != 1 or found[0][1] is None)):
            return None
        if index == dimension and found[0][1] is not None:
            names[found[0][1]] = replace(found[0][1], label=LENGTH, step=1)
        else:
            pairs += found
    groups = [x for x, y in pairs if x is not None and y is None and x.label == HEAD]
    group = math.prod(atom.extent or 0 for atom in groups)
    for x, y in pairs:
        if y is not None:
            names[y] = replace(y, label=DEPTH, step=1) if x is None else _of_key(x, y, group)
    return _layouts((value, names))


def of_mask(scores: Scores, axes: Axes, source: Axes, argument: int) -> Layouts | None:
    """The layout of an argument that masks scores, [B, H, S, Skv]: DEPTH stands for its keys, K Q^T's are LEFT."""
    names: _Names = {}
    for own, other in zip(axes, scores.axes, strict=True):
        for x, y in aligned(own, other) or [(None, None)]:
            if x is not None and y is None:
                return None
            if x is not None and y is not None:
                label = {LEFT: LENGTH, RIGHT: DEPTH}.get(y.label, y.label)
                names[x] = replace(x, label=label, step=y.step)
    return _layouts((Operand(axes, argument, source=source), names))


def of_operand(operand: Operand, shape: Sequence[Size]) -> Layouts | None:
    """The layout of an argument that is given as [B, H, S, D] or less after reshapes and transposes."""
    names: _Names = {}
    for axis, name in zip(operand.axes, LABELS[-len(shape) :], strict=False):
        step = 1
        for atom in reversed(axis):
            names[atom] = replace(atom, label=name, step=step)
            step *= atom.extent or 1
    return _layouts((operand, names)) if len(shape) in RANKS else None


def _length(
    query: Operand,
    key: Operand,
    only: Sequence[Atom],
    only_key: Sequence[Atom],
    shared: Sequence[tuple[Atom, Atom]],
) -> Atom | None:
    """The digit of Q, of those that K has not, that is its length; the others are heads of a group."""

    def before(operand: Operand, atom: Atom, side: int) -> set[int]:
        return {n for n, pair in enumerate(shared) if _place(operand, pair[side]) < _place(operand, atom)}

    beside = {_place(query, x) for x, _ in shared}
    loose = [atom for atom in only if _place(query, atom) not in beside]
    if not only_key:
        return loose[-1] if loose else None
    alike_ranks = len(query.source) == len(key.source)
    if not loose:  # batch and length may be one dimension, of both
        own, place = before(key, only_key[0], 1), _place(key, only_key[0])
        same = [atom for atom in only if _place(query, atom) == place and before(query, atom, 0) == own]
        return same[-1] if same and alike_ranks else None
    if alike_ranks:
        place = _place(key, only_key[0])
        same = [atom for atom in loose if _place(query, atom) == place]
        if same or not query.source[place]:
            return same[-1] if same else None
    alike = [atom for atom in loose if before(query, atom, 0) == before(key, only_key[0], 1)]
    return (alike or loose)[-1]


def _names_of_query(
    query: Operand, shared: Sequence[tuple[Atom, Atom]], groups: Sequence[Atom], length: Atom | None, depth: Atom
) -> _Names:
    """As they are where they say batch, heads, length and head size already; else in the order of the dimensions."""
    own = [x for x, _ in shared]
    kept = [(atom, (BATCH, HEAD)) for atom in own] + [(atom, (HEAD,)) for atom in groups] + [(depth, (DEPTH,))]
    kept += [] if length is None else [(length, (LENGTH,))]
    if all(atom.label in labels for atom, labels in kept):
        return {atom: atom for atom, _ in kept}
    own.sort(key=lambda atom: (_place(query, atom), -atom.step))
    apart = bool(groups) and all(_place(query, atom) != _place(query, own[0]) for atom in groups) if own else False
    batch = own[:1] if len(own) > 1 or apart else []
    names = {atom: replace(atom, label=BATCH, step=1) for atom in batch}
    step = 1
    for atom in reversed([*own[len(batch) :], *groups]):
        names[atom] = replace(atom, label=HEAD, step=step)
        step *= atom.extent or 1
    names[depth] = replace(depth, label=DEPTH, step=1)
    return names if length is None else {**names, length: replace(length, label=LENGTH, step=1)}


def _of_key(atom: Atom, own: Atom, group: int) -> Atom:
    """`own`, a digit of K or V, by the one of Q that goes with it, which has `group` heads to each of theirs."""
    step = max(1, atom.step // max(1, group)) if atom.label == HEAD else atom.step
    return replace(own, label=atom.label, step=step)


def _place(operand: Operand, atom: Atom) -> int:
    """The dimension of the argument that holds a digit of it."""
    places = [n for n, axis in enumerate(operand.source) for own in axis if _holds(own, atom)]
    return places[0] if places else -1


def _holds(whole: Atom, part: Atom) -> bool:
    if whole.label != part.label:
        return False
    if whole.extent is None or part.extent is None:
        return whole == part
    return whole.step <= part.step and part.step * part.extent <= whole.step * whole.extent


def _layouts(*operands: tuple[Operand, _Names]) -> Layouts | None:
    """The source axes of operands with their digits renamed; None where digits are left over."""
    found: dict[int, Axes] = {}
    for operand, names in operands:
        axes = []
        for axis in operand.source:
            parts = [(own, sorted((a for a in names if _holds(own, a)), key=lambda a: -a.step)) for own in axis]
            if any(own.extent != (math.prod(a.extent or 0 for a in p) if own.extent else None) for own, p in parts):
                return None
            axes.append(merged([names[atom] for _, part in parts for atom in part]))
        if found.setdefault(operand.argument, tuple(axes)) != tuple(axes):
            return None
    return found


def role_sizes(axes: Axes) -> tuple[Size, Size, Size, Size]:
    """[B, H, S, D] of a tensor of these axes."""
    sizes = [[atom.extent for axis in axes for atom in axis if atom.label == name] for name in LABELS]
    b, h, s, d = (None if None in own else math.prod(size or 0 for size in own) for own in sizes)
    return b, h, s, d


def in_order(axes: Axes) -> bool:
    """Whether a tensor of four dimensions is [B, H, S, D]."""
    return all(atom.label == name for axis, name in zip(axes, LABELS, strict=True) for atom in axis)


def layout_of(axes: Axes) -> Layout:
    """What is walked along each dimension. Raises AxisError where digits of an axis do not come in its order."""
    for name in LABELS:
        step = 1
        for atom in reversed([atom for axis in axes for atom in axis if atom.label == name]):
            if atom.step != step or (atom.extent is None and step != 1):
                raise AxisError(f"the digits of {name} are out of order")
            step *= atom.extent or 1
    if any(atom.label not in LABELS for axis in axes for atom in axis):
        raise AxisError("it repeats elements")
    return tuple(tuple((atom.label, atom.extent) for atom in axis) for axis in axes)
