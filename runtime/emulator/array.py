"""The array: all tiles of a partition, what joins them, and the clock."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.control import ControllerPort, ControlPort
from npuc.runtime.emulator.core_port import StreamPort
from npuc.runtime.emulator.core_services import CorePort
from npuc.runtime.emulator.core_unit import CoreUnit
from npuc.runtime.emulator.counters import INSTRUCTIONS, Counters
from npuc.runtime.emulator.descriptor import Packet, header
from npuc.runtime.emulator.dma import Channel
from npuc.runtime.emulator.dma_receive import Receiver
from npuc.runtime.emulator.dma_send import Sender
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.event_network import EventNetwork
from npuc.runtime.emulator.events import Clock
from npuc.runtime.emulator.host import HostMemory
from npuc.runtime.emulator.registers import Registers
from npuc.runtime.emulator.streams import Arbiter, Inlet, Outlet
from npuc.runtime.emulator.switches import CONTROLLER, HeaderNeeded, Leaf, Route, trace
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.timing import MachineTable

log = logging.getLogger("npuc.emulator")

_NEEDS_HEADER = Route((), ())


@dataclass(frozen=True)
class Note:
    """Something that happened, for listeners: unit by its name, what, from `start` until `end` in cycles.

    size: bytes that moved, of DDR.
    """

    unit: str
    what: str
    start: float
    end: float
    size: int = 0


class Array:
    """State of a partition of `columns` columns.  `progress` grows whenever something but computing happens."""

    def __init__(self, columns: int, machine: MachineTable, strict: bool, engine: str | None = None) -> None:
        self.columns, self.machine, self.strict = columns, machine, strict
        # Physical number of column 0, as packet headers and core ids show it (device_npu1.md, last section).
        self.first_column = geometry.FIRST_COLUMN if columns <= geometry.COLUMNS else 0
        self.core_class = core_class(engine)
        self.clock = Clock()
        self.host = HostMemory()
        self.warnings: list[str] = []
        self.counters = Counters(self)
        self.event_network = EventNetwork(self)
        self.listeners: list[Callable[[Note], None]] = []
        self.progress = 0
        self.last_completion = 0
        self.ddr_users = {"read": 0, "write": 0}
        self.tokens: dict[tuple[int, int, str, int], list[int]] = {}
        self.tokens_arrived = 0
        self.lost_tokens: list[str] = []
        self.records: list[tuple[int, int]] = []  # (identifier, cycle) of the sequence's timer records
        self.tiles: dict[tuple[int, int], Tile] = {}
        self.switch_version = 0
        self.stuck: list[Outlet] = []  # with words on offer that the switches give no way
        self._routes: dict[tuple[str, int, int | None], Route] = {}
        self._sources: dict[Inlet, tuple[str, ...]] | None = None  # what reaches an inlet, by the switches as they are
        self._arbiters: dict[tuple[str, int], Arbiter] = {}
        self._control: dict[str, ControlPort] = {}
        self._core_ports: dict[str, StreamPort] = {}
        self._controller: dict[str, ControllerPort] = {}
        self._senders: dict[str, Channel] = {}
        for column in range(columns):
            for row in range(geometry.ROWS):
                self.tiles[column, row] = self._tile(column, row)
        self.registers = Registers(self)

    def _tile(self, column: int, row: int) -> Tile:
        tile = Tile(column, row, self.strict, self.warn)
        for number in range(geometry.CHANNEL_COUNT[tile.kind]):
            tile.channels["s2mm", number] = Receiver(self, tile, number)
        for number in range(geometry.CHANNEL_COUNT[tile.kind]):
            tile.channels["mm2s", number] = Sender(self, tile, number)
        for channel in tile.channels.values():
            self._senders[channel.name] = channel
        self._control[tile.name] = ControlPort(self, tile)
        if tile.kind == "core":
            tile.core = CoreUnit(self, tile)
            self._core_ports[tile.name] = StreamPort(self, tile)
        if tile.kind == "shim":
            self._controller[tile.name] = ControllerPort(self, tile)
        return tile

    def warn(self, text: str) -> None:
        """Note misuse that the machine survives."""
        if text not in self.warnings:
            self.warnings.append(text)

    def note(self, unit: str, what: str, start: float, end: float | None = None, size: int = 0) -> None:
        """Tell the listeners what happened to a unit, from `start` until `end` (which may lie ahead)."""
        if self.listeners:
            happening = Note(unit, what, start, start if end is None else end, size)
            for listener in self.listeners:
                listener(happening)

    def channels(self) -> list[Channel]:
        return [channel for tile in self.tiles.values() for channel in tile.channels.values()]

    # streams

    def streams_changed(self) -> None:
        """A switch register was written: ways are traced anew."""
        self.switch_version += 1
        self._routes.clear()
        self._sources = None
        stuck, self.stuck = self.stuck, []
        for outlet in stuck:
            self.clock.at(self.clock.cycle, outlet.rank, outlet.retry)

    def route(self, tile: Tile, slave: int, start: str, packet: int | None) -> Route:
        """The way from a slave port, by the registers as they are; packet: the id of a packet's header.

        Raises HeaderNeeded or EmulationError as `switches.trace`.
        """
        key = (tile.name, slave, packet)
        route = self._routes.get(key)
        if route is None:
            try:
                route = trace(self.tiles, self.machine, tile, slave, start, packet)
            except HeaderNeeded:
                route = _NEEDS_HEADER
            self._routes[key] = route
        if route is _NEEDS_HEADER:
            raise HeaderNeeded
        return route

    def inlet(self, leaf: Leaf) -> Inlet:
        """The end of streams that a leaf of a route means."""
        if leaf.port == "dma":
            channel = leaf.tile.channels["s2mm", leaf.number]
            assert isinstance(channel, Receiver)
            return channel.inlet
        if leaf.port == "ctrl":
            return self._control[leaf.tile.name]
        if leaf.port == CONTROLLER:
            return self._controller[leaf.tile.name]
        return self._core_ports[leaf.tile.name]

    def header(self, packet: Packet, tile: Tile) -> int:
        """The header word of a packet that a tile sends: with its physical column."""
        return header(packet, self.first_column + tile.column, tile.row)

    def core_port(self, tile: Tile) -> CorePort:
        """The end of the tile's stream switch that its core reads and writes."""
        return self._core_ports[tile.name]

    def stream_port(self, tile: Tile) -> StreamPort:
        """The same end with all that lies in it."""
        return self._core_ports[tile.name]

    def control_port(self, tile: Tile) -> ControlPort:
        """The tile's control port."""
        return self._control[tile.name]

    def arbiter(self, tile: Tile, number: int) -> Arbiter:
        return self._arbiters.setdefault((tile.name, number), Arbiter())

    def arbiters_state(self, now: int) -> Hashable:
        """All arbiters as values, times counted from now."""
        return tuple((key, arbiter.state(now)) for key, arbiter in self._arbiters.items())

    def outlets(self) -> list[Outlet]:
        """Every port by which words can enter the switches."""
        senders = [channel.outlet for channel in self.channels() if isinstance(channel, Sender)]
        others: list[ControlPort | StreamPort] = [*self._control.values(), *self._core_ports.values()]
        return senders + [port.outlet for port in others]

    def sources_of(self, inlet: Inlet) -> tuple[str, ...]:
        """Names of the outlets whose words can reach an inlet, for diagnosis."""
        if self._sources is None:
            self._sources = {}
            for outlet in self.outlets():
                for end in dict.fromkeys(self._ends_of(outlet)):
                    self._sources[end] = (*self._sources.get(end, ()), outlet.name)
        return self._sources.get(inlet, ())

    def _ends_of(self, outlet: Outlet) -> Iterator[Inlet]:
        """All inlets that a circuit or packets of an outlet lead to; those of packets by their 32 ids."""
        try:
            slave = outlet.slave()
            leaves = self.route(outlet.tile, slave, outlet.name, None).leaves
        except EmulationError:
            return
        except HeaderNeeded:
            leaves = ()
            for packet in range(32):
                with contextlib.suppress(EmulationError):
                    leaves += self.route(outlet.tile, slave, outlet.name, packet).leaves
        yield from map(self.inlet, leaves)

    def core_event(self, tile: Tile, number: int) -> None:
        """The tile's core executes `event #number`."""
        self.event_network.happened(tile, "core", INSTRUCTIONS[number])

    # tokens

    def issue_token(self, channel: Channel) -> None:
        """A task with a token is complete: the token goes out of the tile's control port, if a route exists."""
        tile = channel.tile
        port = self._control[tile.name]
        identity = (channel.control & geometry.CHANNEL_CONTROLLER_ID_MASK) >> 8 & 31
        slave = geometry.slave_index(tile.kind, "ctrl")
        try:
            try:
                self.route(tile, slave, port.name, None)
            except HeaderNeeded:
                self.route(tile, slave, port.name, identity)
        except EmulationError as error:
            self.lost_tokens.append(f"the task token of {channel.name} is lost: {error.message}")
            return
        port.send([self.header(Packet(identity, 0, 0), tile), 0], channel.name)

    def token_arrived(self, name: str) -> None:
        """A token reaches the controller."""
        channel = self._senders[name]
        key = (channel.tile.column, channel.tile.row, channel.direction, channel.number)
        self.tokens.setdefault(key, []).append(self.clock.cycle)
        self.tokens_arrived += 1
