"""Strict: who would have written memory that a channel sends and nothing has written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import interpret
from npuc.runtime.emulator.diagnosis import reason
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.errors import EmulationError, UndefinedData
from npuc.runtime.emulator.lock_providers import descriptors_to_come

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.tile import Tile


def name_writers(error: UndefinedData, array: Array, controller: Controller) -> None:
    """Adds to the error's line the descriptors that cover the place and that no channel has come to."""
    if error.sent is None:
        return
    memory, offset = error.sent
    owner = next(each for each in array.tiles.values() if each.memory is memory)
    for tile, number in _never_run(array, owner, offset):
        error.message += f"; descriptor {number} of {tile.name} covers it, and no channel has run that"
        for receiver in tile.channels.values():
            if not isinstance(receiver, Receiver):
                continue
            ran = sorted(n for n, keys in tile.ran_by.items() if (receiver.direction, receiver.number) in keys)
            if ran:
                error.message += f" ({receiver.name} has run descriptor {' and '.join(map(str, ran))})"
            if receiver.out_of_order:
                error.message += "".join(_packets_that_name(array, controller, receiver, number))


def _never_run(array: Array, owner: Tile, offset: int) -> Iterator[tuple[Tile, int]]:
    """Valid descriptors, of memory tiles beside it too, whose buffer holds the byte and that nothing runs."""
    for step in (0, -1, 1) if owner.kind == "memtile" else (0,):
        tile = array.tiles.get((owner.column + step, owner.row))
        if tile is not None:
            window = geometry.MEMTILE_VIEW_OWN - step * geometry.MEMTILE_MEMORY_SIZE if owner.kind == "memtile" else 0
            yield from ((tile, number) for number in _unused(tile, window + offset))


def _unused(tile: Tile, place: int) -> Iterator[int]:
    """Valid descriptors of a tile that nothing runs and that hold a byte, by its address as they count."""
    to_come = {number for channel in tile.channels.values() for number in descriptors_to_come(channel)}
    for number, words in enumerate(tile.descriptors):
        if number in tile.ran_by or number in to_come or not geometry.unpack_bd(tile.kind, words)["valid"]:
            continue
        try:
            descriptor, _ = interpret(tile.kind, words, "")
        except EmulationError:
            continue
        if 4 * descriptor.base <= place < 4 * (descriptor.base + descriptor.pattern.reach + 1):
            yield number


def _packets_that_name(array: Array, controller: Controller, receiver: Receiver, number: int) -> Iterator[str]:
    """The senders whose packets would have run a descriptor out of order, and why they have not sent."""
    names = array.sources_of(receiver.inlet)
    for channel in array.channels():
        if channel.name not in names:
            continue
        for each in descriptors_to_come(channel):
            fields = geometry.unpack_bd(channel.tile.kind, channel.tile.descriptors[each])
            if fields["enable_packet"] and fields["out_of_order_id"] == number:
                why = reason(array, controller, channel.name)
                yield f"; packets of {channel.name} name it" + (f": {why[0]}" if why else "")
                break
