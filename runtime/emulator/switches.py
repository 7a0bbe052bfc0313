"""Stream switches: where words that enter a tile's switch come out, traced through the switch registers of all tiles.

Circuit mode: a slave port feeds every master that selects it.  Packet mode: the first word of a packet is its header;
the first enabled slot of the slave that matches its id gives an arbiter and an msel, and the packet goes to every
master of that arbiter that serves that msel (facts/platform/device_npu1.md, "Stream switch").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.timing import MachineTable

ENABLE, PACKET = 1 << 31, 1 << 30
SLAVE_MASK = 0x7F
DROP_HEADER = 1 << 7
# Leaving a tile by this master enters the neighbour by that slave: (column step, row step, slave).
NEIGHBOURS = {"north": (0, 1, "south"), "south": (0, -1, "north"), "east": (1, 0, "west"), "west": (-1, 0, "east")}
# Masters that end a stream inside the tile.
ENDS = ("dma", "core", "ctrl")
CONTROLLER = "controller"

Tiles = Mapping[tuple[int, int], Tile]


@dataclass(frozen=True)
class Leaf:
    """One end of a route: port 'dma' (S2MM channel), 'core' (stream input), 'ctrl' (tile control) or 'controller'.

    latency: cycles from the source's port to this one.  words: what the crossings on the way can hold.  headless: the
    header does not arrive.
    """

    tile: Tile
    port: str
    number: int
    latency: int
    words: int
    headless: bool


@dataclass(frozen=True)
class Turn:
    """An arbiter a packet has to win: of which tile and slave it is asked, and how far from the source it lies."""

    tile: Tile
    arbiter: int
    slave: int
    latency: int


@dataclass(frozen=True)
class Route:
    leaves: tuple[Leaf, ...]
    turns: tuple[Turn, ...]


class OpenEnd(EmulationError):
    """The way is not there, or not yet: a port on it is not enabled or leads nowhere."""


class HeaderNeeded(Exception):
    """The way depends on a packet header."""


def _crossing(machine: MachineTable, source: str, target: str) -> tuple[int, int]:
    """Cycles and words of one crossing of a switch."""
    if source in NEIGHBOURS:
        if target in NEIGHBOURS:
            return machine.external_to_external, machine.external_to_external_words
        return machine.external_to_local, machine.external_to_local_words
    if target in NEIGHBOURS:
        return machine.local_to_external, machine.local_to_external_words
    return machine.local_to_local, machine.local_to_local_words


def source_slave(tile: Tile, channel: int) -> int:
    """The slave port by which an MM2S channel enters its tile's switch."""
    if tile.kind != "shim":
        return geometry.slave_index(tile.kind, "dma", channel)
    port = geometry.SHIM_MM2S_SLAVE_SOUTH[channel]
    mux = tile.plain.get(geometry.SHIM_MUX, 0) >> geometry.SHIM_MUX_LSB[port] & 3
    if mux != geometry.SHIM_MUX_DMA:
        raise OpenEnd(f"{tile.name}: MM2S {channel} is not connected to South {port} by the mux register")
    return geometry.slave_index("shim", "south", port)


@dataclass(frozen=True)
class _Place:
    """Where a walk stands: about to cross the switch of `tile` from `slave`."""

    tile: Tile
    slave: int
    latency: int
    words: int
    headless: bool
    passed: tuple[str, ...] = ()

    @property
    def way(self) -> str:
        """The tiles before this one, for an error."""
        return f" (its way: {', '.join(self.passed)})" if len(self.passed) > 1 else ""


