"""Signs that an array image and a runtime sequence were not made for each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.stream_walk import sinks, sources

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.dma import Channel

USED = "the sequence uses it"
OTHER_IMAGE = "is the array image that of another kernel?"


def is_used(controller: Controller, channel: Channel) -> bool:
    """Whether the sequence pushes tasks to a channel of a shim."""
    tile = channel.tile
    if tile.kind != "shim":
        return False
    offset = geometry.channel_queue_offset(tile.kind, channel.direction, channel.number)
    address = geometry.tile_address(tile.column, tile.row, offset)
    return any(isinstance(o, txn.Write) and o.address == address for o in controller.operations)


def foreign_notes(array: Array, controller: Controller) -> Iterator[str]:
    """What the sequence uses and the image does not have: ways of shim channels, programs for parameters."""
    for channel in array.channels():
        if is_used(controller, channel):
            ends = (sinks if channel.direction == "mm2s" else sources)(array, channel)
            if not ends.units:
                what = "leads nowhere" if channel.direction == "mm2s" else "is fed by nothing"
                yield f"{channel.name} {what} in the array image, and {USED}: {OTHER_IMAGE}"
    for operation in controller.operations:
        if not isinstance(operation, (txn.Write, txn.BlockWrite)):
            continue
        column, row, offset = geometry.split_address(operation.address)
        tile = array.tiles.get((column, row))
        into_memory = offset < geometry.DATA_MEMORY_SIZE["core"]
        if tile is not None and tile.core is not None and into_memory and not any(tile.core.program):
            yield f"the sequence writes parameters to {tile.name}, which has no program"
            return
