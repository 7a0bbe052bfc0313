"""What is configured: streams, buffers and programs of an array, checked against each other and what the target holds.

Locks, descriptors and routes are not said here: they follow from the streams.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit.elf import CoreImage
from npuc.passes.array.fifo import FIRST_CORE_CHANNEL, Fifo, lock_pairs
from npuc.passes.array.target import Target

ALIGNMENT = 64  # of buffers: one 512-bit vector
Place = tuple[int, int]  # column, row


class Buffer(NamedTuple):
    """A range of one tile's data memory, tile-relative."""

    address: int
    size: int

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class Design:
    """fifos: in every column.  buffers: of every core, by name, those of the streams among them.  signals: further
    locks of the cores, which the runtime sequence raises.  programs: (column, row) -> what that core runs.

    Raises ResourceError where streams, buffers, locks and target contradict each other.
    """

    target: Target
    columns: int
    fifos: tuple[Fifo, ...]
    buffers: Mapping[str, Buffer]
    signals: tuple[str, ...]
    programs: Mapping[Place, CoreImage]

    def __post_init__(self) -> None:
        _check_columns(self)
        _check_buffers(self)
        _check_locks(self)
        _check_channels(self)

    @property
    def tiles(self) -> list[Place]:
        """(column, row) of every core, in order."""
        return core_places(self.target, self.columns)

    def inputs(self, channel: int) -> list[Fifo]:
        """The streams that take turns on a receiving channel."""
        return [fifo for fifo in self.fifos if fifo.to_cores and fifo.channel == channel]

    @property
    def outputs(self) -> list[Fifo]:
        """What the cores send."""
        return [fifo for fifo in self.fifos if not fifo.to_cores]

    @property
    def output_channels(self) -> list[int]:
        """A memory tile's sending channels to device memory, by outlet: the first that no stream to the cores has.

        Raises ResourceError where they leave too few.
        """
        wanted = max((fifo.outlets for fifo in self.outputs), default=0)
        taken = {fifo.channel for fifo in self.fifos if fifo.to_cores and not fifo.dealt}
        if any(fifo.to_cores and fifo.dealt for fifo in self.fifos):
            taken |= {FIRST_CORE_CHANNEL + core for core in range(self.target.cores_per_column)}
        free = [channel for channel in range(self.target.memtile_channels) if channel not in taken]
        if len(free) < wanted:
            left = "none is" if not free else f"{len(free)} of {wanted} are"
            raise ResourceError(f"streams to the cores have channels of a memory tile, {left} left for the output")
        return free[:wanted]

    @property
    def core_locks(self) -> dict[str, int]:
        """name -> initial value; ids count them in this order."""
        return core_locks(self.fifos, self.signals)

    @property
    def relay_locks(self) -> dict[str, int]:
        """The same of a memory tile."""
        return relay_locks(self.fifos, self.target)

    @property
    def relay_buffers(self) -> dict[str, Buffer]:
        """name -> place in a memory tile's data memory."""
        return relay_buffers(self.fifos, self.target)


def core_places(target: Target, columns: int) -> list[Place]:
    """(column, row) of every core of the first columns."""
    return [(column, row) for column in range(columns) for row in target.core_rows]


def core_locks(fifos: tuple[Fifo, ...], signals: tuple[str, ...]) -> dict[str, int]:
    return lock_pairs((fifo.name, fifo.depth * fifo.pieces) for fifo in fifos) | dict.fromkeys(signals, 0)


def relay_locks(fifos: tuple[Fifo, ...], target: Target) -> dict[str, int]:
    shared = [(fifo.name, fifo.relay_depth) for fifo in fifos if not fifo.dealt]
    dealt = [
        (f"{fifo.name}{core}", fifo.relay_depth)
        for core in range(target.cores_per_column)
        for fifo in fifos
        if fifo.dealt
    ]
    return lock_pairs(iter(shared + dealt))