class _Trace:
    """One walk from a source over all its branches."""

    def __init__(self, tiles: Tiles, machine: MachineTable, start: str, header: int | None) -> None:
        self.tiles, self.machine, self.start, self.header = tiles, machine, start, header
        self.seen: set[tuple[str, int]] = set()
        self.leaves: list[Leaf] = []
        self.turns: list[Turn] = []

    def follow(self, at: _Place) -> None:
        tile = at.tile
        source, number = geometry.slave_port(tile.kind, at.slave)
        place = f"slave {source.upper() if source == 'dma' else source.capitalize()} {number} of {tile.name}"
        if (tile.name, at.slave) in self.seen:
            raise EmulationError(f"the stream of {self.start} runs in a circle through {place}")
        self.seen.add((tile.name, at.slave))
        register = tile.slaves.get(at.slave, 0)
        if not register & ENABLE:
            raise OpenEnd(f"the stream of {self.start} ends at {place}, which is not enabled{at.way}")
        if register & PACKET:
            self.by_packet(at, place)
            return
        masters = [
            master
            for master, word in sorted(tile.masters.items())
            if word & (ENABLE | PACKET) == ENABLE and word & SLAVE_MASK == at.slave
        ]
        if not masters:
            raise OpenEnd(
                f"the stream of {self.start} ends at {place}, which no master takes{at.way}",
                remedy="route it to a master",
            )
        for master in masters:
            target, index = geometry.master_port(tile.kind, master)
            if not geometry.circuit_is_legal(tile.kind, at.slave, master):
                raise EmulationError(f"{tile.name} cannot connect {source} {number} to {target} {index}")
            self.leave(at, source, target, index, at.headless)

    def by_packet(self, at: _Place, place: str) -> None:
        if self.header is None:
            raise HeaderNeeded
        if at.headless:
            raise EmulationError(
                f"the stream of {self.start} reaches {place}, in packet mode, after its header was "
                "dropped: what becomes the header there is not modelled"
            )
        tile, packet = at.tile, self.header & 31
        slot = matching_slot(tile, at.slave, packet)
        if slot is None:
            raise EmulationError(f"a packet of {self.start} has id {packet}, which no slot of {place} matches{at.way}")
        arbiter, msel = slot & 7, slot >> 4 & 3
        masters = [
            (master, word)
            for master, word in sorted(tile.masters.items())
            if word & (ENABLE | PACKET) == ENABLE | PACKET and word & 7 == arbiter and word >> 3 >> msel & 1
        ]
        if not masters:
            raise EmulationError(
                f"a packet of {self.start} with id {packet} is lost: it comes by {place}, and arbiter {arbiter} "
                f"msel {msel} of {tile.name} leads to no master{at.way}"
            )
        self.turns.append(Turn(tile, arbiter, at.slave, at.latency))
        source = geometry.slave_port(tile.kind, at.slave)[0]
        for master, word in masters:
            target, index = geometry.master_port(tile.kind, master)
            self.leave(at, source, target, index, bool(word & DROP_HEADER))

    def leave(self, at: _Place, source: str, target: str, index: int, headless: bool) -> None:
        tile = at.tile
        cycles, words = _crossing(self.machine, source, target)
        latency, words = at.latency + cycles, at.words + words
        if target in ENDS:
            self.leaves.append(Leaf(tile, target, index, latency, words, headless))
        elif tile.kind == "shim" and target == "south":
            port, channel = _shim_end(tile, index, self.start)
            self.leaves.append(Leaf(tile, port, channel, latency, words, headless))
        elif target == "fifo":
            fifo = geometry.slave_index(tile.kind, "fifo")
            self.follow(_Place(tile, fifo, latency, words + self.machine.fifo_words, headless, at.passed))
        else:
            across, up, slave = NEIGHBOURS[target]
            neighbour = self.tiles.get((tile.column + across, tile.row + up))
            if neighbour is None:
                raise EmulationError(f"the stream of {self.start} leaves the partition to the {target} of {tile.name}")
            entry, passed = geometry.slave_index(neighbour.kind, slave, index), (*at.passed, tile.name)
            self.follow(_Place(neighbour, entry, latency, words, headless, passed))


def matching_slot(tile: Tile, slave: int, packet: int) -> int | None:
    """The register of the first enabled slot of the slave that matches the packet id."""
    for slot in range(geometry.SLOTS_PER_SLAVE):
        word = tile.slots.get((slave, slot), 0)
        mask = word >> 16 & 31
        if word >> 8 & 1 and packet & mask == word >> 24 & 31 & mask:
            return word
    return None


def trace(tiles: Tiles, machine: MachineTable, tile: Tile, slave: int, start: str, header: int | None) -> Route:
    """Where words that enter `tile` by `slave` go; start: what sends them, for errors.

    Raises HeaderNeeded when a packet-mode port lies on the way and no header is given; EmulationError for an open end,
    a loop, an illegal circuit or a packet that nothing matches.
    """
    walk = _Trace(tiles, machine, start, header)
    walk.follow(_Place(tile, slave, 0, 0, False))
    return Route(tuple(walk.leaves), tuple(walk.turns))


def _shim_end(tile: Tile, port: int, start: str) -> tuple[str, int]:
    if port == geometry.TOKEN_MASTER_SOUTH:
        return CONTROLLER, 0
    ports = geometry.SHIM_S2MM_MASTER_SOUTH
    lsb = geometry.SHIM_DEMUX_LSB.get(port)
    demux = tile.plain.get(geometry.SHIM_DEMUX, 0) >> lsb & 3 if lsb is not None else None
    if port not in ports or demux != geometry.SHIM_MUX_DMA:
        raise OpenEnd(f"the stream of {start} leaves {tile.name} by South {port}, which feeds no S2MM channel")
    return "dma", ports.index(port)
