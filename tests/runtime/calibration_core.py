"""The experiments of facts/silicon/calibration.json that need one core: its programs, written from the descriptions.

Each function takes the expected values of its experiment and asserts them.  Times between two marks are those of
`event` instructions; the constant of a form like `9*N + 4` is the straight code between the marks, so what is tested is
that straight code and loops cost what they did there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from npuc.compiler.asm.assembler import assemble
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.suspension import Done

Expected = dict[str, Any]
ENGINE = "interpreter"  # what runs the programs; tests set it
A, B, C = OWN_MEMORY + 0x400, OWN_MEMORY + 0x4000, OWN_MEMORY + 0x8000  # operands in banks 0, 1 and 2
BF16_CONFIGURATION, INT8_CONFIGURATION = 28, 776


def nops(count: int) -> str:
    return "nop\n" * count


def loaded(text: str, **registers: int) -> Core:
    """A core with that program, in program memory from 0."""
    code = assemble(text).code
    program = bytearray(16384)
    program[: len(code)] = code
    core = core_class(ENGINE)(program, DataMemory())
    for name, value in registers.items():
        core.registers.write(name, value)
    return core


def run(core: Core) -> list[int]:
    """To the end; the cycles of its event instructions."""
    assert isinstance(core.run(0, 1 << 40), Done)
    return [cycle for cycle, _ in core.events]


def between_marks(setup: str, before: str, loop: str, count: int, **registers: int) -> tuple[int, Core]:
    """Cycles between two events around `before` and a hardware loop of `count` passes."""
    core = loaded(
        f"{setup}\n nop\n movxm lc, #{count}\n movxm ls, #first\n movxm le, #last\n{nops(8)} event #0\n{before}"
        f"first:\n{loop}\n event #1\n{nops(8)} done\n{nops(6)}",
        **registers,
    )
    first, second = run(core)
    return second - first, core


# calls


def calls(function: str, count: int, **registers: int) -> tuple[int, Core]:
    """Cycles of `count` calls of a function from a counted loop."""
    core = loaded(
        f"mova r31, #{count}\n event #0\ncall:\n jl #function\n{nops(5)} add r31, r31, #-1\n jnz r31, #call\n{nops(5)}"
        f" event #1\n{nops(8)} done\n{nops(6)}function:\n{function}\n ret lr\n{nops(5)}",
        **registers,
    )
    first, second = run(core)
    return second - first, core


def cycles_per_call(function: str, **registers: int) -> float:
    """Slope over the number of calls."""
    few, many = (calls(function, count, **registers)[0] for count in (3, 13))
    return (many - few) / 10


def cycles_over_empty(function: str, **registers: int) -> float:
    return cycles_per_call(function, **registers) - cycles_per_call("")


def empty_call(expected: Expected) -> None:
    core_once = calls("", 1)[1]
    core_twice = calls("", 2)[1]
    loop = 6 + 1 + 6  # jl, counter and jnz with their delay slots
    assert core_twice.bundles - core_once.bundles - loop == expected["executed_bundles_in_function"]
    # 19.1 to 20.4 seen, depending on the calling loop
    assert 19 <= cycles_per_call("") <= 20.4


def _chain(loads: list[str], multiply: str, distance: int, wait: str, stores: list[str], bundles: int) -> str:
    """Loads, eight dependent multiplies `distance` apart, a wait, stores; `bundles` in all."""
    lines = [*loads, *["nop"] * 6]
    for _ in range(7):
        lines += [multiply, *["nop"] * (distance - 1)]
    lines += [multiply, *wait.split(), *stores]
    return "\n".join([*lines, *["nop"] * (bundles - len(lines))])


def vmac_chain_bf16(distance: int) -> Callable[[Expected], None]:
    def experiment(expected: Expected) -> None:
        loads = [
            f"vlda {part}, [p{p}], #32"
            for p, parts in ((0, ("wl0", "wh0")), (1, ("wl1", "wh1")), (2, ("amll0", "amlh0")))
            for part in parts
        ]
        stores = ["vst amll0, [p3], #32", "vst amlh0, [p3], #32"]
        text = _chain(
            loads, "vmac.f bml0, bml0, x0, x1, r0", distance, "nop " * 6, stores, expected["bundles_over_empty"]
        )
        registers = dict(p0=A, p1=B, p2=C, p3=C + 64, r0=BF16_CONFIGURATION)
        _, core = calls_with(
            text, {A: np.full(32, 0x3F80, "<u2"), B: np.full(32, 0x4000, "<u2"), C: np.full(16, 3.0, "<f4")}, registers
        )
        result = np.frombuffer(core.data_memory.read(0x8040, 64), "<f4")
        assert (result == 3.0 + expected["m"] * 16.0).all()
        assert abs(cycles_over_empty(text, **registers) - expected["cycles_over_empty"]) <= 0.3

    return experiment


def vmac_chain_int8(distance: int) -> Callable[[Expected], None]:
    def experiment(expected: Expected) -> None:
        quarters = ("amll0", "amlh0", "amhl0", "amhh0")
        loads = [
            "vlda wl0, [p0], #32",
            "vlda wl1, [p1], #32",
            "vlda wh1, [p1], #32",
            *(f"vlda {part}, [p2], #32" for part in quarters),
        ]
        text = _chain(
            loads,
            "vmac cm0, cm0, x0, x1, r0",
            distance,
            "nop " * 5,
            [f"vst {part}, [p3], #32" for part in quarters],
            expected["bundles_over_empty"],
        )
        registers = dict(p0=A, p1=B, p2=C, p3=C + 128, r0=INT8_CONFIGURATION)
        _, core = calls_with(
            text, {A: np.full(32, 2, "u1"), B: np.full(64, 3, "u1"), C: np.full(32, 5, "<i4")}, registers
        )
        result = np.frombuffer(core.data_memory.read(0x8080, 128), "<i4")
        assert (result == 5 + expected["m"] * 8 * 6).all()
        assert abs(cycles_over_empty(text, **registers) - expected["cycles_over_empty"]) <= 0.3

    return experiment


def calls_with(function: str, memory: dict[int, np.ndarray], registers: dict[str, int]) -> tuple[int, Core]:
    """One call, with memory contents."""
    core = loaded(
        f"jl #function\n{nops(5)} {nops(8)} done\n{nops(6)}function:\n{function}\n ret lr\n{nops(5)}", **registers
    )
    for address, words in memory.items():
        core.data_memory.write(address - OWN_MEMORY, words.tobytes())
    run(core)
    return core.cycle, core


# loops


def _counts(expected: Expected, few: tuple[int, ...]) -> dict[int, int | None]:
    """Passes to run and cycles measured on hardware: native code runs the smallest case that was."""
    if ENGINE == "interpreter":
        return dict.fromkeys(few)
    count = min(map(int, expected["cycles"]))
    return {count: expected["cycles"][str(count)]}


def scalar_rmw_loop(expected: Expected) -> None:
    assert expected["form"] == "9*N + 4"
    loop = f"lda r2, [p0, #0]\n{nops(6)} add r2, r2, #1\nlast:\n st r2, [p0, #0]; add.nc r3, r3, #1"
    for count, measured in _counts(expected, (100, 2000)).items():
        cycles, core = between_marks("", nops(3), loop, count, p0=A)
        assert cycles == 9 * count + 4 and measured in (None, cycles)
        assert int.from_bytes(core.data_memory.read(0x400, 4), "little") == count


def vector_add_loop(expected: Expected) -> None:
    assert expected["form"] == "2*N + 21"
    loop = "vbcst.32 x0, r17\nlast:\n add r3, r3, #1; vadd.32 x4, x0, x4"
    for count, measured in _counts(expected, (100, 4000)).items():
        cycles, core = between_marks("", nops(20), loop, count, r17=1)
        assert cycles == 2 * count + 21 and measured in (None, cycles)
        assert (core.registers.read("x4").view("<u4") == count).all()


def cycle_counter(expected: Expected) -> None:
    core = loaded(
        f"movxm r8, #1000\n mov r17:r16, cntr\n{nops(23)}again:\n add r8, r8, #-1\n nop\n nop\n"
        f" jnz r8, #again\n{nops(5)}"
        f" mov r19:r18, cntr\n{nops(4)} done\n{nops(6)}"
    )
    run(core)
    assert core.registers.read("r19:r18") - core.registers.read("r17:r16") == expected["delta"]


# banks


def _pair_loop(second: int, count: int, pair: str = "vlda wl0, [p0, #0]; vldb wl1, [p1, #0]") -> tuple[int, int]:
    """Cycles and stalls of an 11-bundle loop with one bundle that makes two accesses."""
    loop = f"{pair}\n{nops(9)}last:\n add r3, r3, #1"
    cycles, core = between_marks("", nops(39), loop, count, p0=B, p1=second)
    return cycles, core.stall_memory


def load_load_same(expected: Expected) -> None:
    # Two stall events more were counted a run, with and without conflicts in the loop: those of the code around it.
    for text, events in expected["memory_stall_events"].items():
        count = int(text)
        assert _pair_loop(B + 0x800, count) == (expected["cycles"][text], events - 2)


def load_load_apart(expected: Expected) -> None:
    one_load = "vlda wl0, [p0, #0]"
    for second, pair in ((B + 0x4000, "vlda wl0, [p0, #0]; vldb wl1, [p1, #0]"), (B, one_load)):
        few, many = (_pair_loop(second, count, pair) for count in (10, 110))
        assert (many[0] - few[0]) / 100 == expected["cycles_per_iteration"]
        assert (few[1], many[1]) == (0, 0)


def load_load_offset(expected: Expected) -> None:
    for offset in (64, 128, 256):
        few, many = (_pair_loop(B + offset, count)[0] for count in (10, 110))
        assert (many - few) / 100 == expected["cycles_per_iteration"]


def load_store_same(expected: Expected) -> None:
    text = "vlda amll0, [p0, #0]; vst amll1, [p1, #0]\n" * 48
    apart, same = (cycles_per_call(text, p0=A, p1=place) for place in (C, A + 0x2000))
    assert abs(same - apart - expected["delta"]) <= 1


def scalar_self_conflict(expected: Expected) -> None:
    """24 bundles that load and store, 8 elements apart, in one bank: the steady state of a 32-element object."""
    bundle = "lda r2, [p0], #4; add r3, r2, r4; st r3, [p1], #4\n"
    core = loaded(f"{nops(8)}{bundle * 24}{nops(8)} done\n{nops(6)}", p0=A + 32, p1=A + 0x800)
    cycle, stalled = 0, []
    while not isinstance(core.run(cycle, cycle + 1), Done):
        stalled += [core.cycle - 1] if core.cycle - cycle > 1 else []
        cycle = core.cycle
    assert len(stalled) == core.stall_memory == expected["memory_stall_per_object"]
    assert stalled[-1] - stalled[0] + 1 == expected["stall_burst_span_cycles"]
    assert set(np.diff(stalled)) == {expected["stall_period"]}


def sibling_16_bytes(expected: Expected) -> None:
    loop = f"lda r2, [p0, #0]; st r5, [p0, #16]\n lda r3, [p0, #16]; st r5, [p0, #0]\n{nops(7)}last:\n add r4, r2, r3"
    few, many = (between_marks("", "", loop, count, p0=A)[0] for count in (10, 110))
    assert (many - few) / 100 == expected["cycles_per_iteration"]
    assert between_marks("", "", loop, 50, p0=A)[1].stall_memory == expected["conflict_cycles"]


# numbers


def vadd_f_subnormal(expected: Expected) -> None:
    core = loaded(f"vadd.f bml2, bml0, bml1, r0\n{nops(8)} done\n{nops(6)}", r0=BF16_CONFIGURATION)
    for register, name in (("bml0", "a"), ("bml1", "b")):
        core.registers.write(register, np.full(16, int(expected[name], 16), "<u4").tobytes())
    run(core)
    assert (core.registers.read("bml2").view("<u4") == int(expected["sum"], 16)).all()


def mac_inf_times_zero(description: str) -> Callable[[Expected], None]:
    a, w = (
        np.array([int(word, 16) for word in part.split(",")], "<u2")
        for part in re.findall(r"= \[([0-9a-f,]+)\]", description)
    )

    def experiment(expected: Expected) -> None:
        core = loaded(f"vmac.f bml0, bml0, x0, x1, r0\n{nops(8)} done\n{nops(6)}", r0=BF16_CONFIGURATION)
        core.registers.write("x0", np.tile(a, 4).tobytes())  # 4 rows of 8
        core.registers.write("x1", np.repeat(w, 4).tobytes())  # 8 rows of 4
        run(core)
        assert (core.registers.read("bml0").view("<u4") == int(expected["acc_out"], 16)).all()

    return experiment
