"""Softmax written out, as torch-mlir and most front ends emit it.

maximum over the keys, subtraction, exponential, sum over the keys, division (or multiplication by the reciprocal),
and the tail that makes rows of nothing but -inf zero. Each function takes values whose axes are aligned dimension by
dimension, and returns None where the operation is not the step it looks for.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend.axes import label, row_aligned
from npuc.compiler.frontend.recognise_softmax import binary_softmax, key_label, natural_softmax
from npuc.compiler.frontend.values import (
    Axis,
    Exponentials,
    Opaque,
    Probabilities,
    RowIsMinusInfinity,
    RowMaximum,
    RowReciprocal,
    RowSum,
    ScoreIsMinusInfinity,
    Scores,
    Shifted,
    Softmax,
    Splat,
    Value,
    describe,
)


def reduce_rows(operation: Any, kind: str, value: Value, initial: Value, axis: Axis) -> Value:
    """The reduction `kind` (max, sum, and) of a value along one axis; the result has the loop nest's axes."""
    if isinstance(value, Opaque):
        return value
    wanted = {"max": (Scores, -math.inf), "sum": (Exponentials, 0.0), "and": (ScoreIsMinusInfinity, 1.0)}
    type_, start = wanted[kind]
    if not isinstance(value, type_):
        return Opaque(operation, f"it takes the {kind} of {describe(value)}")
    if initial != Splat(start):
        found = f"{initial.value:g}" if isinstance(initial, Splat) else describe(initial)
        return Opaque(operation, f"its {kind} of {describe(value)} starts from {found}, not from {start:g}")
    key = key_label(axis)
    if key is None:
        where = f"along axis {label(axis)}, not along the keys"
        return Opaque(operation, f"it takes the {kind} of {describe(value)} {where}")
    assert isinstance(value, Scores | Exponentials | ScoreIsMinusInfinity)
    row = tuple(() if a == axis else a for a in value.axes)
    if isinstance(value, Scores):
        return RowMaximum(row, value.product, key)
    if isinstance(value, ScoreIsMinusInfinity):
        return RowIsMinusInfinity(row, value.product, key)
    if key != value.softmax.key:
        return Opaque(operation, "it sums the exponentials along another axis than their maximum was taken")
    return RowSum(row, value.softmax)


def subtract(operation: Any, left: Value, right: Value) -> Value | None:
    if not isinstance(left, Scores):
        return None
    if isinstance(right, RowMaximum):
        if right.product != left.product:
            return Opaque(operation, "it subtracts the maximum of another tensor from the scores")
        if not row_aligned(right.axes, left.axes, right.key):
            return Opaque(operation, "it subtracts a row maximum along the wrong axes")
        return Shifted(left.axes, left.product, right.key)
    if isinstance(right, Opaque):
        return right
    return Opaque(operation, f"it subtracts {describe(right)} from the scores, not their row maximum")


def exponential(operation: Any, value: Value) -> Value | None:
    if isinstance(value, Scores):
        return Opaque(operation, "it exponentiates scores whose row maximum was not subtracted")
    if not isinstance(value, Shifted):
        return None
    fold = binary_softmax if operation.name == "math.exp2" else natural_softmax
    softmax = fold(operation, value.product, value.key)
    return softmax if isinstance(softmax, Opaque) else Exponentials(value.axes, softmax)


def divide(operation: Any, left: Value, right: Value) -> Value | None:
    if isinstance(right, RowSum) and left == Splat(1.0):
        return RowReciprocal(right.axes, right.softmax)
    if isinstance(left, Exponentials):
        return _normalise(operation, left, right, RowSum)
    return None


def multiply(operation: Any, left: Value, right: Value) -> Value | None:
    if isinstance(right, Exponentials) and isinstance(left, RowReciprocal):
        left, right = right, left
    if isinstance(left, Exponentials) and isinstance(right, RowReciprocal):
        return _normalise(operation, left, right, RowReciprocal)
    return None


def _normalise(operation: Any, left: Exponentials, right: Value, type_: type[RowSum] | type[RowReciprocal]) -> Value:
    if isinstance(right, Opaque):
        return right
    if not isinstance(right, type_):
        return Opaque(operation, f"it divides the exponentials by {describe(right)}, not by their row sum")
    if right.softmax != left.softmax:
        return Opaque(operation, "it divides the exponentials by the sum of another tensor")
    if not row_aligned(right.axes, left.axes, left.softmax.key):
        return Opaque(operation, "it divides the exponentials by a row sum along the wrong axes")
    return Probabilities(left.axes, left.softmax)


def _same_rows(condition: RowIsMinusInfinity, softmax: Softmax) -> bool:
    """Whether the rows tested are those of the softmax, before or after its last (positive) factors."""
    tested, used = condition.product, softmax.product
    same_tensor = replace(tested, factors=()) == replace(used, factors=())
    return condition.key == softmax.key and same_tensor and used.factors[: len(tested.factors)] == tested.factors


def compare(operation: Any, predicate: int, left: Value, right: Value) -> Value | None:
    """cmpf oeq (predicate 1) or ueq (8) of the scores with -inf."""
    if isinstance(left, Splat):
        left, right = right, left
    if isinstance(left, Scores) and right == Splat(-math.inf) and predicate in (1, 8):
        return ScoreIsMinusInfinity(left.axes, left.product)
    return None


def select(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """The safe tail: rows of nothing but -inf give zeros, all others the probabilities."""
    if not isinstance(right, Probabilities):
        return None
    if isinstance(condition, Opaque):
        return condition
    if not isinstance(condition, RowIsMinusInfinity) or left != Splat(0.0):
        return Opaque(operation, f"it replaces probabilities by {describe(left)} where {describe(condition)} holds")
    softmax = right.softmax
    if not _same_rows(condition, softmax) or not row_aligned(condition.axes, right.axes, softmax.key):
        return Opaque(operation, "it replaces probabilities where other rows than their own are -inf")
    return right
