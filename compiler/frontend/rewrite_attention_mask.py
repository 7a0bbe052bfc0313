"""torch's attention with a mask of fewer dimensions than Q, as [S, Skv]: upstream's lowering wants as many.

The mask gets those that it lacks, of one element, in front: it is broadcast along them as before.
"""

from __future__ import annotations

import re
from typing import Any

ATTENTION = "torch.aten.scaled_dot_product_attention"
_QUERY, _MASK = 0, 3  # which operands they are
_TENSOR = re.compile(r"(!torch\.v?tensor<)\[([\d,?]*)\](.*>)")


def widen_attention_mask(module: Any) -> None:
    """In place, where both ranks are known."""
    from torch_mlir import ir

    found: list[Any] = []

    def visit(operation: Any) -> Any:
        if operation.name == ATTENTION:
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for operation in found:
        _widen(operation)


def _widen(operation: Any) -> None:
    from torch_mlir import ir

    query, mask = (_TENSOR.fullmatch(str(operation.operands[n].type)) for n in (_QUERY, _MASK))
    if query is None or mask is None:
        return
    sizes = _sizes(mask)
    lacking = len(_sizes(query)) - len(sizes)
    if lacking <= 0:
        return
    with ir.InsertionPoint(operation), operation.location:
        number = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 0)
        integer = ir.Type.parse("!torch.int")
        first = ir.Operation.create("torch.constant.int", results=[integer], attributes={"value": number}).results[0]
        for ones in range(1, lacking + 1):
            type_ = ir.Type.parse(f"{mask[1]}[{','.join(['1'] * ones + sizes)}]{mask[3]}")
            made = ir.Operation.create(
                "torch.aten.unsqueeze", results=[type_], operands=[operation.operands[_MASK], first]
            )
            operation.operands[_MASK] = made.results[0]


def _sizes(type_: re.Match[str]) -> list[str]:
    return type_[2].split(",") if type_[2] else []
