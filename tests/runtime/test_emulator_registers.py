"""Every register of every tile kind: modelled, stored, or refused by name."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from array_bench import Bench

from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import offset_name, register_offset, registers
from npuc.runtime.emulator.counters import VALUE
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.event_network import BLOCK, STATUS
from npuc.runtime.emulator.register_map import meaning, read_only

TILES = {"core": (0, 2), "memtile": (0, 1), "shim": (0, 0)}
FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[2] / ".." / "shared" / "facts"))


@pytest.mark.parametrize("kind", TILES)
def test_every_register_has_a_rule(kind: str) -> None:
    unknown = [
        name for name, offset, size in registers(kind) if size <= 0x10 and meaning(kind, offset).kind == "unknown"
    ]
    assert unknown == []


@pytest.mark.parametrize("kind", TILES)
def test_stored_registers_read_back_and_others_are_refused_by_name(kind: str) -> None:
    bench = Bench()
    stored = 0
    for name, offset, size in registers(kind):
        if size > 0x10 or meaning(kind, offset).kind != "stored" or VALUE.match(name):
            continue  # counters count what was written to their control registers: test_counters.py
        if STATUS.match(name) or BLOCK.match(name) and not read_only(offset_name(kind, offset)):
            continue  # written bits clear or set others: test_event_network.py
        if read_only(offset_name(kind, offset)):
            with pytest.raises(EmulationError, match=f"the test writes .*{name}, which is not modelled"):
                bench.write(TILES[kind], offset, 1)
            continue
        stored += 1
        try:
            bench.write(TILES[kind], offset, 0x80)
        except EmulationError as error:
            assert name in error.message and "not modelled" in error.message
            continue
        assert bench.read(TILES[kind], offset) == 0x80, name
    assert stored > 20


def test_read_only_registers_are_those_of_the_facts() -> None:
    file = FACTS / "platform" / "registers_aie2.json"
    if not file.exists():
        pytest.skip(f"no {file}")
    listed = json.loads(file.read_text())["registers"]
    for name, entry in listed.items():
        kind = {"memory": "core"}.get(entry["tile_kind"], entry["tile_kind"])
        what = meaning(kind, entry["offset"])
        if what.kind == "stored":
            assert read_only(what.name) == bool(entry.get("read_only")), name


@pytest.mark.parametrize("kind,offset", [("core", 0x1F140), ("core", 0x35000), ("memtile", 0xA0700), ("shim", 0x0)])
def test_addresses_without_a_register_are_refused(kind: str, offset: int) -> None:
    bench = Bench()
    with pytest.raises(EmulationError, match="the test writes .*, which is not modelled"):
        bench.write(TILES[kind], offset, 0)
    with pytest.raises(EmulationError, match="the test reads .*, which is not modelled"):
        bench.read(TILES[kind], offset)


@pytest.mark.parametrize(
    "name,value,what",
    [
        ("Tile_Control", 1, "isolating a tile"),
        ("Debug_Control1", 1, "halting a core by an event"),
        ("Enable_Events", 5, "enabling or disabling a core by an event"),
        ("Stream_Switch_Deterministic_Merge_arb0_ctrl", 1, "merging packets in a fixed order"),
    ],
)
def test_what_a_register_would_do_and_is_not_modelled_is_named(name: str, value: int, what: str) -> None:
    bench = Bench()
    offset = register_offset("core", name)
    with pytest.raises(EmulationError, match=f"core.0,2..{name}: {what} is not modelled"):
        bench.write((0, 2), offset, value)
    bench.write((0, 2), offset, 0)


def test_lock_requests_acquire_and_release_and_say_whether_they_did() -> None:
    bench = Bench()
    window = geometry.LOCK_REQUEST_BASE["memtile"]
    lock, tile = 5, TILES["memtile"]
    release, acquire = window | lock << 10 | 3 << 2, window | lock << 10 | 1 << 9 | (-2 & 0x7F) << 2
    assert bench.read(tile, acquire) == 0
    assert bench.read(tile, release) == 1
    assert (bench.read(tile, acquire), bench.read(tile, acquire)) == (1, 0)
    assert bench.read(tile, geometry.lock_offset("memtile", lock)) == 1


def test_lock_overflow_and_underflow_are_kept_until_cleared() -> None:
    bench = Bench()
    tile = TILES["memtile"]
    bench.write(tile, geometry.lock_offset("memtile", 40), 63)
    bench.release(tile, 40)
    bench.release(tile, 3, -1)
    assert [bench.read(tile, 0xC0420 + offset) for offset in (0, 4, 8, 12)] == [0, 1 << 8, 1 << 3, 0]
    bench.write(tile, 0xC0424, 1 << 8)
    assert bench.read(tile, 0xC0424) == 0
    assert len(bench.array.warnings) == 2


def test_memory_control_zeroes_the_memory() -> None:
    bench = Bench()
    bench.put(TILES["memtile"], 0, np.arange(100, dtype=np.uint32))
    assert bench.read(TILES["memtile"], register_offset("memtile", "Memory_Control")) == 2
    bench.write(TILES["memtile"], register_offset("memtile", "Memory_Control"), 3)
    assert not bench.get(TILES["memtile"], 0, 100).any()


def test_program_memory_reads_back_what_was_written() -> None:
    bench = Bench()
    bench.write((0, 2), geometry.PROGRAM_MEMORY_OFFSET + 8, 0x12345678)
    assert bench.read((0, 2), geometry.PROGRAM_MEMORY_OFFSET + 8) == 0x12345678
