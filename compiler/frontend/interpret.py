"""One function, executed on the matcher's values from its arguments to its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npuc.compiler.dialects.attn import SDPA
from npuc.compiler.frontend import open_lengths
from npuc.compiler.frontend.attributes import indexing_maps
from npuc.compiler.frontend.axes import AxisError, collapse, expand, extent
from npuc.compiler.frontend.elementwise import elementwise, scaling_of
from npuc.compiler.frontend.given import given, refusal
from npuc.compiler.frontend.layouts import Layouts
from npuc.compiler.frontend.open_lengths import asserted
from npuc.compiler.frontend.place import Blocked
from npuc.compiler.frontend.recognise_sdpa import sdpa
from npuc.compiler.frontend.recognise_softmax import softmax_operation
from npuc.compiler.frontend.recognise_whole import tm_tensor_attention
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.structured import element_by_element, is_scalar_box, structured
from npuc.compiler.frontend.values import Opaque, OperandProduct, Scaling, Splat, Value, axes_of, moved
from npuc.compiler.frontend.whole_slices import extract_slice, insert_slice

ASSERTION = "cf.assert"
ASSERTIONS = "export it without assertions"


def run(block: Any, layouts: Layouts) -> list[Value]:
    """The values that a function's block returns (`legalise`); layouts: of arguments that are not [B, H, S, D]."""
    values: dict[Any, Value] = {}
    for number, argument in enumerate(block.arguments):
        type_ = argument.type
        values[argument] = given(number, type_, layouts.get(number)) or Opaque(argument, refusal(number, type_))
    for operation in block.operations:
        if operation.name == "func.return":
            return [values[operand] for operand in operation.operands]
        results = execute(operation.operation, values.__getitem__)
        for result, value in zip(operation.results, results, strict=True):
            values[result] = value
    raise AssertionError("a function body ends in func.return")


def execute(operation: Any, read: Callable[[Any], Value]) -> list[Value]:
    """The results of one operation of the function's body. Raises Blocked at an assertion that is not of lengths."""
    if operation.name == ASSERTION:
        _assert(operation, read)
        return []
    if is_scalar_box(operation):
        return [read(operation.operands[0])]
    rule = _RULES.get(operation.name)
    if rule is not None:
        return [rule(operation, read)]
    dialect = operation.name.partition(".")[0]
    maps = indexing_maps(operation) if dialect == "linalg" else None
    if maps is not None:
        return structured(operation, maps, read)
    if dialect in ("arith", "math") and len(operation.results) == 1:
        return [_whole_tensors(operation, read)]
    blocked = next((v for v in map(read, operation.operands) if isinstance(v, Opaque)), None)
    return [blocked or Opaque(operation, "no step of attention that is recognised")] * len(operation.results)


def _assert(operation: Any, read: Callable[[Any], Value]) -> None:
    """What fails where it does not hold gives no result then: it may be left out, if only lengths decide."""
    condition = read(operation.operands[0])
    if isinstance(condition, Splat) and not condition.value:
        raise Blocked(operation, "it always fails", ASSERTIONS)
    if not asserted(condition) and not _of_lengths(operation.operands[0].owner):
        raise Blocked(operation, "it may fail, and not by the lengths of the arguments alone", ASSERTIONS)


def _of_lengths(operation: Any) -> bool:
    """Whether an integer is computed from lengths alone."""
    waiting, seen = [operation], set()
    while waiting:
        at = waiting.pop()
        name = getattr(at, "name", None)
        if not isinstance(name, str) or not (name.startswith("arith.") or name == "tensor.dim"):
            return False
        if at not in seen and name != "tensor.dim":
            seen.add(at)
            waiting += [operand.owner for operand in at.operands]
    return True


def _whole_tensors(operation: Any, read: Callable[[Any], Value]) -> Value:
    """An elementwise operation outside linalg: on scalars, or on whole tensors of one shape."""
    value = elementwise(operation, [read(operand) for operand in operation.operands])
    if isinstance(value, OperandProduct):
        return element_by_element(operation, value)
    return value


def _collapse(operation: Any, read: Callable[[Any], Value]) -> Value:
    shape = sizes_of(operation.operands[0].type)
    return _moved(operation, read, lambda axes: collapse(axes, shape, _groups(operation)))


def _expand(operation: Any, read: Callable[[Any], Value]) -> Value:
    shape = sizes_of(operation.results[0].type)
    return _moved(operation, read, lambda axes: expand(axes, _groups(operation), shape))


def _moved(operation: Any, read: Callable[[Any], Value], move: Callable[[Any], Any]) -> Value:
    value: Value
    try:
        value = moved(read(operation.operands[0]), move)
        number = scaling_of(value) if operation.results[0].type.rank == 0 else None
        return number or value
    except AxisError as error:
        return Opaque(operation, str(error), error.remedy)


def _groups(operation: Any) -> list[list[int]]:
    return [[dimension.value for dimension in group] for group in operation.attributes["reassociation"]]


def _cast(operation: Any, read: Callable[[Any], Value]) -> Value:
    """tensor.cast, where it only forgets sizes or says again what is known."""
    value = read(operation.operands[0])
    sizes = sizes_of(operation.results[0].type)
    if any(axis and size not in (None, extent(axis)) for axis, size in zip(axes_of(value) or (), sizes, strict=False)):
        return Opaque(operation, "it gives a dimension another length")
    return value


def _splat(operation: Any, read: Callable[[Any], Value]) -> Value:
    value = read(operation.operands[0])
    known = Splat | Scaling | Opaque
    return value if isinstance(value, known) else Opaque(operation, "it repeats what is no constant")


def _extract(operation: Any, read: Callable[[Any], Value]) -> Value:
    """tensor.extract outside a loop nest: of a tensor of one element."""
    tensor, *indices = map(read, operation.operands)
    number = scaling_of(tensor)
    if number is not None and all(isinstance(index, Splat) and index.value == 0 for index in indices):
        return number
    return tensor if isinstance(tensor, Opaque) else Opaque(operation, "no step of attention that is recognised")


def _extract_slice(operation: Any, read: Callable[[Any], Value]) -> Value:
    return extract_slice(operation, read(operation.operands[0]))


def _insert_slice(operation: Any, read: Callable[[Any], Value]) -> Value:
    return insert_slice(operation, read(operation.operands[0]))


def _softmax(operation: Any, read: Callable[[Any], Value]) -> Value:
    return softmax_operation(operation, read(operation.operands[0]), operation.attributes["dimension"].value)


def _sdpa(operation: Any, read: Callable[[Any], Value]) -> Value:
    return sdpa(operation, [read(operand) for operand in operation.operands])


def _tm_tensor(operation: Any, read: Callable[[Any], Value]) -> Value:
    return tm_tensor_attention(operation, [read(operand) for operand in operation.operands])


_RULES: dict[str, Callable[[Any, Callable[[Any], Value]], Value]] = {
    "tensor.empty": open_lengths.empty,
    "tensor.dim": open_lengths.dim,
    "tensor.from_elements": open_lengths.from_elements,
    "tensor.reshape": open_lengths.reshape,
    "tensor.collapse_shape": _collapse,
    "tensor.expand_shape": _expand,
    "tensor.cast": _cast,
    "tensor.splat": _splat,
    "tensor.extract": _extract,
    "tensor.extract_slice": _extract_slice,
    "tensor.insert_slice": _insert_slice,
    "linalg.softmax": _softmax,
    "tm_tensor.attention": _tm_tensor,
    SDPA: _sdpa,
}
