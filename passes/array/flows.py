"""The routes of a design's streams through the tiles of each column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.design import Design
from npuc.passes.array.fifo import (
    CORE_OUTPUT_CHANNEL,
    FIRST_CORE_CHANNEL,
    RECEIVING_CHANNELS,
    SHIM_OUTPUT_CHANNELS,
    Fifo,
)
from npuc.passes.array.router import Connection, Flow, PacketConnection, Port

SHIM, MEMTILE = geometry.SHIM_ROW, geometry.MEMTILE_ROW


def design_flows(design: Design) -> list[Flow]:
    """All streams of the array, column by column; one that columns share comes from the first of them."""
    flows: list[Flow] = []
    for column in range(design.columns):
        flows += _from_memory(design, column)
        flows += _inside(design, column)
    return flows


def _named(fifos: Sequence[Fifo]) -> str:
    return "/".join(fifo.name.upper() for fifo in fifos)


def _channels(design: Design) -> Iterator[tuple[int, list[Fifo]]]:
    for channel in RECEIVING_CHANNELS:
        fifos = design.inputs(channel)
        if fifos:
            yield channel, fifos


def _memtile(column: int, channel: int) -> Port:
    return Port(column, MEMTILE, "dma", channel)


def _from_memory(design: Design, column: int) -> Iterator[Flow]:
    """Between the shim of a column and memory tiles."""
    for channel, fifos in _channels(design):
        width = fifos[0].columns
        if column % width == 0:
            source = Port(column, SHIM, "south", geometry.SHIM_MM2S_SLAVE_SOUTH[channel])
            members = tuple(_memtile(member, channel) for member in range(column, column + width))
            yield Flow(f"{_named(fifos)} from memory", source, members)
    for fifo in design.outputs:
        for outlet in range(fifo.outlets):
            port = geometry.SHIM_S2MM_MASTER_SOUTH[SHIM_OUTPUT_CHANNELS[outlet]]
            source = _memtile(column, design.output_channels[outlet])
            yield Flow(f"{_named([fifo])} to memory", source, (Port(column, SHIM, "south", port),))


def _inside(design: Design, column: int) -> Iterator[Flow]:
    """Between the memory tile of a column and its cores."""
    rows = design.target.core_rows
    dealt = [(channel, fifos[0]) for channel, fifos in _channels(design) if fifos[0].dealt]
    for channel, fifos in _channels(design):
        if not fifos[0].dealt:
            cores = tuple(Port(column, row, "dma", channel) for row in rows)
            yield Flow(f"{_named(fifos)} to cores", _memtile(column, channel), cores)
    for core, row in enumerate(rows):
        memtile = _memtile(column, FIRST_CORE_CHANNEL + core)
        for channel, fifo in dealt:
            yield Flow(f"{_named([fifo])} to core {core}", memtile, (Port(column, row, "dma", channel),))
        for fifo in design.outputs:
            source = Port(column, row, "dma", CORE_OUTPUT_CHANNEL)
            yield Flow(f"{_named([fifo])} of core {core}", source, (memtile,))


def token_route(column: int) -> PacketConnection:
    """Task-completion tokens leave the shim's control port as packets; the controller collects them at South 0.

    Source: facts/platform/txn.md, "Token routing".
    """
    source = Port(column, SHIM, "ctrl")
    target = Port(column, SHIM, "south", geometry.TOKEN_MASTER_SOUTH)
    return PacketConnection(Connection(source, target), geometry.TOKEN_CONTROLLER_ID)
