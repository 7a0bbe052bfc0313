"""What an array image configures, told from its registers after a boot on the emulator: buffers, streams, locks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from npuc.compiler.emit.buffers import core_descriptor_buffer
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.apart import run_apart
from npuc.runtime.emulator import stream_walk
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.dma import Channel
from npuc.runtime.emulator.lock_providers import descriptors_to_come
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.report.subject import Subject

Known = Mapping[tuple[str, int], tuple[str, int]]  # kind of tile, first byte: name, bytes
BANK_BYTES = {"core": geometry.CORE_BANK_SIZE, "memtile": geometry.MEMTILE_BANK_SIZE}


@dataclass(frozen=True)
class Piece:
    """Bytes start .. end - 1 of a tile's data memory. name: of the buffer, or the descriptors that reach it. moved:
    whether any does."""

    start: int
    end: int
    name: str
    moved: bool = True


@dataclass(frozen=True)
class Configured:
    """One tile. pieces: buffers in order."""

    column: int
    row: int
    kind: str
    pieces: tuple[Piece, ...]
    runs: bool  # whether it has a program and is enabled

    @property
    def used(self) -> int:
        """Bytes of its data memory that buffers take; some take turns in the same."""
        total = covered = 0
        for piece in self.pieces:
            total += max(0, piece.end - max(covered, piece.start))
            covered = max(covered, piece.end)
        return total


@dataclass(frozen=True)
class Stream:
    """From an MM2S channel or a core's output to all its ends, each (column, row). unit, units: their names.

    buffers: those that it fills or empties, by name, in the order of the descriptors; none where they have no names.
    """

    source: tuple[int, int]
    ends: tuple[tuple[int, int], ...]
    unit: str
    units: tuple[str, ...]
    buffers: tuple[str, ...] = ()

    @property
    def carries(self) -> tuple[str, ...]:
        """The fifos whose buffers these are: `k0`, `k1` and `k2.0` are of `k`."""
        return tuple(dict.fromkeys(name.rstrip("0123456789.") for name in self.buffers))


def configured(subject: Subject) -> tuple[tuple[Configured, ...], tuple[Stream, ...]]:
    """Boots the image; nothing runs."""
    array = run_apart(lambda: _booted(subject))
    tiles = tuple(_tile(tile, subject.buffers) for tile in array.tiles.values())
    return tiles, tuple(_streams(array, subject.buffers))


def _booted(subject: Subject) -> Array:
    device = Device(subject.columns, subject.machine)
    device.load_pdi(subject.pdi)
    return device._array


def _tile(tile: Tile, known: Known) -> Configured:
    runs = tile.core is not None and tile.core.running
    return Configured(tile.column, tile.row, tile.kind, tuple(_pieces(tile, known)), runs)


def _pieces(tile: Tile, known: Known) -> list[Piece]:
    """What descriptors reach, in the known buffers where they lie in one, and of a tile where any do, the others."""
    found: dict[int, tuple[int, str, list[int]]] = {}
    for number, words in enumerate(tile.descriptors):
        reach = _reach(tile.kind, number, words)
        if reach is not None:
            start, end, name = _around(tile.kind, reach, known)
            before, _, numbers = found.get(start, (0, name, []))
            found[start] = max(before, end), name, [*numbers, number]
    pieces = []
    for start, (end, name, numbers) in found.items():
        descriptors = "descriptor " + ", ".join(str(number) for number in numbers)
        pieces.append(Piece(start, end, f"{name} ({descriptors})" if name else descriptors))
    for (kind, start), (name, size) in known.items() if pieces else ():
        if kind == tile.kind and start not in found:
            pieces.append(Piece(start, start + size, name, moved=False))
    return sorted(pieces, key=lambda piece: piece.start)


def _around(kind: str, reach: tuple[int, int], known: Known) -> tuple[int, int, str]:
    """First byte, end and name of the smallest known buffer that holds these bytes; they themselves where none does."""
    first, end = reach
    holding = [
        (size, start, name)
        for (tile, start), (name, size) in known.items()
        if tile == kind and start <= first and end <= start + size
    ]
    size, start, name = min(holding, default=(end - first, first, ""))
    return start, start + size, name


def _reach(kind: str, number: int, words: list[int]) -> tuple[int, int] | None:
    """The bytes of its own tile's memory that a valid descriptor reaches; of memory tiles by base and length alone."""
    if kind == "core":
        buffer = core_descriptor_buffer(number, words)
        return None if buffer is None else (buffer.start, min(buffer.end, geometry.CORE_MEMORY_SIZE))
    if kind != "memtile":
        return None
    fields = geometry.unpack_bd(kind, words)
    start = 4 * fields["base_address"] - geometry.MEMTILE_VIEW_OWN
    if not fields["valid"] or not 0 <= start < geometry.MEMTILE_MEMORY_SIZE:
        return None
    return start, min(start + 4 * fields["length"], geometry.MEMTILE_MEMORY_SIZE)


def _streams(array: Array, known: Known) -> Iterator[Stream]:
    places = {tile.name: (tile.column, tile.row) for tile in array.tiles.values()}
    channels = {channel.name: channel for channel in array.channels()}
    places |= {channel.name: (channel.tile.column, channel.tile.row) for channel in channels.values()}
    found = [(c.name, stream_walk.sinks(array, c)) for c in channels.values() if c.direction == "mm2s"]
    found += [(tile.name, stream_walk.core_sinks(array, tile)) for tile in array.tiles.values() if tile.kind == "core"]
    for unit, ends in found:
        if ends.units:
            # A shim's descriptors come with a call; what waits at the other end is there from the start.
            filled = (_buffers(channels[each], known) for each in (unit, *ends.units) if each in channels)
            buffers = next((each for each in filled if each), ())
            yield Stream(places[unit], tuple(places[each] for each in ends.units), unit, tuple(ends.units), buffers)


def _buffers(channel: Channel, known: Known) -> tuple[str, ...]:
    """Names of what a channel's tasks reach, as far as they have any."""
    kind = channel.tile.kind
    reached = (_reach(kind, number, channel.tile.descriptors[number]) for number in descriptors_to_come(channel))
    names = (_around(kind, reach, known)[2] for reach in reached if reach is not None)
    return tuple(dict.fromkeys(name for name in names if name))
