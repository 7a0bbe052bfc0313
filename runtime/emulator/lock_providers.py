"""Which units could change a lock so that somebody's acquire succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.dma import Channel
    from npuc.runtime.emulator.tile import Tile

# Tiles whose core sees this tile's locks, by step from the owner, and how that core numbers lock 0 (device_npu1.md,
# "Core view of memory"): the owner is the south neighbour of the tile north of it, and so on.
CORES_IN_REACH = (
    (0, 0, geometry.CORE_LOCK_OWN), (0, 1, geometry.CORE_LOCK_SOUTH), (1, 0, geometry.CORE_LOCK_WEST),
    (0, -1, geometry.CORE_LOCK_NORTH),
)  # fmt: skip
# Mnemonics that begin so put a constant into a register, or name a lock themselves.
_NAME_LOCKS = ("mov", "acq", "rel")


def own_lock(kind: str, number: int) -> tuple[int, int]:
    """(column step, lock) of a lock number in a descriptor."""
    if kind != "memtile":
        return 0, number
    return number // geometry.MEMTILE_LOCK_OWN - 1, number % geometry.MEMTILE_LOCK_OWN


def descriptors_to_come(channel: Channel) -> list[int]:
    """Descriptors that the channel still comes to: the present one, repeats, the queue, and what they chain to."""
    first = channel.in_use()
    if channel.task is not None and channel.task.left > 1:
        first.append(channel.task.first)
    first += [task.first for task in channel.queue]
    seen: list[int] = []
    while first:
        number = first.pop(0)
        if number in seen or number >= len(channel.tile.descriptors):
            continue
        seen.append(number)
        fields = geometry.unpack_bd(channel.tile.kind, channel.tile.descriptors[number])
        if fields["use_next"]:
            first.append(fields["next_bd"])
    return seen


def channels_releasing(array: Array, tile: Tile, lock: int) -> Iterator[str]:
    """DMA channels whose descriptors to come release the lock."""
    for step in (0, 1, -1) if tile.kind == "memtile" else (0,):
        other = array.tiles.get((tile.column + step, tile.row))
        if other is None:
            continue
        for channel in other.channels.values():
            for number in descriptors_to_come(channel):
                fields = geometry.unpack_bd(other.kind, other.descriptors[number])
                if fields["release_value"] and own_lock(other.kind, fields["release_lock"]) == (-step, lock):
                    yield channel.name
                    break


def constants(program: bytes | bytearray) -> set[int]:
    """Constants that go into scalar registers or name locks, up to the first byte that is no bundle."""
    found: set[int] = set()
    address = 0
    while address < len(program):
        try:
            bundle = decode_bundle(program, address)
        except DecodeError:
            break
        for each in bundle.instructions:
            if each.instruction.mnemonic.startswith(_NAME_LOCKS) and not str(each.operands[0]).startswith("p"):
                found.update(value for value in each.operands if isinstance(value, int))
        address += bundle.size
    return found


def cores_releasing(array: Array, tile: Tile, lock: int, computing: bool = False) -> Iterator[str]:
    """Cores that have released the lock before, or whose program holds its number.

    Small numbers occur in every program, so those of a neighbour's locks count for cores that compute alone, if asked.
    """
    if tile.kind != "core":
        return
    for across, up, base in CORES_IN_REACH:
        other = array.tiles.get((tile.column + across, tile.row + up))
        if other is None or other.core is None:
            continue
        before = other.name in tile.locks.releasers.get(lock, ())
        likely = base == geometry.CORE_LOCK_OWN or computing and other.core.running and other.core.waiting is None
        if before or likely and base + lock in constants(other.core.program):
            yield other.name


def sequence_writes(controller: Controller, address: int) -> int | None:
    """The next operation of the sequence that writes the register, None if there is none."""
    for position in range(controller.position, len(controller.operations)):
        operation = controller.operations[position]
        if isinstance(operation, (txn.Write, txn.MaskWrite)) and operation.address == address:
            return position
    return None


def lock_providers(array: Array, controller: Controller, tile: Tile, lock: int, who: str) -> tuple[str, ...]:
    """Names of all that could raise the lock; who: the unit that waits for it, which does not."""
    names = list(channels_releasing(array, tile, lock))
    names += cores_releasing(array, tile, lock)
    address = geometry.tile_address(tile.column, tile.row, geometry.lock_offset(tile.kind, lock))
    if sequence_writes(controller, address) is not None:
        names.append(controller.name)
    if not set(names) - {who}:
        names += cores_releasing(array, tile, lock, computing=True)
    return tuple(name for name in dict.fromkeys(names) if name != who)
