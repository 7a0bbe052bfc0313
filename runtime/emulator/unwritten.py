"""Strict: who would have written memory that a channel sends, or a core loads, and nothing has written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import interpret
from npuc.runtime.emulator.diagnosis import reason
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.errors import EmulationError, UndefinedData
from npuc.runtime.emulator.lock_providers import descriptors_to_come
from npuc.runtime.emulator.stream_walk import elsewhere

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.memory import DataMemory
    from npuc.runtime.emulator.tile import Tile


def name_writers(error: UndefinedData, array: Array, controller: Controller) -> None:
    """Adds to the error's line the descriptors that cover the place and that no channel has come to.

    Where there are none, the receivers that have filled memory up to a word beside it.  Where a core stored what it had
    loaded too early, all that of the place of the first such load.
    """
    place = error.sent or _first_load(array)
    if place is None:
        return
    memory, offset, begin, end = place
    owner = next(each for each in array.tiles.values() if each.memory is memory)
    covering = list(_covering(array, owner, offset, offset + 1))
    unused = [(tile, number) for tile, number in covering if _unused(tile, number)]
    for tile, number in unused:
        error.message += f"; descriptor {number} of {tile.name} covers it, and no channel has run that"
        for receiver in _receivers(tile):
            ran = sorted(n for n, keys in tile.ran_by.items() if (receiver.direction, receiver.number) in keys)
            if ran:
                error.message += f" ({receiver.name} has run descriptor {' and '.join(map(str, ran))})"
            if receiver.out_of_order:
                error.message += "".join(_packets(array, controller, receiver, number))
    if not unused:
        for tile, number in _covering(array, owner, begin - 4, end + 4):
            for receiver in _receivers(tile):
                if (receiver.direction, receiver.number) in tile.ran_by.get(number, ()):
                    error.message += f"; {receiver.name} has run descriptor {number} around it"


def _first_load(array: Array) -> tuple[DataMemory, int, int, int] | None:
    """The memory of the first load of bytes that nothing had written, and their first, first and end offset."""
    loads = [
        (load.cycle, load.offset, load.size, tile.memory)
        for tile in array.tiles.values()
        if tile.memory is not None
        for load in tile.memory.early_loads.values()
    ]
    if not loads:
        return None
    _, offset, size, memory = min(loads, key=lambda load: load[:3])
    return memory, offset, offset, offset + size


def _receivers(tile: Tile) -> list[Receiver]:
    return [channel for channel in tile.channels.values() if isinstance(channel, Receiver)]


def _covering(array: Array, owner: Tile, first: int, end: int) -> Iterator[tuple[Tile, int]]:
    """Valid descriptors, of memory tiles beside it too, whose buffer holds one of the bytes."""
    for step in (0, -1, 1) if owner.kind == "memtile" else (0,):
        tile = array.tiles.get((owner.column + step, owner.row))
        if tile is None:
            continue
        window = geometry.MEMTILE_VIEW_OWN - step * geometry.MEMTILE_MEMORY_SIZE if owner.kind == "memtile" else 0
        for number, words in enumerate(tile.descriptors):
            if not geometry.unpack_bd(tile.kind, words)["valid"]:
                continue
            try:
                descriptor, _ = interpret(tile.kind, words, "")
            except EmulationError:
                continue
            begin = 4 * descriptor.base - window
            if begin < end and first < begin + 4 * (descriptor.pattern.reach + 1):
                yield tile, number


def _unused(tile: Tile, number: int) -> bool:
    """Whether no channel has run a descriptor or comes to it."""
    return number not in tile.ran_by and not any(number in descriptors_to_come(c) for c in tile.channels.values())


def _packets(array: Array, controller: Controller, receiver: Receiver, number: int) -> Iterator[str]:
    """What packets name instead, or why those that name the descriptor do not come."""
    sources = array.sources_of(receiver.inlet)
    for channel in array.channels():
        named = [
            fields["out_of_order_id"]
            for each in descriptors_to_come(channel)
            if (fields := geometry.unpack_bd(channel.tile.kind, channel.tile.descriptors[each])).get("enable_packet")
        ]
        if channel.name not in sources:
            if number in named:
                yield "".join(f"; {text}" for text in elsewhere(array, [channel.name]))
            continue
        names = ", ".join(map(str, dict.fromkeys(named)))
        why = reason(array, controller, channel.name) if number in named else None
        yield f"; packets of {channel.name} name descriptor {names}" + (f": {why[0]}" if why else "")
