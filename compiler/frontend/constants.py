"""Constants that the source computes: each operation on numbers is done in its own type, as the program would do it.

Integers wrap at their width, i1 true is -1 where it is read with a sign; every float result is rounded to its type.
What the source leaves undefined (division by zero, shifts beyond the width, a broken promise of a flag) is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from npuc.compiler.frontend.attributes import attribute_of
from npuc.compiler.frontend.number_formats import (
    FLOAT_FORMATS,
    bits_of,
    integer_width,
    of_bits,
    rounded,
    unsigned,
    wrapped,
)
from npuc.compiler.frontend.values import Opaque, Splat

Number = float | int


class _Undefined(Exception):
    """The program gives this operation no value; the text says why."""


def constant(operation: Any) -> Splat | Opaque:
    """The value of an arith.constant that is one number, or the same number everywhere."""
    from torch_mlir import ir

    attribute = attribute_of(operation, "value")
    type_ = element_type(operation.results[0].type)
    if attribute is None or type_ not in FLOAT_FORMATS and integer_width(type_) is None:
        return Opaque(operation, f"a constant of {type_} has no part in attention")
    if isinstance(attribute, ir.DenseElementsAttr) and attribute.is_splat:
        attribute = attribute.get_splat_value()
    if isinstance(attribute, ir.BoolAttr):
        return Splat(-int(attribute.value), type_)
    if isinstance(attribute, ir.FloatAttr):
        return Splat(float(attribute.value), type_)
    if isinstance(attribute, ir.IntegerAttr):
        width = integer_width(type_)
        assert width is not None
        return Splat(wrapped(int(attribute.value), width), type_)
    return Opaque(operation, "a constant that is not one number everywhere has no part in attention")


def fold(operation: Any, operands: Sequence[Any]) -> Splat | Opaque | None:
    """The result of an operation on constants; None where an operand is none, or the operation has no rule."""
    rule = _RULES.get(operation.name)
    if rule is None or len(operation.results) != 1 or not all(isinstance(value, Splat) for value in operands):
        return None
    result = element_type(operation.results[0].type)
    types = [*(value.type for value in operands), result]
    if any(type_ not in FLOAT_FORMATS and integer_width(type_) is None for type_ in types):
        return None
    try:
        _check_promises(operation, operands)
        value = rule(operation, operands, result)
        _check_fast(operation, operands, value)
    except _Undefined as reason:
        return Opaque(operation, f"its value is not defined: {reason}")
    return Splat(value, result)


def element_type(type_: Any) -> str:
    """`f32` of f32 or tensor<4xf32>."""
    return str(getattr(type_, "element_type", type_))


def _check_promises(operation: Any, operands: Sequence[Splat]) -> None:
    attributes = operation.attributes
    if "roundingmode" in attributes and attributes["roundingmode"].value != 0:
        raise _Undefined("constants are rounded to nearest even only")
    if "isExact" in attributes:
        raise _Undefined("exact divisions and shifts of constants are not folded")
    if "nonNeg" in attributes and operands[0].value < 0:
        raise _Undefined("its operand is below zero")


def _check_fast(operation: Any, operands: Sequence[Splat], value: Number) -> None:
    flags = str(operation.attributes["fastmath"]) if "fastmath" in operation.attributes else ""
    numbers = [value, *(operand.value for operand in operands)]
    if ("nnan" in flags or "fast>" in flags) and any(math.isnan(n) for n in numbers):
        raise _Undefined("it promises that there is no NaN")
    if ("ninf" in flags or "fast>" in flags) and any(math.isinf(n) for n in numbers):
        raise _Undefined("it promises that there is no infinity")


_Rule = Callable[[Any, Sequence[Splat], str], Number]


def _integers(function: Callable[[int, int, int], int], signed: bool = True) -> _Rule:
    """function: of two integers and their width; the result wraps."""

    def rule(operation: Any, operands: Sequence[Splat], result: str) -> Number:
        width = integer_width(result)
        assert width is not None
        left, right = (int(o.value) if signed else unsigned(int(o.value), width) for o in operands)
        value = function(left, right, width)
        _check_overflow(operation, value, operands, width)
        return wrapped(value, width)

    return rule


def _check_overflow(operation: Any, value: int, operands: Sequence[Splat], width: int) -> None:
    flags = str(operation.attributes["overflowFlags"]) if "overflowFlags" in operation.attributes else ""
    if "nsw" not in flags and "nuw" not in flags:
        return
    left, right = (unsigned(int(o.value), width) for o in operands)
    without_sign = {"arith.addi": left + right, "arith.subi": left - right, "arith.muli": left * right}
    exact = without_sign.get(operation.name, left << min(right, width))
    if ("nsw" in flags and wrapped(value, width) != value) or ("nuw" in flags and not 0 <= exact < 1 << width):
        raise _Undefined("it promises not to overflow")


def _divided(function: Callable[[int, int], int], signed: bool = True) -> _Rule:
    def divide(left: int, right: int, width: int) -> int:
        if right == 0:
            raise _Undefined("it divides by zero")
        if signed and right == -1 and left == -(1 << width - 1):
            raise _Undefined("its quotient overflows")
        return function(left, right)

    return _integers(divide, signed)


def _truncated(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _shifted(function: Callable[[int, int], int], signed: bool) -> _Rule:
    def shift(left: int, right: int, width: int) -> int:
        amount = unsigned(right, width)
        if amount >= width:
            raise _Undefined("it shifts by its width or more")
        return function(left, amount)

    return _integers(shift, signed)


_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
}
# Predicates by number (arith's CmpIPredicate and CmpFPredicate).
_INTEGER_PREDICATES = ("eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge")
_FLOAT_PREDICATES = ("false", "oeq", "ogt", "oge", "olt", "ole", "one", "ord",
                     "ueq", "ugt", "uge", "ult", "ule", "une", "uno", "true")  # fmt: skip


def _compare_integers(operation: Any, operands: Sequence[Splat], result: str) -> Number:
    predicate = _INTEGER_PREDICATES[operation.attributes["predicate"].value]
    left, right = (int(operand.value) for operand in operands)
    width = integer_width(operands[0].type)
    assert width is not None
    if predicate[0] == "u":
        left, right = unsigned(left, width), unsigned(right, width)
    return -int(_ORDERED[predicate if predicate in ("eq", "ne") else predicate[1:]](left, right))


def _compare_floats(operation: Any, operands: Sequence[Splat], result: str) -> Number:
    predicate = _FLOAT_PREDICATES[operation.attributes["predicate"].value]
    left, right = (operand.value for operand in operands)
    unordered = math.isnan(left) or math.isnan(right)
    if predicate in ("false", "true"):
        return -int(predicate == "true")
    if predicate in ("ord", "uno"):
        return -int(unordered == (predicate == "uno"))
    return -int(predicate[0] == "u" if unordered else _ORDERED[predicate[1:]](left, right))


def _select(operation: Any, operands: Sequence[Splat], result: str) -> Number:
    condition, left, right = operands
    return left.value if condition.value else right.value


def _to_integer(operation: Any, operands: Sequence[Splat], result: str) -> Number:
    """extsi, trunci, index_cast: the low bits of the signed number."""
    width = integer_width(result)
    assert width is not None
    value = int(operands[0].value)
    flags = str(operation.attributes["overflowFlags"]) if "overflowFlags" in operation.attributes else ""
    if "nsw" in flags and wrapped(value, width) != value:
        raise _Undefined("it promises not to overflow")
    if "nuw" in flags and not 0 <= _without_sign(operands[0]) < 1 << width:
        raise _Undefined("it promises not to overflow")
    return wrapped(value, width)


def _to_wider_unsigned(operation: Any, operands: Sequence[Splat], result: str) -> Number:
    """extui, index_castui."""
    width = integer_width(result)
    assert width is not None
    return wrapped(_without_sign(operands[0]), width)


def _without_sign(operand: Splat) -> int:
    width = integer_width(operand.type)
    assert width is not None
    return unsigned(int(operand.value), width)


def _float_to_integer(signed: bool) -> _Rule:
    def rule(operation: Any, operands: Sequence[Splat], result: str) -> Number:
        value, width = operands[0].value, integer_width(result)
        assert width is not None
        first, last = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
        if not math.isfinite(value) or not first <= math.trunc(value) <= last:
            raise _Undefined("its operand is beyond the integer's range")
        return wrapped(math.trunc(value), width)

    return rule


def _floats(function: Callable[..., float | Fraction]) -> _Rule:
    """function: of the operands as doubles, in double precision or exactly; the result is rounded to the type."""

    def rule(operation: Any, operands: Sequence[Splat], result: str) -> Number:
        return rounded(function(*(float(operand.value) for operand in operands)), result)

    return rule


def _divide(left: float, right: float) -> float:
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left) * math.copysign(1.0, right)
    return left / right


def _maximum(left: float, right: float) -> float:
    if math.isnan(left) or math.isnan(right):
        return math.nan
    if left == right == 0:
        return left if math.copysign(1.0, left) > 0 else right
    return max(left, right)


def _maxnum(left: float, right: float) -> float:
    return right if math.isnan(left) else left if math.isnan(right) else max(left, right)


def _minimum(left: float, right: float) -> float:
    return -_maximum(-left, -right)


def _minnum(left: float, right: float) -> float:
    return -_maxnum(-left, -right)


def _guarded(function: Callable[..., float]) -> Callable[..., float]:
    """A function of Python's math with IEEE's results where Python raises."""

    def guarded(*values: float) -> float:
        try:
            return function(*values)
        except OverflowError:
            return math.inf
        except ValueError:
            return math.nan

    return guarded


def _logarithm(function: Callable[[float], float]) -> Callable[..., float]:
    return lambda value: -math.inf if value == 0 else _guarded(function)(value)


_RULES: dict[str, _Rule] = {
    "arith.addi": _integers(lambda a, b, _: a + b),
    "arith.subi": _integers(lambda a, b, _: a - b),
    "arith.muli": _integers(lambda a, b, _: a * b),
    "arith.andi": _integers(lambda a, b, _: a & b),
    "arith.ori": _integers(lambda a, b, _: a | b),
    "arith.xori": _integers(lambda a, b, _: a ^ b),
    "arith.maxsi": _integers(lambda a, b, _: max(a, b)),
    "arith.minsi": _integers(lambda a, b, _: min(a, b)),
    "arith.maxui": _integers(lambda a, b, _: max(a, b), signed=False),
    "arith.minui": _integers(lambda a, b, _: min(a, b), signed=False),
    "arith.divsi": _divided(_truncated),
    "arith.remsi": _divided(lambda a, b: a - b * _truncated(a, b)),
    "arith.floordivsi": _divided(lambda a, b: a // b),
    "arith.ceildivsi": _divided(lambda a, b: -(-a // b)),
    "arith.divui": _divided(lambda a, b: a // b, signed=False),
    "arith.remui": _divided(lambda a, b: a % b, signed=False),
    "arith.ceildivui": _divided(lambda a, b: -(-a // b), signed=False),
    "arith.shli": _shifted(lambda a, n: a << n, signed=True),
    "arith.shrsi": _shifted(lambda a, n: a >> n, signed=True),
    "arith.shrui": _shifted(lambda a, n: a >> n, signed=False),
    "arith.cmpi": _compare_integers,
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
    "arith.extsi": _to_integer,
    "arith.trunci": _to_integer,
    "arith.index_cast": _to_integer,
    "arith.extui": _to_wider_unsigned,
    "arith.index_castui": _to_wider_unsigned,
    "arith.sitofp": lambda _, operands, result: rounded(int(operands[0].value), result),
    "arith.uitofp": lambda _, operands, result: rounded(_without_sign(operands[0]), result),
    "arith.fptosi": _float_to_integer(signed=True),
    "arith.fptoui": _float_to_integer(signed=False),
    "arith.bitcast": lambda _, operands, result: of_bits(bits_of(operands[0].value, operands[0].type)[0], result),
    "arith.extf": _floats(lambda a: a),
    "arith.truncf": _floats(lambda a: a),
    "arith.addf": _floats(lambda a, b: a + b),
    "arith.subf": _floats(lambda a, b: a - b),
    "arith.mulf": _floats(lambda a, b: a * b),
    "arith.divf": _floats(_divide),
    "arith.negf": _floats(lambda a: -a),
    "arith.maximumf": _floats(_maximum),
    "arith.minimumf": _floats(_minimum),
    "arith.maxnumf": _floats(_maxnum),
    "arith.minnumf": _floats(_minnum),
    "math.absf": _floats(abs),
    "math.sqrt": _floats(_guarded(math.sqrt)),
    "math.rsqrt": _floats(lambda a: _divide(1.0, _guarded(math.sqrt)(a))),
    "math.exp": _floats(_guarded(math.exp)),
    "math.exp2": _floats(_guarded(lambda a: 2.0**a)),
    "math.log": _floats(_logarithm(math.log)),
    "math.log2": _floats(_logarithm(math.log2)),
    "math.powf": _floats(_guarded(math.pow)),
}
