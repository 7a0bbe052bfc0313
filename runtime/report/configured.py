"""What an array image configures, told from its registers after a boot on the emulator: buffers, streams, locks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npuc.compiler.emit.buffers import core_descriptor_buffer
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.apart import run_apart
from npuc.runtime.emulator import stream_walk
from npuc.runtime.emulator.array import Array
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.report.subject import Subject

BANK_BYTES = {"core": geometry.CORE_BANK_SIZE, "memtile": geometry.MEMTILE_BANK_SIZE}


@dataclass(frozen=True)
class Piece:
    """Bytes start .. end - 1 of a tile's data memory. name: of the buffer, or the descriptors that reach it."""

    start: int
    end: int
    name: str


@dataclass(frozen=True)
class Configured:
    """One tile. pieces: buffers in order, none over another's start."""

    column: int
    row: int
    kind: str
    pieces: tuple[Piece, ...]
    runs: bool  # whether it has a program and is enabled


@dataclass(frozen=True)
class Stream:
    """From an MM2S channel or a core's output to all its ends, each (column, row). name: of the units."""

    source: tuple[int, int]
    ends: tuple[tuple[int, int], ...]
    name: str


def configured(subject: Subject) -> tuple[tuple[Configured, ...], tuple[Stream, ...]]:
    """Boots the image; nothing runs."""
    array = run_apart(lambda: _booted(subject))
    tiles = tuple(_tile(tile, subject.names) for tile in array.tiles.values())
    return tiles, tuple(_streams(array))


def _booted(subject: Subject) -> Array:
    device = Device(subject.columns, subject.machine)
    device.load_pdi(subject.pdi)
    return device._array


def _tile(tile: Tile, names: Mapping[tuple[str, int], str]) -> Configured:
    runs = tile.core is not None and tile.core.running
    return Configured(tile.column, tile.row, tile.kind, tuple(_pieces(tile, names)), runs)


def _pieces(tile: Tile, names: Mapping[tuple[str, int], str]) -> list[Piece]:
    found: dict[int, tuple[int, list[int]]] = {}
    for number, words in enumerate(tile.descriptors):
        reach = _reach(tile.kind, number, words)
        if reach is not None:
            end, numbers = found.get(reach[0], (0, []))
            found[reach[0]] = max(end, reach[1]), [*numbers, number]
    pieces = []
    for start, (end, numbers) in sorted(found.items()):
        descriptors = "descriptor " + ", ".join(str(number) for number in numbers)
        name = names.get((tile.kind, start))
        pieces.append(Piece(start, end, descriptors if name is None else f"{name} ({descriptors})"))
    return pieces


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


def _streams(array: Array) -> list[Stream]:
    places = {tile.name: (tile.column, tile.row) for tile in array.tiles.values()}
    places |= {channel.name: (channel.tile.column, channel.tile.row) for channel in array.channels()}
    streams = []
    for channel in array.channels():
        if channel.direction == "mm2s":
            ends = stream_walk.sinks(array, channel)
            if ends.units:
                name = f"{channel.name} to {', '.join(ends.units)}"
                streams.append(Stream(places[channel.name], tuple(places[unit] for unit in ends.units), name))
    for tile in array.tiles.values():
        if tile.kind == "core":
            ends = stream_walk.core_sinks(array, tile)
            if ends.units:
                name = f"{tile.name} to {', '.join(ends.units)}"
                streams.append(Stream(places[tile.name], tuple(places[unit] for unit in ends.units), name))
    return streams
