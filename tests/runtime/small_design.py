"""A small whole design of one column, as parts that tests may change before it becomes register writes.

Words go from the shim through the memory tile (two buffers) to core (0,2), which adds 1 to each and sends them back
through the memory tile's switch to the shim.  Every part is a plain value: what a test breaks is one assignment.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from npuc.compiler.asm import assembler
from npuc.compiler.emit import cdo, pdi, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import circuits, packets
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.router import Connection, PacketConnection, Port
from npuc.runtime.emulator.device import Device, RunStatistics

SHIM, MEMTILE, CORE = (0, 0), (0, 1), (0, 2)
WORDS, BLOCKS = 32, 4
IN, OUT = 0x400, 0x4000  # bytes in the core's memory, of different banks
IN_EMPTY, IN_FULL, OUT_EMPTY, OUT_FULL = range(4)  # locks of the core
EMPTY, FULL = 0, 1  # locks of the memory tile
OWN = geometry.CORE_LOCK_OWN


def assemble(text: str) -> bytes:
    """The code of a program in assembly text."""
    return assembler.assemble(text).code


def program(
    words: int = WORDS,
    *,
    acquire_in: int = OWN + IN_FULL,
    release_in: int | None = OWN + IN_EMPTY,
    acquire_out: int = OWN + OUT_EMPTY,
    release_out: int | None = OWN + OUT_FULL,
    load: str = "lda r2, [p0], #4",
    before: str = "",
    after: str = "",
) -> str:
    """The core's program: acquire both buffers, add 1 to every word, release both, for ever."""
    nops = "\n".join(["nop"] * 6)

    def lock(operation: str, number: int | None, value: int) -> str:
        return f"movx r0, #{number}; mov r1, #{value}\n{operation} r0, r1" if number is not None else "nop"

    return f"""
    {before}
    run:
    {lock("acq", acquire_in, -1)}
    {lock("acq", acquire_out, -1)}
    movxm p0, #{0x70000 + IN:#x}
    movxm p1, #{0x70000 + OUT:#x}
    movxm r4, #{words}
    word:
    {load}
    add r4, r4, #-1
    {nops}
    add r2, r2, #1
    st r2, [p1], #4
    jnz r4, #word
    {nops}
    nop
    {lock("rel", release_in, 1)}
    {lock("rel", release_out, 1)}
    {after}
    j #run
    nop
    nop
    nop
    nop
    nop
    """


def port(tile: tuple[int, int], name: str, number: int = 0) -> Port:
    return Port(*tile, name, number)


