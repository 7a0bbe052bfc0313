"""Vector arithmetic, comparisons and permutes of the move slot against lists of plain numbers
(facts/semantics/vector_misc.md sections 1 and 2)."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from core_programs import MEMORY, Bench, edgy, numbers, packed, wrapped

from npuc.runtime.emulator.core import OWN_MEMORY
from npuc.runtime.emulator.errors import EmulationError

BENCH = Bench()
WIDTHS = (8, 16, 32)


def vectors(random: np.random.Generator, width: int) -> tuple[bytes, bytes]:
    """Two vectors of edgy lanes, a quarter of which are equal."""
    a, b = edgy(random, width, 512 // width), edgy(random, width, 512 // width)
    return packed(a, width), packed([x if random.random() < 0.25 else y for x, y in zip(a, b, strict=True)], width)


def mask_register(width: int) -> str:
    """Where the mask of lanes of that width goes (8-bit lanes: a pair)."""
    return "r17:r16" if width == 8 else "r16"


def mask_of(bits: list[bool]) -> int:
    return sum(bit << i for i, bit in enumerate(bits))


# name: number of sources, result of a lane (or None), mask bit of a lane (or None)
Lane = Callable[[int, int], int]
COMPARED: dict[str, tuple[int, Lane | None, Callable[[int, int], bool] | None]] = {
    "vlt": (2, None, lambda a, b: a < b),
    "vge": (2, None, lambda a, b: a >= b),
    "vmax_lt": (2, max, lambda a, b: a < b),
    "vmin_ge": (2, min, lambda a, b: a >= b),
    "vsub_lt": (2, lambda a, b: a - b, lambda a, b: a < b),
    "vsub_ge": (2, lambda a, b: a - b, lambda a, b: a >= b),
    "vmaxdiff_lt": (2, lambda a, b: a - b if a >= b else 0, lambda a, b: a < b),
    "vabs_gtz": (1, lambda a, b: abs(a), lambda a, b: a > 0),
}


@pytest.mark.parametrize("kind", ["s", "d", "d with crVaddSign 1"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", COMPARED)
def test_comparing_operations(name: str, width: int, kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    sources, lane, bit = COMPARED[name]
    destinations = (["x4"] if lane else []) + [mask_register(width)]
    text = f"{name}.{kind[0]}{width} {', '.join([*destinations, *['x1', 'x2'][:sources]])}"
    for _ in range(4):
        a, b = vectors(random, width)
        core = BENCH.run(text, {"x1": a, "x2": b, "crVaddSign": int("1" in kind)})
        signed = kind != "d"
        pairs = list(zip(numbers(a, width, signed), numbers(b, width, signed), strict=True))
        if lane:
            assert core.registers.read("x4").tobytes() == packed([lane(*pair) for pair in pairs], width)
        assert bit is not None
        assert core.registers.read(mask_register(width)) == mask_of([bit(*pair) for pair in pairs])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "lane"), [("vadd", lambda a, b: a + b), ("vsub", lambda a, b: a - b)])
def test_wrapping_sums(name: str, lane: Lane, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(4):
        a, b = vectors(random, width)
        core = BENCH.run(f"{name}.{width} x4, x1, x2", {"x1": a, "x2": b})
        want = [lane(*pair) for pair in zip(numbers(a, width, False), numbers(b, width, False), strict=True)]
        assert core.registers.read("x4").tobytes() == packed(want, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_operations_by_mask(width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(4):
        a, b = vectors(random, width)
        mask = int.from_bytes(random.bytes(512 // width // 8), "little")
        registers = {"x1": a, "x2": b, mask_register(width): mask}
        pairs = list(enumerate(zip(numbers(a, width, False), numbers(b, width, False), strict=True)))
        core = BENCH.run(f"vsel.{width} x4, x1, x2, {mask_register(width)}", registers)
        assert core.registers.read("x4").tobytes() == packed([y if mask >> i & 1 else x for i, (x, y) in pairs], width)
        core = BENCH.run(f"vaddsub.{width} x4, x1, x2, {mask_register(width)}", registers)
        want = [x - y if mask >> i & 1 else x + y for i, (x, y) in pairs]
        assert core.registers.read("x4").tobytes() == packed(want, width)


@pytest.mark.parametrize("width", WIDTHS)
def test_negations_and_tests_for_zero(width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    mask = mask_register(width)
    for _ in range(4):
        a, _ = vectors(random, width)
        lanes = numbers(a, width, True)
        core = BENCH.run(f"vneg_gtz{width} x4, {mask}, x1", {"x1": a})
        assert core.registers.read("x4").tobytes() == packed([-x for x in lanes], width)
        assert core.registers.read(mask) == mask_of([x > 0 for x in lanes])
        core = BENCH.run(f"vbneg_ltz.s{width} x4, {mask}, x1", {"x1": a})
        assert core.registers.read("x4").tobytes() == bytes(~x & 255 for x in a)
        assert core.registers.read(mask) == mask_of([x < 0 for x in lanes])
        core = BENCH.run(f"veqz.{width} {mask}, x1", {"x1": a})
        assert core.registers.read(mask) == mask_of([x == 0 for x in lanes])


# bf16


def _rank(pattern: int) -> Fraction | None:
    """A number that orders bf16 as sign and magnitude do (-0 below +0), None for a NaN."""
    magnitude = pattern & 0x7FFF
    if magnitude > 0x7F80:
        return None
    return -Fraction(magnitude) - Fraction(1, 2) if pattern >> 15 else Fraction(magnitude)


BF16 = [0, 0x8000, 1, 0x8001, 0x7F80, 0xFF80, 0x7F81, 0xFFC0, 0x3F80, 0xBF80, 0x3F81, 0x7F7F, 0xFF7F]


@pytest.mark.parametrize("name", ["vlt", "vge", "vmax_lt", "vmin_ge"])
def test_bf16_comparisons(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    with_result = name.startswith("vm")
    text = f"{name}.bf16 {'x4, ' if with_result else ''}r16, x1, x2"
    for _ in range(12):
        a, b = (
            [int(random.choice(BF16)) if random.random() < 0.5 else int(random.integers(0, 65536)) for _ in range(32)]
            for _ in range(2)
        )
        core = BENCH.run(text, {"x1": packed(a, 16), "x2": packed(b, 16)})
        bits, want = [], []
        for x, y in zip(a, b, strict=True):
            ranks = _rank(x), _rank(y)
            known = ranks[0] is not None and ranks[1] is not None
            bit = known and (ranks[0] < ranks[1] if name.endswith("lt") else ranks[0] >= ranks[1])  # type: ignore[operator]
            bits.append(bit)
            want.append(y if bit else x)
        assert core.registers.read("r16") == mask_of(bits)
        if with_result:
            assert core.registers.read("x4").tobytes() == packed(want, 16)


# permutes


def _shuffled(mode: dict[str, int], a: bytes, b: bytes) -> bytes:
    """A transposition by the fact sheet's rule, one element at a time."""
    bits, rows, columns = mode["bits"], mode["rows"], mode["columns"]
    source = numbers(a + b if mode["pair"] else a, bits, False)
    size = rows * columns
    out = []
    for start in range(0, len(source), size):
        block = source[start : start + size]
        out += [block[r * columns + c] for c in range(columns) for r in range(rows)]
    half = packed(out, bits)
    return half[64:] if mode["pair"] and mode["odd"] else half[:64]


