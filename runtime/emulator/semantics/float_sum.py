"""The float adder of the multiply-accumulate pipe (facts/semantics/vmac.md section 5, facts/silicon/bf16_mac_model.md).

Every term is rounded, half to even, to the grid 2^(top - 23), where top is the largest place of all terms; the place of
a product is the sum of its operands' exponents. The rounded terms are added exactly and the sum is rounded once.

In float64 a product of two bf16 numbers is exact, and adding and subtracting 1.5 * 2^(top + 29) rounds to that grid
half to even. Infinities and NaN go through the adder like numbers of exponent 255; where there are any, `_decided` puts
in what they make of the result. `exact_lane` says the same in integers, lane by lane: the rule that tests compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ROUNDER = 1.5 * 2.0**29
# A sum rounds to at least 2^-126 from here on; below it is flushed to zero.
_UNDERFLOW = 2.0**-126 - 2.0**-151


def _total(v: Any, values: Any, places: Any) -> Any:
    """The column sums before the last rounding."""
    rounder = v.fold_max(places) * _ROUNDER
    return v.fold_add((values + rounder) - rounder)


def _patterns(v: Any, total: Any, signed_zero: bool) -> Any:
    """Sums rounded to fp32 patterns."""
    small = abs(total) < _UNDERFLOW
    return v.to_fp32(v.select(small, total * 0.0 if signed_zero else 0.0, total))


class _Specials:
    """Masks of the output lanes that meet a NaN, an infinity of either sign, and of those without a product."""

    def __init__(self, no: Any, yes: Any) -> None:
        self.nan, self.positive, self.negative, self.no_product = no, no, no, yes

    def infinite(self, mask: Any, negative: Any) -> None:
        self.negative = self.negative | (mask & negative)
        self.positive = self.positive | (mask & ~negative)


def _meet(v: Any, found: _Specials, a: Any, b: Any, negate: bool) -> None:
    """Adds what the products of one inner index bring."""
    x, y = a & 0x7FFF, b & 0x7FFF
    zero = (x == 0) | (y == 0)
    infinite = (x == 0x7F80) | (y == 0x7F80)
    found.nan = found.nan | (x > 0x7F80) | (y > 0x7F80) | (infinite & zero)
    sign = (a ^ b) >= 0x8000
    found.infinite(infinite & ~zero, ~sign if negate else sign)
    found.no_product = found.no_product & zero


def _decided(
    v: Any,
    total: Any,
    signed_zero: bool,
    factors: Sequence[tuple[Any, Any]],
    negate: bool,
    accumulators: Sequence[tuple[Any, bool]],
) -> Any:
    """The patterns where infinities or NaN take part; factors: the bf16 lanes of each product."""
    found = _Specials(total != total, total == total)
    for x, y in factors:
        _meet(v, found, x, y, negate)
    kept, kept_value = None, None
    for patterns, negated in accumulators:
        magnitude, sign = patterns & 0x7FFFFFFF, patterns >= 0x80000000
        nan = magnitude > 0x7F800000
        found.nan = found.nan | nan
        found.infinite(magnitude == 0x7F800000, ~sign if negated else sign)
        if factors and len(accumulators) == 1:  # a NaN that meets no product comes out as it is
            kept, kept_value = nan & found.no_product, patterns ^ (0x80000000 if negated else 0)
    ordinary = _patterns(v, total, signed_zero)
    payload = v.select(total < 0, 0xFF800001, 0x7F800001) | v.resize(ordinary & 0x7FFFFF, 64, True)
    infinity = v.select(found.negative, 0xFF800000, 0x7F800000)
    result = v.select(found.positive | found.negative, infinity, v.resize(ordinary, 64, True))
    result = v.resize(v.select(found.nan | (found.positive & found.negative), payload, result), 32)
    return result if kept is None else v.select(kept, kept_value, result)


def _special_accumulators(v: Any, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    special: Any = False
    for patterns, _ in accumulators:
        special = v.any((patterns & 0x7F800000) == 0x7F800000) | special
    return special


def multiply_add(v: Any, a: Any, b: Any, geometry: Any, negate: bool, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    """Products of bf16 lanes a, b (uint16) plus fp32 accumulators (uint32 lanes, negated or not); fp32 patterns."""
    shape = (geometry.rows, geometry.inner, geometry.columns)
    shortcut = v.usual_sum(a, b, shape, negate, accumulators)
    if shortcut is not None:
        unusual, usual = shortcut
        return v.branch(unusual, lambda: _any_sum(v, a, b, geometry, negate, accumulators), usual)
    return _any_sum(v, a, b, geometry, negate, accumulators)


def _any_sum(v: Any, a: Any, b: Any, geometry: Any, negate: bool, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    """The same, whatever size the operands have."""
    values, places = v.float_terms(a, b, (geometry.rows, geometry.inner, geometry.columns), negate, accumulators)
    total = _total(v, values, places)
    special = v.any((a & 0x7F80) == 0x7F80) | v.any((b & 0x7F80) == 0x7F80) | _special_accumulators(v, accumulators)

    def decided() -> Any:
        pairs = [_factor_indices(geometry, lane) for lane in range(geometry.lanes)]
        left, right = ([tuple(pair[k][side] for pair in pairs) for k in range(geometry.inner)] for side in (0, 1))
        factors = [(v.permute(a, i), v.permute(b, j)) for i, j in zip(left, right, strict=True)]
        return _decided(v, total, False, factors, negate, accumulators)

    return v.branch(special, decided, lambda: _patterns(v, total, False))


def add(v: Any, accumulators: Sequence[tuple[Any, bool]]) -> Any:
    """The sum of fp32 accumulators (uint32 lanes, negated or not); fp32 patterns. No term: zeros."""
    if not accumulators:
        return v.lanes(v.zeros(512), 32)
    values, places = v.fp32_terms(accumulators)
    total = _total(v, values, places)
    return v.branch(
        _special_accumulators(v, accumulators),
        lambda: _decided(v, total, True, [], False, accumulators),
        lambda: _patterns(v, total, True),
    )


def _factor_indices(geometry: Any, lane: int) -> list[tuple[int, int]]:
    """The elements of A and B that one output lane multiplies."""
    if not geometry.columns:
        return [(lane + k * geometry.rows,) * 2 for k in range(geometry.inner)]
    row, column = divmod(lane, geometry.columns)
    return [(row * geometry.inner + k, k * geometry.columns + column) for k in range(geometry.inner)]


def _factors(a: Any, b: Any, geometry: Any, lane: int) -> list[tuple[int, int]]:
    """The pairs of bf16 patterns that one output lane multiplies."""
    return [(int(a[i]), int(b[j])) for i, j in _factor_indices(geometry, lane)]


def _fields(pattern: int, mantissa_bits: int) -> tuple[int, int, int, bool, bool]:
    """sign, exponent field (1 for denormals), significand with its hidden bit, is infinity, is NaN."""
    mantissa = pattern & ((1 << mantissa_bits) - 1)
    field = (pattern >> mantissa_bits) & 0xFF
    significand = mantissa | (1 << mantissa_bits if field else 0)
    return (
        pattern >> (mantissa_bits + 8) & 1,
        max(field, 1),
        significand,
        field == 255 and mantissa == 0,
        field == 255 and mantissa != 0,
    )


def round_half_even(value: int, shift: int) -> int:
    """value / 2^shift rounded to an integer, ties to even; value >= 0."""
    if shift <= 0:
        return value << -shift
    quotient, rest = value >> shift, value & ((1 << shift) - 1)
    half = 1 << (shift - 1)
    return quotient + (rest > half or (rest == half and quotient & 1 == 1))


def exact_lane(
    factors: Sequence[tuple[int, int]],
    negate: bool,
    accumulators: Sequence[tuple[int, bool]],
    *,
    signed_zero: bool = False,
) -> int:
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
