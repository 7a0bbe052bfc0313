"""Small array images of the proof kit, and their sequences: one column's shim, memory tile and core, by plain parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.emit import cdo, pdi, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import circuits, packets
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.flows import token_route
from npuc.passes.array.router import Flow, Port, route

Place = tuple[int, int]

IN, OUT = 0x400, 0x4000
"""A core's buffers, in different banks."""
IN_EMPTY, IN_FULL, OUT_EMPTY, OUT_FULL = range(4)
"""Locks of a core tile."""
EMPTY, FULL = range(2)
"""Locks of a memory tile."""
PROGRAM_LINE = 16


@dataclass(frozen=True)
class Image:
    """An array image for `columns` columns and the operations of one run of it."""

    columns: int
    pdi: bytes
    operations: tuple[txn.Operation, ...]


def empty(operations: Iterable[txn.Operation]) -> Image:
    """Nothing is configured but where tokens go."""
    return Image(1, pdi.write_pdi(_shim(0)), tuple(operations))


def relay(columns: int, words: int, chunk: int, *, offset: int = 0) -> Image:
    """Each column's memory tile takes its words of buffer 0 in chunks and sends them back to buffer 1.

    offset: bytes into both buffers at which the first column's words begin.
    """
    commands: list[cdo.Command] = []
    operations: list[txn.Operation] = []
    for column in range(columns):
        tile = column, geometry.MEMTILE_ROW
        commands += _fresh(tile, {EMPTY: 2})
        commands += _ring(tile, chunk)
        flows = [
            Flow("in", _shim_in(column), (Port(*tile, "dma", 0),)),
            Flow("out", Port(*tile, "dma", 0), (_shim_out(column),)),
        ]
        commands += circuits(route(flows, columns))
        commands += _shim(column)
        commands += [_start(tile, "s2mm", 0), _start(tile, "mm2s", 2)]
        begin = offset + 4 * words * column
        operations += transfer(column, "s2mm", 1, words, begin)
        operations += transfer(column, "mm2s", 0, words, begin)
    operations.append(txn.Sync(0, 0, geometry.DIRECTIONS.index("s2mm"), 0, columns, 1))
    return Image(columns, pdi.write_pdi(commands), tuple(operations))


def _ring(tile: Place, chunk: int) -> Iterator[cdo.Command]:
    """Two buffers of a memory tile, filled and emptied by turns."""
    for number, take in ((0, True), (1, True), (2, False), (3, False)):
        acquire, release = ((EMPTY, -1), (FULL, 1)) if take else ((FULL, -1), (EMPTY, 1))
        following = number ^ 1
        at = 4 * chunk * (number & 1)
        yield _descriptor(tile, Descriptor("memtile", number, at, chunk, (), acquire, release, following))


def one_core(
    program: str,
    words_in: int,
    words_out: int,
    blocks: int = 1,
    tile: Place = (0, 2),
    memory: Mapping[tuple[Place, int], tuple[int, ...]] = MappingProxyType({}),
    helpers: Mapping[Place, str] = MappingProxyType({}),
) -> Image:
    """A core that takes blocks of words_in words of buffer 0 at IN and sends words_out words of OUT to buffer 1.

    memory: words that tiles hold from the start, by place and byte offset. helpers: programs of other cores, which
    start first.
    """
    column = tile[0]
    commands: list[cdo.Command] = [*_program(tile, program), *_fresh(tile, {IN_EMPTY: 1, OUT_EMPTY: 1})]
    for place, text in helpers.items():
        commands += [*_program(place, text), *_fresh(place, {})]
    commands += [cdo.DmaWrite(geometry.tile_address(*place, at), words) for (place, at), words in memory.items()]
    take = Descriptor("core", 0, IN, words_in, acquire=(IN_EMPTY, -1), release=(IN_FULL, 1), next=0)
    give = Descriptor("core", 1, OUT, words_out, acquire=(OUT_FULL, -1), release=(OUT_EMPTY, 1), next=1)
    commands += [_descriptor(tile, take), _descriptor(tile, give)]
    flows = [
        Flow("in", _shim_in(column), (Port(*tile, "dma", 0),)),
        Flow("out", Port(*tile, "dma", 0), (_shim_out(column),)),
    ]
    commands += [*circuits(route(flows, column + 1)), *_shim(column)]
    commands += [_start(tile, "s2mm", 0), _start(tile, "mm2s", 1)]
    for place in (*helpers, tile):
        commands.append(cdo.MaskWrite(geometry.tile_address(*place, geometry.CORE_CONTROL), 1, 1))
    operations = [
        *transfer(column, "s2mm", 1, words_out * blocks),
        *transfer(column, "mm2s", 0, words_in * blocks),
        txn.Sync(column, 0, geometry.DIRECTIONS.index("s2mm"), 0),
    ]
    return Image(column + 1, pdi.write_pdi(commands), tuple(operations))


def stream_in(columns: int, words: int, chunk: int) -> Image:
    """Each column's memory tile takes its words of buffer 0 and keeps none: reading from DDR alone."""
    commands: list[cdo.Command] = []
    operations: list[txn.Operation] = []
    for column in range(columns):
        tile = column, geometry.MEMTILE_ROW
        commands += _fresh(tile, {})
        commands.append(_descriptor(tile, Descriptor("memtile", 0, 0, chunk, next=0)))
        commands += circuits(route([Flow("in", _shim_in(column), (Port(*tile, "dma", 0),))], columns))
        commands += [*_shim(column), _start(tile, "s2mm", 0)]
        operations += transfer(column, "mm2s", 0, words, 4 * words * column, token=True)
    operations.append(txn.Sync(0, 0, geometry.DIRECTIONS.index("mm2s"), 0, columns, 1))
    return Image(columns, pdi.write_pdi(commands), tuple(operations))


