"""What each operation of arith and math does to the elements of its operands.

Floats are computed in float64: the sign of a zero that a maximum or minimum gives is not modelled. Integers wrap in
their own width. What MLIR leaves undefined (division by zero, a shift past the width, a conversion out of range) is an
error; a conversion out of range only where the result rests on it (`standing_in`), as programs convert the logarithm
of zero and then choose something else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from npuc.runtime.evaluator.elements import ElementType


class UndefinedError(Exception):
    """The operation has no result on these values; the text says why."""


@dataclass
class StandIn:
    """What stands for integers that no conversion gives: the least of their type, or the greatest. met: whether any
    was needed."""

    least: bool
    met: bool = False


_stand_in: ContextVar[StandIn | None] = ContextVar("what stands for undefined integers", default=None)


@contextmanager
def standing_in(least: bool) -> Iterator[StandIn]:
    """Conversions that have no result give one of two numbers inside: what comes out the same with both does not rest
    on them."""
    stand = StandIn(least)
    token = _stand_in.set(stand)
    try:
        yield stand
    finally:
        _stand_in.reset(token)


@dataclass(frozen=True)
class Signature:
    """Element types of operands and result; predicate: of a comparison."""

    operands: tuple[ElementType, ...]
    result: ElementType
    predicate: int = 0


Function: TypeAlias = Callable[[Sequence[np.ndarray], Signature], np.ndarray]


def _direct(function: Callable[..., Any]) -> Function:
    """A numpy function of the operands, whatever their types."""
    return lambda arrays, _: function(*arrays)


# --- floating point -----------------------------------------------------------------------------------------------
def _round_half_away(x: np.ndarray) -> np.ndarray:
    whole = np.trunc(x)
    return np.where(np.abs(x - whole) >= 0.5, whole + np.copysign(1.0, x), whole)


def _each(function: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of one float on every element, for what numpy lacks."""
    return np.vectorize(function, otypes=[np.float64])


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return a * b + c


def _clamp(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(x, low), high)