@dataclass
class Design:
    """All parts, right as they stand."""

    columns: int = 1
    programs: dict[tuple[int, int], str | bytes] = field(default_factory=lambda: {CORE: program()})
    enabled: set[tuple[int, int]] = field(default_factory=lambda: {CORE})
    locks: dict[tuple[tuple[int, int], int], int] = field(
        default_factory=lambda: {(MEMTILE, EMPTY): 2, (CORE, IN_EMPTY): 1, (CORE, OUT_EMPTY): 1}
    )
    descriptors: dict[tuple[tuple[int, int], int], Descriptor] = field(default_factory=dict)
    starts: list[tuple[tuple[int, int], str, int, int]] = field(
        default_factory=lambda: [
            (MEMTILE, "s2mm", 0, 0),
            (MEMTILE, "mm2s", 0, 2),
            (CORE, "s2mm", 0, 0),
            (CORE, "mm2s", 0, 1),
        ]
    )
    connections: list[Connection] = field(
        default_factory=lambda: [
            Connection(port(SHIM, "south", 3), port(SHIM, "north", 0)),
            Connection(port(MEMTILE, "south", 0), port(MEMTILE, "dma", 0)),
            Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0)),
            Connection(port(CORE, "south", 0), port(CORE, "dma", 0)),
            Connection(port(CORE, "dma", 0), port(CORE, "south", 0)),
            Connection(port(MEMTILE, "north", 0), port(MEMTILE, "south", 0)),
            Connection(port(SHIM, "north", 0), port(SHIM, "south", 2)),
        ]
    )
    token_route: bool = True
    mux: bool = True
    operations: list[txn.Operation] = field(default_factory=list)
    extra: list[cdo.Command] = field(default_factory=list)
    buffers: list[np.ndarray] = field(
        default_factory=lambda: [np.arange(WORDS * BLOCKS, dtype=np.uint32), np.zeros(WORDS * BLOCKS, dtype=np.uint32)]
    )

    def __post_init__(self) -> None:
        half = 4 * WORDS
        for number, kind, tile, address, acquire, release, following in (
            (0, "memtile", MEMTILE, 0, (EMPTY, -1), (FULL, 1), 1),
            (1, "memtile", MEMTILE, half, (EMPTY, -1), (FULL, 1), 0),
            (2, "memtile", MEMTILE, 0, (FULL, -1), (EMPTY, 1), 3),
            (3, "memtile", MEMTILE, half, (FULL, -1), (EMPTY, 1), 2),
            (0, "core", CORE, IN, (IN_EMPTY, -1), (IN_FULL, 1), 0),
            (1, "core", CORE, OUT, (OUT_FULL, -1), (OUT_EMPTY, 1), 1),
        ):
            self.descriptors[tile, number] = Descriptor(
                kind, number, address, WORDS, acquire=acquire, release=release, next=following
            )
        if not self.operations:
            self.operations = [*transfer(1, 1, "s2mm", token=True), *transfer(0, 0, "mm2s"), txn.Sync(0, 0, 0, 0)]

    # to bytes

    def commands(self) -> list[cdo.Command]:
        """The array image, in the order of public tools."""
        commands: list[cdo.Command] = []
        for tile, text in self.programs.items():
            code = text if isinstance(text, bytes) else assemble(text)
            words = tuple(int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4))
            commands.append(cdo.DmaWrite(geometry.tile_address(*tile, geometry.PROGRAM_MEMORY_OFFSET), words))
            commands.append(cdo.MaskWrite(geometry.tile_address(*tile, geometry.CORE_CONTROL), 2, 0))
        for (tile, lock), value in self.locks.items():
            commands.append(cdo.Write(geometry.tile_address(*tile, geometry.lock_offset(kind(tile), lock)), value))
        for (tile, number), descriptor in self.descriptors.items():
            offset = geometry.bd_offset(kind(tile), number)
            commands.append(cdo.DmaWrite(geometry.tile_address(*tile, offset), self.packed(tile, descriptor)))
        commands += circuits(self.connections)
        for column in range(self.columns):
            commands += self._shim(column)
        commands += self.extra
        for tile, direction, channel, first in self.starts:
            offset = geometry.channel_queue_offset(kind(tile), direction, channel)
            commands.append(cdo.Write(geometry.tile_address(*tile, offset), geometry.queue_word(first)))
        for tile in sorted(self.enabled):
            commands.append(cdo.MaskWrite(geometry.tile_address(*tile, geometry.CORE_CONTROL), 1, 1))
        return commands

    def packed(self, tile: tuple[int, int], descriptor: Descriptor) -> tuple[int, ...]:
        """A descriptor's register words."""
        return descriptor.pack()

    def _shim(self, column: int) -> list[cdo.Command]:
        """Where a column's tokens go, its mux and demux to the DMA, the controller id of its output's tokens."""
        commands: list[cdo.Command] = []
        shim = (column, 0)
        if self.token_route:
            route = Connection(port(shim, "ctrl"), port(shim, "south", geometry.TOKEN_MASTER_SOUTH))
            commands += packets(PacketConnection(route, geometry.TOKEN_CONTROLLER_ID))
        if self.mux:
            commands.append(cdo.MaskWrite(geometry.tile_address(*shim, geometry.SHIM_MUX), 0xC00, 0x400))
            commands.append(cdo.MaskWrite(geometry.tile_address(*shim, geometry.SHIM_DEMUX), 0x30, 0x10))
        control = geometry.tile_address(*shim, geometry.channel_control_offset("shim", "s2mm", 0))
        return [*commands, cdo.MaskWrite(control, 0x1F00, geometry.TOKEN_CONTROLLER_ID << 8)]

    def pdi(self) -> bytes:
        return pdi.write_pdi(self.commands())

    def run(self, max_cycles: int | None = 3_000_000, strict: bool = False) -> RunStatistics:
        """Boot and run once; the last buffer holds the result."""
        device = Device(self.columns, strict=strict)
        device.load_pdi(self.pdi())
        raw = [bytearray(buffer.tobytes()) for buffer in self.buffers]
        statistics = device.run(self.operations, raw, max_cycles)
        self.buffers = [np.frombuffer(bytes(data), np.uint32) for data in raw]
        return statistics


def kind(tile: tuple[int, int]) -> str:
    return geometry.tile_kind(tile[1])


def transfer(
    bd: int,
    argument: int,
    direction: str,
    *,
    channel: int = 0,
    words: int = WORDS * BLOCKS,
    offset: int = 0,
    token: bool = False,
    column: int = 0,
    push: bool = True,
) -> list[txn.Operation]:
    """A linear shim transfer: descriptor, patch, push."""
    place = geometry.tile_address(column, 0, geometry.bd_offset("shim", bd))
    queue = geometry.tile_address(column, 0, geometry.channel_queue_offset("shim", direction, channel))
    operations: list[txn.Operation] = [
        txn.BlockWrite(place, Descriptor("shim", bd, 0, words).pack()),
        txn.DdrPatch(place + 4, argument, offset),
    ]
    return [*operations, txn.Write(queue, geometry.queue_word(bd, token=token))] if push else operations
