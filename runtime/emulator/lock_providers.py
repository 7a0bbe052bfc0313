"""Which units could change a lock so that somebody's acquire succeeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from npuc.compiler.asm.codec import Bundle, DecodeError, decode_bundle
from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.dma_receive import Receiver

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


def endless(channel: Channel) -> str | None:
    """Why the task under way never ends: its chain of descriptors leads back into itself; None where it ends."""
    if channel.task is None:
        return None
    chain: list[int] = []
    number = channel.task.first
    while number < len(channel.tile.descriptors):
        if number in chain:
            ring = chain[chain.index(number) :]
            back = f"descriptor {number} is chained to itself" if len(ring) == 1 else f"descriptors {ring} are a ring"
            return f"the task of {channel.name} never ends: {back}"
        chain.append(number)
        fields = geometry.unpack_bd(channel.tile.kind, channel.tile.descriptors[number])
        if not fields["use_next"]:
            break
        number = fields["next_bd"]
    return None


def descriptors_releasing(tile: Tile, lock: int) -> list[int]:
    """Numbers of the tile's valid descriptors that release its lock, whether a channel runs them or not."""
    found = []
    for number, words in enumerate(tile.descriptors):
        fields = geometry.unpack_bd(tile.kind, words)
        if fields["valid"] and fields["release_value"] and own_lock(tile.kind, fields["release_lock"]) == (0, lock):
            found.append(number)
    return found


def giving_nothing(tile: Tile, lock: int) -> Iterator[tuple[str, int]]:
    """Receiving channels of the tile and descriptors that they have run and that release no lock, or another."""
    for number, keys in sorted(tile.ran_by.items()):
        fields = geometry.unpack_bd(tile.kind, tile.descriptors[number])
        if fields["release_value"] and own_lock(tile.kind, fields["release_lock"]) == (0, lock):
            continue
        yield from ((tile.channels[key].name, number) for key in sorted(keys) if key[0] == "s2mm")


def words_waiting(channel: Channel) -> str:
    """The words that have come for a receiving channel without a task, in words; empty where none wait."""
    if channel.busy or not isinstance(channel, Receiver):
        return ""
    held = channel.inlet.entered - channel.base
    if not held and not channel.inlet.blocked:
        return ""
    sources = " and ".join(channel.array.sources_of(channel.inlet))
    return f"{held or ''} words from {sources}".strip()


def receivers_without_a_task(array: Array, tile: Tile) -> tuple[str, ...]:
    """Names of the tile's receiving channels for which words wait and which have no task."""
    return tuple(channel.name for channel in tile.channels.values() if words_waiting(channel))


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


@dataclass(frozen=True)
class Releases:
    """What a program's release instructions can name: lock numbers; whole: whether they are all that can be named."""

    numbers: frozenset[int]
    whole: bool


@lru_cache(maxsize=256)
def releases(program: bytes) -> Releases:
    """Lock numbers of a program's release instructions, up to the first byte that is no bundle.

    A number in a register is any constant that the program ever moves there.  Where such a register is also written
    otherwise, all constants that the program moves anywhere count.
    """
    named: set[int] = set()
    registers: set[str] = set()
    moved: dict[str, set[int]] = {}
    computed: set[str] = set()
    for bundle in bundles(program):
        for each in bundle.instructions:
            mnemonic, operands = each.instruction.mnemonic, each.operands
            if mnemonic.startswith("rel"):
                (named if isinstance(operands[0], int) else registers).add(operands[0])  # type: ignore[arg-type]
                continue
            outputs = [v for o, v in zip(each.instruction.operands, operands, strict=True) if o.direction != "in"]
            constants = [v for v in operands if isinstance(v, int)]
            for register in map(str, outputs):
                if mnemonic.startswith("mov") and len(operands) == 2 and constants:
                    moved.setdefault(register, set()).update(constants)
                else:
                    computed.add(register)
    whole = not registers & computed
    for register in registers if whole else moved:
        named |= moved.get(register, set())
    return Releases(frozenset(named), whole)


def bundles(program: bytes) -> Iterator[Bundle]:
    """The bundles of a program, up to the first byte that is none."""
    address = 0
    while address < len(program):
        try:
            bundle = decode_bundle(program, address)
        except DecodeError:
            return
        yield bundle
        address += bundle.size


def cores_in_reach(array: Array, tile: Tile) -> list[str]:
    """Names of the cores with a program that see the locks of a core's tile."""
    found = (array.tiles.get((tile.column + across, tile.row + up)) for across, up, _ in CORES_IN_REACH)
    return [each.name for each in found if each is not None and each.core is not None and any(each.core.program)]


def cores_releasing(array: Array, tile: Tile, lock: int, computing: bool = False) -> Iterator[str]:
    """Cores that have released the lock before, or whose program can name it in a release.

    Small numbers occur in every program.  So where it is not sure what a release can name, those of a neighbour's locks
    count for cores that compute alone, if asked.
    """
    if tile.kind != "core":
        return
    for across, up, base in CORES_IN_REACH:
        other = array.tiles.get((tile.column + across, tile.row + up))
        if other is None or other.core is None:
            continue
        before = other.name in tile.locks.releasers.get(lock, ())
        found = releases(bytes(other.core.program))
        computes = computing and other.core.running and other.core.waiting is None
        likely = base == geometry.CORE_LOCK_OWN or found.whole or computes
        if before or likely and base + lock in found.numbers:
            yield other.name


def sequence_writes(controller: Controller, address: int) -> int | None:
    """The next operation of the sequence that writes the register, None if there is none."""
    for position in range(controller.position, len(controller.operations)):
        operation = controller.operations[position]
        if isinstance(operation, (txn.Write, txn.MaskWrite)) and operation.address == address:
            return position
    return None


def given_by_sequence(controller: Controller, tile: Tile, lock: int) -> bool:
    """Whether the sequence has written the lock, and does not do so again."""
    address = geometry.tile_address(tile.column, tile.row, geometry.lock_offset(tile.kind, lock))
    done = controller.operations[: controller.position]
    given = any(isinstance(o, (txn.Write, txn.MaskWrite)) and o.address == address for o in done)
    return given and sequence_writes(controller, address) is None


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
