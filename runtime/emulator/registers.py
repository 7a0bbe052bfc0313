"""What a register write or read does to a tile; what register_map.py has no rule for is an error, never ignored."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from npuc.compiler.target.npu1 import geometry
from npuc.compiler.target.npu1.registers import register_name
from npuc.runtime.emulator import counters
from npuc.runtime.emulator.dma import Channel
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.event_network import TIMER_CONTROL, timer_reset_event
from npuc.runtime.emulator.lock_providers import descriptors_to_come
from npuc.runtime.emulator.register_map import (
    IGNORED,
    MEMORY_CONTROL,
    RESET_VALUES,
    TIMER,
    TIMER_VALUE,
    TRACE_CONTROL,
    Meaning,
    meaning,
    read_only,
    refusal,
)
from npuc.runtime.emulator.tile import Tile

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array


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
        self._write(tile, offset, value, who)

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
        """One word, as the register shows it now; some reads change what they read (lock requests, counts)."""
        tile, offset = self._tile(address, who)
        return self._read(tile, offset, who)

    # inside a tile

    def _memory(self, tile: Tile, offset: int, size: int) -> Callable[[bytes], None] | None:
        """What writes bytes to a memory at that place; None where no memory is."""
        if tile.memory is not None and offset + size <= tile.memory.size:
            memory = tile.memory
            return lambda data: memory.write(offset, data)
        start = offset - geometry.PROGRAM_MEMORY_OFFSET
        if tile.core is not None and 0 <= start and start + size <= geometry.PROGRAM_MEMORY_SIZE:
            core = tile.core

            def program(data: bytes) -> None:
                core.load_program(start, data)

            return program
        return None

    def _write(self, tile: Tile, offset: int, value: int, who: str) -> None:
        memory = self._memory(tile, offset, 4)
        if memory is not None:
            memory(value.to_bytes(4, "little"))
            return
        what = meaning(tile.kind, offset)
        if what.kind == "lock":
            tile.locks.write(cast(int, what.place[0]), value, who)
        elif what.kind == "descriptor":
            bd, word = cast("tuple[int, int]", what.place)
            self._check_idle(tile, bd, who)
            tile.descriptors[bd][word] = value
            tile.ran_by.pop(bd, None)
        elif what.kind == "channel control":
            self._channel(tile, what).write_control(value, who)
        elif what.kind == "channel queue":
            self._channel(tile, what).push(value, who)
        elif what.kind in ("master", "slave", "slot"):
            self._switch(tile, what, value)
        elif what.kind in ("lock overflow", "lock underflow"):
            tile.locks.clear_misuse(what.kind.removeprefix("lock "), value << 32 * cast(int, what.place[0]))
        elif what.kind == "core control" and tile.core is not None:
            tile.core.write_control(value)
        elif what.kind == "core debug" and tile.core is not None:
            tile.core.debug.write(what.name, value, who)
        elif what.kind == "core register" and tile.core is not None and tile.core.write_register(offset, value):
            pass
        elif what.kind == "ignored":
            what_for = IGNORED[tile.kind, offset]
            self.array.warn(f"writes of {tile.kind} register {offset:#x} have no effect: {what_for}")
        elif what.kind == "stored" and not read_only(what.name):
            self._store(tile, offset, what, value, who)
        else:
            raise EmulationError(f"{who} writes {self._name(tile, offset)}, which is not modelled")

    def _store(self, tile: Tile, offset: int, what: Meaning, value: int, who: str) -> None:
        refused = refusal(what.name, value)
        if refused is not None:
            raise EmulationError(f"{who} writes {value:#x} to {self._name(tile, offset)}: {refused} is not modelled")
        if MEMORY_CONTROL.match(what.name) and value & 1 and tile.memory is not None:
            tile.memory.write(0, bytes(tile.memory.size))
        if TRACE_CONTROL.match(what.name) and value >> 16 & 0x7F:
            self.array.warn(f"{who} starts the trace unit of {tile.name}: no trace packets will be sent")
        if counters.CONTROL.match(what.name):
            self.array.counters.write_control(tile, offset, value)
        elif (counter := counters.VALUE.match(what.name)) is not None:
            self.array.counters.write_value(tile, offset, int(counter[1]), value)
        elif counters.GENERATE.match(what.name):
            self.array.event_network.happened(tile, counters.module_of(tile.kind, offset), value)
        self.array.event_network.write(tile, counters.module_of(tile.kind, offset), what.name, value)
        if TIMER.match(what.name):
            self._set_timer(tile, offset, value)
            return
        tile.plain[offset] = value
        if tile.kind == "shim" and offset in (geometry.SHIM_MUX, geometry.SHIM_DEMUX):
            self.array.streams_changed()

    # timers: one a module, one tick a cycle, from 0 at power-up

    def _set_timer(self, tile: Tile, offset: int, value: int) -> None:
        """Timer_Control: bit 31 resets the timer, the field above bit 8 names an event that does."""
        tile.plain[offset] = value & 0x7FFFFFFF
        if value >> 31:
            self.array.event_network.reset_timer(tile, counters.module_of(tile.kind, offset))
        if value & 0x7FFFFFFF:
            self.array.counters.listen()

    def _timer(self, tile: Tile, offset: int, high: bool, who: str) -> int:
        module = counters.module_of(tile.kind, offset)
        event = timer_reset_event(tile, module)
        if not counters.has_source(module, event):
            raise EmulationError(f"{who} reads {self._name(tile, offset)}, which event {event} resets: not modelled")
        ticks = self.array.clock.cycle - tile.timer_origins.get(TIMER_CONTROL[module], 0)
        return ticks >> 32 if high else ticks & 0xFFFFFFFF

    def _check_idle(self, tile: Tile, bd: int, who: str) -> None:
        if not self.array.strict:
            return
        for channel in tile.channels.values():
            if bd in channel.in_use():
                raise EmulationError(f"{who} writes descriptor {bd} of {tile.name} while {channel.name} runs it")
            if bd in descriptors_to_come(channel):
                raise EmulationError(
                    f"{who} writes descriptor {bd} of {tile.name}, which {channel.name} has still to "
                    "run: it may run either content"
                )

    def _channel(self, tile: Tile, what: Meaning) -> Channel:
        return tile.channels[cast("tuple[str, int]", what.place)]

    def _switch(self, tile: Tile, what: Meaning, value: int) -> None:
        if what.kind == "slot":
            tile.slots[cast("tuple[int, int]", what.place)] = value
        else:
            (tile.masters if what.kind == "master" else tile.slaves)[cast(int, what.place[0])] = value
        self.array.streams_changed()

    def _read(self, tile: Tile, offset: int, who: str) -> int:
        if tile.memory is not None and offset < tile.memory.size:
            return int.from_bytes(tile.memory.read(offset, 4), "little")
        start = offset - geometry.PROGRAM_MEMORY_OFFSET
        if tile.core is not None and 0 <= start < geometry.PROGRAM_MEMORY_SIZE:
            return int.from_bytes(tile.core.program[start : start + 4], "little")
        what = meaning(tile.kind, offset)
        value = self._value(tile, offset, what, who)
        if value is None:
            raise EmulationError(f"{who} reads {self._name(tile, offset)}, which is not modelled")
        return value

    def _value(self, tile: Tile, offset: int, what: Meaning, who: str) -> int | None:
        kind, place = what.kind, what.place
        if kind == "lock":
            return tile.locks.values[cast(int, place[0])]
        if kind == "lock request":
            return self._request(tile, cast(int, place[0]), who)
        if kind in ("lock overflow", "lock underflow"):
            return tile.locks.misuse[kind.removeprefix("lock ")] >> 32 * cast(int, place[0]) & 0xFFFFFFFF
        if kind == "descriptor":
            return tile.descriptors[cast(int, place[0])][cast(int, place[1])]
        if kind.startswith("channel ") or kind in ("write count", "finished counts"):
            return self._channel_value(self._channel(tile, what), kind)
        if kind in ("master", "slave", "slot"):
            table = {"master": tile.masters, "slave": tile.slaves}.get(kind)
            if table is None:
                return tile.slots.get(cast("tuple[int, int]", place), 0)
            return table.get(cast(int, place[0]), 0)
        if tile.core is not None and kind.startswith("core "):
            return {
                "core control": lambda core: core.control,
                "core status": lambda core: core.status(),
                "core debug": lambda core: core.debug.read(what.name),
                "core register": lambda core: core.read_register(offset),
            }[kind](tile.core)
        if kind == "stored" and (counter := counters.VALUE.match(what.name)):
            return self.array.counters.read_value(tile, offset, int(counter[1]), who)
        if kind == "stored" and (timer := TIMER_VALUE.match(what.name)):
            return self._timer(tile, offset, timer[1] == "High", who)
        if kind == "stored":
            shown = self.array.event_network.read(tile, counters.module_of(tile.kind, offset), what.name)
            if shown is not None:
                return shown
            return tile.plain.get(offset, RESET_VALUES.get(tile.kind, {}).get(what.name, 0))
        return None

    def _channel_value(self, channel: Channel, kind: str) -> int:
        if kind == "channel control":
            return channel.control
        if kind == "channel status":
            return channel.status()
        if isinstance(channel, Receiver) and kind != "channel queue":
            return channel.write_count() if kind == "write count" else channel.pop_count()
        return 0  # a start queue reads as nothing

    def _request(self, tile: Tile, request: int, who: str) -> int:
        """A read of the lock request window: id from bit 10, acquire in bit 9, change value in bits 8:2.

        The read gives 1 when the lock was changed (facts/platform/device_npu1.md, "Locks").
        """
        lock, acquire, value = request >> 10, request >> 9 & 1, request >> 2 & 0x7F
        value -= (value & 0x40) << 1
        if lock >= len(tile.locks.values):
            raise EmulationError(f"{who} requests lock {lock}; {tile.name} has {len(tile.locks.values)}")
        if acquire:
            return int(tile.locks.try_acquire(lock, value, who))
        tile.locks.release(lock, value, who)
        return 1

    def _name(self, tile: Tile, offset: int) -> str:
        return register_name(geometry.tile_address(tile.column, tile.row, offset))
