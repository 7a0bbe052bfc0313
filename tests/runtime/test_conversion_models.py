"""Conversions against `conversion_model`: every mode, every shift, every form, on both engines."""

from __future__ import annotations

import re

import numpy as np
import pytest
from conversion_model import (
    ROUNDING,
    SATURATION,
    clamped,
    floored_bf16,
    narrowed_fp32,
    srs,
    srs_documented,
    ups,
    ups_documented,
)
from core_programs import MEMORY, Bench, edgy, numbers, packed

from npuc.runtime.emulator.errors import EmulationError

BENCH = Bench()
BENCHES = {"interpreter": BENCH, "native": Bench("native")}
KINDS = ["s", "d", "d with sign 1"]
UNDEFINED_ROUNDING = (4, 5, 6, 7, 14, 15, 16, 0x1C, 0x80000000)
UNDEFINED_SATURATION = (2, 4, 5, 0x80000001)

# name: bits of a result, bits of a lane, registers (destination, source)
SRS = {
    "vsrs.{}8.s32": (8, 32, "wl1", "cm2"),
    "vsrs.{}16.s32": (16, 32, "x1", "cm2"),
    "vsrs.{}16.s64": (16, 64, "wl1", "cm2"),
    "vsrs.{}32.s64": (32, 64, "x1", "cm2"),
    "vsrsm.{}16.s32": (16, 32, "wl1", "bmh2"),
    "vsrsm.{}32.s64": (32, 64, "wl1", "bmh2"),
}
NARROW_SRS = {"vsrs.{}16.s32": (16, 32, "wl1", "bml2"), "vsrs.{}32.s64": (32, 64, "wl1", "bml2")}


def lanes_of(register: str, bits: int) -> int:
    """How many lanes of that many bits a vector register holds."""
    return {"c": 1024, "b": 512, "x": 512, "w": 256}[register[0]] // bits


def modes_with_every_value(random: np.random.Generator) -> list[tuple[int, int, int]]:
    """(shift, crRnd, crSat): every shift, every pair of modes, at random for the rest."""
    pairs = [(mode, saturation) for mode in ROUNDING for saturation in SATURATION]
    chosen = list(random.permutation(pairs)) * 3
    return [(shift, int(mode), int(saturation)) for shift, (mode, saturation) in zip(range(64), chosen, strict=False)]


def srs_values(random: np.random.Generator, lane: int, count: int, bits: int, shift: int) -> list[int]:
    """Signed accumulator lanes, half of them near the edges of the result's range when shifted."""
    signed = numbers(packed(edgy(random, lane, count), lane), lane, True)
    scale = shift if shift < 60 else shift - 64
    for i in range(0, count, 2):
        edge = int(random.choice([-1, 1, 2])) << (bits - 1)
        near = (edge << scale if scale >= 0 else edge >> -scale) + int(random.integers(-9, 10))
        if -(1 << lane - 1) <= near < 1 << lane - 1:
            signed[i] = near
    return signed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [*SRS, *NARROW_SRS], ids=lambda form: form.format(""))
