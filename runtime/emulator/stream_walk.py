"""Where a stream comes from and goes to by the switch registers, for diagnosis: open ends are answers, not errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.lock_providers import descriptors_to_come
from npuc.runtime.emulator.switches import ENABLE, NEIGHBOURS, PACKET, SLAVE_MASK, Leaf

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.dma import Channel
    from npuc.runtime.emulator.tile import Tile


@dataclass
class Ends:
    """units: names of DMA channels and cores at the other ends.  open: what is wrong where a branch ends early."""

    units: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    _seen: set[tuple[str, str, int]] = field(default_factory=set)

    def visit(self, tile: Tile, side: str, index: int) -> bool:
        """Whether the port is new to this walk."""
        key = (tile.name, side, index)
        new = key not in self._seen
        self._seen.add(key)
        return new


def _joined(channel: Channel) -> tuple[int, str | None]:
    """The register position of a channel's port of its switch, and why the two are not joined, if they are not."""
    tile, sends = channel.tile, channel.direction == "mm2s"
    index = geometry.slave_index if sends else geometry.master_index
    if tile.kind != "shim":
        return index(tile.kind, "dma", channel.number), None
    ports, fields, register, name = (
        (geometry.SHIM_MM2S_SLAVE_SOUTH, geometry.SHIM_MUX_LSB, geometry.SHIM_MUX, "mux") if sends else
        (geometry.SHIM_S2MM_MASTER_SOUTH, geometry.SHIM_DEMUX_LSB, geometry.SHIM_DEMUX, "demux"))  # fmt: skip
    port = ports[channel.number]
    joined = tile.plain.get(register, 0) >> fields[port] & 3 == geometry.SHIM_MUX_DMA
    missing = f"{channel.name} is not connected to South {port} by the {name} register"
    return index("shim", "south", port), None if joined else missing


def sources(array: Array, channel: Channel) -> Ends:
    """What an S2MM channel receives from."""
    return _walk(array, channel, _into_master)


def sinks(array: Array, channel: Channel) -> Ends:
    """What an MM2S channel sends to."""
    return _walk(array, channel, _out_of_slave)


def _walk(array: Array, channel: Channel, follow: Callable[[Array, Tile, int, Ends], None]) -> Ends:
    ends = Ends()
    index, missing = _joined(channel)
    if missing is not None:
        ends.open.append(missing)
    else:
        follow(array, channel.tile, index, ends)
    return ends


def core_sources(array: Array, tile: Tile) -> Ends:
    """What a core's stream input receives from."""
    ends = Ends()
    _into_master(array, tile, geometry.master_index("core", "core"), ends)
    return ends


def core_sinks(array: Array, tile: Tile) -> Ends:
    """What a core's stream output sends to."""
    ends = Ends()
    _out_of_slave(array, tile, geometry.slave_index("core", "core"), ends)
    return ends


def elsewhere(array: Array, names: Sequence[str]) -> Iterator[str]:
    """Where the packets of senders go, by the ids of the descriptors that they have still to send."""
    for outlet in array.outlets():
        if outlet.name not in names:
            continue
        channel = next((each for each in array.channels() if each.name == outlet.name), None)
        for number in descriptors_to_come(channel) if channel is not None else ():
            fields = geometry.unpack_bd(outlet.tile.kind, outlet.tile.descriptors[number])
            if not fields["enable_packet"]:
                continue
            what = f"packets of {outlet.name} with id {fields['packet_id']}"
            try:
                leaves = array.route(outlet.tile, outlet.slave(), outlet.name, fields["packet_id"]).leaves
            except EmulationError as error:
                yield error.message
                continue
            yield f"{what} go to " + " and ".join(_end(leaf) for leaf in leaves)


def _end(leaf: Leaf) -> str:
    if leaf.port == "dma":
        return leaf.tile.channels["s2mm", leaf.number].name
    return {"core": f"the stream input of {leaf.tile.name}", "ctrl": f"the control port of {leaf.tile.name}"}.get(
        leaf.port, "the controller"
    )


def _beyond(array: Array, tile: Tile, side: str) -> tuple[Tile | None, str]:
    """The tile on that side, if there is one, and what it calls the side between the two."""
    across, up, opposite = NEIGHBOURS[side]
    return array.tiles.get((tile.column + across, tile.row + up)), opposite


