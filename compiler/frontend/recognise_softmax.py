"""linalg.softmax of the scores."""

from __future__ import annotations

import math
from typing import Any

from npuc.compiler.frontend.attention import default_scale, scale_problem
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

# How far a literal may be from log2 e or from 1/sqrt(D): half a unit in the last place of bf16, twice over.
ROUNDED = 2.0**-8


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
    return _softmax(operation, product, key, math.prod(product.factors))


def binary_softmax(operation: Any, product: Product, key: str) -> Softmax | Opaque:
    """Softmax with 2 to the power of the scores: log2 e must be among the factors, or be folded into 1/sqrt(D)."""
    scale = math.prod(product.factors) * math.log(2)
    has_factor = any(_near(factor, math.log2(math.e)) for factor in product.factors)
    if not has_factor and not _near(scale, default_scale(product.depth)):
        return Opaque(
            operation, "it raises 2 to the scores without a factor of log2 e", "multiply by 1.442695 or use math.exp"
        )
    return _softmax(operation, product, key, scale)


def _softmax(operation: Any, product: Product, key: str, scale: float) -> Softmax | Opaque:
    problem = scale_problem(scale)
    return Opaque(operation, problem) if problem else Softmax(product, key, scale)


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= ROUNDED * wanted
