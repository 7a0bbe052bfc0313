"""stablehlo.dot_general whose result has a wider float type than its operands, which upstream's lowering leaves.

The operands are widened first: their products in the result's type are what the operation says.
"""

from __future__ import annotations

from typing import Any

from npuc.compiler.frontend.number_formats import FLOAT_FORMATS


def widen_dot_general(module: Any) -> None:
    """In place."""
    from torch_mlir import ir

    found: list[Any] = []

    def visit(operation: Any) -> Any:
        if operation.name == "stablehlo.dot_general":
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for operation in found:
        _widen(operation, str(operation.results[0].type.element_type))


def _widen(operation: Any, wanted: str) -> None:
    from torch_mlir import ir

    types = [operand.type for operand in operation.operands]
    narrow = [
        n for n, t in enumerate(types) if str(t.element_type) != wanted and _is_within(str(t.element_type), wanted)
    ]
    if not narrow or any(str(t.element_type) not in FLOAT_FORMATS for t in types):
        return
    element = operation.results[0].type.element_type
    with ir.InsertionPoint(operation), operation.location:
        for n in narrow:
            type_ = ir.RankedTensorType.get(types[n].shape, element, types[n].encoding)
            convert = ir.Operation.create("stablehlo.convert", results=[type_], operands=[operation.operands[n]])
            operation.operands[n] = convert.results[0]
    # What it says of the precision of products and sums is for the types it had.
    if "algorithm" in operation.attributes:
        del operation.attributes["algorithm"]


def _is_within(narrow: str, wide: str) -> bool:
    """Whether every number of one float type is one of the other."""
    if narrow not in FLOAT_FORMATS or wide not in FLOAT_FORMATS:
        return False
    a, b = FLOAT_FORMATS[narrow], FLOAT_FORMATS[wide]
    return a.precision <= b.precision and a.greatest_exponent <= b.greatest_exponent
