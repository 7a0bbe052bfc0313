"""What one elementwise operation does to the values of the matcher, inside a linalg body or on whole tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend import masking, open_lengths, positions
from npuc.compiler.frontend import recognise_decomposed as decomposed
from npuc.compiler.frontend.constants import constant, element_type, fold
from npuc.compiler.frontend.dense_patterns import pattern
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS
from npuc.compiler.frontend.values import (
    Attended,
    Correction,
    Empty,
    Exponentials,
    Inverted,
    Opaque,
    Operand,
    OperandProduct,
    Predicate,
    Probabilities,
    RowMaximum,
    Scaling,
    Scores,
    Sdpa,
    Shifted,
    Splat,
    Value,
    describe,
    numbers,
    scalings,
)

Rule = Callable[[Any, Sequence[Value]], "Value | None"]


def elementwise(operation: Any, operands: Sequence[Value]) -> Value:
    """The result of an arith or math operation; Opaque, naming it, where it is no step of attention."""
    if operation.name == "arith.constant":
        value = constant(operation)
        return (pattern(operation) or value) if isinstance(value, Opaque) else value
    result = fold(operation, operands) or _neutral(operation, operands)
    rule = RULES.get(operation.name)
    if result is None and rule is not None:
        result = rule(operation, operands)
    if result is not None:
        return result
    blocked = next((v for v in operands if isinstance(v, Opaque)), None)
    if blocked is not None:
        return blocked
    subject = next((v for v in operands if not isinstance(v, Splat)), None)
    if isinstance(subject, Attended | Sdpa):
        return Opaque(operation, "it changes the attention result", "return the attention result itself")
    what = f" on {describe(subject)}" if subject is not None else ""
    return Opaque(operation, f"no step of attention that is recognised{what}")


# Operations that give back their other operand for one number: operation -> (the number, whether it may come first).
NEUTRAL = {
    "arith.addf": (0.0, True),
    "arith.subf": (0.0, False),
    "arith.mulf": (1.0, True),
    "arith.divf": (1.0, False),
}
MAXIMA = ("arith.maximumf", "arith.maxnumf")


def _neutral(operation: Any, operands: Sequence[Value]) -> Value | None:
    """x + 0, x * 1 and the like are x (a zero's sign has no part in attention)."""
    if len(operands) != 2:
        return None
    number, either = NEUTRAL.get(operation.name, (math.nan, False))
    for value, other in (operands, operands[::-1]):
        if not isinstance(other, Splat) or isinstance(value, Empty | Opaque):
            continue
        if other.value == number and (either or other is operands[1]):
            return value
        if operation.name in MAXIMA and (other.value == -math.inf or _raises_nothing(other, value)):
            return value
        if operation.name in MAXIMA and isinstance(value, Scores) and other.value < 0:
            return masking.raised(value, float(other.value))
    return None


def _raises_nothing(start: Splat, value: Value) -> bool:
    """Whether a maximum with a finite number changes nothing: it would show scores that are -inf as that number."""
    masked = isinstance(value, Scores) and value.product.masking is not None
    return not masked and decomposed.starts_maximum(start, value)


def _convert(operation: Any, operands: Sequence[Value]) -> Value | None:
    """Conversions between float types keep a value's meaning; the target's precision is the compiler's choice."""
    (value,) = operands
    types = (element_type(operation.operands[0].type), element_type(operation.results[0].type))
    return value if all(t in FLOAT_FORMATS for t in types) else None


def _multiply(operation: Any, operands: Sequence[Value]) -> Value | None:
    left, right = operands
    if isinstance(left, Splat | Scaling) and not isinstance(right, Splat):
        left, right = right, left
    if isinstance(right, Splat):
        return _times(operation, left, right.value)
    if isinstance(right, Scaling):
        return scaled(operation, left, right)
    weights = decomposed.multiply(operation, left, right)
    if weights is not None:
        return weights
    factors = (Operand, Scores, Exponentials, Probabilities)
    if isinstance(left, factors) and isinstance(right, factors):
        return OperandProduct(left, right)
    for value, other in ((left, right), (right, left)):
        if isinstance(value, Operand | Scores | Shifted) and _is_constant(other):
            what = f"it multiplies {describe(value)} by a constant that is not one number everywhere"
            return Opaque(operation, what + (", as a projection does" if isinstance(value, Operand) else ""))
    return None


def _is_constant(value: Value) -> bool:
    return isinstance(value, Opaque) and getattr(value.operation, "name", None) == "arith.constant"


def _times(operation: Any, value: Value, factor: float) -> Value | None:
    if isinstance(value, Correction) and factor == 0:
        return Splat(0.0, element_type(operation.results[0].type))
    if isinstance(value, Scaling) and math.isfinite(factor):
        return value.times(factor)
    if not isinstance(value, Operand | Scores | Shifted | RowMaximum):
        return None
    if not math.isfinite(factor):
        return Opaque(operation, f"it multiplies {describe(value)} by {factor:g}")
    if isinstance(value, Operand):
        return replace(value, factors=(*value.factors, factor))
    product = value.product.times(factor)
    if product.masking is not None and factor <= 0:
        return Opaque(operation, f"it multiplies masked scores by {factor:g}", masking.REMEDY)
    if isinstance(value, Scores):
        return Scores(value.axes, product)
    if factor < 0:  # others commute with the maximum
        return Opaque(operation, f"it multiplies {describe(value)} by a number below zero")
    by = value.by.times(factor) if isinstance(value, Shifted) and value.by is not None else None
    return (
        Shifted(value.axes, product, value.key, by)
        if isinstance(value, Shifted)
        else RowMaximum(value.axes, product, value.key)
    )


def _divide(operation: Any, operands: Sequence[Value]) -> Value | None:
    left, right = operands
    step = decomposed.divide(operation, left, right)
    if step is not None:
        return step
    if (by := scaling_of(right)) is not None and (over := by.to(-1)) is not None:
        if isinstance(left, Splat):
            return over.times(left.value) if left.is_float and math.isfinite(left.value) else None
        return scaled(operation, left, over)
    if not isinstance(right, Splat):
        return None
    if right.value == 0 or not math.isfinite(right.value):
        return Opaque(operation, f"it divides by {right.value:g}")
    return _times(operation, left, 1.0 / right.value)


def scaling_of(value: Value) -> Scaling | None:
    """The number that a tensor of one element is, where that is an argument; it might be a tensor of attention too."""
    if isinstance(value, Scaling):
        return value
    if not isinstance(value, Operand) or any(value.axes) or len(scalings(value.factors)) > 0:
        return None
    return Scaling(value.argument, constant=numbers(value.factors))


def scaled(operation: Any, value: Value, by: Scaling) -> Value | None:
    """A tensor times a number that is an argument."""
    other = scaling_of(value) if isinstance(value, Scaling) else None
    if other is not None:
        power = other.power + by.power
        rooted = other.rooted or by.rooted
        same = other.argument == by.argument
        return Scaling(by.argument, power, other.constant * by.constant, rooted) if same else None
    if isinstance(value, Operand):
        return replace(value, factors=(*value.factors, by))
    if not isinstance(value, Scores):
        return None
    if value.product.masking is not None:
        return Opaque(operation, "it multiplies masked scores by an argument", masking.REMEDY)
    return replace(value, product=value.product.times(by))


def _root(operation: Any, operands: Sequence[Value]) -> Value | None:
    """Square roots of a number that is an argument."""
    number = scaling_of(operands[0])
    return None if number is None else number.to(0.5 if operation.name == "math.sqrt" else -0.5)


def _negate(operation: Any, operands: Sequence[Value]) -> Value | None:
    return _times(operation, operands[0], -1.0)


def _subtract(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.subtract(operation, *operands)


def _add(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.add(operation, *operands) or masking.add(operation, *operands)


def _logarithm(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.logarithm(operation, operands[0])


def _absolute(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.absolute(operation, operands[0])


def _cap(operation: Any, operands: Sequence[Value]) -> Value | None:
    """tanh of the scores, once and before they are masked."""
    (value,) = operands
    if not isinstance(value, Scores) or value.product.capped is not None or value.product.masking is not None:
        return None
    return replace(value, product=replace(value.product, factors=(), capped=value.product.factors))


def _exponential(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.exponential(operation, operands[0], operation.name == "math.exp2")


def _power(operation: Any, operands: Sequence[Value]) -> Value | None:
    """A number to the power of a value: e to the power of the number's logarithm times it."""
    base, value = operands
    if not isinstance(base, Splat) or not (math.isfinite(base.value) and base.value > 1):
        return None
    if base.value == 2:
        return decomposed.exponential(operation, value, True)
    scaled = _times(operation, value, math.log(base.value)) if isinstance(value, Shifted | Scores) else None
    return None if scaled is None else decomposed.exponential(operation, scaled, False)


def _compare(operation: Any, operands: Sequence[Value]) -> Value | None:
    return decomposed.compare(operation, operation.attributes["predicate"].value, *operands)


def _arithmetic(operation: Any, operands: Sequence[Value]) -> Value | None:
    return positions.arithmetic(operation, operands) or open_lengths.arithmetic(operation, operands)


def _divide_lengths(operation: Any, operands: Sequence[Value]) -> Value | None:
    return open_lengths.arithmetic(operation, operands)


def _logic(operation: Any, operands: Sequence[Value]) -> Value | None:
    negated = decomposed.negate(operation, *operands) if operation.name == "arith.xori" else None
    return negated or positions.logic(operation, operands)


def _compare_integers(operation: Any, operands: Sequence[Value]) -> Value | None:
    if element_type(operation.operands[0].type) == "i1":
        return _compare_truths(operation, *operands)
    return positions.compare(operation, operands) or open_lengths.compare(operation, operands)


def _compare_truths(operation: Any, left: Value, right: Value) -> Value | None:
    """eq (0) or ne (1) of a truth with a constant: itself, or the opposite."""
    if isinstance(left, Splat):
        left, right = right, left
    predicate = operation.attributes["predicate"].value
    if not isinstance(right, Splat) or predicate not in (0, 1):
        return None
    if bool(right.value) == (predicate == 0):
        return None if isinstance(left, Opaque) else left
    if isinstance(left, Operand | Inverted | Predicate):
        return positions.opposite(left)
    return decomposed.negate(operation, left, Splat(-1, "i1"))


def _select(operation: Any, operands: Sequence[Value]) -> Value | None:
    chosen = open_lengths.select(*operands)
    if chosen is not None:
        return chosen
    kept = decomposed.unhide(operation, *operands) or decomposed.finite_maximum(operation, *operands)
    kept = kept or decomposed.raised_scores(operation, *operands)
    kept = kept or decomposed.raised(operation, *operands) or decomposed.numbered(operation, *operands)
    return kept or masking.select(operation, *operands) or decomposed.select(operation, *operands)


RULES: dict[str, Rule] = {
    "arith.extf": _convert,
    "arith.truncf": _convert,
    "arith.mulf": _multiply,
    "arith.divf": _divide,
    "arith.subf": _subtract,
    "arith.addf": _add,
    "arith.negf": _negate,
    "arith.cmpf": _compare,
    "arith.select": _select,
    **dict.fromkeys(positions.ARITHMETIC, _arithmetic),
    **dict.fromkeys(open_lengths.DIVISIONS, _divide_lengths),
    "arith.cmpi": _compare_integers,
    **dict.fromkeys(positions.LOGIC, _logic),
    "math.sqrt": _root,
    "math.rsqrt": _root,
    "math.log": _logarithm,
    "math.absf": _absolute,
    "math.tanh": _cap,
    "math.exp": _exponential,
    "math.exp2": _exponential,
    "math.powf": _power,
}
