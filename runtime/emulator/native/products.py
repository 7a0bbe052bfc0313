"""Sums of products in LLVM IR: the integer multipliers and the terms of the float adder.

A bf16 or fp32 pattern becomes a double whose exponent 255 is a number like any other (infinities and NaN are decided
elsewhere, semantics/float_sum.py): its bits moved to a double's exponent field, times 2^896, denormals included.
Products of two bf16 numbers are exact in doubles, so a fused multiply-add rounds a term like the separate steps.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from npuc.runtime.emulator.native.ir import Lanes, current

USUAL = (76, 151)
"""The bf16 exponent fields, first and last, that `usual_sum` takes: 2^-51 to 2^25. The last is less than twice the
first, so that a zero times any number has a smaller place than every product; and units of the grid for all of their
products, and their inverses, are singles that are not denormal."""
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


def _features() -> frozenset[str]:
    from npuc.runtime.emulator.native.machine import host_features

    return host_features()


def _has_pair_products() -> bool:
    return "avx512bw" in _features()


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


def _factors(rows: int, inner: int, columns: int, k: int) -> tuple[list[int], list[int]]:
    """The same, lane by lane where there are no columns."""
    if columns:
        return _matrix_indices(rows, inner, columns, k)
    lanes = list(range(k * rows, (k + 1) * rows))
    return lanes, lanes


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
        left, right = _factors(rows, inner, columns, k)
        values.append((_shuffle(x, left), _shuffle(y, right)))
        places.append(_shuffle(x_place, left) + _shuffle(y_place, right))
    more_values, more_places = _accumulator_rows(accumulators)
    return Terms(values + more_values), Places(places + more_places)


def _singles(bits: Lanes) -> Lanes:
    return _cast("bitcast", bits, "float")


def _times(x: Lanes, y: Lanes) -> Lanes:
    return x.like(f"fmul {x.type} {x.ref}, {y.ref}")


def _rounded(values: Lanes) -> Lanes:
    """Singles of magnitude below 2^31 as integers, half to even."""
    if values.count == 16 and "avx512f" in _features():
        rounding = ("i32", "4")  # as the host's mode says, which is half to even
        arguments = (values.type, values.ref), ("<16 x i32>", "undef"), ("i16", "-1"), rounding
        return Lanes(
            current().intrinsic("llvm.x86.avx512.mask.cvtps2dq.512", "<16 x i32>", *arguments), 16, "i32", True
        )
    text = current().intrinsic(f"llvm.roundeven.v{values.count}f32", values.type, (values.type, values.ref))
    return _cast("fptosi", Lanes(text, values.count, "float"), "i32", signed=True)


def _outside(lanes: Lanes, mantissa_bits: int, least: int, most: int) -> Any:
    """Whether any lane is neither a zero nor a number of an exponent field from least to most."""
    from npuc.runtime.emulator.native.lanes import IRLanes

    magnitude = lanes & ((1 << mantissa_bits + 8) - 1)
    far = magnitude - (least << mantissa_bits) >= most + 1 - least << mantissa_bits
    return IRLanes.any((magnitude != 0) & far)


def usual_sum(
    a: Lanes, b: Lanes, shape: tuple[int, int, int], negate: bool, accumulators: Sequence[tuple[Lanes, bool]]
) -> tuple[Any, Callable[[], Lanes]] | None:
    """The float adder's sum for operands of usual size (USUAL, and accumulators no smaller than their products).

    Whether any operand is not, and what gives the sum's patterns where all are. None where the host or the shape does
    not suit it.

    Products are exact singles then, and still are in units of the grid, in which the rounded ones are integers below
    2^26; so is their sum, which becomes a single in one rounding.
    """
    rows, inner, columns = shape
    if inner % 2 or not _features() & {"avx2", "avx512bw"}:
        return None
    first, last = USUAL
    unusual: Any = _outside(a, 7, first, last) | _outside(b, 7, first, last)
    for lanes, _ in accumulators:
        unusual = _outside(lanes, 23, 2 * first - 127, 254) | unusual
    return unusual, lambda: _usual(a, b, shape, negate, accumulators)


def _usual(
    a: Lanes, b: Lanes, shape: tuple[int, int, int], negate: bool, accumulators: Sequence[tuple[Lanes, bool]]
) -> Lanes:
    """The sum of `usual_sum`. Places are kept where a bf16 pattern has its exponent, times 2^7."""
    from npuc.runtime.emulator.native.lanes import IRLanes

    rows, inner, columns = shape
    pairs: list[tuple[Lanes, Lanes]] = []  # for two inner indices, the factors of all outputs
    for k in range(0, inner, 2):
        low, high = (_factors(rows, inner, columns, i) for i in (k, k + 1))
        left, right = ([i for two in zip(low[side], high[side], strict=True) for i in two] for side in (0, 1))
        pairs.append((_shuffle(a, left), _shuffle(b, right)))
    places = [(x & 0x7F80) + (y & 0x7F80) for x, y in pairs]
    most = functools.reduce(IRLanes.maximum, places)
    wide = IRLanes.lanes(most, 32)
    top = IRLanes.maximum(wide & 0xFFFF, wide >> 16)
    for lanes, _ in accumulators:
        top = IRLanes.maximum(top, ((lanes >> 16) & 0x7F80) + (127 << 7))
    top = IRLanes.maximum(top, 2 * USUAL[0] << 7)
    # A place is an exponent biased by 254, the grid 2^23 below it; a single's bias is 127.
    units = _singles(((254 + 23 + 127) << 7) - top << 16)
    grid = _singles(top - ((254 + 23 - 127) << 7) << 16)

    def products(part: Callable[[Lanes], Lanes]) -> list[Lanes]:
        return [
            _rounded(_times(_times(*(_singles(part(IRLanes.lanes(each, 32))) for each in pair)), units))
            for pair in pairs
        ]

    total = _tree([*products(lambda each: each << 16), *products(lambda each: each & 0xFFFF0000)])
    total = -total if negate else total
    for lanes, negated in accumulators:
        term = _rounded(_times(_singles(lanes), units))
        total = total - term if negated else total + term
    result = _times(_cast("sitofp", total, "float"), grid)
    return _cast("bitcast", result, "i32")
