"""Instruction semantics beyond the goldens: the fast float path against the exact one, shuffle modes, known gaps."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.runtime.emulator import semantics
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.semantics import NUMPY, float_sum, multiply, permute

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).resolve().parents[2].parent / "shared" / "facts"))
SEED = 20


def _bf16(random: np.random.Generator, count: int, low: int, high: int) -> np.ndarray:
    """bf16 patterns with exponent fields low..high; a fifth of them zero."""
    field = random.integers(low, high + 1, count)
    pattern = random.integers(0, 2, count) << 15 | field << 7 | random.integers(0, 128, count)
    return np.where(random.random(count) < 0.2, 0, pattern).astype(np.uint16)


def _fp32(random: np.random.Generator, low: int, high: int) -> np.ndarray:
    return (_bf16(random, 16, low, high).astype(np.uint32) << 16) | random.integers(0, 65536, 16, dtype=np.uint32)


@pytest.mark.parametrize(
    ("low", "high", "acc_low", "acc_high"),
    [
        (120, 134, 110, 140),
        (0, 255, 0, 255),
        (0, 70, 0, 3),
        (55, 68, 0, 2),
        (180, 200, 240, 255),
        (100, 150, 0, 254),
        (0, 0, 0, 1),
        (62, 66, 1, 5),
    ],
)
def test_fast_float_sum_equals_the_exact_one(low: int, high: int, acc_low: int, acc_high: int) -> None:
    random = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    for geometry in (multiply.GEOMETRIES[2, 3, 0], multiply.GEOMETRIES[2, 3, 1]):
        for trial in range(40):
            a, b = _bf16(random, 32, low, high), _bf16(random, 32, low, high)
            accumulators = [(_fp32(random, acc_low, acc_high), bool(random.integers(2))) for _ in range(trial % 3)]
            negate = bool(random.integers(2))
            with np.errstate(all="ignore"):
                got = float_sum.multiply_add(NUMPY, a, b, geometry, negate, accumulators)
            for lane in range(16):
                want = float_sum.exact_lane(
                    float_sum._factors(a, b, geometry, lane),
                    negate,
                    [(int(lanes[lane]), negated) for lanes, negated in accumulators],
                )
                assert int(got[lane]) == want, (trial, lane)


@pytest.mark.parametrize(("low", "high"), [(0, 2), (0, 255), (100, 150), (250, 255)])
def test_fast_accumulator_addition_equals_the_exact_one(low: int, high: int) -> None:
    random = np.random.default_rng(SEED)
    print(f"seed {SEED}")
    for _ in range(40):
        accumulators = [(_fp32(random, low, high), bool(random.integers(2))) for _ in range(2)]
        with np.errstate(all="ignore"):
            got = float_sum.add(NUMPY, accumulators)
        for lane in range(16):
            want = float_sum.exact_lane(
                [], False, [(int(lanes[lane]), negated) for lanes, negated in accumulators], signed_zero=True
            )
            assert int(got[lane]) == want, (lane, [hex(int(lanes[lane])) for lanes, _ in accumulators])


def test_denormal_accumulators_add_as_measured() -> None:
    lanes = [np.full(16, pattern, dtype=np.uint32) for pattern in (0x80520000, 0x807E0000)]
    assert int(float_sum.add(NUMPY, [(each, False) for each in lanes])[0]) == 0x80D00000


def test_shuffle_modes_are_those_of_the_facts() -> None:
    file = FACTS / "semantics" / "vshuffle_modes.json"
    if not file.exists():
        pytest.skip(f"{file} is absent (NPUC_FACTS)")
    for mode in json.loads(file.read_text())["modes"]:
        bits, elements = permute.shuffle_elements(mode["mode"])
        per = bits // mode["elem_bits"]
        assert [e * per + i for e in elements for i in range(per)] == mode["source_element"], mode["mode"]


def test_geometries_are_those_of_the_facts() -> None:
    file = FACTS / "semantics" / "vmac_config.json"
    if not file.exists():
        pytest.skip(f"{file} is absent (NPUC_FACTS)")
    for mode in json.loads(file.read_text())["modes"]:
        geometry = multiply.GEOMETRIES[mode["amode"], mode["bmode"], mode["variant"]]
        widths = {"i4": 4, "i8": 8, "i16": 16, "bf16": 16, "i32": 32, "fp32": 32, "i64": 64}
        assert (geometry.a_bits, geometry.b_bits, geometry.lane_bits) == tuple(
            widths[mode[key]] for key in ("a", "b", "acc")
        ), mode["name"]
        assert geometry.inner == mode["K"]
        assert geometry.lanes == mode.get("lanes", mode.get("M", 0) * mode.get("N", 0))


@pytest.mark.parametrize(
    "word",
    [
        word | signs
        for word in (0x008, 0x010, 0x018, 0x002, 0x012, 0x032, 0x01A, 0x03A)
        for signs in (0, 0x100, 0x200, 0x300)
    ],
)
def test_integer_matrix_modes_are_row_major_products(word: int) -> None:
    random = np.random.default_rng(SEED)
    shape = multiply.configuration(word).geometry
    assert shape is not None
    a, b = (random.integers(0, 256, 64, dtype=np.uint8) for _ in range(2))

    def numbers(value: np.ndarray, bits: int, signed: bool, rows: int, columns: int) -> np.ndarray:
        return (
            value.view(f"{'i' if signed else 'u'}{bits // 8}")[: rows * columns].reshape(rows, columns).astype(object)
        )

    want = (
        numbers(a, shape.a_bits, bool(word & 0x200), shape.rows, shape.inner)
        @ numbers(b, shape.b_bits, bool(word & 0x100), shape.inner, shape.columns)
    ).reshape(-1)
    got = multiply.integer(NUMPY, a, b, word, op="vmul").view(f"i{shape.lane_bits // 8}")
    top = 1 << shape.lane_bits
    assert [int(x) % top for x in got] == [int(x) % top for x in want]


@pytest.mark.parametrize(("word", "floating"), [(0x1001C, True), (0x308, True), (0x01C, False), (0x3A8, False)])
def test_multiply_words_without_known_behaviour_are_refused(word: int, floating: bool) -> None:
    with pytest.raises(EmulationError, match="configuration word"):
        multiply.multiplier(word, floating)


def test_missing_semantics_are_listed_and_refused() -> None:
    missing = semantics.missing()
    assert "VMAC_vmac_cm_core_sparse_wide" in missing and "VMAC_vmac_cm_core_dense" not in missing
    assert set(missing) <= set(INSTRUCTIONS)
    with pytest.raises(EmulationError, match="not implemented"):
        semantics.effect(missing[0])


@pytest.mark.parametrize(
    ("mode", "word", "want"),
    [
        (0, 0x3F808001, 0x3F80),
        (1, 0x3F800001, 0x3F81),
        (12, 0x3F818000, 0x3F82),
        (12, 0x3F808000, 0x3F80),
        (0, 0xBF800001, 0xBF81),
        (12, 0x7F800001, 0x7F81),
    ],
)
def test_fp32_narrows_to_bf16_in_the_rounding_mode(mode: int, word: int, want: int) -> None:
    got = semantics.convert.narrow_fp32(NUMPY, np.full(16, word, dtype=np.uint32).view(np.uint8), mode)
    assert int(got.view(np.uint16)[0]) == want


def test_unknown_rounding_mode_is_refused() -> None:
    with pytest.raises(EmulationError, match="crRnd"):
        semantics.convert.narrow_fp32(NUMPY, np.zeros(64, dtype=np.uint8), 5)


def test_the_convolution_mode_sums_eight_neighbouring_products(seed: int) -> None:
    random = np.random.default_rng(seed)
    for signs, types in ((0x300, "bb"), (0x100, "Bb"), (0x200, "bB"), (0, "BB")):
        a, b = (random.integers(0, 256, 64, dtype=np.uint8) for _ in range(2))
        word = 1 << 3 | 4 << 5 | signs
        result = multiply.integer(NUMPY, a, b, word, op="vmul").view(np.int32)
        wide = [np.frombuffer(x.tobytes(), t).astype(int) for x, t in zip((a, b), types, strict=True)]
        assert result.tolist() == np.correlate(wide[0][:39], wide[1][:8], "valid").tolist()
