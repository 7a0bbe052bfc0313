"""Stream switches: which destinations a slave port's words reach, and how many cycles away they are.

Circuits only for data; packets only for task-completion tokens. The routes are read from the switch registers when
first used and again after any of them changed. Wiring, legal circuits and register layout:
facts/platform/device_npu1.md, "Stream switch".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1.geometry import (
    MASTER_PORTS,
    SHIM_DEMUX_LSB,
    SHIM_MUX_DMA,
    SHIM_MUX_LSB,
    SLAVE_PORTS,
    SLOTS_PER_SLAVE,
    TOKEN_MASTER_SOUTH,
    circuit_is_legal,
    master_port,
    slave_index,
    slave_port,
)
from npuc.runtime.emulator.errors import EmulationError

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array

_ENABLE = 1 << 31
_PACKET = 1 << 30
_DROP_HEADER = 1 << 7
_OUTSIDE = {"north": (0, 1, "south"), "south": (0, -1, "north"), "east": (1, 0, "west"), "west": (-1, 0, "east")}


@dataclass
class Switch:
    """Registers of one tile's stream switch; mux and demux belong to shim tiles."""

    kind: str
    masters: list[int]
    slaves: list[int]
    slots: list[int]
    mux: int = 0
    demux: int = 0

    @classmethod
    def of(cls, kind: str) -> Switch:
        masters = max(first + count for first, count in MASTER_PORTS[kind].values())
        slaves = max(first + count for first, count in SLAVE_PORTS[kind].values())
        return cls(kind, [0] * masters, [0] * slaves, [0] * slaves * SLOTS_PER_SLAVE)

    def fed_by(self, slave: int, packet_id: int | None) -> list[int]:
        """Masters that carry a slave's words. Raises EmulationError when only packets could go that way."""
        word = self.slaves[slave]
        if not word & _ENABLE:
            return []
        if not word & _PACKET:
            return [m for m, w in enumerate(self.masters) if w & (_ENABLE | _PACKET) == _ENABLE and w & 0x7F == slave]
        if packet_id is None:
            raise EmulationError("packet mode is not modelled")
        for slot in self.slots[slave * SLOTS_PER_SLAVE:(slave + 1) * SLOTS_PER_SLAVE]:
            mask = slot >> 16 & 31
            if slot & 1 << 8 and packet_id & mask == slot >> 24 & mask:
                arbiter, msel = slot & 7, slot >> 4 & 3
                return [m for m, w in enumerate(self.masters)
                        if w >> 30 == 3 and w & 7 == arbiter and w >> 3 & 1 << msel]
        return []


@dataclass(frozen=True)
class Destination:
    """A master port where a stream leaves the switches, `latency` cycles from the source."""

    column: int
    row: int
    port: str
    number: int
    latency: int
    keeps_header: bool = True

    def __str__(self) -> str:
        return f"master {self.port} {self.number} of tile ({self.column},{self.row})"


def destinations(array: Array, column: int, row: int, slave: int, packet_id: int | None = None) -> list[Destination]:
    """Where the words that enter tile (column, row) at a slave port go, in a fixed order.

    Raises EmulationError for a connection the switch cannot make, a way out of the partition, a loop or packets.
    """
    found: list[Destination] = []
    seen: set[tuple[int, int, int]] = set()
    table = array.machine

    def follow(column: int, row: int, slave: int, latency: int) -> None:
        switch = array.tile(column, row).switch
        source = "{} {}".format(*slave_port(switch.kind, slave))
        place = f"tile ({column},{row})"
        if (column, row, slave) in seen:
            raise EmulationError(f"the stream circuit through slave {source} of {place} is a loop")
        seen.add((column, row, slave))
        try:
            masters = switch.fed_by(slave, packet_id)
        except EmulationError as error:
            raise EmulationError(f"slave {source} of {place}: {error.message}") from None
        outside = slave_port(switch.kind, slave)[0] in _OUTSIDE
        for master in masters:
            name, number = master_port(switch.kind, master)
            if not circuit_is_legal(switch.kind, slave, master):
                raise EmulationError(f"slave {source} of {place} cannot be connected to master {name} {number}")
            if name not in _OUTSIDE or (name == "south" and row == 0):
                cost = table.external_to_local if outside else table.local_to_local
                if name == "fifo":
                    follow(column, row, slave_index(switch.kind, "fifo"), latency + cost)
                else:
                    keeps = not (packet_id is not None and switch.masters[master] & _DROP_HEADER)
                    found.append(Destination(column, row, name, number, latency + cost, keeps))
                continue
            cost = table.external_to_external if outside else table.local_to_external
            right, up, arrival = _OUTSIDE[name]
            if not array.has_tile(column + right, row + up):
                raise EmulationError(f"master {name} {number} of {place} leads out of the partition")
            kind = array.tile(column + right, row + up).kind
            follow(column + right, row + up, slave_index(kind, arrival, number), latency + cost)

    follow(column, row, slave, 0)
    return found


def shim_entry(switch: Switch, south: int) -> None:
    """Checks that the mux gives slave South `south` to the DMA. Raises EmulationError otherwise."""
    value = switch.mux >> SHIM_MUX_LSB[south] & 3
    if value != SHIM_MUX_DMA:
        raise EmulationError(f"the shim mux connects slave south {south} to {('PL', 'DMA', 'NoC')[value % 3]}, "
                             f"not to the DMA")


def shim_exit(switch: Switch, south: int) -> None:
    """Checks that the demux gives master South `south` to the DMA. Raises EmulationError otherwise."""
    lsb = SHIM_DEMUX_LSB.get(south)
    value = switch.demux >> lsb & 3 if lsb is not None else 0
    if value != SHIM_MUX_DMA:
        raise EmulationError(f"the shim demux connects master south {south} to {('PL', 'DMA', 'NoC')[value % 3]}, "
                             f"not to the DMA")


def token_way(array: Array, column: int, row: int, controller_id: int) -> str | None:
    """None when a token of this tile reaches the controller, otherwise why not (facts/platform/txn.md, "Token routing")."""
    slave = slave_index(array.tile(column, row).kind, "ctrl")
    try:
        ends = destinations(array, column, row, slave, controller_id & 31)
    except EmulationError as error:
        return error.message
    if not ends:
        return f"no route leaves slave ctrl 0 for packet id {controller_id & 31}"
    for end in ends:
        if end.row == 0 and (end.port, end.number) == ("south", TOKEN_MASTER_SOUTH):
            return None if end.keeps_header else f"{end} drops the packet header"
    return f"the route ends at {', '.join(map(str, ends))}, not at a shim's master south {TOKEN_MASTER_SOUTH}"
