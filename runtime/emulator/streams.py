"""Stream switches: which channels a stream joins, traced through the switch registers of all tiles.

Circuit mode: a slave port feeds every master that selects it.  Packet mode is modelled for the one thing every design
needs, the way of task tokens from a shim's control port to the controller (facts/platform/txn.md, "Token routing").
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
# Leaving a tile by this master enters the neighbour by that slave: (column step, row step, slave).
NEIGHBOURS = {"north": (0, 1, "south"), "south": (0, -1, "north"), "east": (1, 0, "west"), "west": (-1, 0, "east")}

Tiles = Mapping[tuple[int, int], Tile]


@dataclass(frozen=True)
class Sink:
    """An S2MM channel a stream reaches, and the cycles a word takes to it."""

    tile: Tile
    channel: int
    latency: int


def _crossing(machine: MachineTable, source: str, target: str) -> int:
    inward, outward = source in NEIGHBOURS, target in NEIGHBOURS
    if inward:
        return machine.external_to_external if outward else machine.external_to_local
    return machine.local_to_external if outward else machine.local_to_local


def source_slave(tile: Tile, channel: int) -> int:
    """The slave port by which an MM2S channel enters its tile's switch."""
    if tile.kind != "shim":
        return geometry.slave_index(tile.kind, "dma", channel)
    port = geometry.SHIM_MM2S_SLAVE_SOUTH[channel]
    mux = tile.plain.get(geometry.SHIM_MUX, 0) >> geometry.SHIM_MUX_LSB[port] & 3
    if mux != geometry.SHIM_MUX_DMA:
        raise EmulationError(f"{tile.name}: MM2S {channel} is not connected to South {port} by the mux register")
    return geometry.slave_index("shim", "south", port)


class _Trace:
    """One walk from a source over all its branches."""

    def __init__(self, tiles: Tiles, machine: MachineTable, start: str) -> None:
        self.tiles, self.machine, self.start = tiles, machine, start
        self.seen: set[tuple[str, int]] = set()
        self.sinks: list[Sink] = []

    def follow(self, tile: Tile, slave: int, latency: int) -> None:
        source, number = geometry.slave_port(tile.kind, slave)
        place = f"slave {source.capitalize()} {number} of {tile.name}"
        if (tile.name, slave) in self.seen:
            raise EmulationError(f"the stream of {self.start} runs in a circle through {place}")
        self.seen.add((tile.name, slave))
        register = tile.slaves.get(slave, 0)
        if not register & ENABLE:
            raise EmulationError(f"the stream of {self.start} ends at {place}, which is not enabled")
        if register & PACKET:
            raise EmulationError(f"the stream of {self.start} meets {place} in packet mode, not modelled for data")
        for master, word in sorted(tile.masters.items()):
            if word & (ENABLE | PACKET) != ENABLE or word & SLAVE_MASK != slave:
                continue
            target, index = geometry.master_port(tile.kind, master)
            if not geometry.circuit_is_legal(tile.kind, slave, master):
                raise EmulationError(f"{tile.name} cannot connect {source} {number} to {target} {index}")
            self.leave(tile, target, index, latency + _crossing(self.machine, source, target))

    def leave(self, tile: Tile, target: str, index: int, latency: int) -> None:
        if target == "dma":
            self.sinks.append(Sink(tile, index, latency))
            return
        if tile.kind == "shim" and target == "south":
            self.sinks.append(Sink(tile, _shim_receiver(tile, index, self.start), latency))
            return
        if target not in NEIGHBOURS:
            raise EmulationError(f"the stream of {self.start} goes to the {target} port of {tile.name}: not modelled")
        across, up, slave = NEIGHBOURS[target]
        neighbour = self.tiles.get((tile.column + across, tile.row + up))
        if neighbour is None:
            raise EmulationError(f"the stream of {self.start} leaves the partition to the {target} of {tile.name}")
        self.follow(neighbour, geometry.slave_index(neighbour.kind, slave, index), latency)


def trace(tiles: Tiles, machine: MachineTable, tile: Tile, channel: int) -> tuple[Sink, ...]:
    """The S2MM channels the MM2S channel feeds.  EmulationError for an open end, a loop or an illegal circuit."""
    start = f"MM2S {channel} of {tile.name}"
    walk = _Trace(tiles, machine, start)
    walk.follow(tile, source_slave(tile, channel), 0)
    if not walk.sinks:
        raise EmulationError(f"the stream of {start} leads nowhere", remedy="route its slave port to a master")
    return tuple(walk.sinks)


def _shim_receiver(tile: Tile, port: int, start: str) -> int:
    ports = geometry.SHIM_S2MM_MASTER_SOUTH
    lsb = geometry.SHIM_DEMUX_LSB.get(port)
    demux = tile.plain.get(geometry.SHIM_DEMUX, 0) >> lsb & 3 if lsb is not None else None
    if port not in ports or demux != geometry.SHIM_MUX_DMA:
        raise EmulationError(f"the stream of {start} leaves {tile.name} by South {port}, which feeds no S2MM channel")
    return ports.index(port)


def token_route(shim: Tile, controller_id: int) -> str | None:
    """None when tokens with that id reach the controller; else what is missing."""
    slave = geometry.slave_index("shim", "ctrl")
    master = shim.masters.get(geometry.master_index("shim", "south", geometry.TOKEN_MASTER_SOUTH), 0)
    if shim.slaves.get(slave, 0) & (ENABLE | PACKET) == ENABLE and master & (ENABLE | PACKET) == ENABLE:
        joined = master & SLAVE_MASK == slave  # a circuit, as older designs have it
        south = f"master South {geometry.TOKEN_MASTER_SOUTH} of {shim.name}"
        return None if joined else f"{south} is not fed by TileControl"
    if shim.slaves.get(slave, 0) & (ENABLE | PACKET) != ENABLE | PACKET:
        return f"slave TileControl of {shim.name} is not enabled in packet mode"
    if master & (ENABLE | PACKET) != ENABLE | PACKET:
        return f"master South {geometry.TOKEN_MASTER_SOUTH} of {shim.name} is not enabled in packet mode"
    for slot in range(geometry.SLOTS_PER_SLAVE):
        word = shim.slots.get((slave, slot), 0)
        mask, wanted = word >> 16 & 31, word >> 24 & 31
        arbiter, msel = word & 7, word >> 4 & 3
        if word >> 8 & 1 and controller_id & mask == wanted & mask:
            reaches = arbiter == master & 7 and master >> 3 & 15 & 1 << msel
            return None if reaches else f"arbiter {arbiter} msel {msel} of {shim.name} does not lead to the controller"
    return f"no slot of TileControl of {shim.name} matches packet id {controller_id}"
