"""The streams of the attention kernel in each column."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array import dma
from npuc.passes.array.router import Connection, Flow, PacketConnection, Port

SHIM, MEMTILE = geometry.SHIM_ROW, geometry.MEMTILE_ROW
SHIM_KEY_VALUE_CHANNEL = 0  # MM2S
SHIM_QUERY_CHANNEL = 1  # MM2S
SHIM_OUTPUT_CHANNEL = 0  # S2MM


def kernel_flows(columns: int, group_columns: int) -> list[Flow]:
    """All streams of the array: each group of neighbouring columns gets K and V from its first column's shim."""
    flows = []
    for column in range(columns):
        leads = column % group_columns == 0
        members = range(column, column + group_columns) if leads else ()
        flows += column_flows(column, members)
    return flows


def column_flows(column: int, members: Sequence[int]) -> list[Flow]:
    """K/V from the shim to the memory tiles of `members`, Q from it, K/V broadcast to the four cores, Q to and O from
    each, O to the shim."""

    def shim_sends(channel: int) -> Port:
        return Port(column, SHIM, "south", geometry.SHIM_MM2S_SLAVE_SOUTH[channel])

    def memtile(channel: int, column: int = column) -> Port:
        return Port(column, MEMTILE, "dma", channel)

    cores = list(enumerate(geometry.CORE_ROWS))
    shim_receives = Port(column, SHIM, "south", geometry.SHIM_S2MM_MASTER_SOUTH[SHIM_OUTPUT_CHANNEL])
    key_values = tuple(Port(column, row, "dma", dma.KEY_VALUE_CHANNEL) for _, row in cores)
    flows = []
    if members:
        shared = tuple(memtile(dma.KEY_VALUE_CHANNEL, member) for member in members)
        flows.append(Flow("K/V from memory", shim_sends(SHIM_KEY_VALUE_CHANNEL), shared))
    flows += [
        Flow("Q from memory", shim_sends(SHIM_QUERY_CHANNEL), (memtile(dma.QUERY_CHANNEL),)),
        Flow("O to memory", memtile(dma.OUTPUT_CHANNEL), (shim_receives,)),
        Flow("K/V to cores", memtile(dma.KEY_VALUE_CHANNEL), key_values),
    ]
    for core, row in cores:
        channel = dma.FIRST_CORE_CHANNEL + core
        query = Port(column, row, "dma", dma.QUERY_CHANNEL)
        flows.append(Flow(f"Q to core {core}", memtile(channel), (query,)))
        flows.append(Flow(f"O of core {core}", Port(column, row, "dma", 0), (memtile(channel),)))
    return flows


def token_route(column: int) -> PacketConnection:
    """Task-completion tokens leave the shim's control port as packets; the controller collects them at South 0.

    Source: facts/platform/txn.md, "Token routing".
    """
    source = Port(column, SHIM, "ctrl")
    target = Port(column, SHIM, "south", geometry.TOKEN_MASTER_SOUTH)
    return PacketConnection(Connection(source, target), geometry.TOKEN_CONTROLLER_ID)
