"""Softmax written out, as torch-mlir and most front ends emit it.

maximum over the keys, subtraction, exponential, sum over the keys, division (or multiplication by the reciprocal),
and the tail that makes rows of nothing but -inf zero. Each function takes values whose axes are aligned dimension by
dimension, and returns None where the operation is not the step it looks for.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend import masking
from npuc.compiler.frontend.axes import label, row_aligned
from npuc.compiler.frontend.limits import room
from npuc.compiler.frontend.number_formats import lowest
from npuc.compiler.frontend.positions import opposite
from npuc.compiler.frontend.recognise_products import attended
from npuc.compiler.frontend.recognise_softmax import binary_softmax, key_label, natural_softmax
from npuc.compiler.frontend.values import (
    DEPTH,
    AboveStart,
    AbsoluteRowMaximum,
    Correction,
    Exponentials,
    Inverted,
    IsNoNumber,
    LogProbabilities,
    LogSum,
    LogSumExp,
    Opaque,
    Operand,
    Predicate,
    Probabilities,
    Product,
    RowIsMinusInfinity,
    RowMaximum,
    RowReciprocal,
    RowSum,
    RowTest,
    ScoreAbove,
    ScoreIsMinusInfinity,
    Scores,
    Shifted,
    Softmax,
    Splat,
    StartLessMaximum,
    Unhidden,
    Value,
    WeightedValues,
    describe,
    numbers,
    scalings,
)

_GREATER, _LESS = {2, 3}, {4, 5}  # arith's CmpFPredicate: ogt, oge; olt, ole
# What leaves a reduction's result alone, in words.
STARTS = {
    "max": "-inf, or the lowest number of its type where no score is below it",
    "sum": "0",
    "and": "true",
    "or": "false",
}


def reduce_rows(operation: Any, kind: str, value: Value, initial: Value, dimension: int) -> Value:
    """The reduction `kind` (max, sum, and, or) of a value along one dimension; the result keeps the others."""
    wanted = {"max": Scores, "sum": Exponentials, "and": ScoreIsMinusInfinity, "or": ScoreIsMinusInfinity}
    tested = isinstance(value, ScoreIsMinusInfinity) and value.negated != (kind == "or")
    if not isinstance(value, wanted[kind]) or tested:
        return Opaque(operation, f"it takes the {kind} of {describe(value)}")
    assert isinstance(value, Scores | Exponentials | ScoreIsMinusInfinity)
    problem = _start_problem(kind, initial, value)
    if problem:
        return Opaque(operation, f"its {kind} of {describe(value)} starts from {problem}")
    axis = value.axes[dimension]
    key = key_label(axis)
    if key is None:
        where = f"along axis {label(axis)}, not along the keys"
        return Opaque(operation, f"it takes the {kind} of {describe(value)} {where}")
    row = (*value.axes[:dimension], (), *value.axes[dimension + 1 :])
    if isinstance(value, Scores):
        return RowMaximum(row, value.product, key)
    if isinstance(value, ScoreIsMinusInfinity):
        return RowIsMinusInfinity(row, value.product, key, value.negated)
    if key != value.softmax.key:
        return Opaque(operation, "it sums the exponentials along another axis than their maximum was taken")
    return RowSum(row, value.softmax)


def _start_problem(kind: str, initial: Value, value: Value) -> str | None:
    """What a reduction starts from and what it should, where that changes its result."""
    if not isinstance(initial, Splat):
        return f"{describe(initial)}, not from {STARTS[kind]}"
    if kind in ("and", "or"):
        neutral = initial == Splat(-1 if kind == "and" else 0, "i1")
    elif kind == "sum":
        neutral = initial.is_float and initial.value == 0
    else:
        neutral = starts_maximum(initial, value)
    return None if neutral else f"{initial.value:g}, not from {STARTS[kind]}"


def starts_maximum(start: Value, of: Value) -> bool:
    """Whether a maximum of scores may start from a number: -inf, or the lowest of its type, as none is below."""
    if not isinstance(of, Scores | RowMaximum) or not isinstance(start, Splat) or not start.is_float:
        return False
    return start.value == -math.inf or (start.value == lowest(start.type) and room(of.product) <= abs(start.value))


def subtract(operation: Any, left: Value, right: Value) -> Value | None:
    if isinstance(right, RowMaximum) and starts_maximum(left, right):
        return StartLessMaximum(right.axes)
    if isinstance(left, Shifted) and isinstance(right, LogSum):
        return _log_softmax(operation, left, right)
    if not isinstance(left, Scores):
        return None
    if isinstance(right, LogSumExp):
        return _log_probabilities(operation, left, right)
    if isinstance(right, RowMaximum):
        if right.product != left.product and left.product == replace(right.product, masking=None):
            if not row_aligned(right.axes, left.axes, right.key):
                return Opaque(operation, "it subtracts a row maximum along the wrong axes")
            return Shifted(left.axes, left.product, right.key, right.product)
        if right.product != left.product:
            return Opaque(operation, "it subtracts the maximum of another tensor from the scores")
        if not row_aligned(right.axes, left.axes, right.key):
            return Opaque(operation, "it subtracts a row maximum along the wrong axes")
        return Shifted(left.axes, left.product, right.key)
    if isinstance(right, Opaque):
        return right
    return Opaque(operation, f"it subtracts {describe(right)} from the scores, not their row maximum")


def exponential(operation: Any, value: Value, binary: bool) -> Value | None:
    """e, or 2 where `binary`, to the power of a value."""
    if isinstance(value, Scores):
        return Opaque(operation, "it exponentiates scores whose row maximum was not subtracted")
    if isinstance(value, StartLessMaximum):
        return Correction(value.axes)
    if isinstance(value, LogProbabilities) and not binary:
        return Probabilities(value.axes, value.softmax)
    if not isinstance(value, Shifted):
        return None
    if value.by is not None:
        return Unhidden(value.axes, value.product, value.by, value.key, binary)
    fold = binary_softmax if binary else natural_softmax
    softmax = fold(operation, value.product, value.key)
    return softmax if isinstance(softmax, Opaque) else Exponentials(value.axes, softmax)


def logarithm(operation: Any, value: Value) -> Value | None:
    return LogSum(value.axes, value.softmax) if isinstance(value, RowSum) else None


def add(operation: Any, left: Value, right: Value) -> Value | None:
    """The logarithm of a row sum, and the row maximum that its exponentials were less."""
    if isinstance(left, RowMaximum):
        left, right = right, left
    if not isinstance(left, LogSum) or not isinstance(right, RowMaximum):
        return None
    if left.softmax != natural_softmax(operation, right.product, right.key) or left.axes != right.axes:
        return Opaque(operation, "it adds the row maximum of other scores to the logarithm of a row sum")
    return LogSumExp(left.axes, left.softmax)


def _log_probabilities(operation: Any, left: Scores, right: LogSumExp) -> Value:
    if right.softmax.product != left.product:
        return Opaque(operation, "it subtracts what other scores sum to")
    if not row_aligned(right.axes, left.axes, right.softmax.key):
        return Opaque(operation, "it subtracts what rows sum to along the wrong axes")
    return LogProbabilities(left.axes, right.softmax)


def _log_softmax(operation: Any, left: Shifted, right: LogSum) -> Value:
    """Scores less their row maximum, less the logarithm of the sum of their exponentials."""
    if left.by is not None or right.softmax != natural_softmax(operation, left.product, left.key):
        return Opaque(operation, "it subtracts the logarithm of what other scores sum to")
    if not row_aligned(right.axes, left.axes, left.key):
        return Opaque(operation, "it subtracts what rows sum to along the wrong axes")
    return LogProbabilities(left.axes, right.softmax)


def unhide(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """Exponentials where a condition holds and zero elsewhere, which hides what the maximum was not taken of; or what
    is hidden already, as zeros."""
    if isinstance(right, Exponentials | Probabilities | Unhidden) and isinstance(
        condition, Operand | Inverted | Predicate
    ):
        condition, left, right = opposite(condition), right, left
    if isinstance(left, Exponentials | Probabilities) and isinstance(right, Splat) and right.value == 0:
        return left if _hides_the_same(operation, condition, left) else None
    if not isinstance(left, Unhidden):
        return None
    if not isinstance(right, Splat) or right.value != 0:
        return Opaque(operation, f"it puts {describe(right)} in the place of exponentials of scores that are masked")
    hidden = masking.select(operation, condition, Scores(left.axes, left.product), Splat(-math.inf, "f32"))
    if not isinstance(hidden, Scores):
        return hidden
    if _where(hidden.product) != _where(left.by):
        return Opaque(operation, "it keeps exponentials of other scores than their maximum was taken of")
    fold = binary_softmax if left.binary else natural_softmax
    softmax = fold(operation, hidden.product, left.key)
    return softmax if isinstance(softmax, Opaque) else Exponentials(left.axes, softmax)


def _hides_the_same(operation: Any, condition: Value, weights: Exponentials | Probabilities) -> bool:
    """Whether all that a condition hides is hidden in a softmax."""
    bare, own = replace(weights.softmax.product, masking=None), weights.softmax.product.masking
    hidden = masking.select(operation, condition, Scores(weights.axes, bare), Splat(-math.inf, "f32"))
    if own is None or not isinstance(hidden, Scores) or hidden.product.masking is None:
        return False
    also = hidden.product.masking
    return also.operand in (None, own.operand) and set(also.visible) <= set(own.visible)


def _where(product: Product) -> Product:
    """Masked scores, whatever the number that hides them."""
    hides = product.masking
    return product if hides is None else replace(product, masking=replace(hides, hidden=-math.inf))


def divide(operation: Any, left: Value, right: Value) -> Value | None:
    if isinstance(right, RowSum) and isinstance(left, Splat) and left.value == 1:
        return RowReciprocal(right.axes, right.softmax)
    if isinstance(left, Exponentials | WeightedValues):
        return _normalise(operation, left, right, RowSum)
    return None


def multiply(operation: Any, left: Value, right: Value) -> Value | None:
    if isinstance(left, RowReciprocal):
        left, right = right, left
    if isinstance(left, Exponentials | WeightedValues) and isinstance(right, RowReciprocal):
        return _normalise(operation, left, right, RowReciprocal)
    return None


def _normalise(
    operation: Any,
    left: Exponentials | WeightedValues,
    right: Value,
    type_: type[RowSum] | type[RowReciprocal],
) -> Value:
    """Exponentials, or their products with V, by the sum of their row."""
    if isinstance(right, Opaque):
        return right
    if not isinstance(right, type_):
        return Opaque(operation, f"it divides {describe(left)} by {describe(right)}, not by their row sum")
    if right.softmax != left.softmax:
        return Opaque(operation, f"it divides {describe(left)} by the sum of another tensor")
    summed = left.softmax.key if isinstance(left, Exponentials) else DEPTH
    if not row_aligned(right.axes, left.axes, summed):
        return Opaque(operation, f"it divides {describe(left)} by a row sum along the wrong axes")
    if isinstance(left, Exponentials):
        return Probabilities(left.axes, left.softmax)
    return attended(left)


def _same_rows(condition: RowIsMinusInfinity, softmax: Softmax) -> bool:
    """Whether the rows tested are those of the softmax, perhaps before its last factors, which are above zero."""
    return condition.key == softmax.key and _differ_by_factors(condition.product, softmax.product)


def _differ_by_factors(tested: Product, used: Product) -> bool:
    """Whether scores are others times factors above zero."""
    if (tested.masking is None) != (used.masking is None):
        return False
    if tested.masking is None or used.masking is None:
        alike, first, then = replace(tested, factors=used.factors) == used, tested.factors, used.factors
    else:
        first, then = tested.masking.later, used.masking.later
        alike = replace(tested, masking=replace(tested.masking, later=then)) == used
    rest = then[len(first) :]
    return alike and then[: len(first)] == first and not scalings(rest) and all(numbers((f,)) > 0 for f in rest)


def compare(operation: Any, predicate: int, left: Value, right: Value) -> Value | None:
    """cmpf oeq (predicate 1), ueq (8), one (6) or une (13) of the scores with -inf; of the size of a row maximum with
    inf those, or olt (4) or ult (11)."""
    if predicate in _GREATER | _LESS and any(isinstance(v, Scores) and v.product.masking for v in (left, right)):
        return _above(predicate in _GREATER, left, right)
    if isinstance(left, Probabilities):
        return _compare_probabilities(predicate, left, right)
    swapped = isinstance(left, Splat) and (predicate in (1, 6, 8, 13) or isinstance(right, RowMaximum))
    if swapped:
        left, right = right, left
    if not isinstance(right, Splat):
        return None
    if isinstance(left, Scores) and right.value == -math.inf and predicate in (1, 6, 8, 13):
        return ScoreIsMinusInfinity(left.axes, left.product, predicate in (6, 13))
    if isinstance(left, RowMaximum) and starts_maximum(right, left) and predicate in _GREATER | _LESS:
        first = (predicate in _GREATER) == swapped
        return AboveStart(left.axes, left.product, left.key, first)
    if isinstance(left, AbsoluteRowMaximum) and right.value == math.inf and predicate in (1, 8, 4, 6, 11, 13):
        return RowTest(left.axes, left.product, left.key, predicate not in (1, 8))
    return None


def _above(greater: bool, left: Value, right: Value) -> ScoreAbove | None:
    """Masked scores compared with a number."""
    scores, number = (left, right) if isinstance(left, Scores) else (right, left)
    if not isinstance(scores, Scores) or not isinstance(number, Splat):
        return None
    return ScoreAbove(scores.axes, scores.product, float(number.value), greater == (scores is right))


def raised_scores(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """The maximum of masked scores and a number, as a choice by their comparison."""
    if not isinstance(condition, ScoreAbove):
        return None
    scores, number = (right, left) if condition.number_first else (left, right)
    if scores == Scores(condition.axes, condition.product) and isinstance(number, Splat):
        if number.is_float and number.value == condition.number < 0:
            assert isinstance(scores, Scores)
            return masking.raised(scores, condition.number)
    return Opaque(operation, f"it chooses {describe(left)} or {describe(right)} by scores")


def _compare_probabilities(predicate: int, left: Probabilities, right: Value) -> Value | None:
    """Of probabilities with themselves, une (13) or uno (14): whether they are no numbers, as in rows that see no key;
    with an infinity, oeq (1): never."""
    if right == left and predicate in (13, 14):
        return IsNoNumber(left.axes, left.softmax)
    if isinstance(right, Splat) and abs(right.value) == math.inf and predicate == 1:
        return Splat(0, "i1")
    return None


def numbered(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """Probabilities, and a finite number where they are none: what rows that see no key give is the source's choice."""
    if not isinstance(condition, IsNoNumber) or not isinstance(right, Probabilities):
        return None
    if not isinstance(left, Splat) or not math.isfinite(left.value) or right != condition.probabilities:
        return Opaque(operation, f"it puts {describe(left)} in the place of probabilities")
    return right


