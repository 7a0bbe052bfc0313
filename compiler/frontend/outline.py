"""Attention inside a larger function: where it begins and ends, and a function of its own for it.

The function is executed on the matcher's values as any other, but what no rule understands is taken as a tensor that is
given (a leaf), as an argument is. What leaves the attention (a root) and the leaves under it bound the operations that
are cloned into a function. That function is then recognised as if it had come alone, so nothing is taken on trust here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend.axes import AxisError, argument_axes
from npuc.compiler.frontend.combine_masks import combine_masks
from npuc.compiler.frontend.given import given, problem_of
from npuc.compiler.frontend.interpret import execute
from npuc.compiler.frontend.layouts import layout_of
from npuc.compiler.frontend.nearby import CONSTANTS, contracts, near
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS
from npuc.compiler.frontend.open_lengths import assumptions
from npuc.compiler.frontend.place import Blocked
from npuc.compiler.frontend.print_attn import symbol
from npuc.compiler.frontend.replace import captured, replace_operands
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import (
    Attended,
    Axes,
    Length,
    Opaque,
    Operand,
    Probabilities,
    Scaling,
    Scores,
    Sdpa,
    Splat,
    Value,
)

MOST_READINGS = 8  # of each operation on average, once and again with the layouts that contractions show
MOST_LAYOUTS = 2  # of a leaf
SMALLEST_CONTRACTION = 4  # loop dimensions: with fewer it is a projection, whatever would fit


@dataclass(frozen=True)
class Outlined:
    """name: of the function.  module: holds it alone.  leaves, root: the values of the source that it goes between.

    layouts: those under which it was found, by the number of its arguments.
    """

    name: str
    module: Any
    leaves: tuple[Any, ...]
    root: Any
    layouts: dict[int, Axes]

    @property
    def function(self) -> Any:
        return self.module.body.operations[0].operation


def outlined(name: str, block: Any) -> list[Outlined]:
    """A function for each attention in a block of operations that are lowered; in the order of their results."""
    reading = _read(block)
    combined = combine_masks(reading.values, [reading.operations[place] for place in reading.near])
    taken = frozenset(masks.mask for masks in combined)
    if combined:
        reading = _read(block, taken)
    roots = list(_roots(reading))
    widened = frozenset(value for root in roots for value in _widened(reading.values[root], reading))
    if widened:
        reading = _read(block, taken | widened)
        roots = list(_roots(reading))
    found = []
    for number, root in enumerate(roots):
        cut = _cut(root, reading)
        if cut is not None:
            suffix = f"_{number}" if len(roots) > 1 else ""
            layouts = {n: reading.layouts[m] for n, m in enumerate(cut.numbers) if m in reading.layouts}
            if any(atom.open for axes in layouts.values() for axis in axes for atom in axis):
                layouts = {}  # which have names by the numbers of arguments
            found.append(_function(f"{name}_attention{suffix}", root, cut, layouts))
    for masks in combined:
        masks.undo()
    return found


def _read(block: Any, taken: frozenset[Any] = frozenset()) -> _Reading:
    reading = _Reading(block, taken)
    with assumptions() as reading.equal:
        reading.run()
    return reading


class _Reading:
    """The execution of a block. leaves: their values by number; layouts: of those that are not [B, H, S, D].

    taken: values that are leaves, whatever they are.
    """

    def __init__(self, block: Any, taken: frozenset[Any]) -> None:
        self.taken = taken
        self.operations = [view.operation for view in block.operations]
        self.places = {result: n for n, operation in enumerate(self.operations) for result in operation.results}
        self.near = near(block, self.operations, self.places)
        self.arguments = list(block.arguments)
        self.layouts: dict[int, Axes] = {}
        self.laid: Counter[int] = Counter()
        self.values: dict[Any, Value] = {}
        self.leaves: dict[int, Any] = {}
        self.equal: set[frozenset[str]] = set()
        self._numbers: dict[Any, int] = {}

    def leaf(self, value: Any) -> Value | None:
        """The value as a tensor that is given; None where attention takes no such tensor."""
        if problem_of(value.type) is not None:
            return None
        number = self._numbers.setdefault(value, len(self._numbers))
        self.leaves[number] = value
        return given(number, value.type, self.layouts.get(number))

    def place(self, value: Any) -> tuple[int, int]:
        """Where a value is made: arguments first, in their order, and then results in theirs."""
        if value in self.places:
            return self.places[value], value.result_number if hasattr(value, "result_number") else 0
        return -1, self.arguments.index(value)

    def length_of(self, value: Any, numbers: list[int]) -> tuple[int, int] | None:
        """Of which of the leaves `numbers` a value is the length, by its place among them and the dimension, where it
        is read from another tensor whose length is taken to be the same."""
        known = self.values.get(value)
        name = known.single if isinstance(known, Length) else None
        if name is None or getattr(value.owner, "name", None) != "tensor.dim":
            return None
        same, waiting = {name}, [name]
        while waiting:
            at = waiting.pop()
            more = {other for pair in self.equal if at in pair for other in pair} - same
            same |= more
            waiting += more
        if int(name.partition(".")[0]) in numbers:
            return None
        places = [tuple(map(int, one.split("."))) for one in sorted(same)]
        return next(((numbers.index(number), d) for number, d in places if number in numbers), None)

    def run(self) -> None:
        """From the first operation to the last, and again from a leaf whose layout a contraction shows."""
        self._give_arguments()
        at, budget = 0, MOST_READINGS * len(self.near)
        while at < len(self.near):
            budget -= 1
            operation = self.operations[self.near[at]]
            results = self._results(operation)
            back = self._relaid(operation, results[0]) if budget > 0 and results else None
            if back is not None:
                at = bisect_left(self.near, back)
                continue
            for result, value in zip(operation.results, results, strict=True):
                unknown = isinstance(value, Opaque) and operation.name != "arith.constant"
                is_given = unknown or result in self.taken or self._converts(result, value) or _is_out_of_order(value)
                self.values[result] = (self.leaf(result) if is_given else None) or value
            at += 1

    def read(self, value: Any) -> Value:
        """What a value is; of an operation that is not near an attention it is a leaf, unless it is constant."""
        found = self.values.get(value)
        if found is None:
            operation = self.operations[self.places[value]]
            if operation.name in CONSTANTS:
                self.values.update(zip(operation.results, execute(operation, self.read), strict=True))
            else:
                self.values[value] = self.leaf(value) or Opaque(operation, "no step of attention that is recognised")
            found = self.values[value]
        return found

    def _give_arguments(self) -> None:
        for argument in self.arguments:
            self.values[argument] = self.leaf(argument) or Opaque(
                self.operations[0], "it takes an argument of another kind"
            )

    def _results(self, operation: Any) -> list[Value]:
        """What an operation gives; where it is no step, once more with the steps that it uses as tensors given."""
        try:
            results = execute(operation, self.read)
        except Blocked as blocked:
            return [Opaque(operation, blocked.reason)] * len(operation.results)
        if not results or not isinstance(results[0], Opaque) or results[0].layouts:
            return results
        values = [(operand, self.read(operand)) for operand in operation.operands]
        known = Operand | Scaling | Opaque | Splat | Attended | Sdpa | Probabilities
        ways = [
            [operand for operand, value in values if isinstance(value, Operand) and value.factors],
            [operand for operand, value in values if not isinstance(value, known)],
        ]
        if any(isinstance(value, Scores) for _, value in values):  # which a constant masks
            ways[:0] = [[operand for operand, value in values if _is_constant(value)]]
        for way in ways:
            again = self._with_given(operation, way)
            if again is not None:
                return again
        return results

    def _with_given(self, operation: Any, operands: list[Any]) -> list[Value] | None:
        """What an operation gives of operands as tensors that are given; None where that is no step either."""
        found = {operand: self.leaf(operand) for operand in operands}
        demoted = {operand: leaf for operand, leaf in found.items() if leaf is not None}
        if not demoted:
            return None
        again = execute(operation, lambda value: demoted[value] if value in demoted else self.read(value))
        if isinstance(again[0], Opaque) and not again[0].layouts:
            return None
        self.values.update(demoted)
        return again

    def _converts(self, result: Any, value: Value) -> bool:
        """Whether a result is a leaf rounded to a narrower type: attention takes Q, K and V as it reads them."""
        if not isinstance(value, Operand) or value.argument not in self.leaves:
            return False
        own, other = (t.element_type for t in (result.type, self.leaves[value.argument].type))
        return str(own) in FLOAT_FORMATS and str(other) in FLOAT_FORMATS and own.width < other.width

    def _relaid(self, operation: Any, value: Value) -> int | None:
        """Where to go on from when leaves are laid out as a contraction of attention asks; None where none are."""
        from npuc.compiler.frontend.attributes import indexing_maps

        if not isinstance(value, Opaque) or not value.layouts:
            return None
        maps = indexing_maps(operation) if contracts(operation) else None
        if maps is not None and maps[0].n_dims < SMALLEST_CONTRACTION:
            return None
        changed = {
            number: axes
            for number, axes in value.layouts.items()
            if axes != (self.layouts.get(number) or argument_axes(number, sizes_of(self.leaves[number].type)))
        }
        self.laid.update(changed.keys())
        if not changed or max(self.laid[number] for number in changed) > MOST_LAYOUTS:
            return None
        self.layouts |= changed
        for number in changed:
            self.values.pop(self.leaves[number], None)
        places = [self.places.get(self.leaves[number], -1) for number in changed]
        if min(places) < 0:
            self._give_arguments()
        return max(0, min(places))


def _is_constant(value: Value) -> bool:
    return isinstance(value, Opaque) and getattr(value.operation, "name", None) == "arith.constant"


def _is_out_of_order(value: Value) -> bool:
    """Whether it is an attention's result in an order of elements that no kernel writes."""
    if not isinstance(value, Attended | Sdpa):
        return False
    try:
        layout_of(value.axes)
    except AxisError:
        return True
    return False


