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
    from npuc.runtime.emulator.errors import UndefinedData

LINES = 4


def explain(error: UndefinedData, array: Array, operations: Sequence[txn.Operation]) -> None:
    """Adds the loads to what an error says: the first `LINES` of them, and how many more there are.

    Where the sequence writes what was loaded too early that is the remedy, too: the most likely root.
    """
    late, others = _notes(array, operations)
    lines = [*late, *others]
    if not lines:
        return
    more = [f"{len(lines) - LINES} more loads of memory never written"] if len(lines) > LINES else []
    error.details = [*error.details, *lines[:LINES], *more]
    error.remedy = late[0] if late else f"npuc run --json names loads of memory never written: {len(lines)} so far"


def _notes(array: Array, operations: Sequence[txn.Operation]) -> tuple[list[str], list[str]]:
    """A line a load, in the order of their cycles: of bytes that the sequence writes, and of others."""
    written = list(_written(operations))
    late: list[tuple[int, str]] = []
    others: list[tuple[int, str]] = []
    for place, tile in array.tiles.items():
        if tile.memory is None:
            continue
        for (core, address), load in tile.memory.early_loads.items():
            first, end = load.offset, load.offset + load.size
            text = (
                f"{core}, bundle {address:#x}, loaded {load.size} bytes at {first:#x} of {tile.memory.name} in cycle "
                f"{load.cycle}, when nothing had written them"
            )
            writers = (n for where, start, stop, n in written if where == place and start < end and first < stop)
            number = next(writers, None)
            if number is None:
                others.append((load.cycle, text))
            else:
                text += f"; sequence operation {number} writes them, later: the load belongs behind a lock"
                late.append((load.cycle, text))
    return [text for _, text in sorted(late)], [text for _, text in sorted(others)]


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