def _power(base: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    return np.power(base, exponent.astype(np.float64))


def _is_normal(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
    (x,) = arrays
    import ml_dtypes

    smallest = float(ml_dtypes.finfo(signature.operands[0].storage).smallest_normal)
    return np.isfinite(x) & (np.abs(x) >= smallest)


def _one(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a < b) | (a > b)


def _ordered(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return ~(np.isnan(a) | np.isnan(b))


# arith.cmpf's predicates by number: false oeq ogt oge olt ole one ord ueq ugt uge ult ule une uno true.
_FLOAT_PREDICATES: tuple[Callable[[Any, Any], Any], ...] = (
    lambda a, b: np.zeros(np.broadcast(a, b).shape, np.bool_),
    np.equal,
    np.greater,
    np.greater_equal,
    np.less,
    np.less_equal,
    _one,
    _ordered,
    lambda a, b: ~_one(a, b),
    lambda a, b: ~np.less_equal(a, b),
    lambda a, b: ~np.less(a, b),
    lambda a, b: ~np.greater_equal(a, b),
    lambda a, b: ~np.greater(a, b),
    np.not_equal,
    lambda a, b: ~_ordered(a, b),
    lambda a, b: np.ones(np.broadcast(a, b).shape, np.bool_),
)


def _compare_floats(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
    return _FLOAT_PREDICATES[signature.predicate](*arrays)


# --- integers -----------------------------------------------------------------------------------------------------
def _wrapping(function: Callable[..., Any]) -> Function:
    """An operation of 64-bit two's complement whose lower bits do not depend on the upper ones."""

    def apply(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        type_ = signature.result
        return type_.wrapped(np.asarray(function(*map(type_.signed, arrays))))

    return apply


def _on(view: str, function: Callable[..., Any]) -> Function:
    """A function of the operands read as `signed` or `unsigned`; the result wraps."""

    def apply(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        read = [getattr(t, view)(a) for t, a in zip(signature.operands, arrays, strict=True)]
        return signature.result.wrapped(np.asarray(function(*read)))

    return apply


def _divisor(b: np.ndarray) -> None:
    if np.any(b == 0):
        raise UndefinedError("it divides by zero")


def _unsigned_division(up: bool) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        _divisor(b)
        return a // b + (a % b != 0) if up else a // b

    return divide


def _signed_division(correction: Callable[[Any, Any, Any], Any]) -> Function:
    """Floor division plus `correction(has a remainder, a is negative, b is negative)`."""

    def divide(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        type_ = signature.result
        a, b = map(type_.signed, arrays)
        _divisor(b)
        if np.any((a == type_.limits[0]) & (b == -1)):
            raise UndefinedError("its quotient does not fit")
        quotient = a // b
        remains = a - quotient * b != 0
        return type_.wrapped(quotient + correction(remains, a < 0, b < 0))

    return divide


def _toward_zero(remains: Any, a: Any, b: Any) -> Any:
    return remains & (a != b)


def _signed_remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _divisor(b)
    return np.fmod(a, b)


def _unsigned_remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    _divisor(b)
    return a % b


def _shift(function: Callable[..., Any], view: str) -> Function:
    def shift(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        type_ = signature.result
        amount = type_.unsigned(arrays[1])
        if np.any(amount >= type_.width):
            raise UndefinedError(f"it shifts by {int(np.max(amount))}, the type has {type_.width} bits")
        value = getattr(type_, view)(arrays[0])
        return type_.wrapped(function(value, amount.astype(value.dtype)))

    return shift


# arith.cmpi's predicates by number: eq ne slt sle sgt sge ult ule ugt uge.
_INTEGER_PREDICATES = (
    ("signed", np.equal),
    ("signed", np.not_equal),
    ("signed", np.less),
    ("signed", np.less_equal),
    ("signed", np.greater),
    ("signed", np.greater_equal),
    ("unsigned", np.less),
    ("unsigned", np.less_equal),
    ("unsigned", np.greater),
    ("unsigned", np.greater_equal),
)


def _compare_integers(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
    view, function = _INTEGER_PREDICATES[signature.predicate]
    return function(*(getattr(t, view)(a) for t, a in zip(signature.operands, arrays, strict=True)))


# --- conversions --------------------------------------------------------------------------------------------------
def _to_float(view: str) -> Function:
    def convert(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        return getattr(signature.operands[0], view)(arrays[0]).astype(np.float64)

    return convert


def _to_integer(signed: bool) -> Function:
    def convert(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        type_, whole = signature.result, np.trunc(arrays[0])
        low, high = type_.limits if signed else (0, (1 << type_.width) - 1)
        fits = (whole >= low) & (whole < float(high + 1))
        if np.all(fits):
            return type_.wrapped(whole.astype(np.int64 if signed else np.uint64))
        stand = _stand_in.get()
        if stand is None:
            raise UndefinedError(f"it converts a number that {type_.name} cannot hold")
        stand.met = True
        found = np.where(fits, whole, 0.0).astype(np.int64 if signed else np.uint64)
        return type_.wrapped(np.where(fits, found, found.dtype.type(low if stand.least else high)))

    return convert


def _resize(view: str) -> Function:
    def convert(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        return signature.result.wrapped(getattr(signature.operands[0], view)(arrays[0]))

    return convert


def _same(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
    return arrays[0]


def _select(arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
    return np.where(*arrays)


FUNCTIONS: dict[str, Function] = {
    "arith.addf": _direct(np.add),
    "arith.subf": _direct(np.subtract),
    "arith.mulf": _direct(np.multiply),
    "arith.divf": _direct(np.divide),
    "arith.remf": _direct(np.fmod),
    "arith.negf": _direct(np.negative),
    "arith.maximumf": _direct(np.maximum),
    "arith.minimumf": _direct(np.minimum),
    "arith.maxnumf": _direct(np.fmax),
    "arith.minnumf": _direct(np.fmin),
    "arith.cmpf": _compare_floats,
    "arith.extf": _same,
    "arith.truncf": _same,
    "arith.convertf": _same,
    "arith.addi": _wrapping(np.add),
    "arith.subi": _wrapping(np.subtract),
    "arith.muli": _wrapping(np.multiply),
    "arith.andi": _wrapping(np.bitwise_and),
    "arith.ori": _wrapping(np.bitwise_or),
    "arith.xori": _wrapping(np.bitwise_xor),
    "arith.divsi": _signed_division(_toward_zero),
    "arith.floordivsi": _signed_division(lambda remains, a, b: 0),
    "arith.ceildivsi": _signed_division(lambda remains, a, b: remains),
    "arith.divui": _on("unsigned", _unsigned_division(up=False)),
    "arith.ceildivui": _on("unsigned", _unsigned_division(up=True)),
    "arith.remsi": _on("signed", _signed_remainder),
    "arith.remui": _on("unsigned", _unsigned_remainder),
    "arith.maxsi": _on("signed", np.maximum),
    "arith.minsi": _on("signed", np.minimum),
    "arith.maxui": _on("unsigned", np.maximum),
    "arith.minui": _on("unsigned", np.minimum),
    "arith.shli": _shift(np.left_shift, "signed"),
    "arith.shrsi": _shift(np.right_shift, "signed"),
    "arith.shrui": _shift(np.right_shift, "unsigned"),
    "arith.cmpi": _compare_integers,
    "arith.select": _select,
    "arith.sitofp": _to_float("signed"),
    "arith.uitofp": _to_float("unsigned"),
    "arith.fptosi": _to_integer(signed=True),
    "arith.fptoui": _to_integer(signed=False),
    "arith.extsi": _resize("signed"),
    "arith.extui": _resize("unsigned"),
    "arith.trunci": _resize("signed"),
    "arith.index_cast": _resize("signed"),
    "arith.index_castui": _resize("unsigned"),
    "math.absf": _direct(np.abs),
    "math.absi": _on("signed", np.abs),
    "math.acos": _direct(np.arccos),
    "math.acosh": _direct(np.arccosh),
    "math.asin": _direct(np.arcsin),
    "math.asinh": _direct(np.arcsinh),
    "math.atan": _direct(np.arctan),
    "math.atan2": _direct(np.arctan2),
    "math.atanh": _direct(np.arctanh),
    "math.cbrt": _direct(np.cbrt),
    "math.ceil": _direct(np.ceil),
    "math.clampf": _direct(_clamp),
    "math.copysign": _direct(np.copysign),
    "math.cos": _direct(np.cos),
    "math.cosh": _direct(np.cosh),
    "math.erf": _direct(_each(math.erf)),
    "math.erfc": _direct(_each(math.erfc)),
    "math.exp": _direct(np.exp),
    "math.exp2": _direct(np.exp2),
    "math.expm1": _direct(np.expm1),
    "math.floor": _direct(np.floor),
    "math.fma": _direct(_fma),
    "math.fpowi": _direct(_power),
    "math.isfinite": _direct(np.isfinite),
    "math.isinf": _direct(np.isinf),
    "math.isnan": _direct(np.isnan),
    "math.isnormal": _is_normal,
    "math.log": _direct(np.log),
    "math.log10": _direct(np.log10),
    "math.log1p": _direct(np.log1p),
    "math.log2": _direct(np.log2),
    "math.powf": _direct(np.power),
    "math.round": _direct(_round_half_away),
    "math.roundeven": _direct(np.rint),
    "math.rsqrt": _direct(lambda x: 1.0 / np.sqrt(x)),
    "math.sin": _direct(np.sin),
    "math.sinh": _direct(np.sinh),
    "math.sqrt": _direct(np.sqrt),
    "math.tan": _direct(np.tan),
    "math.tanh": _direct(np.tanh),
    "math.trunc": _direct(np.trunc),
}

# Reductions by any grouping: exact but for the order of float sums and products.
FLOAT_REDUCERS: dict[str, np.ufunc] = {
    "arith.addf": np.add,
    "arith.mulf": np.multiply,
    "arith.maximumf": np.maximum,
    "arith.minimumf": np.minimum,
    "arith.maxnumf": np.fmax,
    "arith.minnumf": np.fmin,
}
# Of integers read as int64; of i1 on bool, where true is -1 signed.
INTEGER_REDUCERS: dict[str, tuple[np.ufunc, np.ufunc]] = {
    "arith.addi": (np.add, np.logical_xor),
    "arith.muli": (np.multiply, np.logical_and),
    "arith.andi": (np.bitwise_and, np.logical_and),
    "arith.ori": (np.bitwise_or, np.logical_or),
    "arith.xori": (np.bitwise_xor, np.logical_xor),
    "arith.maxsi": (np.maximum, np.logical_and),
    "arith.minsi": (np.minimum, np.logical_or),
}


def reducer(operation: str, type_: ElementType) -> np.ufunc | None:
    """The numpy function whose `reduce` is repeated application of an operation on values as they are held."""
    if type_.is_float:
        return FLOAT_REDUCERS.get(operation)
    wide, narrow = INTEGER_REDUCERS.get(operation, (None, None))
    return narrow if type_.width == 1 else wide
