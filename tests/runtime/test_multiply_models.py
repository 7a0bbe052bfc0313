"""The multiply-accumulate pipe against loops over plain numbers and exact fractions (facts/semantics/vmac.md)."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_programs import Bench, edgy, numbers, packed, wrapped

from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.semantics.multiply import GEOMETRIES

BENCH = Bench()
# Signs of acc1, of the product sum, of acc2: vmac.md section 4, written out once more.
FAMILY = {
    "vmul": ("", "+", ""),
    "vnegmul": ("", "-", ""),
    "vmac": ("+", "+", ""),
    "vmsc": ("+", "-", ""),
    "vnegmac": ("-", "-", ""),
    "vnegmsc": ("-", "+", ""),
    "vaddmac": ("+", "+", "+"),
    "vaddmsc": ("+", "-", "+"),
    "vsubmac": ("+", "+", "-"),
    "vsubmsc": ("+", "-", "-"),
}
ALONE = {"vadd": ("+", "+"), "vsub": ("+", "-"), "vnegadd": ("-", "-"), "vnegsub": ("-", "+"), "vneg": ("-", "")}
FLOAT = ("vmul", "vnegmul", "vmac", "vmsc", "vaddmac", "vaddmsc")
INTEGER_MODES = [key for key in GEOMETRIES if key[0] != 2]


def word_of(mode: tuple[int, int, int], signs: int = 0, flags: int = 0) -> int:
    """Configuration word: amode, bmode, variant; bit 8 B signed, bit 9 A signed; flags as in the word."""
    return mode[0] << 1 | mode[1] << 3 | mode[2] << 5 | signs << 8 | flags


ZERO, SHIFT, SUB_MUL, SUB_ACC1, SUB_ACC2 = 1, 1 << 10, 1 << 11, 1 << 12, 1 << 13


def signs_under(family: tuple[str, str, str], word: int) -> tuple[int, int, int]:
    """+1, -1 or 0 for acc1, products and acc2 under the word's flips and zero_acc1."""
    values = [{"": 0, "+": 1, "-": -1}[sign] for sign in family]
    for position, flag in enumerate((SUB_ACC1, SUB_MUL, SUB_ACC2)):
        if word & flag:
            values[position] = -values[position]
    return (0 if word & ZERO else values[0]), values[1], values[2]


def products(mode: tuple[int, int, int], word: int, a: bytes, b: bytes) -> list[int]:
    """The product sums of all lanes, element by element."""
    shape = GEOMETRIES[mode]
    x, y = numbers(a, shape.a_bits, bool(word >> 9 & 1)), numbers(b, shape.b_bits, bool(word >> 8 & 1))
    if shape.sliding:
        return [sum(x[lane + k] * y[k] for k in range(shape.inner)) for lane in range(shape.rows)]
    if not shape.columns:
        return [
            sum(x[lane + k * shape.rows] * y[lane + k * shape.rows] for k in range(shape.inner))
            for lane in range(shape.rows)
        ]
    return [
        sum(x[i * shape.inner + k] * y[k * shape.columns + j] for k in range(shape.inner))
        for i in range(shape.rows)
        for j in range(shape.columns)
    ]


def test_every_dense_mode_of_the_facts_is_known_and_none_but_the_convolution_besides(facts_dir: Path) -> None:
    modes = json.loads((facts_dir / "semantics" / "vmac_config.json").read_text())["modes"]
    assert {(mode["amode"], mode["bmode"], mode["variant"]) for mode in modes} == {
        key for key, geometry in GEOMETRIES.items() if not geometry.sliding
    }


def destination(name: str, accumulator: str) -> str:
    return f"{accumulator}{1 if FAMILY[name][2] else 4}"


def _operands(name: str, accumulator: str) -> str:
    """Destination (acc1 itself in forms with acc2, which are tied), sources, word."""
    acc1, _, acc2 = FAMILY[name]
    accumulators = ([f"{accumulator}1"] if acc1 else []) + ([f"{accumulator}2"] if acc2 else [])
    return ", ".join([destination(name, accumulator), *accumulators, "x1", "x2", "r1"])


