"""Sums of products in LLVM IR: the integer multipliers and the terms of the float adder.

A bf16 or fp32 pattern becomes a double whose exponent 255 is a number like any other (infinities and NaN are decided
elsewhere, semantics/float_sum.py): its bits moved to a double's exponent field, times 2^896, denormals included.
Products of two bf16 numbers are exact in doubles, so a fused multiply-add rounds a term like the separate steps.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from npuc.runtime.emulator.native.ir import Lanes, current

_NO_PLACE = -2048  # of a zero: below every sum of exponents


def _shuffle(value: Lanes, indices: Sequence[int], other: str = "poison") -> Lanes:
    mask = ", ".join(f"i32 {index}" for index in indices)
    text = f"shufflevector {value.type} {value.ref}, {value.type} {other}, <{len(indices)} x i32> <{mask}>"
    return Lanes(current().value(text), len(indices), value.kind, value.signed)


def _cast(op: str, value: Lanes, kind: str, count: int | None = None, signed: bool = False) -> Lanes:
    count = count or value.count
    return Lanes(current().value(f"{op} {value.type} {value.ref} to <{count} x {kind}>"), count, kind, signed)


# integers


def _tree(rows: list[Any]) -> Any:
    while len(rows) > 1:
        rows = [rows[i] + rows[i + 1] if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)]
    return rows[0]


@functools.cache
def _has_pair_products() -> bool:
    from npuc.runtime.emulator.native.machine import host_features

    return "avx512bw" in host_features()


def _to_i16(lanes: Lanes) -> Lanes | None:
    """The lanes before their widening as signed 16-bit numbers, where they fit."""
    origin = lanes.narrow
    while origin is not None and origin.narrow is not None:
        origin = origin.narrow
    if origin is None or origin.bits > 16 or (origin.bits == 16 and not origin.signed):
        return None
    if origin.bits == 16:
        return origin
    return _cast("sext" if origin.signed else "zext", origin, "i16", signed=True)


def _pair_product(x: Lanes, y: Lanes) -> Lanes:
    """Per 32-bit lane the sum of the two products of its 16-bit halves (wrapping)."""
    text = current().intrinsic("llvm.x86.avx512.pmaddw.d.512", "<16 x i32>", (x.type, x.ref), (y.type, y.ref))
    return Lanes(text, 16, "i32", True)


def _matrix_indices(rows: int, inner: int, columns: int, k: int) -> tuple[list[int], list[int]]:
    """The elements of A and B that meet in each output lane at inner index k."""
    places = [(row, column) for row in range(rows) for column in range(columns)]
    return [row * inner + k for row, _ in places], [k * columns + column for _, column in places]


def sum_products(a: Lanes, b: Lanes, rows: int, inner: int, columns: int) -> Lanes:
    """The matrix product, wrapping, as one row of lanes."""
    x, y = (_to_i16(a), _to_i16(b)) if a.bits == 32 and _has_pair_products() else (None, None)
    if x is None or y is None or inner % 2 or rows * columns != 32:
        total = None
        for k in range(inner):
            left, right = _matrix_indices(rows, inner, columns, k)
            product = _shuffle(a, left) * _shuffle(b, right)
            total = product if total is None else total + product
        assert total is not None
        return total
    halves: list[list[Lanes]] = [[], []]
    for k in range(0, inner, 2):
        pairs = [_matrix_indices(rows, inner, columns, k + i) for i in (0, 1)]
        for half in (0, 1):
            lanes = range(16 * half, 16 * half + 16)
            left, right = ([pairs[i][side][lane] for lane in lanes for i in (0, 1)] for side in (0, 1))
            halves[half].append(_pair_product(_shuffle(x, left), _shuffle(y, right)))
    low, high = (_tree(each) for each in halves)
    return _shuffle(low, range(32), high.ref)


def sum_by_lane(a: Lanes, b: Lanes, inner: int) -> Lanes:
    """Lane-wise products summed over `inner` groups of lanes, wrapping."""
    product = a * b
    count = product.count // inner
    total = _shuffle(product, range(count)) if inner > 1 else product
    for k in range(1, inner):
        total = total + _shuffle(product, range(k * count, (k + 1) * count))
    return total


# floating point


def _scaled(bits: Lanes) -> Lanes:
    """Patterns with an 8-bit exponent at the low end of a double's exponent field: their values."""
    number = _cast("bitcast", bits, "double")
    return number * 2.0**896


