"""linalg operations: the loop nest's body is run once on values, its indexing maps carry the axes in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend import open_lengths, positions
from npuc.compiler.frontend import recognise_decomposed as decomposed
from npuc.compiler.frontend.axes import AxisError, iteration_axes, result_axes
from npuc.compiler.frontend.elementwise import elementwise, scaled, scaling_of
from npuc.compiler.frontend.loop_nest import LoopNest, NestError, loop_nest
from npuc.compiler.frontend.recognise_products import contract
from npuc.compiler.frontend.values import Atom, Axis, Empty, Opaque, OperandProduct, Value, axes_of, describe, moved

COMBINERS = {
    "arith.addf": "sum",
    "arith.maximumf": "max",
    "arith.maxnumf": "max",
    "arith.andi": "and",
    "arith.ori": "or",
}


@dataclass(frozen=True)
class Accumulator:
    """The element of result `number` inside the body of a reduction, and what it starts from."""

    number: int
    initial: Value


@dataclass(frozen=True)
class Combined:
    """accumulator (kind) value, not yet reduced."""

    kind: str
    value: Value
    accumulator: Accumulator


def structured(operation: Any, maps: Sequence[Any], read: Callable[[Any], Value]) -> list[Value]:
    """The results of a linalg operation on tensors; `read` gives the value of an SSA value outside it."""
    try:
        nest = loop_nest(operation, maps)
    except NestError as error:
        return [Opaque(operation, str(error))] * len(operation.results)
    body = _run_body(nest, read)
    return [_finish(nest, number, value) for number, value in enumerate(body)]


def _run_body(nest: LoopNest, read: Callable[[Any], Value]) -> list[Any]:
    operation = nest.operation
    block = operation.regions[0].blocks[0]
    local: dict[Any, Any] = {}
    loops = positions.loops(nest.extents, _open_lengths(nest, read))

    def known(step: Any, value: Any) -> Any:
        return local[value] if value in local else _from_outside(step, read(value))

    for index, (argument, operand) in enumerate(zip(block.arguments, operation.operands, strict=True)):
        value = read(operand)
        if nest.reduced and index >= nest.first_output:
            local[argument] = Accumulator(index - nest.first_output, value)
        else:
            local[argument] = _into_loops(nest, value, nest.maps[index])

    for step in block.operations:
        if step.name == "tensor.dim":
            local[step.results[0]] = open_lengths.dim(
                step, lambda value: local[value] if value in local else read(value)
            )
            continue
        if step.name == "tensor.extract" and step.operands[0] not in local:
            indices = [known(step, value) for value in list(step.operands)[1:]]
            local[step.results[0]] = open_lengths.extract(step, read(step.operands[0]), indices, loops)
            continue
        operands = [known(step, value) for value in step.operands]
        if step.name == "linalg.yield":
            return operands
        result = _step(nest, loops, step, operands)
        for value in step.results:
            local[value] = result
    raise AssertionError("a linalg body ends in linalg.yield")


def _open_lengths(nest: LoopNest, read: Callable[[Any], Value]) -> list[str | None]:
    """Which open lengths the loop dimensions have; those that meet in one are taken to be equal."""
    from torch_mlir import ir

    found: list[str | None] = [None] * nest.dimensions
    if None not in nest.extents:
        return found
    for operand, map_ in zip(nest.operation.operands, nest.maps, strict=True):
        value = read(operand)
        names = value.open if isinstance(value, Empty) else [_open_of(axis) for axis in axes_of(value) or ()]
        for name, expression in zip(names, map_.results, strict=False):
            if name is not None and isinstance(expression, ir.AffineDimExpr):
                known = found[expression.position]
                open_lengths.assume(known, name)
                found[expression.position] = known or name
    return found


def _open_of(axis: Axis) -> str | None:
    return axis[0].open if len(axis) == 1 else None


def _from_outside(step: Any, value: Value) -> Value:
    """What the body reads without an indexing map: only constants, as the axes of a tensor are not those of loops."""
    if isinstance(value, Opaque) or axes_of(value) is None:
        return value
    return Opaque(step, "it uses a whole tensor in the body of an operation")


def _into_loops(nest: LoopNest, value: Value, map_: Any) -> Value:
    found: Value
    try:
        found = moved(value, lambda axes: iteration_axes(axes, map_, nest.dimensions))
        return found
    except AxisError as error:
        return Opaque(nest.operation, str(error), error.remedy)


def _step(nest: LoopNest, loops: Sequence[Atom], step: Any, operands: list[Any]) -> Any:
    if step.name == "linalg.index":
        return positions.index(step.attributes["dim"].value, loops)
    if is_scalar_box(step):
        return operands[0]
    if not any(isinstance(v, Accumulator | Combined) for v in operands):
        return elementwise(step, operands)
    if step.name in COMBINERS and len(operands) == 2:
        left, right = operands
        if isinstance(right, Accumulator):
            left, right = right, left
        if isinstance(left, Accumulator) and not isinstance(right, Accumulator | Combined):
            return Combined(COMBINERS[step.name], right, left)
    return Opaque(step, "this use of the running value of a reduction is not recognised")


def is_scalar_box(step: Any) -> bool:
    """Whether an operation makes a tensor without dimensions of one scalar, or takes it out again."""
    boxed = {"tensor.from_elements": step.results, "tensor.extract": step.operands}.get(step.name)
    return boxed is not None and len(step.operands) == 1 and boxed[0].type.rank == 0


def _finish(nest: LoopNest, number: int, value: Any) -> Value:
    """One yielded value, as the tensor that result `number` is."""
    operation = nest.operation
    if isinstance(value, Combined):
        value = _reduce(nest, number, value)
    elif nest.reduced and not isinstance(value, Opaque):
        value = Opaque(operation, "its reduction is no sum, maximum or conjunction")
    if isinstance(value, OperandProduct):
        value = element_by_element(operation, value)
    found: Value = moved(value, lambda axes: result_axes(axes, nest.maps[nest.first_output + number]))
    return found


def element_by_element(operation: Any, product: OperandProduct) -> Value:
    """A product that is not summed: a tensor times an argument of one element; others are refused."""
    for value, other in ((product.left, product.right), (product.right, product.left)):
        by = scaling_of(other)
        found = scaled(operation, value, by) if by is not None and any(value.axes) else None
        if found is not None:
            return found
    factors = f"{describe(product.left)} and {describe(product.right)}"
    return Opaque(operation, f"it multiplies two tensors element by element: {factors}")


def _reduce(nest: LoopNest, number: int, combined: Combined) -> Value:
    operation, value = nest.operation, combined.value
    if combined.accumulator.number != number:
        return Opaque(operation, f"its result {number} is made from the running value of another result")
    initial = combined.accumulator.initial
    if isinstance(initial, Opaque):
        return initial
    if isinstance(value, OperandProduct) and combined.kind == "sum":
        return contract(operation, value, initial, nest.reduced)
    if isinstance(value, Opaque):
        return value
    if len(nest.reduced) != 1:
        what = f"it takes the {combined.kind} of {describe(value)} along {len(nest.reduced)} dimensions"
        return Opaque(operation, what)
    return decomposed.reduce_rows(operation, combined.kind, value, initial, nest.reduced[0])