def _roots(reading: _Reading) -> Iterator[Any]:
    """Attention results that something else uses."""
    for place in reading.near:
        for result in reading.operations[place].results:
            value = reading.values.get(result)
            if isinstance(value, Attended | Sdpa) and any(_leaves(use.owner, value, reading) for use in result.uses):
                yield result


def _widened(root: Value, reading: _Reading) -> Iterator[Any]:
    """Where Q, K and V are of several types: what leaves of the narrower ones are converted to."""
    assert isinstance(root, Attended | Sdpa)
    if isinstance(root, Sdpa):
        numbers = {root.query, root.key, root.value}
    else:
        numbers = {root.softmax.product.left, root.softmax.product.right, root.value}
    types = {number: reading.leaves[number].type.element_type for number in numbers}
    widest = max(types.values(), key=lambda type_: type_.width)
    narrow = {number for number, type_ in types.items() if type_ != widest}
    for place in reading.near if narrow else ():
        operation = reading.operations[place]
        for result in operation.results:
            value = reading.values.get(result)
            if isinstance(value, Operand) and value.argument in narrow and result.type.element_type == widest:
                narrow.remove(value.argument)
                yield result


def _leaves(user: Any, value: Attended | Sdpa, reading: _Reading) -> bool:
    """Whether a use is no further step of the same attention."""
    results = list(user.results)
    return not results or not all(isinstance(reading.values.get(r), Attended | Sdpa) for r in results)


