"""Stream routes: they reach their ports, use legal circuits, and never share a wire."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.flows import design_flows, token_route
from npuc.passes.array.router import Connection, Flow, Port, route
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.streams import make_design
from npuc.passes.options import Options

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).resolve().parents[2].parent / "shared" / "facts"))
ENTRY = {"north": (0, 1, "south"), "south": (0, -1, "north"), "east": (1, 0, "west"), "west": (-1, 0, "east")}
JSON_NAMES = {"ctrl": "TileControl", "dma": "DMA", "fifo": "FIFO", "core": "Core", "trace": "Trace"}


def flows_of(columns: int, group_columns: int, split: bool = False) -> list[Flow]:
    options = Options(columns=columns, options={"group_columns": str(group_columns), "split": str(int(split))})
    return design_flows(make_design(make_plan(Attention.make(heads=8, query_length=256, head_dim=64), options)))


def reached(connections: tuple[Connection, ...], source: Port) -> set[Port]:
    """Ports of tiles' own units that words from `source` arrive at."""
    ends: set[Port] = set()
    for connection in connections:
        if connection.source != source:
            continue
        target = connection.target
        leaves = target.name in ENTRY and not (target.row == geometry.SHIM_ROW and target.name == "south")
        if leaves:
            right, up, side = ENTRY[target.name]
            ends |= reached(connections, Port(target.column + right, target.row + up, side, target.number))
        else:
            ends.add(target)
    return ends


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("columns,group_columns", [(1, 1), (2, 2), (4, 1), (4, 2), (4, 4)])
def test_every_flow_reaches_its_ports_and_no_other(columns: int, group_columns: int, split: bool) -> None:
    flows = flows_of(columns, group_columns, split)
    connections = route(flows, columns)
    for flow in flows:
        assert reached(connections, flow.source) == set(flow.destinations), flow.name


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("group_columns", [1, 2, 4])
def test_no_master_port_has_two_sources(group_columns: int, split: bool) -> None:
    connections = route(flows_of(4, group_columns, split), 4)
    targets = [connection.target for connection in connections] + [token_route(c).connection.target for c in range(4)]
    assert len(set(targets)) == len(targets)


def test_all_connections_are_legal_circuits_of_the_device() -> None:
    file = FACTS / "platform" / "device_npu1.json"
    if not file.exists():
        pytest.skip(f"{file.name} is not here")
    tiles = json.loads(file.read_text())["tiles"]
    connections = route(flows_of(4, 2), 4) + route(flows_of(4, 4, split=True), 4)
    for connection in (*connections, *(token_route(column).connection for column in range(4))):
        switch = tiles[connection.kind]["stream_switch"]
        for port, table, index in (
            (connection.source, switch["slaves"], connection.slave),
            (connection.target, switch["masters"], connection.master),
        ):
            entry = table[JSON_NAMES.get(port.name, port.name.capitalize())]
            assert port.number < entry["count"] and index == entry["first_index"] + port.number
        assert connection.master in switch["legal master indices per slave index"][str(connection.slave)], connection


def test_a_broadcast_to_two_columns_goes_sideways_in_the_shim_row() -> None:
    source = Port(0, 0, "south", 3)
    flow = Flow("K to all", source, (Port(0, 1, "dma", 0), Port(1, 1, "dma", 0)))
    connections = route([flow], 2)
    assert reached(connections, source) == set(flow.destinations)
    assert any(connection.target.name == "east" for connection in connections)


def test_a_broadcast_uses_each_wire_once() -> None:
    flow = Flow("K", Port(0, 1, "dma", 0), tuple(Port(0, row, "dma", 0) for row in geometry.CORE_ROWS))
    assert len(route([flow], 1)) == 1 + 4 + 3  # out of the memory tile, into four cores, on from three of them


def test_too_many_flows_name_the_flow_and_the_tile_without_wires() -> None:
    flows = [Flow(f"flow {n}", Port(0, 1, "dma", n), (Port(0, 0, "south", n),)) for n in range(5)]
    with pytest.raises(ResourceError, match=r"flow 4: no free wire south from tile \(0,1\)"):
        route(flows, 1)


def test_a_port_that_is_taken_already_is_refused() -> None:
    flows = [Flow(name, Port(0, 0, "south", n), (Port(0, 1, "dma", 0),)) for name, n in (("a", 3), ("b", 7))]
    with pytest.raises(ResourceError, match="stream b"):
        route(flows, 1)


def test_a_route_out_of_the_partition_is_refused() -> None:
    with pytest.raises(ResourceError, match="leaves the partition"):
        route([Flow("far", Port(0, 0, "south", 3), (Port(1, 1, "dma", 0),))], 1)
