"""Events that spread: broadcasts, timers they reset, status registers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_design import Design

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import offset_name
from npuc.runtime.emulator import counters, event_network
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.event_network import FIRST_BROADCAST, TIMER_CONTROL, modules_of

USER = {"core": 124, "memory": 124, "memtile": 159, "shim": 126}
GENERATE, BROADCAST = 8, 0x10  # offsets from Timer_Control of the module
STATUS, BLOCK = 0x200, {"South": 0x50, "West": 0x60, "North": 0x70, "East": 0x80}


class Board:
    """An array whose registers are written and read by tile, module and offset from the module's Timer_Control."""

    def __init__(self, columns: int = 4) -> None:
        self.array = Device(columns)._array

    def write(self, tile, module, offset, value):
        self.array.registers.write(geometry.tile_address(*tile, TIMER_CONTROL[module] + offset), value, "test")

    def read(self, tile, module, offset):
        return self.array.registers.read(geometry.tile_address(*tile, TIMER_CONTROL[module] + offset), "test")

    def run(self):
        while self.array.clock.next_cycle() is not None:
            self.array.clock.step()

    def happens(self, tile, module, event):
        self.write(tile, module, GENERATE, event)
        self.run()


def all_modules(board):
    tiles = board.array.tiles.values()
    return [((tile.column, tile.row), module) for tile in tiles for module in modules_of(tile.kind)]


def test_numbers_and_offsets_are_those_of_the_facts(facts_dir: Path):
    events = json.loads((facts_dir / "platform" / "events_aie2.json").read_text())["events"]
    for module, first in FIRST_BROADCAST.items():
        names = [f"broadcast_a_{i}" if module == "shim" else f"broadcast_{i}" for i in range(16)]
        assert [events[module][name] for name in names] == list(event_network.known_broadcasts(module))
        assert first == events[module][names[0]]
        kind = "core" if module == "memory" else module
        assert offset_name(kind, TIMER_CONTROL[module]) == "Timer_Control"
        assert offset_name(kind, TIMER_CONTROL[module] + GENERATE) == "Event_Generate"
        assert offset_name(kind, TIMER_CONTROL[module] + STATUS) == "Event_Status0"
        for side, offset in BLOCK.items():
            switch = "" if kind == "core" else "A_"
            assert offset_name(kind, TIMER_CONTROL[module] + offset) == f"Event_Broadcast_{switch}Block_{side}_Set"
    names = {"memtile": "dma_{}_sel{}_{}", "shim": "dma_{}_{}_{}", "memory": "dma_{}_{}_{}"}
    for module, lasting in counters._LASTING.items():
        for (direction, number), place in counters._CHANNELS.items():
            stalled = names[module].format(direction, number, "stalled_lock")
            assert events[module][stalled] == lasting["lock stall"] + place
            if direction == "s2mm":
                name = names[module].format(direction, number, "memory_backpressure")
                assert events[module][name] == lasting["memory backpressure"] + place


