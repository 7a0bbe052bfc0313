"""The float adder of the multiply-accumulate pipe (facts/semantics/vmac.md section 5, facts/silicon/bf16_mac_model.md).

Every term is rounded, half to even, to the grid 2^(top - 23), where top is the largest place of all terms; the place of
a product is the sum of its operands' exponents. The rounded terms are added exactly and the sum is rounded once.

In float64 a product of two bf16 numbers is exact, and adding and subtracting 1.5 * 2^(top + 29) rounds to that grid
half to even. Lanes that meet an infinity or NaN come out of this as NaN and are computed again by `exact_lane`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ROUNDER = 1.5 * 2.0 ** 29
# A sum rounds to at least 2^-126 from here on; below it is flushed to zero.
_UNDERFLOW = 2.0 ** -126 - 2.0 ** -151


def _finish(v: Any, values: Any, places: Any, signed_zero: bool) -> Any:
    """fp32 patterns of the column sums of finite terms; NaN in columns with special values."""
    rounder = v.fold_max(places) * _ROUNDER
    total = v.fold_add((values + rounder) - rounder)
    small = abs(total) < _UNDERFLOW
    return v.select(small, total * 0.0 if signed_zero else 0.0, total)


def multiply_add(v: Any, a: Any, b: Any, geometry: Any, negate: bool, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    """Products of bf16 lanes a, b (uint16) plus fp32 accumulators (uint32 lanes, negated or not); fp32 patterns."""
    values, places = v.float_terms(a, b, (geometry.rows, geometry.inner, geometry.columns), negate, accumulators)
    total = _finish(v, values, places, False)
    result = v.to_fp32(total)
    if v.any_special(total):
        _redo(result, total, lambda lane: exact_lane(_factors(a, b, geometry, lane), negate, [
            (int(lanes[lane]), negated) for lanes, negated in accumulators]))
    return result


def add(v: Any, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    """The sum of fp32 accumulators (uint32 lanes, negated or not); fp32 patterns. No term: zeros."""
    if not accumulators:
        return v.lanes(v.zeros(512), 32)
    values, places = v.fp32_terms(accumulators)
    total = _finish(v, values, places, True)
    result = v.to_fp32(total)
    if v.any_special(total):
        _redo(result, total, lambda lane: exact_lane([], False, [
            (int(lanes[lane]), negated) for lanes, negated in accumulators], signed_zero=True))
    return result


def _redo(result: Any, total: Any, lane_value: Any) -> None:
    for lane in range(len(result)):
        if total[lane] != total[lane]:
            result[lane] = lane_value(lane)


def _factors(a: Any, b: Any, geometry: Any, lane: int) -> list[tuple[int, int]]:
    """The pairs of bf16 patterns that one output lane multiplies."""
    if not geometry.columns:
        return [(int(a[lane + k * geometry.rows]), int(b[lane + k * geometry.rows])) for k in range(geometry.inner)]
    row, column = divmod(lane, geometry.columns)
    return [(int(a[row * geometry.inner + k]), int(b[k * geometry.columns + column])) for k in range(geometry.inner)]


def _fields(pattern: int, mantissa_bits: int) -> tuple[int, int, int, bool, bool]:
    """sign, exponent field (1 for denormals), significand with its hidden bit, is infinity, is NaN."""
    mantissa = pattern & ((1 << mantissa_bits) - 1)
    field = (pattern >> mantissa_bits) & 0xFF
    significand = mantissa | (1 << mantissa_bits if field else 0)
    return (pattern >> (mantissa_bits + 8) & 1, max(field, 1), significand, field == 255 and mantissa == 0,
            field == 255 and mantissa != 0)


def round_half_even(value: int, shift: int) -> int:
    """value / 2^shift rounded to an integer, ties to even; value >= 0."""
    if shift <= 0:
        return value << -shift
    quotient, rest = value >> shift, value & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1 == 1))


def exact_lane(factors: Sequence[tuple[int, int]], negate: bool, accumulators: Sequence[tuple[int, bool]], *,
               signed_zero: bool = False) -> int:
    """One output lane in integers, special values included: bf16 pattern pairs and fp32 patterns to an fp32 pattern.

    Infinity and NaN operands go through the adder like numbers of exponent 255; the flags decide afterwards.
    """
    terms: list[tuple[int, int, int]] = []  # sign, place (biased by 254), magnitude in units of 2^(place - 23)
    infinite: set[int] = set()
    nan = False
    for a, b in factors:
        a_sign, a_field, a_bits, a_infinite, a_nan = _fields(a, 7)
        b_sign, b_field, b_bits, b_infinite, b_nan = _fields(b, 7)
        sign = a_sign ^ b_sign ^ negate
        zero = not a_bits or not b_bits
        nan = nan or a_nan or b_nan or ((a_infinite or b_infinite) and zero)
        if (a_infinite or b_infinite) and not zero:
            infinite.add(sign)
        if not zero:
            terms.append((sign, a_field + b_field, (a_bits * b_bits) << 9))
    products = len(terms)
    for pattern, negated in accumulators:
        sign, field, bits, is_infinite, is_nan = _fields(pattern, 23)
        sign ^= negated
        nan = nan or is_nan
        if is_nan and products == 0 and len(accumulators) == 1 and factors:
            return pattern ^ (int(negated) << 31)
        if is_infinite:
            infinite.add(sign)
        if bits:
            terms.append((sign, field + 127, bits))
    nan = nan or len(infinite) == 2
    if infinite and not nan:
        return infinite.pop() << 31 | 0x7F800000
    if not terms:
        return 0x7F800001 if nan else 0
    top = max(place for _, place, _ in terms)
    total = sum((-1) ** sign * round_half_even(magnitude, top - place) for sign, place, magnitude in terms)
    return _pack(total, top, nan, signed_zero)


def _pack(total: int, top: int, nan: bool, signed_zero: bool) -> int:
    """total * 2^(top - 254 - 23) as an fp32 pattern."""
    sign, magnitude = int(total < 0), abs(total)
    if magnitude == 0:
        return 0x7F800001 if nan else 0
    excess = magnitude.bit_length() - 24
    rounded = round_half_even(magnitude, excess)
    if rounded >> 24:
        rounded, excess = rounded >> 1, excess + 1
    field = top - 127 + excess
    out_of_range = field >= 255 or field <= 0
    if nan:
        return sign << 31 | 0x7F800000 | (0 if out_of_range else rounded & 0x7FFFFF) | 1
    if field >= 255:
        return sign << 31 | 0x7F800000
    if field <= 0:
        return sign << 31 if signed_zero else 0
    return sign << 31 | field << 23 | (rounded & 0x7FFFFF)
