"""attn.sdpa: what it computes is said outright; its operands must be whole arguments, Q perhaps times one of one
element, a mask of truths perhaps turned round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from npuc.compiler.dialects.attn import verify_sdpa
from npuc.compiler.frontend.axes import named_axes, operand_axes
from npuc.compiler.frontend.layouts import of_operand
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import LABELS, Inverted, Opaque, Operand, Sdpa, Value, describe, numbers, scalings


def sdpa(operation: Any, operands: Sequence[Value]) -> Value:
    """The value of an attn.sdpa. Raises Blocked where the operation is malformed."""
    attributes = verify_sdpa(operation)
    arguments: list[int] = []
    scaling, inverted = None, False
    for role, value, operand in zip(("q", "k", "v", "mask"), operands, operation.operands, strict=False):
        if isinstance(value, Opaque):
            return value
        if isinstance(value, Operand) and role == "q" and len(scalings(value.factors)) == 1:
            if numbers(value.factors) == 1:
                (scaling,), value = scalings(value.factors), replace(value, factors=())
        if isinstance(value, Inverted) and role == "mask":
            inverted, value = True, Operand(value.axes, value.argument, source=value.source)
        if not isinstance(value, Operand) or value.factors:
            what = "an argument that was multiplied" if isinstance(value, Operand) else describe(value)
            return Opaque(operation, f"its {role} is {what}, not an argument of the function")
        if value.axes != operand_axes(value, sizes_of(operand.type)):
            what = f"its {role} is an argument whose dimensions were reordered or merged"
            return Opaque(operation, what, layouts=of_operand(value, sizes_of(operand.type)))
        arguments.append(value.argument)
    query, key, kv, *rest = arguments
    shape = sizes_of(operation.results[0].type)
    mask = rest[0] if rest else None
    return Sdpa(
        named_axes(LABELS[4 - len(shape) :], shape),
        query,
        key,
        kv,
        mask,
        tuple(sorted(attributes.items())),
        scaling,
        inverted,
        operation,
    )
