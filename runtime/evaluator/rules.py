"""The operations that have rules of their own: builders of their results by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from npuc.compiler.dialects.attn import SDPA
from npuc.runtime.evaluator import build_attention, schedule
from npuc.runtime.evaluator.affine import evaluate, read_map
from npuc.runtime.evaluator.build import MOST_ITERATIONS, Builder, Rule
from npuc.runtime.evaluator.build_linalg import generated, softmax
from npuc.runtime.evaluator.nodes import Node, Splat, Uninitialised
from npuc.runtime.evaluator.scan import scan
from npuc.runtime.evaluator.scatter import scatter
from npuc.runtime.evaluator.tensors import Assembled, Box, FromElements, Reshape, Scalar, Slice, check_slice


def _constant(builder: Builder, operation: Any) -> list[Node]:
    return [builder.constant(operation)]


def _empty(builder: Builder, operation: Any) -> list[Node]:
    type_, _ = builder.known_type(operation, operation.results[0].type)
    return [Uninitialised(builder.origin(operation), type_, builder.shape(operation, operation.operands), True)]


def _splat(builder: Builder, operation: Any) -> list[Node]:
    scalar, *_ = builder.operands(operation)
    return [Splat(builder.origin(operation), scalar, builder.shape(operation, list(operation.operands)[1:]))]


def _from_elements(builder: Builder, operation: Any) -> list[Node]:
    type_, shape = builder.known_type(operation, operation.results[0].type)
    return [FromElements(builder.origin(operation), shape, builder.operands(operation), type_)]


def _generate(builder: Builder, operation: Any) -> list[Node]:
    return [generated(builder, operation, builder.shape(operation, operation.operands))]


def _cast(builder: Builder, operation: Any) -> list[Node]:
    (node,) = builder.operands(operation)
    _, shape = builder.known_type(operation, operation.results[0].type)
    if any(want not in (-1, have) for want, have in zip(shape, node.shape, strict=True)):
        raise builder.origin(operation).error(f"it casts a tensor of shape {list(node.shape)} to {list(shape)}")
    return [node]


def _dim(builder: Builder, operation: Any) -> list[Node]:
    shape = builder.values[operation.operands[0]].shape
    index = builder.integer(operation.operands[1])
    if not 0 <= index < len(shape):
        raise builder.origin(operation).error(f"there is no dimension {index} of {len(shape)}")
    return [builder.number(operation, shape[index])]


def _rank(builder: Builder, operation: Any) -> list[Node]:
    return [builder.number(operation, len(builder.operands(operation)[0].shape))]


# --- parts of tensors ---------------------------------------------------------------------------------------------
def _extract(builder: Builder, operation: Any) -> list[Node]:
    source, origin = builder.values[operation.operands[0]], builder.origin(operation)
    indices = [builder.integer(operand) for operand in list(operation.operands)[1:]]
    for d, (index, size) in enumerate(zip(indices, source.shape, strict=True)):
        check_slice(origin, d, (index, 1, 1), size)
    return [Scalar(origin, source, indices)]


def _walk(builder: Builder, operation: Any, dynamic: list[Any]) -> tuple[list[int], list[int], list[int]]:
    """Offsets, sizes and strides of a slice."""
    names = ("static_offsets", "static_sizes", "static_strides")
    offsets, sizes, strides = (builder.mixed(operation, name, dynamic) for name in names)
    return offsets, sizes, strides


def kept_dimensions(sizes: Sequence[int], shape: Sequence[int]) -> list[int] | None:
    """Which dimensions of a slice a tensor of lower rank keeps; shape: -1 for lengths that are not known."""
    kept: list[int] = []
    for d, size in enumerate(sizes):
        if len(kept) < len(shape) and shape[len(kept)] in (-1, size):
            kept.append(d)
        elif size != 1:
            return None
    return kept if len(kept) == len(shape) else None


def _extract_slice(builder: Builder, operation: Any) -> list[Node]:
    source, origin = builder.values[operation.operands[0]], builder.origin(operation)
    offsets, sizes, strides = _walk(builder, operation, list(operation.operands)[1:])
    _, shape = builder.known_type(operation, operation.results[0].type)
    kept = kept_dimensions(sizes, shape)
    if kept is None:
        raise origin.error(f"a slice of {sizes} is no tensor of {list(shape)}")
    return [Slice(origin, source, offsets, sizes, strides, kept)]


def _insert_slice(builder: Builder, operation: Any) -> list[Node]:
    source, ground = builder.operands(operation)[:2]
    origin = builder.origin(operation)
    offsets, sizes, strides = _walk(builder, operation, list(operation.operands)[2:])
    kept = kept_dimensions(sizes, source.shape)
    if kept is None or min(strides, default=1) < 1:
        raise origin.error(f"a tensor of {list(source.shape)} is not put into a slice of {sizes}, steps {strides}")
    for d, slice_ in enumerate(zip(offsets, sizes, strides, strict=True)):
        check_slice(origin, d, slice_, ground.shape[d])
    return [Assembled(origin, ground.shape, [Box(source, offsets, sizes, strides, kept)], ground)]


def _insert(builder: Builder, operation: Any) -> list[Node]:
    scalar, ground = builder.operands(operation)[:2]
    origin = builder.origin(operation)
    at = [builder.integer(operand) for operand in list(operation.operands)[2:]]
    for d, index in enumerate(at):
        check_slice(origin, d, (index, 1, 1), ground.shape[d])
    ones = [1] * len(at)
    return [Assembled(origin, ground.shape, [Box(scalar, at, ones, ones, ())], ground)]


def _concat(builder: Builder, operation: Any) -> list[Node]:
    dim, nodes = operation.attributes["dim"].value, builder.operands(operation)
    boxes, offset = [], 0
    for node in nodes:
        rank = len(node.shape)
        offsets = [offset if d == dim else 0 for d in range(rank)]
        boxes.append(Box(node, offsets, node.shape, [1] * rank, range(rank)))
        offset += node.shape[dim]
    shape = [offset if d == dim else size for d, size in enumerate(nodes[0].shape)]
    return [Assembled(builder.origin(operation), shape, boxes, None)]


def _pad(builder: Builder, operation: Any) -> list[Node]:
    source, origin = builder.values[operation.operands[0]], builder.origin(operation)
    dynamic = list(operation.operands)[1:]
    low = builder.mixed(operation, "static_low", dynamic)
    high = builder.mixed(operation, "static_high", dynamic)
    shape = [before + size + after for before, size, after in zip(low, source.shape, high, strict=True)]
    if min((*low, *high, *shape), default=0) < 0:
        raise origin.error(f"it pads by {low} and {high}")
    rank = len(shape)
    box = Box(source, low, source.shape, [1] * rank, range(rank))
    return [Assembled(origin, shape, [box], generated(builder, operation, shape))]


# --- shapes -------------------------------------------------------------------------------------------------------
def _reshaped(builder: Builder, operation: Any, source: Node, shape: Sequence[int]) -> list[Node]:
    import math

    if math.prod(shape) != math.prod(source.shape) or min(shape, default=0) < 0:
        raise builder.origin(operation).error(f"a tensor of {list(source.shape)} does not become {list(shape)}")
    return [Reshape(builder.origin(operation), source, shape)]


def _collapse(builder: Builder, operation: Any) -> list[Node]:
    import math

    (source,) = builder.operands(operation)
    groups = [[dimension.value for dimension in group] for group in operation.attributes["reassociation"]]
    return _reshaped(builder, operation, source, [math.prod(source.shape[d] for d in group) for group in groups])


def _expand(builder: Builder, operation: Any) -> list[Node]:
    source = builder.values[operation.operands[0]]
    shape = builder.mixed(operation, "static_output_shape", list(operation.operands)[1:])
    return _reshaped(builder, operation, source, shape)


def _reshape(builder: Builder, operation: Any) -> list[Node]:
    source, shape = builder.operands(operation)
    return _reshaped(builder, operation, source, [int(n) for n in schedule.evaluate(shape)])


def _affine_apply(builder: Builder, operation: Any) -> list[Node]:
    map_ = read_map(operation.attributes["map"].value)
    numbers = [builder.integer(operand) for operand in operation.operands]
    try:
        value = evaluate(map_.results[0], numbers[: map_.dimensions], numbers[map_.dimensions :])
    except ZeroDivisionError as error:
        raise builder.origin(operation).error(str(error)) from None
    return [builder.number(operation, int(value))]


# --- control flow -------------------------------------------------------------------------------------------------
def _if(builder: Builder, operation: Any) -> list[Node]:
    taken = operation.regions[0 if builder.integer(operation.operands[0]) else 1]
    return builder.block(taken.blocks[0], []) if len(taken.blocks) else []


def _for(builder: Builder, operation: Any) -> list[Node]:
    first, end, step = (builder.integer(operand) for operand in list(operation.operands)[:3])
    if step < 1 or end - first > MOST_ITERATIONS * step:
        raise builder.origin(operation).error(f"a loop from {first} to {end} by {step} is not unrolled")
    carried = builder.operands(operation)[3:]
    index, *_ = operation.regions[0].blocks[0].arguments
    type_, _ = builder.known_type(operation, index.type)
    for i in range(first, end, step):
        carried = builder.block(operation.regions[0].blocks[0], [builder.number(operation, i, type_), *carried])
    return carried


def _assert(builder: Builder, operation: Any) -> list[Node]:
    if not builder.integer(operation.operands[0]):
        raise builder.origin(operation).error(f"does not hold: {operation.attributes['msg'].value}")
    return []


def _call(builder: Builder, operation: Any) -> list[Node]:
    return builder.call(operation)


RULES: dict[str, Rule] = {
    "arith.constant": _constant,
    "tensor.empty": _empty,
    "tensor.splat": _splat,
    "tensor.from_elements": _from_elements,
    "tensor.generate": _generate,
    "tensor.cast": _cast,
    "tensor.dim": _dim,
    "tensor.rank": _rank,
    "tensor.extract": _extract,
    "tensor.extract_slice": _extract_slice,
    "tensor.insert": _insert,
    "tensor.insert_slice": _insert_slice,
    "tensor.concat": _concat,
    "tensor.pad": _pad,
    "tensor.collapse_shape": _collapse,
    "tensor.expand_shape": _expand,
    "tensor.reshape": _reshape,
    "affine.apply": _affine_apply,
    "linalg.softmax": softmax,
    "scf.if": _if,
    "scf.for": _for,
    "cf.assert": _assert,
    "func.call": _call,
    SDPA: build_attention.sdpa,
    "tm_tensor.attention": build_attention.tm_tensor_attention,
    "tm_tensor.scan": scan,
    "tm_tensor.scatter": scatter,
}
