"""What a register write or read does to a tile; everything not listed here is an error, never ignored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import offset_name, register_name
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

# Stored, read back, and without an effect on results here: observation (events, trace, counters, timers, debug
# state), interrupts, clock gating and isolation (opened by the firmware before the CDO: facts/platform/device_npu1.md,
# last section), the cascade's direction (read by core_unit.py) and the shim's mux (read when a stream is
# traced).
STORED = re.compile(
    r"(Combo_event|Edge_Detection|Event_|Enable_Events|Error_Halt|Reset_Event|Trace_|Timer_|Performance_|PC_Event|"
    r"WatchPoint|Debug_|Interrupt_controller|Stream_Switch_(Event_Port|Adaptive_Clock|Parity|Deterministic)|"
    r"Locks_Event|Locks_(Over|Under)flow|DMA_Event_Channel|Memory_Control|Module_(Clock|Reset)_Control|"
    r"Column_Clock|AIE_Tile_Column_Reset|Tile_Control$|Accumulator_Control|Mux_Config|Demux_Config|"
    r"AIE_AXIMM_Config|NoC_Interface|PL_Interface|Core_Processor_Bus)"
)


class Registers:
    """The address decoder of the array."""

    def __init__(self, array: Array) -> None:
        self.array = array

    def _tile(self, address: int, who: str) -> tuple[Tile, int]:
        column, row, offset = geometry.split_address(address)
        tile = self.array.tiles.get((column, row))
        if tile is None:
            raise EmulationError(f"{who} addresses tile ({column},{row}), outside the {self.array.columns} columns")
        if offset & 3:
            raise EmulationError(f"{who} addresses {register_name(address)}, which is not a word")
        return tile, offset

    def write(self, address: int, value: int, who: str, mask: int = 0xFFFFFFFF) -> None:
        """One word; bits outside `mask` keep their value.  who: what writes, for errors."""
        tile, offset = self._tile(address, who)
        if mask != 0xFFFFFFFF:
            value = self._read(tile, offset, who) & ~mask | value & mask
        if not self._write(tile, offset, value, who):
            raise EmulationError(f"{who} writes {register_name(address)}, which is not modelled")

    def write_block(self, address: int, words: tuple[int, ...], who: str) -> None:
        """Consecutive words."""
        tile, offset = self._tile(address, who)
        data = b"".join(word.to_bytes(4, "little") for word in words)
        memory = self._memory(tile, offset, len(data))
        if memory is not None:
            memory(data)
            return
        for i, word in enumerate(words):
            self.write(address + 4 * i, word, who)

    def read(self, address: int, who: str) -> int:
        tile, offset = self._tile(address, who)
        return self._read(tile, offset, who)

    # inside a tile

    def _memory(self, tile: Tile, offset: int, size: int):  # noqa: ANN202 (a writer of bytes, or None)
        if tile.memory is not None and offset + size <= tile.memory.size:
            memory = tile.memory
            return lambda data: memory.write(offset, data)
        start = offset - geometry.PROGRAM_MEMORY_OFFSET
        if tile.core is not None and 0 <= start and start + size <= geometry.PROGRAM_MEMORY_SIZE:
            core = tile.core

            def program(data: bytes) -> None:
                core.program[start : start + size] = data
                core.core.program_changed()

            return program
        return None

    def _write(self, tile: Tile, offset: int, value: int, who: str) -> bool:
        kind = tile.kind
        memory = self._memory(tile, offset, 4)
        if memory is not None:
            memory(value.to_bytes(4, "little"))
        elif (lock := self._lock(tile, offset)) is not None:
            tile.locks.write(lock, value, who)
        elif (place := self._descriptor(tile, offset)) is not None:
            self._check_idle(tile, place[0], who)
            tile.descriptors[place[0]][place[1]] = value
        elif self._channel(tile, offset, value, who) or self._switch(tile, offset, value):
            pass
        elif tile.core is not None and offset == geometry.CORE_CONTROL:
            tile.core.write_control(value)
        elif tile.core is not None and tile.core.write_register(offset, value):
            pass
        elif STORED.match(offset_name(kind, offset)):
            tile.plain[offset] = value
            if offset in (geometry.SHIM_MUX, geometry.SHIM_DEMUX) and kind == "shim":
                self.array.streams_changed()
        else:
            return False
        return True

    def _check_idle(self, tile: Tile, bd: int, who: str) -> None:
        for channel in tile.channels.values():
            if self.array.strict and channel.busy and channel.number_running == bd:
                raise EmulationError(f"{who} writes descriptor {bd} of {tile.name} while {channel.name} runs it")

    def _lock(self, tile: Tile, offset: int) -> int | None:
        index, rest = divmod(offset - geometry.LOCK_BASE[tile.kind], geometry.LOCK_STRIDE)
        return index if rest == 0 and 0 <= index < len(tile.locks.values) else None

    def _descriptor(self, tile: Tile, offset: int) -> tuple[int, int] | None:
        index, rest = divmod(offset - geometry.BD_BASE[tile.kind], geometry.BD_STRIDE)
        if 0 <= index < len(tile.descriptors) and rest // 4 < len(tile.descriptors[index]):
            return index, rest // 4
        return None

    def _channel(self, tile: Tile, offset: int, value: int, who: str) -> bool:
        for (direction, number), channel in tile.channels.items():
            control = geometry.channel_control_offset(tile.kind, direction, number)
            if offset == control:
                channel.write_control(value, who)
                return True
            if offset == control + geometry.CHANNEL_QUEUE_OFFSET:
                channel.push(value, who)
                return True
        return False

    def _switch(self, tile: Tile, offset: int, value: int) -> bool:
        kind = tile.kind
        masters = sum(count for _, count in geometry.MASTER_PORTS[kind].values())
        slaves = sum(count for _, count in geometry.SLAVE_PORTS[kind].values())
        master = (offset - geometry.SWITCH_MASTER_BASE[kind]) // 4
        slave = (offset - geometry.SWITCH_SLAVE_BASE[kind]) // 4
        slot = (offset - geometry.SWITCH_SLOT_BASE[kind]) // 4
        if 0 <= master < masters:
            tile.masters[master] = value
        elif 0 <= slave < slaves:
            tile.slaves[slave] = value
        elif 0 <= slot < slaves * geometry.SLOTS_PER_SLAVE:
            tile.slots[divmod(slot, geometry.SLOTS_PER_SLAVE)] = value
        else:
            return False
        self.array.streams_changed()
        return True

    def _read(self, tile: Tile, offset: int, who: str) -> int:
        if tile.memory is not None and offset < tile.memory.size:
            return int.from_bytes(tile.memory.read(offset, 4), "little")
        if (lock := self._lock(tile, offset)) is not None:
            return tile.locks.values[lock]
        if (place := self._descriptor(tile, offset)) is not None:
            return tile.descriptors[place[0]][place[1]]
        for (direction, number), channel in tile.channels.items():
            if offset == geometry.channel_control_offset(tile.kind, direction, number):
                return channel.control
            if offset == geometry.channel_status_offset(tile.kind, direction, number):
                return channel.status()
        if tile.core is not None and offset == geometry.CORE_CONTROL:
            return tile.core.control
        if tile.core is not None and offset == geometry.CORE_STATUS:
            return tile.core.status()
        if tile.core is not None and (value := tile.core.read_register(offset)) is not None:
            return value
        for base, table in ((geometry.SWITCH_MASTER_BASE, tile.masters), (geometry.SWITCH_SLAVE_BASE, tile.slaves)):
            index = (offset - base[tile.kind]) // 4
            if 0 <= index < 25 and (offset < geometry.SWITCH_SLAVE_BASE[tile.kind] or table is tile.slaves):
                return table.get(index, 0)
        if STORED.match(offset_name(tile.kind, offset)):
            return tile.plain.get(offset, 0)
        address = geometry.tile_address(tile.column, tile.row, offset)
        raise EmulationError(f"{who} reads {register_name(address)}, which is not modelled")