@pytest.mark.parametrize(
    ("number", "bits", "rows", "columns", "pair"),
    [
        (0, 8, 64, 2, True),
        (3, 16, 32, 2, True),
        (18, 16, 2, 32, True),
        (19, 16, 2, 32, True),
        (10, 256, 2, 2, True),
        (22, 512, 1, 2, True),
        (23, 512, 1, 2, True),
        (29, 16, 4, 8, False),
        (28, 16, 8, 4, False),
        (39, 16, 4, 4, False),
        (35, 8, 8, 8, False),
        (34, 32, 4, 4, False),
    ],
)
def test_shuffles_transpose(number: int, bits: int, rows: int, columns: int, pair: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.bytes(64), random.bytes(64)
    for word in (number, number | 0x40, number | 0xFFFFFFC0):
        core = BENCH.run("vshuffle x4, x1, x2, r1", {"x1": a, "x2": b, "r1": word})
        mode = {"bits": bits, "rows": rows, "columns": columns, "pair": pair, "odd": number & 1}
        assert core.registers.read("x4").tobytes() == _shuffled(mode, a, b)


@pytest.mark.parametrize("count", [0, 1, 31, 63, 64, 65, 127, 128, 129, 0xFFFFFFFF])
def test_byte_shifts_take_a_window(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.bytes(64), random.bytes(64)
    core = BENCH.run("vshift x4, x1, x2, r1", {"x1": a, "x2": b, "r1": count})
    assert core.registers.read("x4").tobytes() == (a + b + bytes(64))[min(count, 128) :][:64].ljust(64, b"\0")


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_moves_of_single_lanes(width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    count = 512 // width
    value_register = "r21:r20" if width == 64 else "r20"
    for _ in range(6):
        a, value = random.bytes(64), int.from_bytes(random.bytes(8), "little")
        index = int(random.integers(0, 4 * count))
        lanes = numbers(a, width, False)
        registers = {"x1": a, "r20": value & 0xFFFFFFFF, "r21": value >> 32, "r29": index, "r18": index}
        low = value & ((1 << width) - 1)

        def result(text: str, registers: dict[str, object] = registers) -> bytes:
            return BENCH.run(text, registers).registers.read("x4").tobytes()

        assert result(f"vbcst.{width} x4, {value_register}") == packed([low] * count, width)
        assert result(f"vextbcst.{width} x4, x1, r18") == packed([lanes[index % count]] * count, width)
        want = list(lanes)
        want[index % count] = low
        assert result(f"vinsert.{width} x4, x1, r29, {value_register}") == packed(want, width)
        assert result(f"vpush.lo.{width} x4, {value_register}, x1") == packed([low, *lanes[:-1]], width)
        assert result(f"vpush.hi.{width} x4, x1, {value_register}") == packed([*lanes[1:], low], width)
        mode = int(random.choice([0, 2, 18, 29, 35, 39, 50]))
        broadcast = packed([low] * count, width)
        registers["r29"] = mode
        assert (
            result(f"vbcstshfl.{width} x4, {value_register}, r29")
            == BENCH.run("vshuffle x4, x1, x2, r1", {"x1": broadcast, "x2": bytes(64), "r1": mode})
            .registers.read("x4")
            .tobytes()
        )
        registers["r18"] = index % count
        for kind, sign in (("s", 0), ("d", 0), ("d", 1)):
            lane = wrapped(lanes[index % count], width, kind == "s" or sign == 1)
            destination = "r23:r22" if width == 64 else "r22"
            core = BENCH.run(f"vextract.{kind}{width} {destination}, x1, r18", {**registers, "crVaddSign": sign})
            assert core.registers.read(destination) == lane & ((1 << max(width, 32)) - 1)


@pytest.mark.parametrize("engine", ["interpreter", "native"])
@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_extracting_a_lane_that_a_vector_does_not_have_is_refused(width: int, engine: str) -> None:
    """vector_misc.md section 1 has vextbcst and vinsert with lane (i mod lanes), vextract with lane i."""
    bench = Bench(engine)
    text = f"vextract.s{width} {'r23:r22' if width == 64 else 'r22'}, x1, r18"
    bench.run(text, {"x1": bytes(64), "r18": 512 // width - 1})
    for index in (512 // width, 0xFFFFFFFF):
        with pytest.raises(EmulationError, match=r"a lane that the vector does not have: .*vector_misc.md section 1"):
            bench.run(text, {"x1": bytes(64), "r18": index})


@pytest.mark.parametrize("engine", ["interpreter", "native"])
@pytest.mark.parametrize("source", ["wl4", "wh4", "amhl2"])
def test_a_mask_register_gets_the_low_half_of_a_vector(source: str, engine: str, seed: int) -> None:
    """facts/platform/device_npu1.md, last section."""
    data = np.random.default_rng(seed).bytes(32)
    core = Bench(engine).run(f"vmov q1, {source}\n\n\nst q1, [p0, #16]", {source: data, "q1": bytes(16)}, bytes(64))
    assert core.registers.read("q1").tobytes() == data[:16]
    assert core.data_memory.read(MEMORY, 64) == bytes(16) + data[:16] + bytes(32)


def test_other_moves_between_widths_are_refused() -> None:
    with pytest.raises(EmulationError, match="'vmov wl4, q1' between registers of different widths: .*section 1"):
        BENCH.run("vmov wl4, q1", {})


def test_shift_align_is_a_plain_shift_without_a_step_and_named_unknown_with_one(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.bytes(64), random.bytes(64)
    for count in (0, 5, 64, 100):
        core = BENCH.run("vshift.align x4, x1, s0, x2, r1", {"x1": a, "x2": b, "s0": 0, "r1": count})
        assert core.registers.read("x4").tobytes() == (a + b + bytes(64))[count : count + 64]
    core = BENCH.run("vshift.align x4, x1, s0, x2, r1", {"x1": a, "x2": b, "s0": 3, "r1": 0x80000005})
    assert not core.registers.read("x4").any()
    with pytest.raises(EmulationError, match=r"vector_misc.md section 1 .* step 0x3"):
        BENCH.run("vshift.align x4, x1, s0, x2, r1", {"x1": a, "x2": b, "s0": 3, "r1": 5})


@pytest.mark.parametrize(("width", "half"), [(16, "lo"), (16, "hi"), (32, "lo"), (32, "hi"), (64, "lo"), (64, "hi")])
def test_gathers_fetch_from_the_copy_of_the_lanes_parity(width: int, half: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    table = random.bytes(256)
    element = width // 8
    for _ in range(6):
        addresses = [OWN_MEMORY + MEMORY + int(random.integers(0, len(table))) for _ in range(8)]
        core = BENCH.run(f"vldb.4x{width}.{half} wl4, wl1", {"wl1": packed(addresses, 32)}, table)
        got = core.registers.read("wl4").tobytes()
        for lane in range(4):
            address = addresses[lane + 4 * (half == "hi")] - OWN_MEMORY - MEMORY
            place = (address & ~31) + 16 * (lane % 2) + (address >> 1 & 15) // element * element
            assert got[8 * lane : 8 * lane + element] == table[place : place + element], (lane, hex(address))
