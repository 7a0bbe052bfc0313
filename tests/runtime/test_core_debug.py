"""Halting cores by their debug registers."""

from __future__ import annotations

import pytest
from array_bench import Bench

from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import register_offset
from npuc.runtime.emulator.errors import EmulationError

CORE = (0, 2)
NOPS = "nop\n" * 8
LOOP = (
    f"{NOPS} mova r1, #0\n movxm lc, #5\n movxm ls, #first\n movxm le, #last\n{NOPS}"
    f"first:\n add r1, r1, #1\n{NOPS}at:\nadd r2, r1, #0\nlast:\n nop\n{NOPS} done\n{NOPS}"
)


def name(register: str) -> int:
    return register_offset("core", register)


def loop(stop: bool) -> Bench:
    bench = Bench()

    def before(symbols: dict[str, int]) -> None:
        if stop:
            bench.write(CORE, name("PC_Event0"), symbols["at"] | 1 << 31)
            bench.write(CORE, name("Debug_Control2"), 1)

    bench.program(CORE, LOOP, before)
    bench.run()
    return bench


def test_a_breakpoint_stops_every_pass_of_a_loop_and_costs_the_program_nothing() -> None:
    free, stopped = loop(False), loop(True)
    passes = []
    while stopped.read(CORE, geometry.CORE_STATUS) == 1 | 1 << 16:
        passes.append(stopped.read(CORE, name("Core_R1")))
        stopped.write(CORE, name("Debug_Control0"), 0)
        stopped.run()
    assert passes == [1, 2, 3, 4, 5]
    cores = [bench.array.tiles[CORE].core for bench in (free, stopped)]
    assert all(core is not None and core.done_at for core in cores)
    assert len({core.core.bundles for core in cores if core}) == 1
    assert stopped.read(CORE, name("Core_R2")) == 5


def test_a_core_that_waits_can_be_halted_before_its_next_bundle() -> None:
    bench = Bench()
    bench.program(CORE, f" mova r0, #-1\n acq #48, r0\n mova r1, #3\n{NOPS} done\n{NOPS}")
    bench.run()
    bench.write(CORE, name("Debug_Control0"), 1)
    bench.release(CORE, 0)
    bench.run()
    assert bench.read(CORE, geometry.CORE_STATUS) == 1 | 1 << 16
    assert (bench.read(CORE, name("Core_R1")), bench.read(CORE, name("Debug_Status"))) == (0, 1)
    assert "is halted by its debug registers" in str(bench.array.tiles[CORE].core.describe())  # type: ignore[union-attr]
    bench.write(CORE, name("Debug_Control0"), 0)
    bench.run()
    assert bench.read(CORE, name("Core_R1")) == 3


@pytest.mark.parametrize(
    "register,value,text",
    [
        ("Debug_Control0", 4, "single-stepping"),
        ("Debug_Control2", 4, "halting a core by a stall"),
        ("Debug_Status", 0, "read only"),
    ],
)
def test_what_is_not_modelled_is_named(register: str, value: int, text: str) -> None:
    with pytest.raises(EmulationError, match=f"{register} of core.0,2.*{text}"):
        Bench().write(CORE, name(register), value)
