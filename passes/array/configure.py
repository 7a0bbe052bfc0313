"""A design -> the register writes that set up the array.

Order as compilers for the array write it (facts/platform/pdi_cdo.md section 4): core programs, then locks, descriptors,
channels and streams, then core enables.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit import cdo
from npuc.compiler.emit.elf import CoreImage
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array import dma
from npuc.passes.array.descriptors import DmaProgram
from npuc.passes.array.design import Design, Place
from npuc.passes.array.fifo import SHIM_OUTPUT_CHANNELS
from npuc.passes.array.flows import design_flows, token_route
from npuc.passes.array.router import Connection, PacketConnection, route
from npuc.passes.array.target import Target

CHANNEL_RESET = 1 << geometry.CHANNEL_RESET_BIT
PACKET_ID_MASK = 0x1F
PROGRAM_LOAD_BYTES = 16  # loads of public files are multiples of this (facts/platform/pdi_cdo.md, last section)
# Shim mux and demux fields of the DMA ports hold this value (device_npu1.md, "Stream switch").
DMA_SELECTED = geometry.SHIM_MUX_DMA


def configure(design: Design) -> list[cdo.Command]:
    """All commands.  Raises ResourceError for a program beyond program memory or a stream without a route."""
    target, columns = design.target, range(design.columns)
    commands: list[cdo.Command] = [cdo.Nop()]
    for tile in design.tiles:
        commands += _load_core(tile, design.programs[tile], target)
    for tile in design.tiles:
        commands += _reset_core(tile, target)
    for column in columns:  # what an earlier configuration left there (facts/platform/pdi_cdo.md)
        for value in (CHANNEL_RESET, 0):
            commands += _channel_resets((column, geometry.MEMTILE_ROW), value)
    commands += _initial_locks(design)
    core, memtile = dma.core_program(design), dma.memtile_program(design)
    for column in columns:
        commands += _dma((column, geometry.MEMTILE_ROW), memtile)
        for row in target.core_rows:
            commands += _dma((column, row), core)
    commands += circuits(route(design_flows(design), design.columns))
    for column in columns:
        commands += packets(token_route(column))
        commands += _shim_ports(column, SHIM_OUTPUT_CHANNELS[: len(design.output_channels)])
    for column, row in design.tiles:
        control = geometry.tile_address(column, row, geometry.CORE_CONTROL)
        commands.append(cdo.MaskWrite(control, geometry.CORE_CONTROL_ENABLE, geometry.CORE_CONTROL_ENABLE))
    return commands


def _load_core(tile: Place, image: CoreImage, target: Target) -> Iterator[cdo.Command]:
    """Stop the core and its DMA, load program and data, let the DMA go."""
    if len(image.program) > target.program_memory:
        raise ResourceError(
            f"program of core {tile} has {len(image.program):,} bytes, program memory holds {target.program_memory:,}"
        )
    control = geometry.tile_address(*tile, geometry.CORE_CONTROL)
    yield cdo.MaskWrite(control, geometry.CORE_CONTROL_ENABLE, 0)
    yield from _channel_resets(tile, CHANNEL_RESET)
    program = image.program + bytes(-len(image.program) % PROGRAM_LOAD_BYTES)
    yield cdo.DmaWrite(geometry.tile_address(*tile, geometry.PROGRAM_MEMORY_OFFSET), _words(program))
    for segment in image.data:
        offset = segment.address - geometry.CORE_VIEW_OWN
        assert 0 <= offset and offset + len(segment.data) <= target.core_memory
        yield cdo.DmaWrite(geometry.tile_address(*tile, offset), _words(segment.data))
    yield from _channel_resets(tile, 0)


def _words(data: bytes) -> tuple[int, ...]:
    padded = data + bytes(-len(data) % 4)
    return struct.unpack(f"<{len(padded) // 4}I", padded)


def _channel_resets(tile: Place, value: int) -> Iterator[cdo.Command]:
    kind = geometry.tile_kind(tile[1])
    for direction in ("mm2s", "s2mm"):
        for channel in range(geometry.CHANNEL_COUNT[kind]):
            offset = geometry.channel_control_offset(kind, direction, channel)
            yield cdo.MaskWrite(geometry.tile_address(*tile, offset), CHANNEL_RESET, value)


def _reset_core(tile: Place, target: Target) -> Iterator[cdo.Command]:
    control = geometry.tile_address(*tile, geometry.CORE_CONTROL)
    for value in (geometry.CORE_CONTROL_RESET, 0):
        yield cdo.MaskWrite(control, geometry.CORE_CONTROL_RESET, value)
    for lock in range(target.core_locks):
        yield cdo.Write(geometry.tile_address(*tile, geometry.lock_offset("core", lock)), 0)


def _initial_locks(design: Design) -> Iterator[cdo.Command]:
    """Memory tiles get every lock they use, cores (cleared by their reset) those that do not start at 0."""
    for column in range(design.columns):
        for lock, value in enumerate(design.relay_locks.values()):
            address = geometry.tile_address(column, geometry.MEMTILE_ROW, geometry.lock_offset("memtile", lock))
            yield cdo.Write(address, value)
    for tile in design.tiles:
        for lock, value in enumerate(design.core_locks.values()):
            if value:
                yield cdo.Write(geometry.tile_address(*tile, geometry.lock_offset("core", lock)), value)


def _dma(tile: Place, program: DmaProgram) -> Iterator[cdo.Command]:
    for descriptor in program.descriptors:
        offset = geometry.bd_offset(program.kind, descriptor.number)
        yield cdo.DmaWrite(geometry.tile_address(*tile, offset), descriptor.pack())
    for start in program.starts:
        offset = geometry.channel_queue_offset(program.kind, start.direction, start.channel)
        yield cdo.Write(geometry.tile_address(*tile, offset), geometry.queue_word(start.first))


def circuits(connections: Sequence[Connection]) -> Iterator[cdo.Command]:
    """Master register, then slave register, of each connection."""
    for connection in connections:
        kind = connection.kind
        master = geometry.tile_address(*connection.tile, geometry.master_offset(kind, connection.master))
        slave = geometry.tile_address(*connection.tile, geometry.slave_offset(kind, connection.slave))
        yield cdo.Write(master, geometry.circuit_master_word(connection.slave))
        yield cdo.Write(slave, geometry.CIRCUIT_SLAVE_WORD)


def packets(rule: PacketConnection) -> Iterator[cdo.Command]:
    """Packet master, packet slave, slot 0."""
    connection, kind = rule.connection, rule.connection.kind
    master = geometry.master_offset(kind, connection.master)
    slave = geometry.slave_offset(kind, connection.slave)
    slot = geometry.slot_offset(kind, connection.slave, 0)
    for offset, word in (
        (master, geometry.packet_master_word(rule.arbiter, 1 << rule.msel, drop_header=False)),
        (slave, geometry.PACKET_SLAVE_WORD),
        (slot, geometry.slot_word(rule.packet_id, PACKET_ID_MASK, rule.msel, rule.arbiter)),
    ):
        yield cdo.Write(geometry.tile_address(*connection.tile, offset), word)


def _shim_ports(column: int, outputs: Sequence[int]) -> Iterator[cdo.Command]:
    """Mux and demux to the DMA, and the controller id that the channels' tokens carry.  outputs: S2MM channels."""
    receiving = tuple(geometry.SHIM_S2MM_MASTER_SOUTH[channel] for channel in outputs)
    for register, fields, ports in (
        (geometry.SHIM_MUX, geometry.SHIM_MUX_LSB, geometry.SHIM_MM2S_SLAVE_SOUTH),
        (geometry.SHIM_DEMUX, geometry.SHIM_DEMUX_LSB, receiving),
    ):
        address = geometry.tile_address(column, geometry.SHIM_ROW, register)
        for port in ports:
            yield cdo.MaskWrite(address, 3 << fields[port], DMA_SELECTED << fields[port])
    for direction, channel in (*(("s2mm", channel) for channel in outputs), ("mm2s", 0), ("mm2s", 1)):
        control = geometry.channel_control_offset("shim", direction, channel)
        yield cdo.MaskWrite(
            geometry.tile_address(column, geometry.SHIM_ROW, control),
            geometry.TOKEN_CONTROLLER_ID_MASK,
            geometry.TOKEN_CONTROLLER_ID << 8,
        )
