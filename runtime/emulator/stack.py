"""Strict mode: a stack that grows into what a descriptor of its memory reaches (facts/silicon/silicon.md section 12).

Nothing on hardware stops it, and what is overwritten shows elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from npuc.compiler.emit.buffers import core_descriptor_buffer
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.tile import Tile

WINDOWS = {
    "south": geometry.CORE_VIEW_SOUTH,
    "west": geometry.CORE_VIEW_WEST,
    "north": geometry.CORE_VIEW_NORTH,
    "own": geometry.CORE_VIEW_OWN,
}
"""Side of a tile whose data memory a core sees -> where it sees it."""


def growth(before: int, now: int) -> tuple[int, int]:
    """The bytes that a stack takes when sp goes from `before` to `now`; none where it shrinks or begins elsewhere."""
    same = before // geometry.CORE_MEMORY_SIZE == now // geometry.CORE_MEMORY_SIZE
    return (before, now) if same and now > before else (now, now)


_reached = lru_cache(maxsize=256)(core_descriptor_buffer)


def overwritten(tiles: Mapping[str, Tile], first: int, end: int) -> str | None:
    """The descriptor that reaches one of the bytes first .. end - 1 of a core's view, in words; tiles: by side."""
    for side, tile in tiles.items():
        offset = first - WINDOWS[side]
        if not 0 <= offset < geometry.CORE_MEMORY_SIZE:
            continue
        for number, words in enumerate(tile.descriptors):
            buffer = _reached(number, tuple(words))
            if buffer is not None and buffer.start < offset + end - first and offset < buffer.end:
                where = f"{WINDOWS[side] + buffer.start:#x} to {WINDOWS[side] + buffer.end - 1:#x}"
                return f"the stack grows to {end:#x}, into the buffer of descriptor {number} of {tile.name}, {where}"
    return None