def stream_out(columns: int, words: int, pattern: tuple[int, ...]) -> Image:
    """Each column's memory tile sends the pattern's words over and over: writing to DDR alone."""
    commands: list[cdo.Command] = []
    operations: list[txn.Operation] = []
    for column in range(columns):
        tile = column, geometry.MEMTILE_ROW
        commands += _fresh(tile, {})
        commands.append(cdo.DmaWrite(geometry.tile_address(*tile, 0), pattern))
        commands.append(_descriptor(tile, Descriptor("memtile", 2, 0, len(pattern), next=2)))
        commands += circuits(route([Flow("out", Port(*tile, "dma", 0), (_shim_out(column),))], columns))
        commands += [*_shim(column), _start(tile, "mm2s", 2)]
        operations += transfer(column, "s2mm", 0, words, 4 * words * column)
    operations.append(txn.Sync(0, 0, geometry.DIRECTIONS.index("s2mm"), 0, columns, 1))
    return Image(columns, pdi.write_pdi(commands), tuple(operations))


def transfer(
    column: int, direction: str, argument: int, words: int, offset: int = 0, *, token: bool | None = None
) -> list[txn.Operation]:
    """A linear transfer of a shim's channel 0; by default what is written tells its end by a token."""
    number = geometry.DIRECTIONS.index(direction)
    place = geometry.tile_address(column, 0, geometry.bd_offset("shim", number))
    queue = geometry.tile_address(column, 0, geometry.channel_queue_offset("shim", direction, 0))
    told = direction == "s2mm" if token is None else token
    return [
        txn.BlockWrite(place, Descriptor("shim", number, 0, words).pack()),
        txn.DdrPatch(place + 4, argument, offset),
        txn.Write(queue, geometry.queue_word(number, token=told)),
    ]


def _shim_in(column: int) -> Port:
    return Port(column, geometry.SHIM_ROW, "south", geometry.SHIM_MM2S_SLAVE_SOUTH[0])


def _shim_out(column: int) -> Port:
    return Port(column, geometry.SHIM_ROW, "south", geometry.SHIM_S2MM_MASTER_SOUTH[0])


def _program(tile: Place, text: str) -> Iterator[cdo.Command]:
    code = assemble(text).code
    code += bytes(-len(code) % PROGRAM_LINE)
    words = tuple(int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4))
    control = geometry.tile_address(*tile, geometry.CORE_CONTROL)
    yield cdo.MaskWrite(control, geometry.CORE_CONTROL_ENABLE, 0)
    yield cdo.DmaWrite(geometry.tile_address(*tile, geometry.PROGRAM_MEMORY_OFFSET), words)
    for value in (geometry.CORE_CONTROL_RESET, 0):
        yield cdo.MaskWrite(control, geometry.CORE_CONTROL_RESET, value)


def _fresh(tile: Place, values: dict[int, int]) -> Iterator[cdo.Command]:
    """A tile without what an earlier context left: its channels reset (facts/platform/pdi_cdo.md), its locks set."""
    kind = geometry.tile_kind(tile[1])
    for value in (1 << geometry.CHANNEL_RESET_BIT, 0):
        for direction in geometry.DIRECTIONS:
            for channel in range(geometry.CHANNEL_COUNT[kind]):
                offset = geometry.channel_control_offset(kind, direction, channel)
                address = geometry.tile_address(*tile, offset)
                yield cdo.MaskWrite(address, 1 << geometry.CHANNEL_RESET_BIT, value)
    yield from _locks(tile, values)


def _locks(tile: Place, values: dict[int, int]) -> Iterator[cdo.Command]:
    """All locks of a core, those of a memory tile that a design of this module uses; those that are not named are 0."""
    kind = geometry.tile_kind(tile[1])
    for lock in range(geometry.LOCK_COUNT[kind] if kind == "core" else 2):
        yield cdo.Write(geometry.tile_address(*tile, geometry.lock_offset(kind, lock)), values.get(lock, 0))


def _descriptor(tile: Place, descriptor: Descriptor) -> cdo.Command:
    offset = geometry.bd_offset(descriptor.kind, descriptor.number)
    return cdo.DmaWrite(geometry.tile_address(*tile, offset), descriptor.pack())


def _start(tile: Place, direction: str, first: int) -> cdo.Command:
    offset = geometry.channel_queue_offset(geometry.tile_kind(tile[1]), direction, 0)
    return cdo.Write(geometry.tile_address(*tile, offset), geometry.queue_word(first))


def _shim(column: int) -> Iterator[cdo.Command]:
    """Where a column's tokens go, its mux and demux to channel 0, and the controller id of its tokens."""
    yield from packets(token_route(column))
    shim = column, geometry.SHIM_ROW
    for register, fields, number in (
        (geometry.SHIM_MUX, geometry.SHIM_MUX_LSB, geometry.SHIM_MM2S_SLAVE_SOUTH[0]),
        (geometry.SHIM_DEMUX, geometry.SHIM_DEMUX_LSB, geometry.SHIM_S2MM_MASTER_SOUTH[0]),
    ):
        at = fields[number]
        yield cdo.MaskWrite(geometry.tile_address(*shim, register), 3 << at, geometry.SHIM_MUX_DMA << at)
    for direction in geometry.DIRECTIONS:
        control = geometry.tile_address(*shim, geometry.channel_control_offset("shim", direction, 0))
        yield cdo.MaskWrite(control, geometry.TOKEN_CONTROLLER_ID_MASK, geometry.TOKEN_CONTROLLER_ID << 8)
