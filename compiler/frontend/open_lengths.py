"""Lengths that are open (`?`): what the source computes from them, and which of them it takes to be equal.

An exported program reads lengths from its arguments, computes shapes from them, and copies tensors into these with
element-wise reads. Where such a copy is one only if two lengths are equal, that is noted (`assume`), and becomes a
condition of the whole attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from npuc.compiler.frontend.axes import AxisError, divided, joined, label, merged, take
from npuc.compiler.frontend.constants import element_type
from npuc.compiler.frontend.number_formats import integer_width
from npuc.compiler.frontend.positions import LONGEST, affine
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import (
    Affine,
    Atom,
    Axis,
    Conjunction,
    Empty,
    Length,
    LengthTest,
    Opaque,
    Positions,
    Shape,
    Splat,
    Value,
    axes_of,
    with_axes,
)

Read = Callable[[Any], Value]
Pairs = "set[frozenset[str]]"
_equal: ContextVar[Any] = ContextVar("equal lengths")

DIVISIONS = ("arith.divsi", "arith.divui")
_EQUAL, _UNEQUAL = 0, 1
# arith's CmpIPredicate by number: whether it holds for a difference that is below zero, zero, above zero.
_HOLDS = {0: (False, True, False), 1: (True, False, True), 2: (True, False, False), 3: (True, True, False),
          4: (False, False, True), 5: (False, True, True)}  # fmt: skip
_SIGNED_OF = {6: 2, 7: 3, 8: 4, 9: 5}  # lengths are not below zero


@contextmanager
def assumptions() -> Iterator[set[frozenset[str]]]:
    """Pairs of dimensions ("0.2" and "1.2") whose lengths are taken to be equal inside."""
    pairs: set[frozenset[str]] = set()
    token = _equal.set(pairs)
    try:
        yield pairs
    finally:
        _equal.reset(token)


def assume(left: str | None, right: str | None) -> bool:
    """Whether two open lengths are equal: they are the same, or it is noted that they must be."""
    if left is None or right is None:
        return False
    if left != right:
        _equal.get().add(frozenset((left, right)))
    return True


def length(symbol: str, type_: str = "index") -> Length:
    return Length(affine({symbol: 1}, 0), type_)


def dim(operation: Any, read: Read) -> Value:
    """tensor.dim."""
    number = read(operation.operands[1])
    sizes = sizes_of(operation.operands[0].type)
    if not isinstance(number, Splat) or not 0 <= number.value < len(sizes):
        return Opaque(operation, "it asks for the length of a dimension that is not known")
    place = int(number.value)
    size = sizes[place]
    if size is not None:
        return Splat(size, "index")
    tensor = read(operation.operands[0])
    axes = axes_of(tensor)
    if axes is not None and len(axes[place]) == 1 and axes[place][0].open is not None:
        return length(axes[place][0].open or "")
    if isinstance(tensor, Empty) and len(tensor.open) > place and tensor.open[place] is not None:
        return length(tensor.open[place] or "")
    return Opaque(operation, "it asks for a length that is not followed")


def empty(operation: Any, read: Read) -> Value:
    """tensor.empty."""
    given = iter([read(operand) for operand in operation.operands])
    found = [next(given) if size is None else None for size in sizes_of(operation.results[0].type)]
    return Empty(tuple(value.single if isinstance(value, Length) else None for value in found))


# --- arithmetic -----------------------------------------------------------------------------------------------------
def arithmetic(operation: Any, operands: Sequence[Value]) -> Value | None:
    """addi, subi, muli, division, index_cast, extsi, extui, trunci of lengths; None where the result is not exact."""
    forms = _forms(operands)
    type_ = element_type(operation.results[0].type)
    width = integer_width(type_)
    if forms is None or width is None:
        return None
    if len(forms) == 1:
        (form,) = forms
    elif operation.name == "arith.muli":
        if all(f.terms for f in forms):
            return None
        factor = next(f.constant for f in forms if not f.terms)
        other = next((f for f in forms if f.terms), forms[0])
        form = affine({name: n * factor for name, n in other.terms}, other.constant * factor)
    elif operation.name in DIVISIONS:
        by = forms[1].constant
        parts = [forms[0].constant, *(n for _, n in forms[0].terms)]
        if forms[1].terms or by <= 0 or min(_range(forms[0])) < 0 or any(n % by for n in parts):
            return None
        form = affine({name: n // by for name, n in forms[0].terms}, forms[0].constant // by)
    else:
        form = _sum(forms[0], forms[1], 1 if operation.name == "arith.addi" else -1)
    low, high = _range(form)
    if not -(1 << width - 1) <= low <= high < 1 << width - 1 or (low < 0 and "ui" in operation.name[-6:]):
        return None
    return Length(form, type_) if form.terms else Splat(form.constant, type_)


def compare(operation: Any, operands: Sequence[Value]) -> Value | None:
    """cmpi of lengths: a number where it always or never holds, a test where it is equality."""
    forms = _forms(operands)
    if forms is None:
        return None
    predicate = operation.attributes["predicate"].value
    if predicate in _SIGNED_OF and min(_range(form)[0] for form in forms) < 0:
        return None
    form = _sum(forms[0], forms[1], -1)
    low, high = _range(form)
    possible = {sign for sign, there in enumerate((low < 0, low <= 0 <= high, high > 0)) if there}
    if not form.terms:
        possible = {1 + (form.constant > 0) - (form.constant < 0)}
    holds = {_HOLDS[_SIGNED_OF.get(predicate, predicate)][sign] for sign in possible}
    if len(holds) == 1:
        return Splat(-int(holds.pop()), "i1")
    return LengthTest(form) if predicate == _EQUAL else None


def select(condition: Value, left: Value, right: Value) -> Value | None:
    """A choice by lengths: index 0 of one element, and otherwise the index itself."""
    if isinstance(condition, Splat):
        return left if condition.value else right
    if not isinstance(condition, LengthTest) or not isinstance(left, Splat) or left.value != 0:
        return None
    tested = _is_one(condition.form)
    if tested is None or not isinstance(right, Positions) or len(right.form.terms) != 1 or right.form.constant:
        return None
    (name, factor), *_ = right.form.terms
    atoms = [atom for axis in right.axes for atom in axis if atom.label == name]
    if factor == 1 and len(atoms) == 1 and assume(atoms[0].open, tested):
        return right
    return None


def asserted(value: Value) -> bool:
    """Whether an assertion is one of lengths; what it says of equal ones is noted."""
    if isinstance(value, LengthTest) and value.form.constant == 0 and len(value.form.terms) == 2:
        (left, n), (right, m) = value.form.terms
        if n == -m and abs(n) == 1:
            assume(left, right)
    return isinstance(value, LengthTest) or (isinstance(value, Splat) and bool(value.value))


def _is_one(form: Affine) -> str | None:
    """The length of which a form is zero where it is one."""
    if len(form.terms) == 1 and abs(form.terms[0][1]) == 1 and form.constant == -form.terms[0][1]:
        return form.terms[0][0]
    return None


def _forms(operands: Sequence[Value]) -> list[Affine] | None:
    if not any(isinstance(value, Length) for value in operands):
        return None
    forms = []
    for value in operands:
        if isinstance(value, Length):
            forms.append(value.form)
        elif isinstance(value, Splat) and isinstance(value.value, int):
            forms.append(affine({}, value.value))
        else:
            return None
    return forms


def _sum(left: Affine, right: Affine, times: int) -> Affine:
    terms = dict(left.terms)
    for name, n in right.terms:
        terms[name] = terms.get(name, 0) + times * n
    return affine(terms, left.constant + times * right.constant)


def _range(form: Affine) -> tuple[int, int]:
    """Each length is from one to LONGEST - 1."""
    ends = [sorted((n, n * (LONGEST - 1))) for _, n in form.terms]
    return form.constant + sum(low for low, _ in ends), form.constant + sum(high for _, high in ends)


# --- tensors --------------------------------------------------------------------------------------------------------
def from_elements(operation: Any, read: Read) -> Value:
    """tensor.from_elements of integers: a shape."""
    if operation.results[0].type.rank != 1:
        return Opaque(operation, "no step of attention that is recognised")
    return Shape(tuple(read(operand) for operand in operation.operands))


def reshape(operation: Any, read: Read) -> Value:
    """tensor.reshape."""
    value, shape = read(operation.operands[0]), read(operation.operands[1])
    axes = axes_of(value)
    if axes is None or isinstance(value, Opaque):
        return value
    if isinstance(value, Conjunction):
        return Opaque(operation, "it reshapes an argument and a comparison of positions together")
    if not isinstance(shape, Shape):
        return shape if isinstance(shape, Opaque) else Opaque(operation, "it reshapes to a shape that is not followed")
    sizes = [_size(entry) for entry in shape.sizes]
    if None in sizes:
        return Opaque(operation, "it reshapes to a shape that is not followed")
    try:
        whole = joined(axes, sizes_of(operation.operands[0].type))
        parts = _divided(whole, [size for size in sizes if size is not None])
    except AxisError as error:
        return Opaque(operation, str(error), error.remedy)
    for part, size in zip(parts, sizes, strict=True):
        if isinstance(size, _Multiple):
            if not part:
                return Opaque(operation, "it reshapes to lengths that may be others")
            name = next(atom.open for atom in part if atom.extent is None)
            if name != size.name and not assume(name, size.name):
                return Opaque(operation, "it reshapes to lengths that are not followed")
    return with_axes(value, tuple(parts))


class _Multiple(NamedTuple):
    """An open length, times a number."""

    name: str
    factor: int


def _size(value: Value) -> int | _Multiple | None:
    if isinstance(value, Splat):
        return int(value.value)
    if not isinstance(value, Length) or value.form.constant or len(value.form.terms) != 1:
        return None
    ((name, factor),) = value.form.terms
    return _Multiple(name, factor) if factor > 0 else None


def _divided(axis: Axis, sizes: Sequence[int | _Multiple]) -> list[Axis]:
    """An axis as several dimensions. Raises AxisError where digits do not fall into them."""
    if not any(isinstance(size, _Multiple) and size.factor > 1 for size in sizes) or not axis:
        return divided(axis, [size if isinstance(size, int) else None for size in sizes])
    atoms, parts = list(axis), []
    for size in sizes:
        parts.append(merged(_multiple(atoms, size, axis) if isinstance(size, _Multiple) else take(atoms, size, axis)))
    if atoms:
        raise AxisError("it splits an axis of open length")
    return parts


def _multiple(atoms: list[Atom], size: _Multiple, axis: Axis) -> list[Atom]:
    """Remove from the front of `atoms` an open digit and others that make its factor."""
    found: list[Atom] = []
    known, is_open = 1, False
    while known != size.factor or not is_open:
        if not atoms or (is_open and atoms[0].extent is None):
            raise AxisError(f"it splits the axis {label(axis)} of open length")
        atom = atoms.pop(0)
        is_open = is_open or atom.extent is None
        known *= 1 if atom.extent is None else atom.extent
        found.append(atom)
    return found


def extract(operation: Any, tensor: Value, indices: Sequence[Value], loops: Sequence[Atom]) -> Value:
    """tensor.extract in a loop nest of `positions.loops`: the tensor over the loops, where it is all of it.

    indices: positions, or 0 along dimensions of one element.
    """
    axes = axes_of(tensor)
    if axes is None or isinstance(tensor, Opaque):
        return tensor
    if isinstance(tensor, Conjunction):
        return Opaque(operation, "it reads an argument and a comparison of positions together")
    found: list[Axis] = [()] * len(loops)
    used: set[int] = set()
    for size, axis, index in zip(sizes_of(operation.operands[0].type), axes, indices, strict=True):
        if isinstance(index, Splat) and index.value == 0 and (size == 1 or not axis):
            continue
        place = _loop_of(index)
        if place is None or place in used:
            return Opaque(operation, "it reads elements of a tensor in another order than they are in")
        used.add(place)
        loop = loops[place]
        same = loop.extent == size if size is not None and loop.extent is not None else size == loop.extent
        if axis and not (same and (size is not None or assume(axis[0].open, loop.open))):
            return Opaque(operation, "it reads a part of a tensor")
        if not axis and size is not None and loop.extent is not None and loop.extent > size:
            return Opaque(operation, "it reads beyond a tensor")
        found[place] = axis
    return with_axes(tensor, tuple(found))


def _loop_of(index: Value) -> int | None:
    """The loop whose coordinate an index is, by where its axis lies: labels of positions that come into the nest are
    those of the nest that made them."""
    if not isinstance(index, Positions) or index.form.constant or len(index.form.terms) != 1:
        return None
    (name, factor), *_ = index.form.terms
    places = [n for n, axis in enumerate(index.axes) if [atom.label for atom in axis] == [name]]
    return places[0] if factor == 1 and len(places) == 1 else None
