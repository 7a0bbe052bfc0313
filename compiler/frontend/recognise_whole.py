"""Operations whose own meaning is attention, as front ends keep it whole: they are the steps that they stand for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend import masking
from npuc.compiler.frontend.attention import default_scale
from npuc.compiler.frontend.constants import element_type
from npuc.compiler.frontend.recognise_products import attend, score
from npuc.compiler.frontend.recognise_softmax import softmax_operation
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import Axes, Opaque, Operand, Scores, Splat, Value, axes_of, describe, with_axes

# Of tm_tensor.attention; what another attribute would mean is not known.
_ATTRIBUTES = ("scale", "operandSegmentSizes")


def tm_tensor_attention(operation: Any, operands: Sequence[Value]) -> Value:
    """softmax(scale q k^T + mask) v over [..., S, D], as torch-mlir's TMTensorOps.cpp has it, in place of the last
    operand. scale: PyTorch's argument of that name, 1/sqrt(D) where there is none."""
    unknown = [name for name in operation.attributes.keys() if name not in _ATTRIBUTES]
    if unknown:
        return Opaque(operation, f"its attribute {unknown[0]} is not understood")
    q, k, v, *rest = operands[:-1]
    width = sizes_of(operation.operands[0].type)[-1]
    if width is None:
        return Opaque(operation, "its head size is open")
    scale = operation.attributes["scale"].value if "scale" in operation.attributes else default_scale(width)
    return whole(operation, q, k, v, rest[0] if rest else None, scale)


def whole(operation: Any, q: Value, k: Value, v: Value, mask: Value | None, scale: float) -> Value:
    """softmax(scale q k^T + mask) v: q [..., S, D], k and v [..., Skv, D], mask [..., S, Skv]."""
    for role, value in (("q", q), ("k", k), ("v", v)):
        if isinstance(value, Opaque):
            return value
        if not isinstance(value, Operand):
            return Opaque(operation, f"its {role} is {describe(value)}, not an argument")
    assert isinstance(q, Operand) and isinstance(k, Operand) and isinstance(v, Operand)
    if not len(q.axes) == len(k.axes) == len(v.axes) >= 2:
        return Opaque(operation, "its operands have different ranks")
    scores = score(operation, _loops(q, -2), _loops(k, -3))
    if not isinstance(scores, Scores):
        return scores
    if not math.isfinite(scale):
        return Opaque(operation, f"its scale is {scale:g}")
    scores = replace(scores, axes=scores.axes[:-1], product=scores.product.times(scale))
    masked: Value | None = scores
    if mask is not None:
        mask = _broadcast(mask, len(scores.axes))
        if element_type(operation.operands[3].type) == "i1":
            masked = masking.select(operation, mask, scores, Splat(-math.inf, "f32"))
        else:
            masked = masking.add(operation, scores, mask)
    weights = softmax_operation(operation, masked, len(scores.axes) - 1) if masked else None
    if weights is None or isinstance(weights, Opaque):
        return weights or Opaque(operation, "its mask is not recognised", masking.REMEDY)
    attended = attend(operation, with_axes(weights, (*scores.axes, ())), _loops(v, -3))
    axes = axes_of(attended)
    return attended if axes is None else with_axes(attended, (*axes[:-2], axes[-1]))


def _loops(operand: Operand, place: int) -> Operand:
    """Over the loops [..., queries, keys, width]: the operand has no dimension at `place` of them."""
    axes = list(operand.axes)
    axes.insert(len(axes) + 1 + place, ())
    return replace(operand, axes=tuple(axes))


def _broadcast(mask: Value, rank: int) -> Value:
    axes: Axes | None = axes_of(mask)
    return mask if axes is None else with_axes(mask, ((),) * (rank - len(axes)) + axes)
