"""Conversions against exact rational arithmetic (facts/semantics/convert.md)."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from core_programs import MEMORY, Bench, edgy, numbers, packed

BENCH = Bench()
ROUNDING = (0, 1, 2, 3, 8, 9, 10, 11, 12, 13)
SATURATION = (0, 1, 3)


def rounded(value: Fraction, mode: int) -> int:
    """The table of convert.md section 1, on the exact value."""
    q = floor(value)
    r = value - q
    half = Fraction(1, 2)
    up = {
        0: False,
        1: r > 0,
        2: r > 0 and value < 0,
        3: r > 0 and value > 0,
        8: r > half,
        9: r >= half,
        10: r > half or (r == half and value < 0),
        11: r > half or (r == half and value > 0),
        12: r > half or (r == half and q % 2 == 1),
        13: r > half or (r == half and q % 2 == 0),
    }[mode]
    return q + up


def clamped(value: int, bits: int, signed: bool, saturation: int) -> int:
    if saturation == 0:
        return value
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    if saturation == 3 and signed:
        low += 1
    return min(max(value, low), high)


# mnemonic, type suffix: bits out, bits of a lane, registers (destination, source)
SRS = {
    ("vsrs", "8.s32"): (8, 32, "wl1", "cm2"),
    ("vsrs", "16.s32"): (16, 32, "x1", "cm2"),
    ("vsrs", "16.s64"): (16, 64, "wl1", "cm2"),
    ("vsrs", "32.s64"): (32, 64, "x1", "cm2"),
    ("vsrsm", "16.s32"): (16, 32, "wl1", "bmh2"),
    ("vsrsm", "32.s64"): (32, 64, "wl1", "bmh2"),
}


@pytest.mark.parametrize("kind", ["s", "d", "d with crSRSSign 1"])
@pytest.mark.parametrize("form", SRS, ids=".".join)
def test_shift_round_saturate(form: tuple[str, str], kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    bits, lane, destination, source = SRS[form]
    text = f"{form[0]}.{kind[0]}{form[1]} {destination}, {source}, s1"
    for trial in range(20):
        values = edgy(random, lane, (1024 if source == "cm2" else 512) // lane)
        shift = int(random.integers(0, 64)) if trial % 2 else int(random.integers(0, 6))
        mode, saturation = int(random.choice(ROUNDING)), int(random.choice(SATURATION))
        core = BENCH.run(
            text,
            {
                source: packed(values, lane),
                "s1": shift,
                "crRnd": mode,
                "crSat": saturation,
                "crSRSSign": int("1" in kind),
            },
        )
        want = [
            clamped(rounded(Fraction(value, 1 << shift), mode), bits, kind != "d", saturation)
            for value in numbers(packed(values, lane), lane, True)
        ]
        assert core.registers.read(destination).tobytes() == packed(want, bits), (shift, mode, saturation)


UPS = {
    "s32.{}16": (16, 32, "bml2", "wl1"),
    "s32.{}8": (8, 32, "cm2", "wl1"),
    "s64.{}32": (32, 64, "bml2", "wl1"),
    "s64.{}16": (16, 64, "cm2", "wl1"),
}


@pytest.mark.parametrize("kind", ["s", "d", "d with crUPSSign 1"])
@pytest.mark.parametrize("suffix", UPS)
def test_up_shift(suffix: str, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    bits, lane, destination, source = UPS[suffix]
    text = f"vups.{suffix.format(kind[0])} {destination}, {source}, s1"
    for trial in range(20):
        data = packed(edgy(random, bits, 256 // bits), bits)
        shift = int(random.integers(0, 64)) if trial % 2 else int(random.integers(0, 20))
        saturation = int(random.choice(SATURATION))
        core = BENCH.run(text, {source: data, "s1": shift, "crSat": saturation, "crUPSSign": int("1" in kind)})
        want = [clamped(value << shift, lane, True, min(saturation, 1)) for value in numbers(data, bits, kind != "d")]
        assert core.registers.read(destination).tobytes() == packed(want, lane), (shift, saturation)


@pytest.mark.parametrize("kind", ["s", "d", "d with sign 1"])
@pytest.mark.parametrize("wide", [16, 8])
def test_pack_and_unpack(wide: int, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    narrow, signed, letter = wide // 2, kind != "d", kind[0]
    signs = {"crPackSign": int("1" in kind), "crUnpackSign": int("1" in kind)}
    for _ in range(8):
        data = packed(edgy(random, wide, 512 // wide), wide)
        saturation = int(random.choice(SATURATION))
        core = BENCH.run(f"vpack.{letter}{narrow}.{letter}{wide} wl1, x2", {"x2": data, "crSat": saturation, **signs})
        want = [clamped(value, narrow, signed, min(saturation, 1)) for value in numbers(data, wide, signed)]
        assert core.registers.read("wl1").tobytes() == packed(want, narrow)
        data = random.bytes(32)
        core = BENCH.run(f"vunpack.{letter}{wide}.{letter}{narrow} x1, wl2", {"wl2": data, **signs})
        assert core.registers.read("x1").tobytes() == packed(numbers(data, narrow, signed), wide)


# floats


def bf16_value(pattern: int) -> Fraction:
    """The exact value of a finite bf16 pattern."""
    field, mantissa = pattern >> 7 & 255, pattern & 127
    magnitude = Fraction(mantissa | (128 if field else 0)) * Fraction(2) ** (max(field, 1) - 134)
    return -magnitude if pattern >> 15 else magnitude


def test_bf16_widens_by_16_bits(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = random.bytes(32)
    core = BENCH.run("vconv.fp32.bf16 bml2, wl1", {"wl1": data})
    assert core.registers.read("bml2").tobytes() == packed([x << 16 for x in numbers(data, 16, False)], 32)


@pytest.mark.parametrize("mode", ROUNDING)
def test_fp32_narrows_in_every_rounding_mode(mode: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    edges = [
        0,
        1,
        0x8000,
        0x8001,
        0x7FFF,
        0x18000,
        0x7F7FFFFF,
        0x7F7F8000,
        0x7F7F7FFF,
        0x3F808000,
        0x3F818000,
        0x007FFFFF,
        0x7F800000,
    ]
    for _ in range(12):
        words = [
            int(random.choice(edges)) | int(random.integers(0, 2)) << 31
            if random.random() < 0.5
            else int(random.integers(0, 0x7F800000)) | int(random.integers(0, 2)) << 31
            for _ in range(16)
        ]
        core = BENCH.run("vconv.bf16.fp32 wl1, bml2", {"bml2": packed(words, 32), "crRnd": mode})
        want = []
        for word in words:
            # In units of a bf16 step the pattern's magnitude is a number; its sign gives the direction.
            sign = -1 if word >> 31 else 1
            value = rounded(sign * Fraction(word & 0x7FFFFFFF, 1 << 16), mode)
            want.append((word >> 31) << 15 | abs(value))
        assert core.registers.read("wl1").tobytes() == packed(want, 16), [hex(word) for word in words]


def test_nans_narrow_to_nans() -> None:
    words = [0x7F800001, 0xFF80FFFF, 0x7FC00000, 0x7F818000] * 4
    for mode in ROUNDING:
        core = BENCH.run("vconv.bf16.fp32 wl1, bml2", {"bml2": packed(words, 32), "crRnd": mode})
        assert core.registers.read("wl1").tobytes() == packed([0x7F81, 0xFF81, 0x7FC0, 0x7F81] * 4, 16)


def test_floor_of_bf16_times_a_power_of_two(seed: int) -> None:
    random = np.random.default_rng(seed)
    edges = [0, 0x8000, 1, 0x8001, 0x7F7F, 0xFF7F, 0x4F00, 0xCF00, 0x4EFF, 0x3F80, 0xBF81]
    for shift in (*range(0, 64, 5), 31, 32, 63):
        patterns = [
            int(random.choice(edges))
            if random.random() < 0.4
            else int(random.integers(0, 0x7F80)) | int(random.integers(0, 2)) << 15
            for _ in range(16)
        ]
        core = BENCH.run("vfloor.s32.bf16 x1, wl2, s1", {"wl2": packed(patterns, 16), "s1": shift, "crRnd": 12})
        power = Fraction(2) ** (shift - 64 if shift >= 32 else shift)
        want = [clamped(floor(bf16_value(pattern) * power), 32, True, 1) for pattern in patterns]
        assert core.registers.read("x1").tobytes() == packed(want, 32), shift


def test_floor_of_infinity_and_nan() -> None:
    core = BENCH.run("vfloor.s32.bf16 x1, wl2, s1", {"wl2": packed([0x7F80, 0xFF80, 0x7FC0, 0xFF81] * 4, 16), "s1": 0})
    assert core.registers.read("x1").tobytes() == packed([0x7FFFFFFF, -(1 << 31), 0x7FFFFFFF, 0x7FFFFFFF] * 4, 32)


# forms fused with loads and stores do what the two instructions do

FUSED_LOADS = (
    [
        (f"vlda.ups.{suffix.format(kind)} {wide}, s1, [p0, #0]", f"vups.{suffix.format(kind)} {wide}, wl1, s1", wide)
        for suffix, (_, _, wide, _) in UPS.items()
        for kind in "sd"
    ]
    + [("vlda.conv.fp32.bf16 bml2, [p0, #0]", "vconv.fp32.bf16 bml2, wl1", "bml2")]
    + [
        (f"vldb.unpack.{types} x2, [p0, dj0]", f"vunpack.{types} x2, wl1", "x2")
        for types in ("s8.s4", "d8.d4", "s16.s8", "d16.d8")
    ]
)


@pytest.mark.parametrize(("fused", "alone", "register"), FUSED_LOADS, ids=[each[0] for each in FUSED_LOADS])
def test_converting_loads(fused: str, alone: str, register: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(4):
        data = random.bytes(32)
        modes = {
            "s1": int(random.integers(0, 12)),
            "crSat": int(random.choice(SATURATION)),
            "crUPSSign": int(random.integers(2)),
            "crUnpackSign": int(random.integers(2)),
        }
        want = BENCH.run(alone, {"wl1": data, **modes}).registers.read(register).tobytes()
        assert BENCH.run(fused, modes, data).registers.read(register).tobytes() == want


FUSED_STORES = [
    (
        f"vst.srs.{kind}{suffix} {'cm2' if bits * 32 * 2 < lane * 32 or bits == 8 else 'bml2'}, s1, [p0, #0]",
        kind,
        bits,
        lane,
    )
    for (form, suffix), (bits, lane, _, _) in SRS.items()
    if form == "vsrs"
    for kind in "sd"
]


@pytest.mark.parametrize(("fused", "kind", "bits", "lane"), FUSED_STORES, ids=[each[0] for each in FUSED_STORES])
def test_rounding_stores(fused: str, kind: str, bits: int, lane: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    source = fused.split()[1].rstrip(",")
    for _ in range(6):
        values = edgy(random, lane, 256 // bits)
        modes = {
            "s1": int(random.integers(0, 12)),
            "crSat": int(random.choice(SATURATION)),
            "crRnd": int(random.choice(ROUNDING)),
            "crSRSSign": int(random.integers(2)),
        }
        core = BENCH.run(fused, {source: packed(values, lane), **modes}, bytes(64))
        signed = kind == "s" or modes["crSRSSign"] == 1
        want = [
            clamped(rounded(Fraction(value, 1 << modes["s1"]), modes["crRnd"]), bits, signed, modes["crSat"])
            for value in numbers(packed(values, lane), lane, True)
        ]
        assert core.data_memory.read(MEMORY, 64) == packed(want, bits) + bytes(32)


@pytest.mark.parametrize(
    ("fused", "alone", "source"),
    [
        ("vst.conv.bf16.fp32 bml2, [p0, #0]", "vconv.bf16.fp32 wl1, bml2", "bml2"),
        ("vst.pack.s8.s16 x2, [p0, #0]", "vpack.s8.s16 wl1, x2", "x2"),
        ("vst.pack.d8.d16 x2, [p0, #0]", "vpack.d8.d16 wl1, x2", "x2"),
        ("vst.pack.s4.s8 x2, [p0, #0]", "vpack.s4.s8 wl1, x2", "x2"),
        ("vst.pack.d4.d8 x2, [p0, #0]", "vpack.d4.d8 wl1, x2", "x2"),
    ],
)
def test_converting_stores(fused: str, alone: str, source: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(4):
        registers = {
            source: random.bytes(64),
            "crRnd": int(random.choice(ROUNDING)),
            "crSat": int(random.choice(SATURATION)),
            "crPackSign": int(random.integers(2)),
        }
        want = BENCH.run(alone, registers).registers.read("wl1").tobytes()
        assert BENCH.run(fused, registers, bytes(64)).data_memory.read(MEMORY, 64) == want + bytes(32)


def test_shift_registers_count_modulo_64() -> None:
    data = packed(range(-16, 16), 32)
    results = [
        BENCH.run("vsrs.s16.s32 x1, cm2, s1", {"cm2": data, "s1": shift}).registers.read("x1").tobytes()
        for shift in (2, 66, 0xFFFFFFC2)
    ]
    assert results[0] == results[1] == results[2] == packed([x >> 2 for x in range(-16, 16)], 16)
