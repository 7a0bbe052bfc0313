"""The multiply-accumulate pipe: configuration word, geometries, sign rules (facts/semantics/vmac.md).

Integer sums wrap in the accumulator lane. The bf16 sum is in `float_sum.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, NamedTuple

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.semantics import float_sum
from npuc.runtime.emulator.semantics.registry import rule


@dataclass(frozen=True)
class Geometry:
    """A dense mode: element widths of A and B, accumulator lane width, matrix shape (columns 0: lane by lane).

    sliding: row i of A is its elements i .. i + inner - 1 (a convolution), B one column.
    """

    a_bits: int
    b_bits: int
    lane_bits: int
    rows: int
    inner: int
    columns: int
    sliding: bool = False

    @property
    def lanes(self) -> int:
        return self.rows * max(self.columns, 1)


# (amode, bmode, variant) -> geometry; lane-by-lane modes have columns = 0 and rows = output lanes. vmac_config.json.
GEOMETRIES = {
    (0, 0, 0): Geometry(8, 4, 32, 4, 16, 8),
    (0, 1, 0): Geometry(8, 8, 32, 4, 8, 8),
    (0, 1, 1): Geometry(8, 8, 32, 32, 2, 0),
    # From public toolchain headers and a public model of them, not in the facts: 32 sums of 8 neighbouring products.
    (0, 1, 4): Geometry(8, 8, 32, 32, 8, 1, sliding=True),
    (0, 2, 0): Geometry(16, 8, 32, 4, 4, 8),
    (0, 3, 0): Geometry(16, 16, 32, 4, 2, 8),
    (0, 3, 1): Geometry(16, 16, 32, 32, 1, 0),
    (1, 0, 0): Geometry(32, 16, 64, 4, 2, 4),
    (1, 2, 0): Geometry(16, 8, 64, 2, 8, 8),
    (1, 2, 1): Geometry(16, 8, 64, 4, 8, 4),
    (1, 3, 0): Geometry(16, 16, 64, 2, 4, 8),
    (1, 3, 1): Geometry(16, 16, 64, 4, 4, 4),
    (1, 3, 2): Geometry(16, 16, 64, 16, 2, 0),
    (2, 3, 0): Geometry(16, 16, 32, 4, 8, 4),
    (2, 3, 1): Geometry(16, 16, 32, 16, 2, 0),
}


@dataclass(frozen=True)
class Configuration:
    """A configuration word, taken apart (facts/semantics/vmac.md section 2)."""

    zero_acc1: bool
    amode: int
    geometry: Geometry | None
    signed_a: bool
    signed_b: bool
    shift16: bool
    negate_product: bool
    negate_acc1: bool
    negate_acc2: bool
    reserved: int
    flips: int


@lru_cache(maxsize=256)
def configuration(word: int) -> Configuration:
    """The fields of a configuration word."""
    amode = (word >> 1) & 3
    return Configuration(
        bool(word & 1),
        amode,
        GEOMETRIES.get((amode, (word >> 3) & 3, (word >> 5) & 7)),
        bool(word >> 9 & 1),
        bool(word >> 8 & 1),
        bool(word >> 10 & 1),
        bool(word >> 11 & 1),
        bool(word >> 12 & 1),
        bool(word >> 13 & 1),
        word >> 14 & 3,
        word >> 16,
    )


# Signs of acc1, the product sum and acc2; 0 where the instruction has no such term (vmac.md section 4).
SIGNS = {
    "vmul": (0, 1, 0),
    "vnegmul": (0, -1, 0),
    "vmac": (1, 1, 0),
    "vmsc": (1, -1, 0),
    "vnegmac": (-1, -1, 0),
    "vnegmsc": (-1, 1, 0),
    "vaddmac": (1, 1, 1),
    "vaddmsc": (1, -1, 1),
    "vsubmac": (1, 1, -1),
    "vsubmsc": (1, -1, -1),
    "vadd": (1, 0, 1),
    "vsub": (1, 0, -1),
    "vnegadd": (-1, 0, -1),
    "vnegsub": (-1, 0, 1),
    "vneg": (-1, 0, 0),
}
_ALL = "|".join(sorted(SIGNS))


@lru_cache(maxsize=256)
def multiplier(word: int, floating: bool) -> Configuration:
    """The configuration for an instruction that multiplies. Raises EmulationError where no behaviour is known."""
    known = configuration(word)
    kind = "float" if floating else "integer"
    if known.geometry is None or (known.amode == 2) != floating or known.amode == 3:
        raise EmulationError(
            f"configuration word {word:#x}: facts/semantics/vmac.md has no dense {kind} multiply mode "
            f"with amode {known.amode}, bmode {word >> 3 & 3}, variant {word >> 5 & 7}"
        )
    if known.reserved:
        raise EmulationError(
            f"configuration word {word:#x}: facts/semantics/vmac.md section 2 does not say what bits "
            "14 and 15 do in a multiply"
        )
    if known.flips:
        raise EmulationError(
            f"configuration word {word:#x}: facts/semantics/vmac.md section 7 does not describe "
            f"sub_mask {known.flips:#x}"
        )
    return known


@cache
def _windows(shape: Geometry) -> tuple[int, ...]:
    """The element of A in each row and place of a convolution."""
    return tuple(row + step for row in range(shape.rows) for step in range(shape.inner))


def _integer_products(v: Any, known: Configuration, a: Any, b: Any) -> Any:
    shape = known.geometry
    assert shape is not None

    def operand(value: Any, bits: int, signed: bool, count: int) -> Any:
        lanes = v.nibbles(value, signed) if bits == 4 else v.lanes(value, bits, signed)
        return v.resize(v.part(lanes, 0, count), shape.lane_bits, True)

    if shape.sliding:
        x = v.permute(operand(a, shape.a_bits, known.signed_a, shape.rows + shape.inner - 1), _windows(shape))
        y = operand(b, shape.b_bits, known.signed_b, shape.inner)
        return v.sum_products(x, y, shape.rows, shape.inner, 1)
    if shape.columns:
        x = operand(a, shape.a_bits, known.signed_a, shape.rows * shape.inner)
        y = operand(b, shape.b_bits, known.signed_b, shape.inner * shape.columns)
        return v.sum_products(x, y, shape.rows, shape.inner, shape.columns)
    count = shape.rows * shape.inner
    return v.sum_by_lane(
        operand(a, shape.a_bits, known.signed_a, count), operand(b, shape.b_bits, known.signed_b, count), shape.inner
    )


class _Plan(NamedTuple):
    """What one mnemonic does with one word: product sign, and (input, negated, shifted by 16) of each accumulator."""

    word: Configuration
    product: bool
    negate_product: bool
    terms: tuple[tuple[int, bool, bool], ...]


@lru_cache(maxsize=1024)
def _plan(mnemonic: str, word: int, floating: bool) -> _Plan:
    first, product, second = SIGNS[mnemonic]
    known = multiplier(word, floating) if product else configuration(word)
    if floating and known.amode == 1:
        raise EmulationError(
            f"configuration word {word:#x}: facts/semantics does not describe 64-bit lanes (amode 1) "
            "in a float instruction"
        )
    terms = []
    if first and not known.zero_acc1:
        terms.append((0, (first < 0) != known.negate_acc1, known.shift16))
    if second:
        terms.append((1, (second < 0) != known.negate_acc2, False))
    return _Plan(known, product != 0, (product < 0) != known.negate_product, tuple(terms))


# Sparse forms (operand qxs2) do not match: their routing is not known.
_DENSE = r"(\$s1, \$s2|\$acc[12]), \$c$"


@rule(rf"(?P<op>{_ALL})", syntax=_DENSE)
def integer(v: Any, *values: Any, op: str) -> Any:
    """Integer multiply-accumulate and accumulator arithmetic: acc1, acc2, A, B (those that exist), word."""
    plan = _plan(op, v.constant(values[-1]), False)
    # Accumulate-only instructions take every amode but 1 as 32-bit lanes (goldens accumulator_int).
    width = 64 if plan.word.amode == 1 else 32
    result = None
    if plan.product:
        result = _integer_products(v, plan.word, values[-3], values[-2])
        if plan.negate_product:
            result = -result
    for position, negated, shifted in plan.terms:
        term = v.lanes(values[position], width, True)
        if shifted:
            term = term << 16
        if result is None:
            result = -term if negated else term
        else:
            result = result - term if negated else result + term
    return v.zeros(1024) if result is None else v.bits(result)


@rule(rf"(?P<op>{_ALL})\.f", syntax=_DENSE)
def floating(v: Any, *values: Any, op: str) -> Any:
    """bf16 multiply-accumulate and fp32 accumulator arithmetic: acc1, acc2, A, B (those that exist), word."""
    plan = _plan(op, v.constant(values[-1]), True)
    accumulators = []
    for position, negated, shifted in plan.terms:
        lanes = v.lanes(values[position], 32)
        accumulators.append((lanes << 16 if shifted else lanes, negated))
    if not plan.product:
        return v.bits(float_sum.add(v, accumulators))
    return v.bits(
        float_sum.multiply_add(
            v, v.lanes(values[-3], 16), v.lanes(values[-2], 16), plan.word.geometry, plan.negate_product, accumulators
        )
    )


@rule(r"vclr", reads="width.dst")
def clear(v: Any, width: int) -> Any:
    return v.zeros(width)
