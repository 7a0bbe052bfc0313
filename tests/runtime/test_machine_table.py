"""The machines: clock and DDR as measured, other clocks, and the assumed cost of short runs."""

from __future__ import annotations

import pytest
from array_bench import Bench

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.timing import MACHINES, MachineTable

WORDS = 16384
# GHz and GB/s each way: facts/silicon/silicon.md sections 7, 8 and 10.
MEASURED = {"phoenix": (1.0, 26.0), "8945hs": (1.6, 26.0), "8700g": (1.8, 28.1)}


def transfers(machine: MachineTable, direction: str, columns: int = 4, **descriptor: int) -> float:
    """Cycles from the first to the last task finished, of one transfer on every shim channel of one direction."""
    bench = Bench(columns, machine=machine)
    sends = direction == "mm2s"
    for column in range(columns):
        bench.shim_dma(column)
        for channel in range(2):
            shim = ("south", geometry.SHIM_MM2S_SLAVE_SOUTH[channel] if sends else channel)
            number = 24 * channel
            bench.descriptor((column, 1), number, WORDS, base_address=geometry.MEMTILE_VIEW_OWN // 4)
            if sends:
                bench.circuit((column, 0), shim, ("north", channel))
                bench.circuit((column, 1), ("south", channel), ("dma", channel))
            else:
                bench.circuit((column, 1), ("dma", channel), ("south", channel))
                master = geometry.SHIM_S2MM_MASTER_SOUTH[channel]
                bench.circuit((column, 0), ("north", channel), ("south", master))
            bench.start((column, 1), "s2mm" if sends else "mm2s", channel, number)
    bench.array.host.attach([bytearray(1 << 22) for _ in range(2 * columns)])
    for column in range(columns):
        for channel in range(2):
            address = bench.array.host.address(2 * column + channel, 0, "x") // 4
            place = {"address_low": address & 0x3FFFFFFF, "address_high": address >> 30}
            bench.descriptor((column, 0), channel, WORDS, **place, **descriptor)
            bench.start((column, 0), direction, channel, channel)
    bench.run(100_000_000)
    shims = [f"{direction.upper()} {channel} of shim({column},0)" for column in range(columns) for channel in range(2)]
    return max(end for shim in shims for _, end in bench.of(shim, "task finished"))


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("direction", ["mm2s", "s2mm"])
def test_ddr_moves_what_was_measured_each_way(name, direction):
    clock, rate = MEASURED[name]
    machine = MACHINES[name]
    assert machine.clock_hz == clock * 1e9
    begin = machine.shim_mm2s_first if direction == "mm2s" else machine.shim_s2mm_first
    seconds = (transfers(machine, direction) - begin) / machine.clock_hz
    assert 8 * 4 * WORDS / seconds == pytest.approx(rate * 1e9, rel=0.01)


def test_there_are_no_other_machines():
    assert MACHINES.keys() == MEASURED.keys()


@pytest.mark.parametrize("direction", ["mm2s", "s2mm"])
def test_at_another_clock_cycles_are_the_same_but_where_ddr_binds(direction):
    machine = MACHINES["phoenix"]
    first = machine.shim_mm2s_first if direction == "mm2s" else machine.shim_s2mm_first
    slow, fast = machine.at_clock(0.5), machine.at_clock(2.0)
    one = {table.clock_hz: transfers(table, direction, columns=1) for table in (slow, machine, fast)}
    assert len(set(one.values())) == 1, "two channels move less than DDR"
    all_fast = transfers(fast, direction) - first
    all_usual = transfers(machine, direction) - first
    assert all_fast / fast.clock_hz == pytest.approx(all_usual / machine.clock_hz, rel=0.01), "DDR binds in both"
    assert fast.at_clock(1.0) == machine


@pytest.mark.parametrize("words, cycles_of_a_run", [(4, 39), (16, 39), (64, 64 * 1.05), (256, 256 * 1.05)])
def test_short_runs_cost_more_only_where_that_is_assumed(words, cycles_of_a_run):
    """39 cycles at 1.6 GHz for each run of up to 64 bytes (silicon.md section 10, a hypothesis)."""
    machine = MACHINES["8945hs"]
    shape = {"d0_wrap": words, "d0_step": 0, "d1_wrap": 0, "d1_step": words + 31}
    usual = transfers(machine, "mm2s", 1, **shape) - machine.shim_mm2s_first
    assumed = transfers(machine.with_short_runs(), "mm2s", 1, **shape) - machine.shim_mm2s_first
    assert usual == pytest.approx(WORDS * 1.05, rel=0.01)
    assert assumed == pytest.approx(WORDS / words * cycles_of_a_run, rel=0.01)
    whole = transfers(machine.with_short_runs(), "mm2s", 1) - machine.shim_mm2s_first
    assert whole == pytest.approx(WORDS * 1.05, rel=0.01)
