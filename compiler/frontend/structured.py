"""linalg operations: the loop nest's body is run once on values, its indexing maps carry the axes in and out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend import recognise_decomposed as decomposed
from npuc.compiler.frontend.axes import AxisError, iteration_axes, result_axes, written_dimensions
from npuc.compiler.frontend.elementwise import elementwise
from npuc.compiler.frontend.recognise_products import contract
from npuc.compiler.frontend.values import Axes, Opaque, OperandProduct, Value, axes_of, with_axes

COMBINERS = {"arith.addf": "sum", "arith.maximumf": "max", "arith.maxnumf": "max", "arith.andi": "and"}


@dataclass(frozen=True)
class Accumulator:
    """An output's element inside the body of a reduction, and what it starts from."""

    initial: Value


@dataclass(frozen=True)
class Combined:
    """accumulator (kind) value, not yet reduced."""

    kind: str
    value: Value
    initial: Value


@dataclass(frozen=True)
class LoopNest:
    """A linalg operation with its indexing maps, inputs first; `reduced`: loop dimensions that no result keeps."""

    operation: Any
    maps: tuple[Any, ...]
    reduced: tuple[int, ...]

    @property
    def dimensions(self) -> int:
        return self.maps[0].n_dims

    @property
    def result_count(self) -> int:
        return len(self.operation.results)


def structured(operation: Any, maps: Sequence[Any], read: Callable[[Any], Value]) -> list[Value]:
    """The results of a linalg operation on tensors; `read` gives the value of an SSA value outside it."""
    count = len(operation.results)
    written = [written_dimensions(map_) for map_ in maps[-count:]]
    reduced = tuple(d for d in range(maps[0].n_dims) if d not in written[0])
    nest = LoopNest(operation, tuple(maps), reduced)
    if any(w != written[0] for w in written) or not _iterators_agree(nest):
        return [Opaque(operation, "its results do not keep the same loop dimensions")] * count
    body = _run_body(nest, read)
    return [_finish(nest, value, map_) for value, map_ in zip(body, nest.maps[-count:], strict=True)]


def _iterators_agree(nest: LoopNest) -> bool:
    """A generic's dimensions that are summed away must be declared reductions."""
    if "iterator_types" not in nest.operation.attributes:
        return True
    kinds = [str(kind) for kind in nest.operation.attributes["iterator_types"]]
    return all("reduction" in kinds[d] for d in nest.reduced)


def _run_body(nest: LoopNest, read: Callable[[Any], Value]) -> list[Any]:
    operation = nest.operation
    block = operation.regions[0].blocks[0]
    first_output = len(operation.operands) - nest.result_count
    local: dict[Any, Any] = {}
    for index, (argument, operand) in enumerate(zip(block.arguments, operation.operands, strict=False)):
        value = read(operand)
        if nest.reduced and index >= first_output:
            local[argument] = Accumulator(value)
        else:
            local[argument] = _into_loops(nest, value, nest.maps[index])

    def inner(value: Any) -> Any:
        return local[value] if value in local else read(value)

    for step in block.operations:
        operands = [inner(value) for value in step.operands]
        if step.name == "linalg.yield":
            return operands
        result = _step(step, operands)
        for value in step.results:
            local[value] = result
    raise AssertionError("a linalg body ends in linalg.yield")


def _into_loops(nest: LoopNest, value: Value, map_: Any) -> Value:
    axes = axes_of(value)
    if axes is None:
        return value
    try:
        return with_axes(value, iteration_axes(axes, map_, nest.dimensions))
    except AxisError as error:
        return Opaque(nest.operation, str(error))


def _step(step: Any, operands: list[Any]) -> Any:
    if not any(isinstance(v, Accumulator | Combined) for v in operands):
        return elementwise(step, operands)
    if step.name in COMBINERS and len(operands) == 2:
        left, right = operands
        if isinstance(right, Accumulator):
            left, right = right, left
        if isinstance(left, Accumulator) and not isinstance(right, Accumulator | Combined):
            return Combined(COMBINERS[step.name], right, left.initial)
    return Opaque(step, "this use of the running value of a reduction is not recognised")


def _finish(nest: LoopNest, value: Any, map_: Any) -> Value:
    """One yielded value, as the tensor the operation results in."""
    operation = nest.operation
    if isinstance(value, Combined):
        value = _reduce(nest, value)
    elif nest.reduced and not isinstance(value, Opaque):
        value = Opaque(operation, "its reduction is no sum, maximum or conjunction")
    if isinstance(value, OperandProduct):
        value = Opaque(operation, "it multiplies two tensors element by element")
    axes = axes_of(value)
    if axes is None:
        return value
    try:
        return with_axes(value, result_axes(axes, map_))
    except AxisError as error:
        return Opaque(operation, str(error))


def _reduce(nest: LoopNest, combined: Combined) -> Value:
    operation, value = nest.operation, combined.value
    if isinstance(value, OperandProduct) and combined.kind == "sum":
        return contract(operation, value, combined.initial, nest.reduced)
    if isinstance(value, Opaque):
        return value
    axes: Axes | None = axes_of(value)
    if axes is None or len(nest.reduced) != 1:
        return Opaque(operation, f"it reduces along {len(nest.reduced)} dimensions what is no row of scores")
    return decomposed.reduce_rows(operation, combined.kind, value, combined.initial, axes[nest.reduced[0]])
