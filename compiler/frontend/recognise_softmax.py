"""linalg.softmax of the scores."""

from __future__ import annotations

import math
from typing import Any

from npuc.compiler.frontend.axes import label
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
    return _softmax(operation, product, key, math.prod(product.factors, start=1.0))


def binary_softmax(operation: Any, product: Product, key: str) -> Softmax | Opaque:
    """Softmax with 2 to the power of the scores, which is e to the power of ln 2 times as much."""
    return _softmax(operation, product, key, math.prod(product.factors, start=1.0) * math.log(2))


def _softmax(operation: Any, product: Product, key: str, scale: float) -> Softmax | Opaque:
    if not math.isfinite(scale):
        return Opaque(operation, f"the factors of the scores multiply to {scale:g}")
    return Softmax(product, key, scale)
