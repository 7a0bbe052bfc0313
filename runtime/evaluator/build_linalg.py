"""Nodes of linalg operations, and of other bodies that are run for every element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from npuc.compiler.frontend.attributes import indexing_maps
from npuc.runtime.evaluator.access import Access
from npuc.runtime.evaluator.affine import AffineMap, Dimension, read_map
from npuc.runtime.evaluator.arithmetic import FUNCTIONS
from npuc.runtime.evaluator.body import Affine, Asserted, Body, Compute, Gather, Input, Outer, Position, Running, Value
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Node, Origin, Splat, Uninitialised
from npuc.runtime.evaluator.softmax import Softmax
from npuc.runtime.evaluator.structured import Nest, StructuredResult


def structured(builder: Builder, operation: Any) -> list[Node]:
    """The results of a linalg operation that has indexing maps. Raises InputError where it has none."""
    origin = builder.origin(operation)
    maps = indexing_maps(operation)
    results = len(operation.results)
    if maps is None or not results:
        raise origin.error("the evaluator has no rule for it")
    operands = [Access(node, read_map(map_)) for node, map_ in zip(builder.operands(operation), maps, strict=True)]
    inputs, inits = operands[:-results], operands[-results:]
    arguments: list[Value] = [Input(i) for i in range(len(inputs))]
    arguments += [Running(k) for k in range(results)]
    body = body_of(builder, operation.regions[0].blocks[0], arguments)
    extents = _extents(origin, operands)
    nest = Nest(origin, extents, _parallel(operation, inits, len(extents)), tuple(inputs), tuple(inits), body)
    return [_result(nest, k) for k in range(results)]


def _result(nest: Nest, k: int) -> Node:
    """The result; where it is one scalar everywhere, as that."""
    leaf, init = nest.body.values[nest.body.yields[k]], nest.inits[k].node
    scalar = nest.inputs[leaf.operand].node if isinstance(leaf, Input) else getattr(leaf, "node", None)
    if isinstance(leaf, Input | Outer) and scalar is not None and not scalar.shape and not nest.folded(k):
        if nest.outputs[k].covers(init.shape) and 0 not in nest.extents:
            return Splat(nest.origin, scalar, init.shape)
    return StructuredResult(nest, k)


def _extents(origin: Origin, operands: Sequence[Access]) -> tuple[int, ...]:
    found: dict[int, int] = {}
    for access in operands:
        for expression, size in zip(access.map.results, access.node.shape, strict=True):
            if isinstance(expression, Dimension) and found.setdefault(expression.position, size) != size:
                d = expression.position
                raise origin.error(f"its operands give loop dimension {d} the lengths {found[d]} and {size}")
    rank = operands[0].map.dimensions
    if len(found) != rank:
        raise origin.error("the length of one of its loop dimensions follows from no operand")
    return tuple(found[d] for d in range(rank))


def _parallel(operation: Any, inits: Sequence[Access], rank: int) -> tuple[bool, ...]:
    if "iterator_types" in operation.attributes:
        return tuple("parallel" in str(kind) for kind in operation.attributes["iterator_types"])
    written = frozenset().union(*(init.dimensions for init in inits))
    return tuple(d in written for d in range(rank))


def softmax(builder: Builder, operation: Any) -> list[Node]:
    operand = builder.operands(operation)[0]
    return [Softmax(builder.origin(operation), operand, operation.attributes["dimension"].value)]


def generated(builder: Builder, operation: Any, shape: Sequence[int]) -> Node:
    """A tensor whose elements a region computes from their indices. Raises InputError."""
    type_, _ = builder.known_type(operation, operation.results[0].type)
    origin, rank = builder.origin(operation), len(shape)
    body = body_of(builder, operation.regions[0].blocks[0], [Position(d) for d in range(rank)])
    identity = AffineMap(rank, tuple(map(Dimension, range(rank))))
    storage = Access(Uninitialised(origin, type_, shape, True), identity)
    return _result(Nest(origin, tuple(shape), (True,) * rank, (), (storage,), body), 0)


def body_of(builder: Builder, block: Any, arguments: Sequence[Value]) -> Body:
    """The operations of a region's only block. Raises InputError for those without a rule."""
    values: list[Value] = []
    numbers: dict[Any, int] = {}
    asserted: list[tuple[Origin, str, int]] = []

    def add(value: Value) -> int:
        values.append(value)
        return len(values) - 1

    def number(value: Any) -> int:
        if value not in numbers:
            numbers[value] = add(Outer(_scalar(builder, block, value)))
        return numbers[value]

    # Bodies written in the short form of linalg.map may have no arguments for the results.
    for argument, value in zip(block.arguments, arguments, strict=False):
        numbers[argument] = add(value)
    for step in block.operations:
        operation = step.operation
        if operation.name in ("linalg.yield", "tensor.yield"):
            yields = [number(operand) for operand in operation.operands]
            for origin, message, holds in asserted:
                yields = [add(Asserted(origin, message, (y, holds))) for y in yields]
            return Body(tuple(values), tuple(yields))
        if operation.name == "cf.assert":
            message = operation.attributes["msg"].value
            asserted.append((builder.origin(operation), message, number(operation.operands[0])))
            continue
        alias = _alias(operation, numbers)
        if alias is not None:
            numbers[operation.results[0]] = number(alias)
        elif operation.name == "tensor.dim":
            numbers[operation.results[0]] = add(Outer(_dim(builder, operation)))
        else:
            operands = list(operation.operands)[1 if operation.name == "tensor.extract" else 0 :]
            step = _step(builder, operation, tuple(map(number, operands)))
            numbers[operation.results[0]] = add(step)
    raise AssertionError("a body ends in a yield")


def _alias(operation: Any, numbers: Mapping[Any, int]) -> Any:
    """The value that an operation gives back: elements put into tensors of one element, and taken out again."""
    if operation.name == "tensor.from_elements" and len(operation.operands) == 1:
        return operation.operands[0]
    if operation.name == "tensor.extract" and operation.operands[0] in numbers:
        return operation.operands[0]
    return None


def _dim(builder: Builder, operation: Any) -> Node:
    from npuc.runtime.evaluator.rules import RULES

    (node,) = RULES["tensor.dim"](builder, operation)
    return node


def _scalar(builder: Builder, block: Any, value: Any) -> Node:
    node = builder.values[value]
    if node.shape:
        raise builder.origin(block.owner).error("its body uses a whole tensor")
    return node


def _step(builder: Builder, operation: Any, operands: tuple[int, ...]) -> Value:
    origin, name = builder.origin(operation), operation.name
    if name == "arith.constant":
        return Outer(builder.constant(operation))
    if name == "linalg.index":
        return Position(operation.attributes["dim"].value)
    if name == "tensor.extract":
        return Gather(origin, builder.values[operation.operands[0]], operands)
    if name == "affine.apply":
        map_ = read_map(operation.attributes["map"].value)
        return Affine(origin, map_.results[0], map_.dimensions, operands)
    if name in FUNCTIONS and len(operation.results) == 1:
        return Compute(origin, name, FUNCTIONS[name], builder.signature(operation), operands)
    raise origin.error("the evaluator has no rule for it")