@dataclass(frozen=True)
class _Cut:
    """numbers: of the leaves under a root.  operations: between, in their order.  lengths: values that are lengths of
    leaves, by the leaf's place among them and the dimension."""

    numbers: list[int]
    leaves: list[Any]
    operations: list[Any]
    lengths: dict[Any, tuple[int, int]]


def _cut(root: Any, reading: _Reading) -> _Cut | None:
    """What is between a root and its leaves; None where it rests on something else."""
    numbers = sorted(_arguments(reading.values[root]), key=lambda number: reading.place(reading.leaves[number]))
    leaves = [reading.leaves[number] for number in numbers]
    stops = set(leaves)
    lengths: dict[Any, tuple[int, int]] = {}
    seen: set[Any] = set()
    found: list[tuple[Any, Any]] = []
    waiting = [root]
    while waiting:
        at = waiting.pop()
        if at in stops or at in seen:
            continue
        seen.add(at)
        length = reading.length_of(at, numbers)
        if length is not None:
            lengths[at] = length
            continue
        owner = at.owner
        if not hasattr(owner, "operands"):  # a block: an argument that has no part in it
            return None
        operation = owner.operation if hasattr(owner, "operation") else owner
        found.append((operation, at))
        waiting += [*operation.operands, *captured(operation)]
    places = {reading.places[value]: operation for operation, value in found}
    return _Cut(numbers, leaves, [places[place] for place in sorted(places)], lengths)


def _arguments(value: Value) -> set[int]:
    assert isinstance(value, Attended | Sdpa)
    scaling = value.scaling if isinstance(value, Sdpa) else value.softmax.scaling
    scale = set() if scaling is None else {scaling.argument}
    if isinstance(value, Sdpa):
        return scale | {n for n in (value.query, value.key, value.value, value.mask) if n is not None}
    product = value.softmax.product
    operand = None if product.masking is None else product.masking.operand
    masks = set() if operand is None else {operand.argument}
    return scale | masks | {product.left, product.right, value.value}


def _function(name: str, root: Any, cut: _Cut, layouts: dict[int, Axes]) -> Outlined:
    """A module with a function of the leaves that does the operations and returns the root."""
    from torch_mlir import ir

    parameters = ", ".join(f"%leaf{n}: {leaf.type}" for n, leaf in enumerate(cut.leaves))
    lengths = "".join(
        f"  %at{n} = arith.constant {dimension} : index\n"
        f"  %length{n} = tensor.dim %leaf{leaf}, %at{n} : {cut.leaves[leaf].type}\n"
        for n, (leaf, dimension) in enumerate(cut.lengths.values())
    )
    text = (
        f"func.func @{symbol(name)}({parameters}) -> {root.type} {{\n{lengths}"
        f'  %place = "npuc.place"() : () -> {root.type}\n  return %place : {root.type}\n}}'
    )
    module = ir.Module.parse(text)
    block = module.body.operations[0].operation.regions[0].blocks[0]
    *made, place, _ = [view.operation for view in block.operations]
    mapped = dict(zip(cut.leaves, block.arguments, strict=True))
    mapped.update(zip(cut.lengths, (length.results[0] for length in made[1::2]), strict=True))
    point = ir.InsertionPoint(place)
    for operation in cut.operations:
        copy = operation.clone(ip=point)
        replace_operands(copy, mapped)
        mapped.update(zip(operation.results, copy.results, strict=True))
    place.results[0].replace_all_uses_with(mapped[root])
    place.erase()
    return Outlined(name, module, tuple(cut.leaves), root, layouts)
