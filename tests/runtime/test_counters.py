"""Performance counters against what programs and channels demonstrably did."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from core_programs import Cores

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator import counters
from npuc.runtime.emulator.errors import EmulationError

CONTROL, VALUE = 0x31500, 0x31520  # facts/platform/device_npu1.md: perf counters of the core module
LOCK_STALL, EVENT0, EVENT1, USER0, TRUE = 26, 33, 34, 124, 1


def configure(cores: Cores, start: int, stop: int, reset: int = 0) -> None:
    """Counter 0 of core(0,2)."""
    write(cores, CONTROL, start | stop << 8)
    write(cores, CONTROL + 8, reset)


def write(cores: Cores, offset: int, value: int) -> None:
    cores.array.registers.write(geometry.tile_address(0, 2, offset), value, "test")


def value(cores: Cores, offset: int = VALUE) -> int:
    return cores.array.registers.read(geometry.tile_address(0, 2, offset), "test")


def at(cores: Cores, cycle: int) -> None:
    """Runs everything before that cycle."""
    cores.array.clock.at(cycle, -1, lambda: None)
    while (due := cores.array.clock.next_cycle()) is not None and due <= cycle:
        cores.array.clock.step()
        if cores.array.clock.cycle == cycle:
            return


def test_event_numbers_are_those_of_the_facts(facts_dir: Path) -> None:
    events = json.loads((facts_dir / "platform" / "events_aie2.json").read_text())["events"]
    core = events["core"]
    assert counters._CORE == {
        "stream stall": core["stream_stall"],
        "cascade stall": core["cascade_stall"],
        "acquire": core["lock_stall"],
    }
    assert counters.INSTRUCTIONS == tuple(
        core[name] for name in ("instr_event_0", "instr_event_1", "instr_warning", "instr_error")
    )
    for module, first in counters._FINISHED.items():
        for (direction, number), place in counters._CHANNELS.items():
            for what, name in (("descriptor finished", "finished_bd"), ("task finished", "finished_task")):
                channel = f"sel{number}" if module == "memtile" else number
                assert events[module][f"dma_{direction}_{channel}_{name}"] == first[what] + place
    for module, users in counters._USER.items():
        assert [events[module][f"user_event_{i}"] for i in range(len(users))] == list(users)


def test_the_same_start_and_stop_event_counts_its_cycles() -> None:
    cores = Cores(1)
    configure(cores, LOCK_STALL, LOCK_STALL)
    cores.load(0, 2, "acq #48, r1\n.\n.\ndone", r1=0xFFFFFFFF)
    cores.start()
    at(cores, 60)
    assert value(cores) == 60 - 2, "issued in cycle 1, the core stands still from cycle 2 on"
    cores.array.tiles[0, 2].locks.release(0, 1, "test")
    at(cores, 200)
    assert value(cores) == 60 + cores.array.machine.lock_visible + cores.array.machine.lock_resume - 2


def test_between_two_instructions_it_counts_the_cycles_from_one_to_the_other() -> None:
    cores = Cores(1)
    configure(cores, EVENT0, EVENT1)
    cores.load(0, 2, "event #0\n.\nevent #1\n.\nevent #0\n\nevent #1\ndone")
    cores.run()
    at(cores, 100)
    assert value(cores) == 8 + 2


def test_a_reset_event_starts_over_and_a_write_presets() -> None:
    cores = Cores(1)
    configure(cores, TRUE, TRUE, EVENT0)
    cores.load(0, 2, ".\n.\nevent #0\ndone")
    cores.start()
    at(cores, 10)
    assert value(cores) == 10
    at(cores, 100)
    assert value(cores) == 100 - 15, "the event issues in cycle 15"
    write(cores, VALUE, 0xFFFFFFFF)
    at(cores, 103)
    assert value(cores) == 2


def test_generated_events_are_counted_and_reconfiguring_keeps_the_value() -> None:
    cores = Cores(1)
    configure(cores, USER0, USER0)
    for cycle in (5, 6, 9):
        at(cores, cycle)
        write(cores, 0x34008, USER0)
    at(cores, 20)
    assert value(cores) == 3
    configure(cores, 0, 0)
    write(cores, 0x34008, USER0)
    at(cores, 30)
    assert value(cores) == 3


def test_an_event_without_a_source_is_named_when_it_matters() -> None:
    cores = Cores(1)
    configure(cores, 37, 37)
    for start in (37, TRUE):
        configure(cores, start, start)
        with pytest.raises(EmulationError, match="counter 0 of core.0,2., core module, which counts event 37"):
            value(cores)
    write(cores, VALUE, 0)
    assert value(cores) == 0


def test_channels_that_finish_are_counted_in_the_memory_module() -> None:
    cores = Cores(1)
    finished_s2mm, finished_mm2s = 23, 25
    write(cores, 0x11000, finished_s2mm | finished_s2mm << 8 | finished_mm2s << 16 | finished_mm2s << 24)
    descriptor, task = "descriptor finished", "task finished"
    for name, what in (("S2MM 0", descriptor), ("MM2S 0", task), ("S2MM 0", descriptor), ("S2MM 1", descriptor)):
        direction, number = name.lower().split()
        channel = cores.array.tiles[0, 2].channels[direction, int(number)]
        cores.array.note(channel.name, what, cores.array.clock.cycle)
        at(cores, cores.array.clock.cycle + 5)
    assert (value(cores, 0x11020), value(cores, 0x11024)) == (2, 0)
