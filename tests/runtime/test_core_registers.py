"""A core seen through registers: its tile's from inside, its own from outside, timers and events."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from core_programs import Cores

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.tile_bus import PROCESSOR_BUS

CORE_R = 0x30C00  # facts/platform/device_npu1.md, step 0x10


def test_a_core_reads_and_writes_registers_of_its_tile() -> None:
    cores = Cores(1)
    tile = cores.array.tiles[0, 2]
    tile.plain[PROCESSOR_BUS] = 1
    lock = 0x80000 + geometry.LOCK_BASE["core"] + 5 * geometry.LOCK_STRIDE
    unit = cores.load(0, 2, "st.tm r1, [p0]\n.\nlda.tm r2, [p0]\n.\ndone", p0=lock, r1=9)
    cores.run()
    assert tile.locks.values[5] == 9 and unit.core.registers.read("r2") == 9


def test_tile_registers_without_the_processor_bus_are_an_error() -> None:
    cores = Cores(1)
    cores.load(0, 2, "lda.tm r2, [p0]\n.\ndone", p0=0x80000 + 0x32004)
    with pytest.raises(EmulationError, match="Core_Processor_Bus"):
        cores.run()


def test_registers_of_a_core_that_stands_still_are_visible() -> None:
    cores = Cores(1)
    vector = bytes(range(64))
    unit = cores.load(0, 2, "\n\ndone", r7=0x1234, p3=0x70040, lr=0x150, x1=vector, bml2=vector)
    cores.run()
    address = geometry.tile_address(0, 2, 0)
    read = lambda offset: cores.array.registers.read(address + offset, "test")  # noqa: E731
    assert read(CORE_R + 0x70) == 0x1234 and read(0x31000 + 0x30) == 0x70040 and read(geometry.CORE_LR) == 0x150
    assert read(geometry.CORE_PC) == 0x30 and read(geometry.CORE_STATUS) == 1 | 1 << 20
    low, high = 0x30800 + 0x40, 0x30820 + 0x40
    words = [read(base + 4 * i) for base in (low, high) for i in range(8)]
    assert words == np.frombuffer(vector, dtype="<u4").tolist()
    words = [read(base + 2 * 0x80 + 4 * i) for base in (0x30000, 0x30020) for i in range(8)]
    assert words == np.frombuffer(vector, dtype="<u4").tolist()
    cores.array.registers.write(address + low + 8, 0xCAFE, "test")
    cores.array.registers.write(address + CORE_R, 77, "test")
    assert unit.core.registers.read("x1").tobytes()[8:12] == bytes.fromhex("feca0000")
    assert unit.core.registers.read("r0") == 77


def test_control_registers_are_packed_as_the_register_manual_has_them(facts_dir: Path) -> None:
    facts = json.loads((facts_dir / "platform" / "registers_aie2.json").read_text())["registers"]["core.Core_CR"]
    cores = Cores(1)
    unit = cores.load(0, 2, "done")
    address = geometry.tile_address(0, 2, facts["offset"])
    assert cores.array.registers.read(address, "test") == facts["reset"]
    fields = {
        "Saturation_Mode": "crSat",
        "Round_Mode": "crRnd",
        "MCD_Enable": "crMCDEn",
        "SCD_Enable": "crSCDEn",
        "Vadd_Sign": "crVaddSign",
        "Unpack_Sign": "crUnpackSign",
        "Pack_Sign": "crPackSign",
        "UPS_Sign": "crUPSSign",
        "SRS_Sign": "crSRSSign",
    }
    for name, low, high in facts["fields"]:
        ones = (1 << high - low + 1) - 1
        cores.array.registers.write(address, ones << low, "test")
        assert cores.array.registers.read(address, "test") == ones << low
        if name in fields:
            set_now = {register for register in fields.values() if unit.core.registers.read(register)}
            assert set_now == {fields[name]} and unit.core.registers.read(fields[name]) == ones
        elif name != "Reserved":
            mask = {"Float_M": "crFPMask", "Bfloat_": "crF2IMask", "Float_t": "crF2FMask"}[name[:7]]
            assert unit.core.registers.read(mask) == 1 << low - {"crFPMask": 6, "crF2IMask": 18, "crF2FMask": 23}[mask]


@pytest.mark.parametrize("offset", [0x31180, 0x31110])
def test_registers_whose_contents_are_not_known_name_the_fact(offset: int) -> None:
    cores = Cores(1)
    with pytest.raises(EmulationError, match="not modelled: facts/"):
        cores.array.registers.read(geometry.tile_address(0, 2, offset), "test")


@pytest.mark.parametrize("text", ["acq #48, r1", "rel #48, r1"])
def test_lock_values_beyond_seven_bits_are_named(text: str) -> None:
    cores = Cores(1)
    cores.load(0, 2, text, r1=127)
    with pytest.raises(EmulationError, match="lock 0 by 127: a lock value has 7 signed bits"):
        cores.run()


def test_registers_of_a_running_core_are_refused() -> None:
    cores = Cores(1)
    cores.load(0, 2, "j #0\n\n\n\n\n\n")
    cores.start()
    cores.array.clock.step()
    with pytest.raises(EmulationError, match="while it runs"):
        cores.array.registers.read(geometry.tile_address(0, 2, CORE_R), "test")


def test_core_id_names_the_place() -> None:
    cores = Cores(2)
    unit = cores.load(1, 4, "mov r1, CORE_ID\ndone")
    cores.run()
    assert unit.core.registers.read("r1") == 2 << 16 | 4  # partitions start at physical column 1


def test_a_core_disabled_while_it_waits_goes_on_when_it_is_enabled_again() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "acq #48, r1\n.\nmov r2, #1\ndone", r1=0xFFFFFFFF)
    cores.run()
    unit.write_control(0)
    cores.array.tiles[0, 2].locks.release(0, 1, "test")
    cores.array.clock.at(50, 0, lambda: None)
    while cores.array.clock.next_cycle() is not None:
        cores.array.clock.step()
    assert unit.done_at is None and unit.status() == 1 << 9
    cores.run()
    assert unit.done_at is not None and unit.core.registers.read("r2") == 1


def test_event_instructions_reach_the_array_at_their_cycle() -> None:
    cores = Cores(1)
    seen: list[tuple[int, str, int]] = []
    cores.array.core_event = lambda tile, number: seen.append(  # type: ignore[method-assign]
        (cores.array.clock.cycle, tile.name, number)
    )
    cores.load(0, 2, "event #0\n\n\nevent #1\nacq #48, r1\n.\nevent #2\ndone", r1=0xFFFFFFFF)
    cores.array.clock.at(100, 0, lambda: cores.array.tiles[0, 2].locks.release(0, 1, "test"))
    cores.run()
    assert seen[:2] == [(1, "core(0,2)", 0), (4, "core(0,2)", 1)] and seen[2][0] > 100 and seen[2][2] == 2


def test_the_cycle_counter_counts_from_the_timers_origin() -> None:
    cores = Cores(1)
    unit = cores.load(0, 2, "\nmov r17:r16, cntr\n\nmov r19:r18, cntr\ndone")
    unit.core.timer_origin = -(1 << 33)
    cores.run()
    read = unit.core.registers.read
    assert (read("r16"), read("r18"), read("r17"), read("r19")) == (2, 4, 2, 2)


def test_a_timer_counts_cycles_from_its_reset_for_registers_and_for_the_core() -> None:
    cores = Cores(1)
    cores.array.tiles[0, 2].plain[PROCESSOR_BUS] = 1
    control, low = 0x34000, 0x340F8
    unit = cores.load(
        0,
        2,
        ".\nst.tm r1, [p0]\n.\nlda.tm r2, [p1]\nmov r17:r16, cntr\n.\ndone",
        p0=0x80000 + control,
        p1=0x80000 + low,
        r1=1 << 31,
    )
    cores.run()
    read = unit.core.registers.read
    assert read("r2") == 1 + 7, "both in stage 5, eight bundles apart"
    assert read("r16") == read("r2") - 4 + 1, "read in stage 1 of the bundle after"
    address = geometry.tile_address(0, 2, 0)
    cores.array.registers.write(address + 0x14000, 1 << 31, "test")
    assert cores.array.registers.read(address + 0x140F8, "test") == 0
    cores.array.registers.write(address + 0x14000, 5 << 8, "test")
    with pytest.raises(EmulationError, match="which event 5 resets"):
        cores.array.registers.read(address + 0x140F8, "test")