def relay_buffers(fifos: tuple[Fifo, ...], target: Target) -> dict[str, Buffer]:
    """One behind the other.  Raises ResourceError when the memory tile does not hold them."""
    places: dict[str, Buffer] = {}
    end = 0
    for fifo in sorted(fifos, key=lambda fifo: fifo.dealt):
        slots = fifo.dealt_slots(target.cores_per_column) if fifo.dealt else fifo.relay_slots(None)
        for slot in slots:
            places[slot.buffer] = Buffer(-(-end // ALIGNMENT) * ALIGNMENT, fifo.relay_buffer_bytes)
            end = places[slot.buffer].end
    if end > target.memtile_memory:
        raise ResourceError(f"memory tile holds {target.memtile_memory:,} bytes, the kernel needs {end:,}")
    return places


def _check_columns(design: Design) -> None:
    if not 1 <= design.columns <= design.target.columns:
        raise ResourceError(f"{design.columns} columns: {design.target.name} has 1 to {design.target.columns}")
    if design.programs and sorted(design.programs) != design.tiles:
        raise ResourceError("programs are not for the cores that there are")
    for fifo in design.fifos:
        if design.columns % fifo.columns:
            raise ResourceError(f"{design.columns} columns cannot share stream {fifo.name} by {fifo.columns}")


def _check_buffers(design: Design) -> None:
    """Buffers lie apart in the memory, and those of the streams hold their tiles and what lies behind, no more."""
    end, before = 0, "the start"
    for name, buffer in sorted(design.buffers.items(), key=lambda entry: entry[1]):
        if buffer.size < 1 or buffer.address % ALIGNMENT or buffer.address < end:
            raise ResourceError(f"buffer {name} at {buffer.address:#x} is not behind {before}, or not aligned")
        end, before = buffer.end, name
    if end > design.target.core_memory:
        raise ResourceError(f"core memory holds {design.target.core_memory:,} bytes, {before} ends at {end:,}")
    for fifo in design.fifos:
        for slot in fifo.core_slots():
            place = design.buffers.get(slot.buffer)
            if place is None:
                raise ResourceError(f"stream {fifo.name} has no buffer {slot.buffer}")
            if place.size < fifo.core_buffer_bytes:
                needed = f"stream {fifo.name} needs {fifo.core_buffer_bytes:,}"
                raise ResourceError(f"buffer {slot.buffer} has {place.size:,} bytes, {needed}")
    _ = design.relay_buffers


def _check_locks(design: Design) -> None:
    target = design.target
    for place, locks, limit in (
        ("core", design.core_locks, target.core_locks),
        ("memory tile", design.relay_locks, target.memtile_locks),
    ):
        if len(locks) > limit:
            raise ResourceError(f"a {place} has {limit} locks, the streams need {len(locks)}")
        for name, value in locks.items():
            if value > target.lock_maximum:
                raise ResourceError(f"lock {name} begins at {value}, and counts to {target.lock_maximum}")


def _check_channels(design: Design) -> None:
    """Streams that take turns have alike many buffers, and none is dealt out (a stream of its own goes to each core) or
    kept."""
    names = Counter(fifo.name for fifo in design.fifos)
    if any(count > 1 for count in names.values()):
        raise ResourceError("two streams have one name")
    outputs = design.outputs
    if len(outputs) > 1:
        raise ResourceError(f"cores send on one channel, and {len(outputs)} streams leave them")
    inputs = [fifo for fifo in design.fifos if fifo.to_cores]
    if sum(fifo.dealt for fifo in inputs) > 1:
        raise ResourceError("a memory tile has one channel for what it deals out to a core")
    for channel in {fifo.channel for fifo in inputs}:
        sharing = design.inputs(channel)
        alike = {(fifo.depth, fifo.relay_depth, fifo.columns) for fifo in sharing}
        if len(alike) > 1 or (len(sharing) > 1 and any(fifo.dealt or fifo.kept for fifo in sharing)):
            together = ", ".join(fifo.name for fifo in sharing)
            raise ResourceError(f"streams {together} cannot take turns on channel {channel}")
    _ = design.output_channels
