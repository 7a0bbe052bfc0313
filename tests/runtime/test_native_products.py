"""The translator's short cut for sums of products of usual size, against the rule in integers, lane by lane."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest

from npuc.runtime.emulator.native import machine, products
from npuc.runtime.emulator.native.effects import Family
from npuc.runtime.emulator.semantics import float_sum, multiply

INSTRUCTION = "VMAC_F_vmac_bm_core_dense"
MATRIX, BY_LANE = 2 << 1 | 3 << 3, 2 << 1 | 3 << 3 | 1 << 5  # configuration words (facts/semantics/vmac.md section 2)
NEGATED_PRODUCT, NEGATED_ACCUMULATOR = 1 << 11, 1 << 12
FIRST, LAST = products.USUAL

_CALL = """
define void @call(ptr %place) {
  %pa = getelementptr i8, ptr %place, i64 64
  %pb = getelementptr i8, ptr %place, i64 128
"""


def _compiled(word: int) -> tuple[Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], str]:
    """The native function of the instruction with a configuration word, and its text."""
    source = Family(INSTRUCTION, (64, 64, 64, 0), (64,)).source((word,))
    width = machine.register_bytes()
    kind, pieces = f"<{width} x i8>", 64 // width
    lines, names = [], []
    for name, place in (("c", "%place"), ("a", "%pa"), ("b", "%pb")):
        for i in range(pieces):
            lines.append(f"  %q{name}{i} = getelementptr i8, ptr {place}, i64 {i * width}")
            lines.append(f"  %{name}{i} = load {kind}, ptr %q{name}{i}, align 1")
            names.append(f"{kind} %{name}{i}")
    result = kind if pieces == 1 else "{ " + ", ".join([kind] * pieces) + " }"
    lines.append(f"  %r = call {result} @effect({', '.join(names)})")
    for i in range(pieces):
        value = "%r" if pieces == 1 else f"%r{i}"
        if pieces > 1:
            lines.append(f"  {value} = extractvalue {result} %r, {i}")
        lines.append(f"  store {kind} {value}, ptr %qc{i}, align 1")
    text = source + _CALL + "\n".join([*lines, "  ret void", "}", ""])
    library = machine.Library(machine.compile_text(text, 2), ["call"])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library.address["call"])

    def call(a: np.ndarray, b: np.ndarray, accumulator: np.ndarray) -> np.ndarray:
        place = np.concatenate([accumulator.view(np.uint8), a.view(np.uint8), b.view(np.uint8)])
        assert library  # lives as long as its code is called
        function(place.ctypes.data)
        return place[:64].view(np.uint32)

    return call, source


def _patterns(random: np.random.Generator, count: int, fields: list[int], mantissa_bits: int) -> np.ndarray:
    """Of those exponent fields, a sixth of them zeros of either sign, the mantissas often full or empty."""
    field = random.choice(fields, count)
    mantissa = random.integers(0, 1 << mantissa_bits, count)
    extreme = random.random(count)
    mantissa = np.where(extreme < 0.2, (1 << mantissa_bits) - 1, np.where(extreme < 0.4, 0, mantissa))
    magnitude = np.where(random.random(count) < 1 / 6, 0, field << mantissa_bits | mantissa)
    return magnitude | random.integers(0, 2, count) << mantissa_bits + 8


NEAR = [FIRST, FIRST + 1, (FIRST + LAST) // 2, LAST - 1, LAST]
LEAST = 2 * FIRST - 127  # of accumulators
CASES = {
    "within": (NEAR, NEAR, [LEAST, LEAST + 1, 100, 127, 140, 160, 254]),
    "close together": ([120, 124, 128], [121, 125, 127], [118, 123, 127, 129]),
    "small": ([FIRST, FIRST + 1], [FIRST, FIRST + 2], [LEAST, LEAST + 1, LEAST + 2]),
    "large": ([LAST - 1, LAST], [LAST], [170, 176, 177, 178]),
    "beyond": ([FIRST - 1, FIRST, LAST, LAST + 1], NEAR, [LEAST - 1, LEAST, 255]),
    "any": (list(range(256)), list(range(256)), list(range(256))),
}


@pytest.mark.parametrize("features", ["of this host", "without AVX-512"])
@pytest.mark.parametrize("word", [MATRIX, BY_LANE, MATRIX | NEGATED_PRODUCT, MATRIX | NEGATED_ACCUMULATOR])
def test_sums_of_usual_size_equal_the_rule(
    word: int, features: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if features != "of this host":
        monkeypatch.setattr(products, "_features", lambda: frozenset({"avx2"}))
    call, source = _compiled(word)
    if products._features() & {"avx2", "avx512bw"}:
        assert "cvtps2dq" in source or "roundeven" in source, "the short cut is not taken"
    known = multiply.configuration(word)
    random = np.random.default_rng([seed, word])
    for name, (left, right, kept) in CASES.items():
        for trial in range(30):
            a = _patterns(random, 32, left, 7).astype(np.uint16)
            b = _patterns(random, 32, right, 7).astype(np.uint16)
            accumulator = _patterns(random, 16, kept, 23).astype(np.uint32)
            got = call(a, b, accumulator)
            for lane in range(16):
                want = float_sum.exact_lane(
                    float_sum._factors(a, b, known.geometry, lane),
                    known.negate_product,
                    [(int(accumulator[lane]), known.negate_acc1)],
                )
                assert int(got[lane]) == want, f"{name}, trial {trial}, lane {lane}: {got[lane]:#x}, not {want:#x}"
