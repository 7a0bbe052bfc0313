"""linalg.softmax of the scores."""

from __future__ import annotations

import math
from typing import Any

from npuc.compiler.frontend.axes import label
from npuc.compiler.frontend.call_arguments import LARGEST_SCALE
from npuc.compiler.frontend.limits import MaskError, attributes
from npuc.compiler.frontend.values import (
    LEFT,
    RIGHT,
    Axis,
    Opaque,
    Probabilities,
    Product,
    Scores,
    Softmax,
    Value,
    describe,
    numbers,
    scalings,
)


def softmax_operation(operation: Any, scores: Value, dimension: int) -> Value:
    if isinstance(scores, Opaque):
        return scores
    if not isinstance(scores, Scores):
        return Opaque(operation, f"it normalises {describe(scores)}, not scores")
    key = key_label(scores.axes[dimension])
    if key is None:
        return Opaque(operation, f"it normalises along axis {label(scores.axes[dimension])}, not along the keys")
    softmax = natural_softmax(operation, scores.product, key)
    return softmax if isinstance(softmax, Opaque) else Probabilities(scores.axes, softmax)


def key_label(axis: Axis) -> str | None:
    """LEFT or RIGHT where an axis is the length of one factor of the scores."""
    return axis[0].label if len(axis) == 1 and axis[0].label in (LEFT, RIGHT) else None


def natural_softmax(operation: Any, product: Product, key: str) -> Softmax | Opaque:
    """Softmax with the natural exponential."""
    return _softmax(operation, product, key, 1.0)


def binary_softmax(operation: Any, product: Product, key: str) -> Softmax | Opaque:
    """Softmax with 2 to the power of the scores, which is e to the power of ln 2 times as much."""
    return _softmax(operation, product, key, math.log(2))


def _softmax(operation: Any, product: Product, key: str, base: float) -> Softmax | Opaque:
    """base: what scores are multiplied by to be under the natural exponential."""
    scale, most = numbers(product.factors) * base, LARGEST_SCALE
    limits: tuple[tuple[str, Any], ...] = ()
    if product.masking is not None:
        scale *= math.prod(product.masking.later)
        try:
            limits, most = attributes(product, key, base)
        except MaskError as error:
            return Opaque(operation, str(error), error.remedy, error.layouts)
    if product.capped is not None:
        if scalings(product.factors):
            return Opaque(operation, "an argument multiplies the hyperbolic tangent of the scores")
        cap, scale = scale, scale * numbers(product.capped)
        if not (math.isfinite(cap) and cap > 0):
            return Opaque(operation, f"the factors after the hyperbolic tangent of the scores multiply to {cap:g}")
        limits = (*limits, ("softcap", cap))
    if not math.isfinite(scale):
        return Opaque(operation, f"the factors of the scores multiply to {scale:g}")
    given = scalings((*product.factors, *(product.capped or ())))
    if len(given) > 1:
        numbered = " and ".join(str(scaling.argument) for scaling in given)
        return Opaque(operation, f"arguments {numbered} are factors of the scores together")
    return Softmax(product, key, scale, limits, *((given[0], most) if given else ()))
