"""The array: all tiles of a partition, their streams, and the clock."""

from __future__ import annotations

import logging

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.core_unit import CorePort, CoreUnit
from npuc.runtime.emulator.dma import Channel, Stream
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.events import Clock
from npuc.runtime.emulator.host import HostMemory
from npuc.runtime.emulator.registers import Registers
from npuc.runtime.emulator.streams import token_route, trace
from npuc.runtime.emulator.tile import Tile
from npuc.runtime.emulator.timing import MachineTable

log = logging.getLogger("npuc.emulator")


class Array:
    """State of a partition of `columns` columns.  `progress` grows whenever something but computing happens."""

    def __init__(self, columns: int, machine: MachineTable, strict: bool) -> None:
        self.columns, self.machine, self.strict = columns, machine, strict
        self.clock = Clock()
        self.host = HostMemory()
        self.warnings: list[str] = []
        self.progress = 0
        self.last_completion = 0
        self.ddr_users = {"read": 0, "write": 0}
        self.tokens: dict[tuple[int, int, str, int], list[int]] = {}
        self.lost_tokens: list[str] = []
        self.records: list[tuple[int, int]] = []  # (identifier, cycle) of the sequence's timer records
        self.tiles: dict[tuple[int, int], Tile] = {}
        for column in range(columns):
            for row in range(geometry.ROWS):
                tile = Tile(column, row, strict, self.warn)
                self.tiles[column, row] = tile
                for direction in geometry.DIRECTIONS:
                    for number in range(geometry.CHANNEL_COUNT[tile.kind]):
                        tile.channels[direction, number] = Channel(self, tile, direction, number)
                if tile.kind == "core":
                    tile.core = CoreUnit(self, tile)
        self.registers = Registers(self)
        self._streams: dict[Channel, Stream] | None = None
        self._receivers: dict[Channel, Stream] = {}

    def warn(self, text: str) -> None:
        """Note misuse that the machine survives."""
        if text not in self.warnings:
            self.warnings.append(text)

    def channels(self) -> list[Channel]:
        return [channel for tile in self.tiles.values() for channel in tile.channels.values()]

    # streams

    def streams_changed(self) -> None:
        """A switch register was written: trace again on next use."""
        self._streams = None

    def streams_of(self, channel: Channel) -> Stream | _Silent:
        """The stream a channel sends on or receives from; tracing follows the registers as they are now."""
        if self._streams is None:
            self._streams, self._receivers = {}, {}
        if channel.direction == "mm2s":
            return self._sender(channel)
        if channel not in self._receivers:
            for source in self.channels():
                if source.direction == "mm2s" and source.ready and source not in self._streams:
                    self._sender(source)
        return self._receivers.get(channel, SILENT)

    def _sender(self, channel: Channel) -> Stream:
        assert self._streams is not None
        if channel not in self._streams:
            stream = Stream(self, channel, trace(self.tiles, self.machine, channel.tile, channel.number))
            for sink in stream.sinks:
                other = self._receivers.get(sink)
                if other is not None:
                    raise EmulationError(f"{sink.name} is fed by both {other.source.name} and {channel.name}")
                self._receivers[sink] = stream
            self._streams[channel] = stream
        return self._streams[channel]

    def core_port(self, tile: Tile) -> CorePort:
        """The end of the tile's stream switch that its core reads and writes."""
        raise EmulationError(f"{tile.name} uses a stream port of its core, which is not modelled")

    def core_event(self, tile: Tile, number: int) -> None:
        """The tile's core executes `event #number`."""

    # tokens

    def controller_token(self, channel: Channel) -> None:
        """A task with a token is complete: the token is on its way to the controller, if a route exists."""
        tile = channel.tile
        if tile.kind != "shim":
            raise EmulationError(f"{channel.name} issues a task token; tokens of {tile.kind} tiles are not modelled")
        controller = (channel.control & geometry.CHANNEL_CONTROLLER_ID_MASK) >> 8
        missing = token_route(tile, controller & 31)
        if missing is not None:
            self.lost_tokens.append(f"the task token of {channel.name} is lost: {missing}")
            return
        key = (tile.column, tile.row, channel.direction, channel.number)
        self.tokens.setdefault(key, []).append(self.clock.cycle)


class _Silent:
    """Stands for the stream of a receiver that nobody feeds yet."""

    def advance(self) -> None:
        pass


SILENT = _Silent()