def _place(side: str, tile: Tile, index: int) -> str:
    name, number = (geometry.master_port if side == "master" else geometry.slave_port)(tile.kind, index)
    return f"{side} {name.upper() if name == 'dma' else name.capitalize()} {number} of {tile.name}"


def _feeding(tile: Tile, master: int) -> list[int]:
    """Slaves that the master's register lets in."""
    word = tile.masters.get(master, 0)
    if not word & PACKET:
        return [word & SLAVE_MASK]
    arbiter, msels = word & 7, word >> 3 & 15
    return sorted(
        {
            slave
            for (slave, _), slot in tile.slots.items()
            if slot >> 8 & 1 and slot & 7 == arbiter and msels >> (slot >> 4 & 3) & 1
        }
    )


def _into_master(array: Array, tile: Tile, master: int, ends: Ends, fed: str = "") -> None:
    """Back from a master port; fed: the slave port of the next tile that it feeds."""
    place = _place("master", tile, master) + (f", which feeds {fed}," if fed else "")
    if not ends.visit(tile, "master", master):
        ends.open.append(f"its stream runs in a circle through {place}")
        return
    if not tile.masters.get(master, 0) & ENABLE:
        ends.open.append(f"{place} is not enabled")
        return
    slaves = _feeding(tile, master)
    if not slaves:
        ends.open.append(f"no packet slot of {tile.name} leads to {place}")
    for slave in slaves:
        _before_slave(array, tile, slave, ends)


def _before_slave(array: Array, tile: Tile, slave: int, ends: Ends) -> None:
    try:
        name, number = geometry.slave_port(tile.kind, slave)
    except ValueError:
        ends.open.append(f"{tile.name} selects slave {slave}, which does not exist")
        return
    if not tile.slaves.get(slave, 0) & ENABLE:
        ends.open.append(f"{_place('slave', tile, slave)} is not enabled")
    if name == "dma":
        ends.units.append(tile.channels["mm2s", number].name)
    elif tile.kind == "shim" and name == "south":
        if number in geometry.SHIM_MM2S_SLAVE_SOUTH:
            ends.units.append(tile.channels["mm2s", geometry.SHIM_MM2S_SLAVE_SOUTH.index(number)].name)
        else:
            ends.open.append(f"{_place('slave', tile, slave)} is fed by no DMA channel")
    elif name == "core":
        ends.units.append(tile.name)
    elif name in NEIGHBOURS:
        other, opposite = _beyond(array, tile, name)
        if other is None:
            ends.open.append(f"{_place('slave', tile, slave)} lies at the partition's edge")
        else:
            fed = _place("slave", tile, slave)
            _into_master(array, other, geometry.master_index(other.kind, opposite, number), ends, fed)
    else:
        ends.open.append(f"{_place('slave', tile, slave)} carries no data stream")


def _out_of_slave(array: Array, tile: Tile, slave: int, ends: Ends) -> None:
    if not ends.visit(tile, "slave", slave):
        return
    place = _place("slave", tile, slave)
    if not tile.slaves.get(slave, 0) & ENABLE:
        ends.open.append(f"{place} is not enabled")
        return
    masters = [
        master for master, word in sorted(tile.masters.items()) if word & ENABLE and slave in _feeding(tile, master)
    ]
    if not masters:
        ends.open.append(f"{place} leads to no master")
    for master in masters:
        _after_master(array, tile, master, ends)


def _after_master(array: Array, tile: Tile, master: int, ends: Ends) -> None:
    name, number = geometry.master_port(tile.kind, master)
    if name == "dma":
        ends.units.append(tile.channels["s2mm", number].name)
    elif tile.kind == "shim" and name == "south":
        if number in geometry.SHIM_S2MM_MASTER_SOUTH:
            ends.units.append(tile.channels["s2mm", geometry.SHIM_S2MM_MASTER_SOUTH.index(number)].name)
    elif name == "core":
        ends.units.append(tile.name)
    elif name in NEIGHBOURS:
        other, opposite = _beyond(array, tile, name)
        if other is None:
            ends.open.append(f"{_place('master', tile, master)} leaves the partition")
        else:
            _out_of_slave(array, other, geometry.slave_index(other.kind, opposite, number), ends)
