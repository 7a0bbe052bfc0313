"""A stream of tiles between device memory and the cores, by way of each column's memory tile.

Everything about it follows from here: the buffers and locks at both ends and half way, the descriptors that fill and
empty them, the channels it takes, and the locks that the core's program acquires and releases.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from npuc.compiler.diagnostics import ResourceError
from npuc.passes.array.tile import Tile

DEVICE, CORES = "device", "cores"  # places that streams join
RECEIVING_CHANNELS = (0, 1)  # of a core, and of a shim and a memory tile on that way
# Memory tile: MM2S 0 and 1 send what all cores get; S2MM 2 + c is core c's, MM2S 2 + c too where tiles are dealt out.
FIRST_CORE_CHANNEL = 2
CORE_OUTPUT_CHANNEL = 0  # MM2S of a core
SHIM_OUTPUT_CHANNELS = (0, 1)  # S2MM of a shim


class Slot(NamedTuple):
    """A buffer of a stream in a tile, and the stem of its pair of locks."""

    buffer: str
    locks: str


@dataclass(frozen=True)
class Fifo:
    """name: also the stem of the names of buffers and locks.  tile: a block as the core has it.

    depth, relay_depth: buffers in a core, and in a memory tile (for each core where they get different tiles).
    producer, consumers: DEVICE and CORES.  dealt: each core has tiles of its own, in turn, else all get the same.
    channel: the receiving channel; streams to cores that name the same take turns on it.  columns: neighbouring ones
    that get the stream from one shim.  behind: bytes in a core's buffer after the tile that no DMA touches.  kept: its
    buffers in a memory tile are one, which tasks of the runtime sequence fill and empty (kept.py), so that tiles can be
    sent again; else that is done for ever, in turn.  pieces: in which a tile leaves a core, each as soon as it is made.
    outlets: a shim's channels to device memory, each for as many neighbouring cores.
    Raises ResourceError for what cannot be.
    """

    name: str
    tile: Tile
    depth: int
    producer: str = DEVICE
    consumers: str = CORES
    dealt: bool = False
    channel: int = 0
    relay_depth: int = 2
    columns: int = 1
    behind: int = 0
    kept: bool = False
    pieces: int = 1
    outlets: int = 1

    def __post_init__(self) -> None:
        if min(self.depth, self.relay_depth, self.columns) < 1 or self.behind < 0:
            raise ResourceError(f"stream {self.name} needs one buffer at least, and a column")
        if {self.producer, self.consumers} != {DEVICE, CORES}:
            raise ResourceError(f"stream {self.name} goes from {self.producer} to {self.consumers}: no such way")
        if self.channel not in (RECEIVING_CHANNELS if self.to_cores else (0,)):
            raise ResourceError(f"stream {self.name} wants channel {self.channel}, which is not there")
        if not self.dealt and not self.to_cores:
            raise ResourceError(f"stream {self.name}: cores cannot send one tile together")
        if self.pieces < 1 or self.tile.words % self.pieces or (self.pieces > 1 and self.to_cores):
            raise ResourceError(f"stream {self.name}: {self.pieces} pieces of what leaves the cores")
        if not 1 <= self.outlets <= (1 if self.to_cores else len(SHIM_OUTPUT_CHANNELS)):
            raise ResourceError(f"stream {self.name} has {self.outlets} channels to device memory: no such way")
        if self.kept and (self.dealt or not self.to_cores):
            raise ResourceError(f"stream {self.name}: memory tiles keep what all cores get, and nothing else")
        if self.dealt and self.columns > 1:
            raise ResourceError(f"stream {self.name}: each column's cores get their own tiles from its own shim")

    @property
    def to_cores(self) -> bool:
        return self.consumers == CORES

    def core_slots(self) -> list[Slot]:
        """The buffers in a core, in turn."""
        names = [self.name] if self.depth == 1 else [f"{self.name}{number}" for number in range(self.depth)]
        return [Slot(name, self.name) for name in names]

    @property
    def core_buffer_bytes(self) -> int:
        return self.tile.nbytes + self.behind

    def relay_slots(self, core: int | None) -> list[Slot]:
        """The buffers in a memory tile, in turn; core: the one they are for, where tiles are dealt out."""
        if self.kept:
            return [Slot(self.name, self.name)]
        if not self.dealt:
            return [Slot(f"{self.name}{number}", self.name) for number in range(self.relay_depth)]
        stem = f"{self.name}{core}"
        return [Slot(f"{stem}.{number}", stem) for number in range(self.relay_depth)]

    @property
    def relay_buffer_bytes(self) -> int:
        """Of each of them."""
        return self.tile.nbytes * (self.relay_depth if self.kept else 1)

    def dealt_slots(self, cores: int, outlet: int | None = None) -> list[Slot]:
        """The buffers in a memory tile of all cores, or of an outlet's, in the order in which tiles are dealt out."""
        each = cores // self.outlets
        some = range(cores) if outlet is None else range(outlet * each, (outlet + 1) * each)
        slots = [self.relay_slots(core) for core in some]
        return [those[number] for number in range(self.relay_depth) for those in slots]


def empty_full(stem: str) -> tuple[str, str]:
    """The names of a pair of locks: how many buffers are free, how many are filled."""
    return f"{stem}_empty", f"{stem}_full"


def lock_pairs(stems: Iterator[tuple[str, int]]) -> dict[str, int]:
    """name -> initial value of pairs of locks, from (stem, buffers): all buffers are free at first."""
    return {name: value for stem, depth in stems for name, value in zip(empty_full(stem), (depth, 0), strict=True)}