def test_shift_round_saturate_in_every_mode_and_for_every_shift(form: str, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    bits, lane, destination, source = {**SRS, **NARROW_SRS}[form]
    text = f"{form.format(kind[0])} {destination}, {source}, s1"
    for shift, mode, saturation in modes_with_every_value(random):
        values = srs_values(random, lane, lanes_of(source, lane), bits, shift)
        modes = {"s1": shift, "crRnd": mode, "crSat": saturation, "crSRSSign": int("1" in kind)}
        core = BENCH.run(text, {source: packed(values, lane), **modes})
        want = [srs(value, shift, mode, bits, kind != "d", saturation) for value in values]
        assert core.registers.read(destination).tobytes() == packed(want, bits), modes


def forms_of_a_store(form: str, source: str) -> list[str]:
    return [
        f"vst.{form} {source}, s1, [p0, #0]",
        f"vst.{form} {source}, s1, [p0], m1",
        f"vst.2d.{form} {source}, s1, [p0], d1",
        f"vst.3d.{form} {source}, s1, [p0], d1",
    ]


STEPS = {f"{name}{number}": 0 for name in ("m", "dn", "dj", "dc") for number in (1, 5)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("form", "bits", "lane", "source"),
    [("8.s32", 8, 32, "cm2"), ("16.s32", 16, 32, "bml2"), ("16.s64", 16, 64, "cm2"), ("32.s64", 32, 64, "bml2")],
)
def test_stores_that_shift_round_and_saturate(
    form: str, bits: int, lane: int, source: str, kind: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    for text in forms_of_a_store(f"srs.{kind[0]}{form}", source):
        for shift in (0, 1, 4, 17, 31, 32, 59, 60, 61, 62, 63):
            values = srs_values(random, lane, 256 // bits, bits, shift)
            modes = {
                "s1": shift,
                "crSat": int(random.choice(SATURATION)),
                "crRnd": int(random.choice(ROUNDING)),
                "crSRSSign": int("1" in kind),
            }
            core = BENCH.run(text, {source: packed(values, lane), **STEPS, **modes}, bytes(64))
            want = [srs(value, shift, modes["crRnd"], bits, kind != "d", modes["crSat"]) for value in values]
            assert core.data_memory.read(MEMORY, 64) == packed(want, bits) + bytes(32), (text, modes)


UPS = {
    "s32.{}16": (16, 32, "bml2", "wl1"),
    "s32.{}8": (8, 32, "cm2", "wl1"),
    "s64.{}32": (32, 64, "bml2", "wl1"),
    "s64.{}16": (16, 64, "cm2", "wl1"),
}
WIDE_UPS = {"s32.{}16": (16, 32, "cm2", "x1"), "s64.{}32": (32, 64, "cm2", "x1")}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("suffix", "row"), [*UPS.items(), *WIDE_UPS.items()])
def test_up_shift_in_every_mode_and_for_every_shift(
    suffix: str, row: tuple[int, int, str, str], kind: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    bits, lane, destination, source = row
    text = f"vups.{suffix.format(kind[0])} {destination}, {source}, s1"
    for shift in range(64):
        data = packed(edgy(random, bits, lanes_of(source, bits)), bits)
        modes = {"s1": shift, "crSat": int(random.choice(SATURATION)), "crUPSSign": int("1" in kind)}
        core = BENCH.run(text, {source: data, **modes})
        want = [ups(value, shift, lane, modes["crSat"]) for value in numbers(data, bits, kind != "d")]
        assert core.registers.read(destination).tobytes() == packed(want, lane), modes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wide", [16, 8])
def test_pack_in_every_saturation_mode_and_unpack(wide: int, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    narrow, signed, letter = wide // 2, kind != "d", kind[0]
    signs = {"crPackSign": int("1" in kind), "crUnpackSign": int("1" in kind)}
    for saturation in SATURATION * 4:
        data = packed(edgy(random, wide, 512 // wide), wide)
        core = BENCH.run(f"vpack.{letter}{narrow}.{letter}{wide} wl1, x2", {"x2": data, "crSat": saturation, **signs})
        want = [clamped(value, narrow, signed, saturation) for value in numbers(data, wide, signed)]
        assert core.registers.read("wl1").tobytes() == packed(want, narrow), saturation
        data = random.bytes(32)
        core = BENCH.run(f"vunpack.{letter}{wide}.{letter}{narrow} x1, wl2", {"wl2": data, **signs})
        assert core.registers.read("x1").tobytes() == packed(numbers(data, narrow, signed), wide)


def test_the_signed_minimum_packs_to_what_section_4_says() -> None:
    """-128 gives -128 with crSat 1 and -127 with crSat 3."""
    data = packed([-128, -129, 127, 128, -32768, 32767, 0, -1] * 4, 16)
    for saturation, least in ((1, -128), (3, -127)):
        core = BENCH.run("vpack.s8.s16 wl1, x2", {"x2": data, "crSat": saturation})
        assert numbers(core.registers.read("wl1"), 8, True)[:8] == [least, least, 127, 127, least, 127, 0, -1]


# floats


def test_bf16_widens_by_16_bits(seed: int) -> None:
    random = np.random.default_rng(seed)
    data = random.bytes(32)
    core = BENCH.run("vconv.fp32.bf16 bml2, wl1", {"wl1": data})
    assert core.registers.read("bml2").tobytes() == packed([x << 16 for x in numbers(data, 16, False)], 32)


FP32_EDGES = [0, 1, 0x8000, 0x8001, 0x7FFF, 0x18000, 0x7F7FFFFF, 0x7F7F8000, 0x7F7F7FFF, 0x3F808000, 0x3F818000]
FP32_EDGES += [0x007FFFFF, 0x7F800000, 0x7F800001, 0x7F80FFFF, 0x7FC00000, 0x7F818000, 0x7FFFFFFF]


def fp32_words(random: np.random.Generator) -> list[int]:
    return [
        (int(random.choice(FP32_EDGES)) if random.random() < 0.5 else int(random.integers(0, 1 << 31)))
        | int(random.integers(0, 2)) << 31
        for _ in range(16)
    ]


@pytest.mark.parametrize("mode", ROUNDING)
def test_fp32_narrows_in_every_rounding_mode(mode: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(12):
        words = fp32_words(random)
        core = BENCH.run("vconv.bf16.fp32 wl1, bml2", {"bml2": packed(words, 32), "crRnd": mode})
        want = [narrowed_fp32(word, mode) for word in words]
        assert core.registers.read("wl1").tobytes() == packed(want, 16), [hex(word) for word in words]


BF16_EDGES = [
    0,
    0x8000,
    1,
    0x8001,
    0x7F7F,
    0xFF7F,
    0x4F00,
    0xCF00,
    0x4EFF,
    0x3F80,
    0xBF81,
    0x7F80,
    0xFF80,
    0x7FC0,
    0xFF81,
]


def bf16_patterns(random: np.random.Generator) -> list[int]:
    return [
        int(random.choice(BF16_EDGES)) if random.random() < 0.5 else int(random.integers(0, 1 << 16)) for _ in range(16)
    ]


def test_floor_of_bf16_times_every_power_of_two(seed: int) -> None:
    random = np.random.default_rng(seed)
    for shift in range(64):
        for mode in (0, int(random.choice(ROUNDING))):
            patterns = bf16_patterns(random)
            core = BENCH.run("vfloor.s32.bf16 x1, wl2, s1", {"wl2": packed(patterns, 16), "s1": shift, "crRnd": mode})
            want = [floored_bf16(pattern, shift) for pattern in patterns]
            assert core.registers.read("x1").tobytes() == packed(want, 32), shift


# forms fused with loads and stores do what the two instructions do

FUSED_LOADS = (
    [
        (f"vlda.ups.{suffix.format(kind)} {wide}, s1, [p0, #0]", f"vups.{suffix.format(kind)} {wide}, wl1, s1", wide)
        for suffix, (_, _, wide, _) in UPS.items()
        for kind in "sd"
    ]
    + [
        (
            f"vlda.{steps}.ups.{suffix.format(kind)} {wide}, s1, [p0], d1",
            f"vups.{suffix.format(kind)} {wide}, wl1, s1",
            wide,
        )
        for suffix, (_, _, wide, _) in UPS.items()
        for kind in "sd"
        for steps in ("2d", "3d")
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
            "s1": int(random.integers(0, 64)),
            "crSat": int(random.choice(SATURATION)),
            "crUPSSign": int(random.integers(2)),
            "crUnpackSign": int(random.integers(2)),
        }
        want = BENCH.run(alone, {"wl1": data, **modes}).registers.read(register).tobytes()
        assert BENCH.run(fused, {**STEPS, **modes}, data).registers.read(register).tobytes() == want


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
    for saturation in SATURATION * 2:
        registers = {
            source: random.bytes(64),
            "crRnd": int(random.choice(ROUNDING)),
            "crSat": saturation,
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


# native code: the same model, for some of the modes (each is compiled)


@pytest.mark.parametrize("kind", ["s", "d"])
@pytest.mark.parametrize("form", SRS, ids=lambda form: form.format(""))
def test_native_code_shifts_rounds_and_saturates_the_same(form: str, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    bits, lane, destination, source = SRS[form]
    for mode, saturation in ((12, 1), (9, 0), (0, 3)):
        for shift in (0, 3, int(random.integers(4, 60)), 59, 60, 61, 62, 63):
            values = srs_values(random, lane, lanes_of(source, lane), bits, shift)
            modes = {"s1": shift, "crRnd": mode, "crSat": saturation}
            core = BENCHES["native"].run(
                f"{form.format(kind)} {destination}, {source}, s1", {source: packed(values, lane), **modes}
            )
            want = [srs(value, shift, mode, bits, kind != "d", saturation) for value in values]
            assert core.registers.read(destination).tobytes() == packed(want, bits), modes


def test_native_stores_and_packs_the_same(seed: int) -> None:
    random = np.random.default_rng(seed)
    bench = BENCHES["native"]
    for shift in (5, 60, 62, 63):
        for saturation in SATURATION:
            values = srs_values(random, 64, 8, 32, shift)
            modes = {"s1": shift, "crRnd": 0, "crSat": saturation}
            core = bench.run("vst.srs.d32.s64 bml2, s1, [p0, #0]", {"bml2": packed(values, 64), **modes}, bytes(64))
            want = [srs(value, shift, 0, 32, False, saturation) for value in values]
            assert core.data_memory.read(MEMORY, 32) == packed(want, 32), modes
    for saturation in SATURATION:
        data = packed(edgy(random, 16, 32), 16)
        core = bench.run("vpack.s8.s16 wl1, x2", {"x2": data, "crSat": saturation})
        want = [clamped(value, 8, True, saturation) for value in numbers(data, 16, True)]
        assert core.registers.read("wl1").tobytes() == packed(want, 8)


# what the facts leave open


@pytest.mark.parametrize("engine", BENCHES)
@pytest.mark.parametrize("register", ["crRnd", "crSat"])
def test_modes_without_a_meaning_are_named(register: str, engine: str) -> None:
    readers = {
        "crRnd": ("vsrs.s16.s32 x1, cm2, s1", "vst.srs.s8.s32 cm2, s1, [p0, #0]", "vconv.bf16.fp32 wl1, bml2"),
        "crSat": (
            "vsrs.d16.s32 x1, cm2, s1",
            "vups.s32.s16 bml2, wl1, s1",
            "vlda.ups.s32.d16 bml2, s1, [p0, #0]",
            "vpack.s8.s16 wl1, x2",
        ),
    }[register]
    for text in readers:
        for value in {"crRnd": UNDEFINED_ROUNDING, "crSat": UNDEFINED_SATURATION}[register]:
            with pytest.raises(EmulationError, match=f"{register} {value:#x}: facts/semantics does not say"):
                BENCHES[engine].run(text, {register: value, "s1": 3})


@pytest.mark.parametrize("engine", BENCHES)
def test_sign_registers_have_one_bit(engine: str) -> None:
    for text, register in (
        ("vsrs.d16.s32 x1, cm2, s1", "crSRSSign"),
        ("vups.s32.d16 bml2, wl1, s1", "crUPSSign"),
        ("vpack.d8.d16 wl1, x2", "crPackSign"),
        ("vunpack.d16.d8 x1, wl2", "crUnpackSign"),
    ):
        with pytest.raises(EmulationError, match=f"{register} 0x2: facts/semantics does not say"):
            BENCHES[engine].run(text, {register: 2, "s1": 3})


@pytest.mark.parametrize("engine", BENCHES)
@pytest.mark.parametrize("kind", ["s", "d"])
def test_a_saturating_product_out_of_its_documented_range_is_warned_of(kind: str, engine: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    seen = set()
    for text in (f"vsrs.{kind}16.s32 wl1, bml2, s1", f"vst.srs.{kind}16.s32 bml2, s1, [p0, #0]"):
        for shift in (3, 60, 61, 62, 63):
            for saturation in SATURATION:
                for value in (*(x >> (64 - shift) % 64 for x in (0x7FFF, 0x8000, 0xFFFF, 0x10000)), -9000, -3, 5):
                    if random.random() < (0.7 if engine == "native" else 0.2):
                        continue
                    registers = {"bml2": packed([value, *[0] * 15], 32), "s1": shift, "crSat": saturation}
                    warning = BENCHES[engine].warning(text, registers, bytes(64))
                    fine = srs_documented(value, shift, 16, kind == "s", saturation)
                    assert bool(warning) != fine, (text, value, shift, saturation)
                    assert fine or "convert.md section 2" in warning
                    seen.add(fine)
    assert seen == {False, True}


@pytest.mark.parametrize("engine", BENCHES)
@pytest.mark.parametrize("kind", ["s", "d"])
def test_an_up_shift_that_saturates_is_warned_of(kind: str, engine: str) -> None:
    for text in (f"vups.s32.{kind}16 bml2, wl1, s1", f"vlda.ups.s32.{kind}16 bml2, s1, [p0, #0]"):
        for shift, saturation, value in (
            (15, 1, 0x7FFF),
            (17, 1, 0x7FFF),
            (20, 3, 0x7FFF),
            (20, 0, 0x7FFF),
            (16, 1, 0x8000),
        ):
            data = packed([value, *[0] * 15], 16)
            registers = {"wl1": data, "s1": shift, "crSat": saturation}
            warning = BENCHES[engine].warning(text, registers, data)
            number = numbers(data, 16, kind == "s")[0]
            assert bool(warning) != ups_documented(number, shift, 32, saturation), (text, shift, saturation)
            assert not warning or re.search(r"convert.md section 3 has two sources that differ", warning)
