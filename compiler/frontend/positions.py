"""Integers and comparisons that depend on nothing but where they lie: indices, iotas, and what is computed from them.

They are kept as exact affine forms. What would wrap in its type, or is no such form, is not recognised.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.constants import element_type
from npuc.compiler.frontend.number_formats import integer_width
from npuc.compiler.frontend.values import (
    Affine,
    Atom,
    Axes,
    Conjunction,
    Inverted,
    Operand,
    Positions,
    Predicate,
    Splat,
    Value,
)

ARITHMETIC = (
    "arith.addi", "arith.subi", "arith.muli", "arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui",
    "arith.trunci",
)  # fmt: skip
LOGIC = ("arith.andi", "arith.ori", "arith.xori")
_WITHOUT_SIGN = ("arith.index_castui", "arith.extui")
LONGEST = 1 << 31  # of an open dimension: more elements than any memory holds
# arith's CmpIPredicate by number: the form that is not below zero where it holds is sign * (left - right) - less.
_COMPARED = {2: (-1, 1), 3: (-1, 0), 4: (1, 1), 5: (1, 0), 6: (-1, 1), 7: (-1, 0), 8: (1, 1), 9: (1, 0)}
_FIRST_UNSIGNED = 6


def loops(extents: Sequence[Size], open_: Sequence[str | None]) -> tuple[Atom, ...]:
    """The coordinates of a loop nest. open_: which open lengths its dimensions have."""
    return tuple(Atom(_label(d, 0), size, open=open_[d]) for d, size in enumerate(extents))


def index(dimension: int, nest: Sequence[Atom]) -> Value:
    """linalg.index in a loop nest of `loops`."""
    if nest[dimension].extent == 1:
        return Splat(0, "index")
    axes = tuple((loop,) if d == dimension else () for d, loop in enumerate(nest))
    return Positions(axes, Affine(((nest[dimension].label, 1),), 0), "index")


def affine(terms: dict[str, int], constant: int) -> Affine:
    return Affine(tuple(sorted((label, n) for label, n in terms.items() if n)), constant)


def _label(dimension: int, place: int) -> str:
    return f"#{dimension}.{place}"


def spread(form: Affine, axes: Axes) -> tuple[int, int]:
    """The least and the greatest value of a form over all positions."""
    extents = {atom.label: LONGEST if atom.extent is None else atom.extent for axis in axes for atom in axis}
    ends = [sorted((0, n * (extents[label] - 1))) for label, n in form.terms]
    return form.constant + sum(low for low, _ in ends), form.constant + sum(high for _, high in ends)


def relabelled(axes: Axes, forms: Sequence[Affine]) -> tuple[Axes, tuple[Affine, ...]]:
    """With labels that say the dimension, so that values that are aligned by dimensions have the same."""
    names = {atom.label: _label(d, n) for d, axis in enumerate(axes) for n, atom in enumerate(axis)}
    new = tuple(tuple(replace(atom, label=names[atom.label]) for atom in axis) for axis in axes)
    return new, tuple(affine({names[label]: n for label, n in form.terms}, form.constant) for form in forms)


def joined(left: Axes, right: Axes) -> Axes | None:
    """The axes of two relabelled values together; None where they walk a dimension in different ways."""
    if len(left) != len(right) or any(a and b and a != b for a, b in zip(left, right, strict=True)):
        return None
    return tuple(a or b for a, b in zip(left, right, strict=True))


def _affine_operands(operands: Sequence[Value]) -> tuple[Axes, list[Affine]] | None:
    """Integers as forms over the same axes; None where one is neither positions nor a constant."""
    if not any(isinstance(value, Positions) for value in operands):
        return None
    axes: Axes | None = None
    forms = []
    for value in operands:
        if isinstance(value, Positions):
            own, (form,) = relabelled(value.axes, [value.form])
            axes = own if axes is None else joined(axes, own)
            if axes is None:
                return None
            forms.append(form)
        elif isinstance(value, Splat) and isinstance(value.value, int):
            forms.append(affine({}, value.value))
        else:
            return None
    return None if axes is None else (axes, forms)


def _sum(left: Affine, right: Affine, times: int = 1) -> Affine:
    terms = dict(left.terms)
    for label, n in right.terms:
        terms[label] = terms.get(label, 0) + times * n
    return affine(terms, left.constant + times * right.constant)


def _scaled(form: Affine, factor: int) -> Affine:
    return affine({label: n * factor for label, n in form.terms}, form.constant * factor)


def arithmetic(operation: Any, operands: Sequence[Value]) -> Value | None:
    """An operation of ARITHMETIC on positions; None where its result is not exact."""
    found = _affine_operands(operands)
    type_ = element_type(operation.results[0].type)
    width = integer_width(type_)
    if found is None or width is None:
        return None
    axes, forms = found
    if len(forms) == 1:
        (form,) = forms
    elif operation.name == "arith.muli":
        if all(f.terms for f in forms):
            return None
        constant = next(f for f in forms if not f.terms)
        form = _scaled(forms[1] if forms[0] is constant else forms[0], constant.constant)
    else:
        form = _sum(forms[0], forms[1], 1 if operation.name == "arith.addi" else -1)
    flags = str(operation.attributes["overflowFlags"]) if "overflowFlags" in operation.attributes else ""
    signless = operation.name in _WITHOUT_SIGN or "nuw" in flags
    low, high = spread(form, axes)
    if not -(1 << width - 1) <= low <= high < 1 << width - 1 or (signless and _below_zero(axes, [*forms, form])):
        return None
    return _positions(axes, form, type_)


def _below_zero(axes: Axes, forms: Sequence[Affine]) -> bool:
    return any(spread(form, axes)[0] < 0 for form in forms)


def _positions(axes: Axes, form: Affine, type_: str) -> Value:
    if not form.terms:
        return Splat(form.constant, type_)
    used = {label for label, _ in form.terms}
    kept = tuple(axis if any(atom.label in used for atom in axis) else () for axis in axes)
    return Positions(kept, form, type_)


def compare(operation: Any, operands: Sequence[Value]) -> Value | None:
    """cmpi of positions with positions or a constant: an order, not equality."""
    found = _affine_operands(operands)
    predicate = operation.attributes["predicate"].value
    if found is None or predicate not in _COMPARED:
        return None
    axes, (left, right) = found
    if predicate >= _FIRST_UNSIGNED and _below_zero(axes, [left, right]):
        return None
    sign, less = _COMPARED[predicate]
    difference = _scaled(_sum(left, right, -1), sign)
    return Predicate(axes, (affine(dict(difference.terms), difference.constant - less),))


def inverted(value: Predicate) -> Predicate:
    """Where it does not hold; one form's negation is a form again."""
    if len(value.holds) == 1:
        (form,) = value.holds
        opposite = affine({label: -n for label, n in form.terms}, -form.constant - 1)
        return Predicate(value.axes, (opposite,)) if not value.negated else Predicate(value.axes, value.holds)
    return Predicate(value.axes, value.holds, not value.negated)