@pytest.mark.parametrize("mode", INTEGER_MODES, ids=str)
@pytest.mark.parametrize("name", FAMILY)
def test_integer_multiply_accumulate(name: str, mode: tuple[int, int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = GEOMETRIES[mode]
    text = f"{name} {_operands(name, 'cm')}"
    for trial in range(3):
        flags = sum(int(flag) for flag in (ZERO, SHIFT, SUB_MUL, SUB_ACC1, SUB_ACC2) if random.random() < 0.3)
        word = word_of(mode, int(random.integers(4)), flags if trial else 0)
        a, b = packed(edgy(random, 8, 64), 8), packed(edgy(random, 8, 64), 8)
        acc = [packed(edgy(random, shape.lane_bits, 1024 // shape.lane_bits), shape.lane_bits) for _ in range(2)]
        core = BENCH.run(text, {"x1": a, "x2": b, "cm1": acc[0], "cm2": acc[1], "r1": word})
        sign1, sign, sign2 = signs_under(FAMILY[name], word)
        first, second = (numbers(each, shape.lane_bits, True) for each in acc)
        if word & SHIFT:
            first = [value << 16 for value in first]
        want = [
            sign1 * x + sign * p + sign2 * y for x, p, y in zip(first, products(mode, word, a, b), second, strict=True)
        ]
        got = core.registers.read(destination(name, "cm")).tobytes()
        assert got == packed(want, shape.lane_bits), hex(word)


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("name", ALONE)
def test_integer_accumulator_arithmetic(name: str, bits: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    text = f"{name} cm4, cm1, {'cm2, ' if ALONE[name][1] else ''}r1"
    for _ in range(6):
        word = 2 * (bits == 64) + sum(f for f in (ZERO, SHIFT, SUB_ACC1, SUB_ACC2) if random.random() < 0.4)
        acc = [packed(edgy(random, bits, 1024 // bits), bits) for _ in range(2)]
        core = BENCH.run(text, {"cm1": acc[0], "cm2": acc[1], "r1": word})
        sign1, _, sign2 = signs_under((ALONE[name][0], "", ALONE[name][1]), word)
        first, second = (numbers(each, bits, True) for each in acc)
        want = [sign1 * (x << 16 if word & SHIFT else x) + sign2 * y for x, y in zip(first, second, strict=True)]
        assert core.registers.read("cm4").tobytes() == packed(want, bits), hex(word)


# floats


def _fraction(pattern: int, mantissa_bits: int) -> tuple[Fraction, int]:
    """Exact value and exponent (that of the field, 1 for denormals) of a finite float pattern."""
    field, mantissa = pattern >> mantissa_bits & 255, pattern & ((1 << mantissa_bits) - 1)
    exponent = max(field, 1) - 127
    value = Fraction(mantissa | (1 << mantissa_bits if field else 0), 1 << mantissa_bits) * Fraction(2) ** exponent
    return (-value if pattern >> (mantissa_bits + 8) else value), exponent


def _nearest_even(value: Fraction) -> int:
    return round(value)


def _pack(value: Fraction, signed_zero: bool) -> int:
    """The fp32 pattern: 24 significant bits, half to even; below 2^-126 zero, too large infinity."""
    sign = int(value < 0)
    magnitude = abs(value)
    if magnitude == 0:
        return 0
    exponent = 0
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    while magnitude < Fraction(2) ** exponent:
        exponent -= 1
    significand = _nearest_even(magnitude / Fraction(2) ** (exponent - 23))
    if significand == 1 << 24:
        significand, exponent = 1 << 23, exponent + 1
    if exponent > 127:
        return sign << 31 | 0x7F800000
    if exponent < -126:
        return sign << 31 if signed_zero else 0
    return sign << 31 | (exponent + 127) << 23 | significand & 0x7FFFFF


def summed(terms: list[tuple[Fraction, int]], signed_zero: bool = False) -> int:
    """vmac.md section 5, steps 3 to 7; a term is its value and its scale exponent."""
    terms = [term for term in terms if term[0]]
    if not terms:
        return 0
    unit = Fraction(2) ** (max(exponent for _, exponent in terms) - 23)
    return _pack(sum(_nearest_even(value / unit) for value, _ in terms) * unit, signed_zero)


def _finite(random: np.random.Generator, mantissa_bits: int, low: int, high: int) -> int:
    if random.random() < 0.1:
        return int(random.integers(2)) << (mantissa_bits + 8)
    return (int(random.integers(2)) << 8 | int(random.integers(low, high + 1))) << mantissa_bits | int(
        random.integers(1 << mantissa_bits)
    )


@pytest.mark.parametrize(
    ("fields", "accumulators"),
    [((120, 134), (110, 140)), ((0, 66), (0, 6)), ((60, 190), (1, 254)), ((127, 127), (127, 150))],
)
@pytest.mark.parametrize("mode", [(2, 3, 0), (2, 3, 1)], ids=str)
@pytest.mark.parametrize("name", FLOAT)
def test_bf16_multiply_accumulate(
    name: str, mode: tuple[int, int, int], fields: tuple[int, int], accumulators: tuple[int, int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    shape = GEOMETRIES[mode]
    text = f"{name}.f {_operands(name, 'bml')}"
    for _ in range(2):
        word = word_of(mode, 0, sum(f for f in (ZERO, SUB_MUL, SUB_ACC1, SUB_ACC2) if random.random() < 0.3))
        a, b = ([_finite(random, 7, *fields) for _ in range(32)] for _ in range(2))
        acc = [[_finite(random, 23, *accumulators) for _ in range(16)] for _ in range(2)]
        core = BENCH.run(
            text,
            {
                "x1": packed(a, 16),
                "x2": packed(b, 16),
                "bml1": packed(acc[0], 32),
                "bml2": packed(acc[1], 32),
                "r1": word,
            },
        )
        sign1, sign, sign2 = signs_under(FAMILY[name], word)
        want = []
        for lane in range(16):
            if shape.columns:
                pairs = [(a[lane // 4 * 8 + k], b[k * 4 + lane % 4]) for k in range(8)]
            else:
                pairs = [(a[lane + 16 * k], b[lane + 16 * k]) for k in range(2)]
            terms = []
            for left, right in pairs:
                (x, p), (y, q) = _fraction(left, 7), _fraction(right, 7)
                terms.append((sign * x * y, p + q))
            for pattern, each in ((acc[0][lane], sign1), (acc[1][lane], sign2)):
                value, exponent = _fraction(pattern, 23)
                terms.append((each * value, exponent))
            want.append(summed(terms))
        assert numbers(core.registers.read(destination(name, "bml")), 32, False) == want, hex(word)


@pytest.mark.parametrize("fields", [(100, 150), (0, 3), (1, 254)])
@pytest.mark.parametrize("name", ALONE)
def test_fp32_accumulator_arithmetic(name: str, fields: tuple[int, int], seed: int) -> None:
    random = np.random.default_rng(seed)
    text = f"{name}.f bml4, bml1, {'bml2, ' if ALONE[name][1] else ''}r1"
    for _ in range(4):
        word = 0x1C | sum(f for f in (ZERO, SUB_ACC1, SUB_ACC2) if random.random() < 0.3)
        acc = [[_finite(random, 23, *fields) for _ in range(16)] for _ in range(2)]
        core = BENCH.run(text, {"bml1": packed(acc[0], 32), "bml2": packed(acc[1], 32), "r1": word})
        sign1, _, sign2 = signs_under((ALONE[name][0], "", ALONE[name][1]), word)
        want = []
        for lane in range(16):
            (x, p), (y, q) = _fraction(acc[0][lane], 23), _fraction(acc[1][lane], 23)
            want.append(summed([(sign1 * x, p), (sign2 * y, q)], signed_zero=True))
        assert numbers(core.registers.read("bml4"), 32, False) == want, hex(word)


INF, NAN = 0x7F80, 0x7FC0


@pytest.mark.parametrize(
    ("pairs", "accumulator", "want"),
    [
        ([(INF, 0x3F80)], 0x3F800000, 0x7F800000),
        ([(INF, 0xBF80)], 0, 0xFF800000),
        ([(INF, 0)], 0, 0x7F800001),
        ([(INF, 0x3F80)], 0xFF800000, "nan"),
        ([(NAN, 0x3F80)], 0, "nan"),
        ([(0, 0)], 0x7FC12345, 0x7FC12345),
        ([(0x7F7F, 0x7F7F)], 0, 0x7F800000),
        ([(0x0080, 0x0080)], 0, 0),
    ],
)
def test_special_values_of_the_bf16_sum(pairs: list[tuple[int, int]], accumulator: int, want: Any) -> None:
    a, b = [0] * 32, [0] * 32
    for k, (x, y) in enumerate(pairs):
        a[k], b[4 * k] = x, y
    core = BENCH.run(
        "vmac.f bml4, bml1, x1, x2, r1",
        {"x1": packed(a, 16), "x2": packed(b, 16), "r1": 0x1C, "bml1": packed([accumulator] * 16, 32)},
    )
    got = numbers(core.registers.read("bml4"), 32, False)[0]
    if want == "nan":
        assert got & 0x7F800001 == 0x7F800001
    else:
        assert got == want, hex(got)


@pytest.mark.parametrize(
    ("name", "word", "fact"),
    [
        ("vmac", 0x308 | 1 << 20, "section 7 does not describe sub_mask 0x10"),
        ("vmac", 0x308 | 1 << 14, "bits 14 and 15"),
        ("vmac", 0x1C, "no dense integer multiply mode"),
        ("vmac", 0x3E8, "variant 7"),
        ("vmac.f", 0x308, "no dense float multiply mode"),
        ("vadd.f", 0x02, "64-bit lanes .* in a float instruction"),
    ],
)
def test_words_that_the_facts_do_not_describe_name_the_missing_fact(name: str, word: int, fact: str) -> None:
    accumulator = "bml" if name.endswith(".f") else "cm"
    operands = f"{accumulator}2" if name.startswith("vadd") else "x1, x2"
    with pytest.raises(EmulationError, match=fact):
        BENCH.run(f"{name} {accumulator}4, {accumulator}1, {operands}, r1", {"r1": word})


def test_shift16_and_wrapping_build_32_bit_products(seed: int) -> None:
    """vmac.md section 6: four 16-bit products with shift16 give a 32 x 32 bit product modulo 2^32."""
    random = np.random.default_rng(seed)
    a, b = ([int(x) for x in random.integers(0, 1 << 32, 32)] for _ in range(2))
    halves = [packed([wrapped(v >> s, 16, False) for v in values], 16) for values in (a, b) for s in (0, 16)]
    low_a, high_a, low_b, high_b = halves
    bench, word = Bench(), word_of((0, 3, 1))
    acc = bytes(128)
    for x, y, flags in ((high_a, low_b, 0), (low_a, high_b, 0), (low_a, low_b, SHIFT)):
        core = bench.run("vmac cm4, cm1, x1, x2, r1", {"cm1": acc, "x1": x, "x2": y, "r1": word | flags})
        acc = core.registers.read("cm4").tobytes()
    assert acc == packed([x * y for x, y in zip(a, b, strict=True)], 32)
