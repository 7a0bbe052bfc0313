"""Stream routes: flows between tile ports -> connections inside each tile's switch.

A flow is a circuit from one slave port to one or more master ports (a broadcast).  Each hop takes the free wire with
the number it came in on, else the lowest free one, of those the switch can connect (geometry.circuit_is_legal).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.target.npu1 import geometry

# direction of travel -> (columns, rows, the neighbour's slave side)
_STEPS = {"north": (0, 1, "south"), "south": (0, -1, "north"), "east": (1, 0, "west"), "west": (-1, 0, "east")}


@dataclass(frozen=True)
class Port:
    """A port of a tile's stream switch, by the names of geometry.MASTER_PORTS and SLAVE_PORTS."""

    column: int
    row: int
    name: str
    number: int = 0

    def __str__(self) -> str:
        return f"({self.column},{self.row}) {self.name} {self.number}"


@dataclass(frozen=True)
class Flow:
    """A circuit from a slave port to master ports, all inside the partition."""

    name: str
    source: Port
    destinations: tuple[Port, ...]


@dataclass(frozen=True)
class Connection:
    """Inside one tile's switch: slave port `source` feeds master port `target`."""

    source: Port
    target: Port

    @property
    def tile(self) -> tuple[int, int]:
        return self.source.column, self.source.row

    @property
    def kind(self) -> str:
        return geometry.tile_kind(self.source.row)

    @property
    def slave(self) -> int:
        return geometry.slave_index(self.kind, self.source.name, self.source.number)

    @property
    def master(self) -> int:
        return geometry.master_index(self.kind, self.target.name, self.target.number)

    def __str__(self) -> str:
        return f"{self.source} -> {self.target.name} {self.target.number}"


@dataclass(frozen=True)
class PacketConnection:
    """As Connection, for the packets of one id; the header stays on the packet."""

    connection: Connection
    packet_id: int
    arbiter: int = 0
    msel: int = 0


def route(flows: Iterable[Flow], columns: int) -> tuple[Connection, ...]:
    """Connections of all flows, in order.

    Raises ResourceError naming the flow and the tile when no wire is left or no legal connection exists.
    """
    taken: set[Port] = set()
    connections: list[Connection] = []
    for flow in flows:
        connections += _route_flow(flow, taken, columns)
    return tuple(connections)


def _route_flow(flow: Flow, taken: set[Port], columns: int) -> Iterator[Connection]:
    branches: dict[tuple[int, int, str], Port] = {}  # wires this flow has already
    for destination in flow.destinations:
        here = flow.source
        for direction in _path(flow.source, destination):
            key = (here.column, here.row, direction)
            if key not in branches:
                branches[key] = _free_wire(flow, here, direction, taken)
                yield Connection(here, branches[key])
            right, up, side = _STEPS[direction]
            here = Port(here.column + right, here.row + up, side, branches[key].number)
            if not 0 <= here.column < columns:
                raise ResourceError(f"stream {flow.name} leaves the partition of {columns} columns")
        if not _usable(here, destination, taken):
            raise ResourceError(f"stream {flow.name}: {here} cannot be connected to {destination.name}")
        taken.add(destination)
        yield Connection(here, destination)


def _path(source: Port, destination: Port) -> list[str]:
    """Directions to go: memory tiles have no sideways wires, so sideways in the source's row only from the shim."""
    columns, rows = destination.column - source.column, destination.row - source.row
    sideways = ["east" if columns > 0 else "west"] * abs(columns)
    upright = ["north" if rows > 0 else "south"] * abs(rows)
    return sideways + upright if source.row == geometry.SHIM_ROW else upright + sideways


def _free_wire(flow: Flow, here: Port, direction: str, taken: set[Port]) -> Port:
    kind = geometry.tile_kind(here.row)
    _, count = geometry.MASTER_PORTS[kind].get(direction, (0, 0))
    for number in sorted(range(count), key=lambda n: (n != here.number or here.name not in _STEPS, n)):
        wire = Port(here.column, here.row, direction, number)
        if _usable(here, wire, taken):
            taken.add(wire)
            return wire
    raise ResourceError(f"stream {flow.name}: no free wire {direction} from tile ({here.column},{here.row})")


def _usable(source: Port, target: Port, taken: set[Port]) -> bool:
    connection = Connection(source, target)
    return target not in taken and geometry.circuit_is_legal(connection.kind, connection.slave, connection.master)