def test_a_broadcast_reaches_every_module_after_the_measured_time(facts_dir: Path):
    """events.broadcast_skew: a flood that resets all timers."""
    measured = json.loads((facts_dir / "silicon" / "calibration.json").read_text())
    experiments = measured["experiments"] if isinstance(measured, dict) else measured
    expected = next(e for e in experiments if e["id"] == "events.broadcast_skew")["expected"]
    board = Board()
    for tile, module in all_modules(board):
        board.write(tile, module, 0, FIRST_BROADCAST[module] + 15 << 8)
    board.write((0, 0), "shim", BROADCAST + 4 * 15, USER["shim"])
    board.happens((0, 0), "shim", USER["shim"])
    last = board.array.clock.cycle
    for (column, row), module in all_modules(board):
        delay = expected["per_column"] * column + expected["per_row"] * row
        delay += expected["mem_minus_core"] * (module == "memory")
        assert board.read((column, row), module, 0xF8) == last - delay, ((column, row), module)
        bit = FIRST_BROADCAST[module] + 15
        assert board.read((column, row), module, STATUS + 4 * (bit // 32)) >> bit % 32 & 1


@pytest.mark.parametrize("side, reached", [
    ("North", {(0, 2), (0, 1), (0, 0)}), ("South", {(0, 2), (0, 3), (0, 4), (0, 5)}),
])  # fmt: skip
def test_a_blocked_side_stops_the_broadcast(side, reached):
    board = Board(1)
    board.write((0, 2), "core", BLOCK[side], 1 << 3)
    assert board.read((0, 2), "core", BLOCK[side] + 8) == 1 << 3
    board.write((0, 2), "core", BROADCAST + 4 * 3, USER["core"])
    board.happens((0, 2), "core", USER["core"])

    def arrived(tile, module):
        bit = FIRST_BROADCAST[module] + 3
        return bool(board.read(tile, module, STATUS + 4 * (bit // 32)) >> bit % 32 & 1)

    assert {tile for tile, module in all_modules(board) if arrived(tile, module)} == reached
    board.write((0, 2), "core", BLOCK[side] + 4, 0xFFFF)
    board.happens((0, 2), "core", USER["core"])
    assert all(arrived(tile, module) for tile, module in all_modules(board))


def test_a_broadcast_can_name_another_event_and_none():
    board = Board(1)
    board.write((0, 3), "memory", BROADCAST, USER["memory"])
    board.write((0, 3), "memory", BROADCAST, 0)
    board.happens((0, 3), "memory", USER["memory"])
    assert board.read((0, 3), "memory", STATUS + 12) == 1 << USER["memory"] - 96
    assert all(
        not board.read(tile, module, STATUS + 12) >> FIRST_BROADCAST[module] % 32 & 1
        for tile, module in all_modules(board)
        if module in ("core", "memory", "shim") and tile != (0, 3)
    )


def test_status_bits_stay_until_they_are_cleared():
    board = Board(1)
    assert board.read((0, 1), "memtile", STATUS) == 2, "event 1 is always there"
    board.happens((0, 1), "memtile", USER["memtile"])
    assert board.read((0, 1), "memtile", STATUS + 16) == 1 << 31
    board.write((0, 1), "memtile", STATUS + 16, 1 << 31)
    assert board.read((0, 1), "memtile", STATUS + 16) == 0


def test_a_timer_that_an_event_without_a_source_resets_is_an_error_when_it_is_read():
    board = Board(1)
    board.write((0, 2), "core", 0, 37 << 8)
    with pytest.raises(EmulationError, match="Timer_Low, which event 37 resets: not modelled"):
        board.read((0, 2), "core", 0xF8)


def test_what_channels_do_is_counted_and_polled():
    """Finished descriptors of the core's S2MM 0 are counted, and a sequence waits for a shim's finished task."""
    design = Design()
    count = geometry.tile_address(0, 2, 0x11000)
    status = geometry.tile_address(0, 0, TIMER_CONTROL["shim"] + STATUS)
    task, finished_bd, stalled = 22, 23, 31  # facts/platform/events_aie2.json: shim, memory, memory
    design.operations = [
        txn.Write(status, 1 << task), txn.Write(count, finished_bd * 0x101 | stalled * 0x101 << 16),
        *design.operations[:-1], txn.MaskPoll(status, 1 << task, 1 << task),
        txn.ReadRegisters((count + 0x20, count + 0x24)),
    ]  # fmt: skip
    device = Device(1)
    device.load_pdi(design.pdi())
    buffers = [bytearray(buffer.tobytes()) for buffer in design.buffers]
    device.run(design.operations, buffers)
    registers = device._array.registers
    assert registers.read(count + 0x20, "test") == 4
    assert registers.read(count + 0x24, "test") == device._array.tiles[0, 2].channels["s2mm", 0].lock_cycles > 0