def negate(operation: Any, left: Value, right: Value) -> Value | None:
    """arith.xori of a test for -inf with true."""
    if isinstance(left, Splat):
        left, right = right, left
    if not isinstance(left, ScoreIsMinusInfinity | RowIsMinusInfinity) or right != Splat(-1, "i1"):
        return None
    return replace(left, negated=not left.negated)


def absolute(operation: Any, value: Value) -> Value | None:
    return AbsoluteRowMaximum(value.axes, value.product, value.key) if isinstance(value, RowMaximum) else None


def raised(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """max(start, row maximum) as a choice by their comparison, which the start never wins."""
    if not isinstance(condition, AboveStart):
        return None
    maximum, start = (right, left) if condition.start_first else (left, right)
    if maximum == RowMaximum(condition.axes, condition.product, condition.key) and starts_maximum(start, maximum):
        return maximum
    return Opaque(operation, f"it chooses {describe(left)} or {describe(right)} by a row maximum")


def finite_maximum(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """A row maximum, and a number where it is infinite: what is subtracted from the scores of a row of nothing but
    -inf, whose probabilities are no numbers, is the source's to choose."""
    if not isinstance(condition, RowTest):
        return None
    maximum, number = (left, right) if condition.finite else (right, left)
    if not isinstance(maximum, RowMaximum) or not isinstance(number, Splat) or not math.isfinite(number.value):
        return Opaque(operation, f"it chooses {describe(left)} or {describe(right)} by a row maximum")
    if RowTest(maximum.axes, maximum.product, maximum.key, condition.finite) != condition:
        return Opaque(operation, "it tests the maximum of other rows than it takes")
    return maximum


def select(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """The safe tail: rows of nothing but -inf give zeros, all others the probabilities."""
    if isinstance(condition, RowIsMinusInfinity) and condition.negated:
        left, right = right, left
    if not isinstance(right, Probabilities):
        return None
    if isinstance(condition, Opaque):
        return condition
    if not isinstance(condition, RowIsMinusInfinity) or not isinstance(left, Splat) or left.value != 0:
        return Opaque(operation, f"it replaces probabilities by {describe(left)} where {describe(condition)} holds")
    softmax = right.softmax
    if not _same_rows(condition, softmax) or not row_aligned(condition.axes, right.axes, softmax.key):
        return Opaque(operation, "it replaces probabilities where other rows than their own are -inf")
    return right