def both(left: Predicate, right: Predicate) -> Predicate | None:
    """Where both hold; None where one is negated, or they walk a dimension in different ways."""
    if left.negated or right.negated:
        return None
    a, holds_a = relabelled(left.axes, left.holds)
    b, holds_b = relabelled(right.axes, right.holds)
    axes = joined(a, b)
    return None if axes is None else Predicate(axes, tuple(dict.fromkeys((*holds_a, *holds_b))))


def logic(operation: Any, operands: Sequence[Value]) -> Value | None:
    """andi, ori and xori on comparisons of positions, i1 arguments and i1 constants."""
    if element_type(operation.results[0].type) != "i1":
        return None
    left, right = operands
    if isinstance(left, Splat):
        left, right = right, left
    if isinstance(right, Splat) and isinstance(left, Predicate | Operand | Inverted):
        return _with_constant(operation.name, left, bool(right.value))
    if operation.name == "arith.andi" and not (isinstance(left, Predicate) and isinstance(right, Predicate)):
        return _conjunction(left, right)
    if not isinstance(left, Predicate) or not isinstance(right, Predicate):
        return None
    if operation.name == "arith.andi":
        return both(left, right)
    if operation.name == "arith.ori":
        neither = both(inverted(left), inverted(right))
        return None if neither is None else inverted(neither)
    return None


def _conjunction(left: Value, right: Value) -> Conjunction | None:
    """An argument, or one with a comparison of positions, where another comparison of positions holds too."""
    if isinstance(left, Predicate):
        left, right = right, left
    if not isinstance(right, Predicate) or right.negated:
        return None
    if isinstance(left, Conjunction):
        together = both(left.predicate, right)
        return None if together is None else Conjunction(left.operand, together)
    return Conjunction(left, right) if isinstance(left, Operand) and not left.factors else None


def _with_constant(name: str, value: Predicate | Operand | Inverted, constant: bool) -> Value:
    if name == "arith.xori":
        return opposite(value) if constant else value
    neutral = name == "arith.andi"  # true for andi, false for ori
    return value if constant == neutral else Splat(-int(constant), "i1")


def opposite(value: Predicate | Operand | Inverted) -> Predicate | Operand | Inverted:
    if isinstance(value, Predicate):
        return inverted(value)
    if isinstance(value, Operand):
        return Inverted(value.axes, value.argument, value.source)
    return Operand(value.axes, value.argument, source=value.source)