def _bf16_values(lanes: Lanes) -> Lanes:
    wide = _cast("zext", lanes, "i64")
    return _scaled(((wide & 0x7FFF) << 45) | ((wide & 0x8000) << 48))


def _fp32_values(lanes: Lanes) -> Lanes:
    wide = _cast("zext", lanes, "i64")
    return _scaled(((wide & 0x7FFFFFFF) << 29) | ((wide & 0x80000000) << 32))


def _exponents(lanes: Lanes, mantissa_bits: int) -> Lanes:
    """Biased exponents as signed 16-bit lanes; denormals 1, zeros none."""
    from npuc.runtime.emulator.native.lanes import IRLanes

    field = IRLanes.maximum(IRLanes.resize((lanes >> mantissa_bits) & 0xFF, 16, True), 1)
    magnitude = lanes & ((1 << mantissa_bits + 8) - 1)
    field = Lanes(field.ref, field.count, "i16", True)
    return IRLanes.select(magnitude == 0, _NO_PLACE, field)


class Places:
    """Rows of exponents, biased by 254, as signed 16-bit lanes."""

    def __init__(self, rows: list[Lanes]) -> None:
        self.rows = rows

    def largest(self) -> Top:
        from npuc.runtime.emulator.native.lanes import IRLanes

        rows = self.rows
        while len(rows) > 1:
            rows = [
                IRLanes.maximum(rows[i], rows[i + 1]) if i + 1 < len(rows) else rows[i] for i in range(0, len(rows), 2)
            ]
        return Top(rows[0])


class Top:
    """The largest places of all columns; times a number it is 2^place times that number."""

    def __init__(self, exponents: Lanes) -> None:
        self.exponents = exponents

    def __mul__(self, factor: float) -> Lanes:
        from npuc.runtime.emulator.native.lanes import IRLanes

        wide = _cast("sext", IRLanes.maximum(self.exponents, 0), "i64")
        return _cast("bitcast", (wide + (1023 - 254)) << 52, "double") * factor


class Terms:
    """Rows of doubles: a value, or two factors whose product is meant."""

    def __init__(self, rows: list[tuple[Lanes, ...]]) -> None:
        self.rows = rows

    def __add__(self, other: Lanes) -> Terms:
        # `contract`: product and sum become one fused operation where the host has it; the product is exact anyway.
        rows: list[tuple[Lanes, ...]] = []
        for row in self.rows:
            text = row[0].ref
            if len(row) == 2:
                text = current().value(f"fmul contract {row[0].type} {row[0].ref}, {row[1].ref}")
            rows.append((row[0].like(f"fadd contract {row[0].type} {text}, {other.ref}"),))
        return Terms(rows)

    def __sub__(self, other: Lanes) -> Terms:
        return Terms([(row[0] - other,) for row in self.rows])

    def total(self) -> Lanes:
        return _tree([row[0] for row in self.rows])


def _accumulator_rows(accumulators: Sequence[tuple[Lanes, bool]]) -> tuple[list[tuple[Lanes, ...]], list[Lanes]]:
    values: list[tuple[Lanes, ...]] = []
    places = []
    for lanes, negated in accumulators:
        value = _fp32_values(lanes)
        values.append((-value if negated else value,))
        places.append(_exponents(lanes, 23) + 127)
    return values, places


def fp32_terms(accumulators: Sequence[tuple[Lanes, bool]]) -> tuple[Terms, Places]:
    values, places = _accumulator_rows(accumulators)
    return Terms(values), Places(places)


def float_terms(
    a: Lanes, b: Lanes, shape: tuple[int, int, int], negate: bool, accumulators: Sequence[tuple[Lanes, bool]]
) -> tuple[Terms, Places]:
    rows, inner, columns = shape
    x, y = _bf16_values(a), _bf16_values(b)
    if negate:
        x = -x
    x_place, y_place = _exponents(a, 7), _exponents(b, 7)
    values: list[tuple[Lanes, ...]] = []
    places = []
    for k in range(inner):
        if columns:
            left, right = _matrix_indices(rows, inner, columns, k)
        else:
            left = right = list(range(k * rows, (k + 1) * rows))
        values.append((_shuffle(x, left), _shuffle(y, right)))
        places.append(_shuffle(x_place, left) + _shuffle(y_place, right))
    more_values, more_places = _accumulator_rows(accumulators)
    return Terms(values + more_values), Places(places + more_places)
