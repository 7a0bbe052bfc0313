"""Strict: loads of memory that nothing had written yet, where a run ends over undefined data.

What is refused lies far behind its cause as a rule: a parameter that a core loads before its first lock, a buffer that
is read before it is filled. These lines name the loads, those first whose bytes the runtime sequence writes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

LINES = 4


def early_load_notes(array: Array, operations: Sequence[txn.Operation]) -> list[str]:
    """A line a load, the first `LINES` of them in the order of their cycles, and how many more there are."""
    written = list(_written(operations))
    found: list[tuple[bool, int, str]] = []
    for place, tile in array.tiles.items():
        if tile.memory is None:
            continue
        for (core, address), load in tile.memory.early_loads.items():
            first, end = load.offset, load.offset + load.size
            writers = (n for where, start, stop, n in written if where == place and start < end and first < stop)
            number = next(writers, None)
            text = (
                f"{core}, bundle {address:#x}, loaded {load.size} bytes at {first:#x} of {tile.memory.name} in cycle "
            )
            text += f"{load.cycle}, when nothing had written them"
            if number is not None:
                text += f"; sequence operation {number} writes them, later: the load belongs behind a lock"
            found.append((number is None, load.cycle, text))
    lines = [text for _, _, text in sorted(found)]
    return lines[:LINES] + ([f"{len(lines) - LINES} more loads of memory never written"] if len(lines) > LINES else [])


def _written(operations: Sequence[txn.Operation]) -> Iterator[tuple[tuple[int, int], int, int, int]]:
    """What the sequence writes: the tile, the first and the end offset of the bytes, the operation."""
    for number, operation in enumerate(operations):
        if isinstance(operation, (txn.Write, txn.MaskWrite)):
            words = 1
        elif isinstance(operation, txn.BlockWrite):
            words = len(operation.words)
        else:
            continue
        column, row, offset = geometry.split_address(operation.address)
        yield (column, row), offset, offset + 4 * words, number
