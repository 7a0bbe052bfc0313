"""Scalar instructions against plain integer arithmetic (facts/semantics/vector_misc.md sections 3 and 4)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from core_programs import MEMORY, Bench, edgy, wrapped

from npuc.runtime.emulator.core import OWN_MEMORY

M32 = 0xFFFFFFFF
BENCH = Bench()


def s32(value: int) -> int:
    return wrapped(value, 32, True)


def _shift(a: int, n: int, arithmetic: bool) -> int:
    if n >> 31 == 0:
        return a << (n % 32)
    return (s32(a) if arithmetic else a) >> (-s32(n) % 32)


def _sign_run(a: int) -> int:
    text = f"{a:032b}"
    return next((i for i, bit in enumerate(text) if bit != text[0]), 32)


TWO: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "and": lambda a, b: a & b,
    "or": lambda a, b: a | b,
    "xor": lambda a, b: a ^ b,
    "mul": lambda a, b: a * b,
    "lt": lambda a, b: s32(a) < s32(b),
    "ge": lambda a, b: s32(a) >= s32(b),
    "ltu": lambda a, b: a < b,
    "geu": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "ashl": lambda a, b: _shift(a, b, True),
    "lshl": lambda a, b: _shift(a, b, False),
}
ONE: dict[str, Callable[[int], int]] = {
    "abs": lambda a: abs(s32(a)),
    "eqz": lambda a: a == 0,
    "nez": lambda a: a != 0,
    "clz": lambda a: f"{a:032b}1".index("1"),
    "clb": _sign_run,
    "extend.s8": lambda a: wrapped(a, 8, True),
    "extend.s16": lambda a: wrapped(a, 16, True),
    "extend.u8": lambda a: a % 256,
    "extend.u16": lambda a: a % 65536,
}


@pytest.mark.parametrize("name", TWO)
def test_operations_of_two_registers(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(40):
        a, b = edgy(random, 32, 2)
        if "shl" in name and random.random() < 0.7:
            b = int(random.integers(-40, 40)) & M32
        core = BENCH.run(f"{name} r1, r2, r3", {"r2": a, "r3": b})
        assert core.registers.read("r1") == TWO[name](a, b) & M32, (hex(a), hex(b))


@pytest.mark.parametrize("name", ONE)
def test_operations_of_one_register(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(40):
        a = edgy(random, 32, 1)[0] >> int(random.integers(0, 32))
        core = BENCH.run(f"{name} r1, r2", {"r2": a})
        assert core.registers.read("r1") == ONE[name](a) & M32, hex(a)


@pytest.mark.parametrize(("low", "high"), [("add", "adc"), ("sub", "sbc")])
def test_carries_chain_to_64_bits(low: str, high: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(60):
        a, b = edgy(random, 64, 2)
        core = BENCH.run(
            f"{low} r1, r2, r3\n{high} r4, r5, r6", {"r2": a & M32, "r3": b & M32, "r5": a >> 32, "r6": b >> 32}
        )
        want = (a + b if low == "add" else a - b) % (1 << 64)
        assert core.registers.read("r1") | core.registers.read("r4") << 32 == want, (hex(a), hex(b))


def test_32_division_steps_divide() -> None:
    core_text = "\n".join(["divs r0, r31, r0, r2"] * 32)
    bench = Bench()
    for dividend, divisor in ((1000, 7), (0, 3), (M32, 1), (M32, M32), (0x80000000, 0x7FFFFFFF), (12345, 99999)):
        core = bench.run(core_text, {"r0": 0, "r31": dividend, "r2": divisor})
        core.run(core.cycle, 40)
        assert (core.registers.read("r31"), core.registers.read("r0")) == divmod(dividend, divisor)


@pytest.mark.parametrize(("name", "chosen"), [("sel.eqz", lambda c: c == 0), ("sel.nez", lambda c: c != 0)])
@pytest.mark.parametrize("condition", [0, 1, 0x80000000])
def test_selects_look_at_r27(name: str, chosen: Callable[[int], bool], condition: int) -> None:
    core = BENCH.run(f"{name} r1, r2, r3, r27", {"r2": 5, "r3": 6, "r27": condition})
    assert core.registers.read("r1") == (5 if chosen(condition) else 6)


@pytest.mark.parametrize(
    ("text", "register", "want"),
    [
        ("mova r1, #-5", "r1", -5 & M32),
        ("movx r1, #-7", "r1", -7 & M32),
        ("movxm r1, #0x12345678", "r1", 0x12345678),
        ("movxm p1, #0x7ffff", "p1", 0x7FFFF),
        ("add.nc r1, r2, #-3", "r1", 6),
        ("mov m1, r2", "m1", 9),
        ("movx crRnd, r2", "crRnd", 9),
        ("mov lc, r2", "lc", 9),
        ("mov dn3, r2", "dn3", 9),
        ("mov s1, r2", "s1", 9),
        ("add.nc lc, r2, #-1", "lc", 8),
    ],
)
def test_moves(text: str, register: str, want: int) -> None:
    core = BENCH.run(text, {"r2": 9})
    assert core.registers.read(register) == want


LOADS = {"lda": (4, False), "lda.s8": (1, True), "lda.u8": (1, False), "lda.s16": (2, True), "lda.u16": (2, False)}


@pytest.mark.parametrize("name", LOADS)
def test_loads_extend(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    size, signed = LOADS[name]
    for _ in range(20):
        data = random.bytes(8)
        offset = int(random.integers(0, 8 // size)) * size
        core = BENCH.run(f"{name} r1, [p0, dj0]", {"dj0": offset}, data)
        want = int.from_bytes(data[offset : offset + size], "little", signed=signed) & M32
        assert core.registers.read("r1") == want


@pytest.mark.parametrize(("name", "size"), [("st", 4), ("st.s16", 2), ("st.s8", 1)])
def test_stores_change_their_bytes_only(name: str, size: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    for _ in range(20):
        before = random.bytes(16)
        offset = int(random.integers(0, 16 // size)) * size
        value = int(random.integers(0, 1 << 32))
        core = BENCH.run(f"{name} r1, [p0, dj0]", {"dj0": offset, "r1": value}, before)
        want = bytearray(before)
        want[offset : offset + size] = (value & ((1 << 8 * size) - 1)).to_bytes(size, "little")
        assert core.data_memory.read(MEMORY, 16) == bytes(want)


# addresses


def _walk(dimensions: int, registers: dict[str, int], steps: int) -> list[int]:
    """The addresses of a 2D or 3D pointer, straight from the rules."""
    r, p, seen = dict(registers), registers["p1"], []
    for _ in range(steps):
        seen.append(p)
        if r["dc1"] < r["dn1"]:
            p, r["dc1"] = p + r["dj1"], r["dc1"] + 1
        elif dimensions == 3 and r["dc5"] < r["dn5"]:
            p, r["dc1"], r["dc5"] = p + r["dj5"], 0, r["dc5"] + 1
        else:
            p, r["dc1"] = p + r["m1"], 0
            if dimensions == 3:
                r["dc5"] = 0
        p %= 1 << 20
    return [*seen, p, r["dc1"], *([r["dc5"]] if dimensions == 3 else [])]


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("name", ["padda", "paddb", "padds"])
def test_multidimensional_pointers_follow_the_rules_from_any_state(name: str, dimensions: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    bench = Bench()
    for _ in range(30):
        registers = {"p1": int(random.integers(0, 1 << 20))}
        for file, top in (("m", 1 << 20), ("dj", 1 << 20), ("dn", 4), ("dc", 5)):
            for number in (1, 5):
                registers[f"{file}{number}"] = int(random.integers(0, top))
        steps = 8
        core = bench.run("\n".join([f"{name}.{dimensions}d [p1], d1"] * steps), registers)
        got = [core.registers.read(each) for each in ("p1", "dc1", "dc5")[:dimensions]]
        assert got == _walk(dimensions, registers, steps)[steps:], registers


@pytest.mark.parametrize(
    ("text", "registers", "where"),
    [
        ("lda r1, [p1], #-4", {"p1": OWN_MEMORY + MEMORY}, OWN_MEMORY + MEMORY - 4),
        ("lda r1, [p1], m2", {"p1": OWN_MEMORY + MEMORY, "m2": 0xFFFFC}, OWN_MEMORY + MEMORY - 4),
        ("lda r1, [p1, #8]", {"p1": OWN_MEMORY + MEMORY}, OWN_MEMORY + MEMORY),
        ("padda [p1], #-2048", {"p1": 0x400}, (0x400 - 2048) % (1 << 20)),
        ("padda [p1], m2", {"p1": 0xFFFFF, "m2": 2}, 1),
    ],
)
def test_post_modified_pointers_wrap_at_20_bits(text: str, registers: dict[str, int], where: int) -> None:
    data = bytes(range(16))
    core = BENCH.run(text, registers, data)
    assert core.registers.read("p1") == where
    if text.startswith("lda"):
        first = 8 if "#8" in text else 0
        assert core.registers.read("r1") == int.from_bytes(data[first : first + 4], "little")
