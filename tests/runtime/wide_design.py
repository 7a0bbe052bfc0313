"""A design of two columns that divides, joins and hands on, as parts that tests may change.

Column 0: the memory tile deals a block's halves out to cores (0,2) and (0,3), each adds 1; their results come back as
packets on one wire and are joined in the memory tile.  Column 1: core (1,2) adds 1 and writes into the memory of core
(1,3), under locks there; that core adds 1 and sends.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from small_design import BLOCKS, IN, IN_EMPTY, IN_FULL, OUT, OUT_EMPTY, OUT_FULL, OWN, WORDS, Design, port, transfer

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import packets
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.router import Connection, PacketConnection

Tile = tuple[int, int]
SHIM, SHIM_1, MEMTILE, MEMTILE_1 = (0, 0), (1, 0), (0, 1), (1, 1)
LOWER, UPPER = (0, 2), (0, 3)  # the cores that share a block
FIRST, SECOND = (1, 2), (1, 3)  # the cores that work one after the other
NORTH = geometry.CORE_LOCK_NORTH
MIDDLE = 0x4000  # bytes in the memory of SECOND
MIDDLE_EMPTY, MIDDLE_FULL = 4, 5  # locks of SECOND
SECOND_OUT = 0x8000
HALF = 4 * WORDS
LOWER_ID, UPPER_ID = 2, 3  # packet ids of the two cores' results
# Buffers of the memory tile of column 0: address, lock that says empty, lock that says full.
TO_LOWER, TO_UPPER, FROM_LOWER, FROM_UPPER = (0, 0, 1), (HALF, 2, 3), (0x200, 4, 5), (0x280, 6, 7)


def adder(
    source: int = 0x70000 + IN,
    target: int = 0x70000 + OUT,
    *,
    full: int = OWN + IN_FULL,
    empty: int = OWN + OUT_EMPTY,
    done_in: int | None = OWN + IN_EMPTY,
    done_out: int | None = OWN + OUT_FULL,
    wanted: int = -1,
    words: int = WORDS,
    step: int = -1,
    before: str = "",
    after: str = "",
) -> str:
    """For ever: acquire `full` and `empty`, add 1 to each word between two places, release the other two locks."""
    nops = "\n".join(["nop"] * 6)

    def lock(operation: str, number: int | None, value: int) -> str:
        return f"movx r0, #{number}; mov r1, #{value}\n{operation} r0, r1" if number is not None else "nop"

    return f"""
    {before}
    run:
    {lock("acq", full, wanted)}
    {lock("acq", empty, -1)}
    movxm p0, #{source:#x}
    movxm p1, #{target:#x}
    movxm r4, #{words}
    word:
    lda r2, [p0], #4
    add r4, r4, #{step}
    {nops}
    add r2, r2, #1
    st r2, [p1], #4
    jnz r4, #word
    {nops}
    nop
    {lock("rel", done_in, 1)}
    {lock("rel", done_out, 1)}
    {after}
    j #run
    nop
    nop
    nop
    nop
    nop
    """


def first_adder(**changes) -> str:
    """The program of FIRST: its target and two of its locks are those of the tile to the north."""
    there = {
        "target": geometry.CORE_VIEW_NORTH + MIDDLE,
        "empty": NORTH + MIDDLE_EMPTY,
        "done_out": NORTH + MIDDLE_FULL,
    }
    return adder(**{**there, **changes})


def second_adder(**changes) -> str:
    own = {"full": OWN + MIDDLE_FULL, "done_in": OWN + MIDDLE_EMPTY}
    return adder(**{"source": 0x70000 + MIDDLE, "target": 0x70000 + SECOND_OUT, **own, **changes})


def connect(tile: Tile, source: str, number: int, target: str, target_number: int) -> Connection:
    return Connection(port(tile, source, number), port(tile, target, target_number))


def circuits_of_both() -> list[Connection]:
    return [
        connect(SHIM, "south", 3, "north", 0),
        connect(MEMTILE, "south", 0, "dma", 0),
        connect(MEMTILE, "dma", 0, "north", 0),
        connect(MEMTILE, "dma", 1, "north", 1),
        connect(LOWER, "south", 0, "dma", 0),
        connect(LOWER, "south", 1, "north", 1),
        connect(UPPER, "south", 1, "dma", 0),
        connect(MEMTILE, "dma", 2, "south", 2),
        connect(SHIM, "north", 2, "south", 2),
        connect(SHIM_1, "south", 3, "north", 0),
        connect(MEMTILE_1, "south", 0, "north", 0),
        connect(FIRST, "south", 0, "dma", 0),
        connect(SECOND, "dma", 0, "south", 0),
        connect(FIRST, "north", 0, "south", 0),
        connect(MEMTILE_1, "north", 0, "south", 0),
        connect(SHIM_1, "north", 0, "south", 2),
    ]


@dataclass(frozen=True)
class Slot:
    """Packets of `packet_id` (bits of `mask`) that come by a slave port go to an arbiter's first select."""

    slave: tuple[str, int]
    slot: int
    packet_id: int
    arbiter: int
    mask: int = 31

    def commands(self, tile: Tile) -> Iterator[cdo.Command]:
        kind = geometry.tile_kind(tile[1])
        slave = geometry.slave_index(kind, *self.slave)
        word = geometry.slot_word(self.packet_id, self.mask, 0, self.arbiter)
        yield register(tile, geometry.slave_offset(kind, slave), geometry.PACKET_SLAVE_WORD)
        yield register(tile, geometry.slot_offset(kind, slave, self.slot), word)


@dataclass
class WideDesign(Design):
    """All parts, right as they stand; `fields` are those of descriptors that Descriptor does not have."""

    columns: int = 2
    programs: dict[Tile, str | bytes] = field(
        default_factory=lambda: {LOWER: adder(), UPPER: adder(), FIRST: first_adder(), SECOND: second_adder()}
    )
    enabled: set[Tile] = field(default_factory=lambda: {LOWER, UPPER, FIRST, SECOND})
    locks: dict[tuple[Tile, int], int] = field(
        default_factory=lambda: {
            **{(MEMTILE, empty): 1 for _, empty, _ in (TO_LOWER, TO_UPPER, FROM_LOWER, FROM_UPPER)},
            **{(tile, lock): 1 for tile in (LOWER, UPPER) for lock in (IN_EMPTY, OUT_EMPTY)},
            **{(FIRST, IN_EMPTY): 1, (SECOND, MIDDLE_EMPTY): 1, (SECOND, OUT_EMPTY): 1},
        }
    )
    fields: dict[tuple[Tile, int], dict[str, int]] = field(
        default_factory=lambda: {
            (LOWER, 1): {"enable_packet": 1, "packet_id": LOWER_ID},
            (UPPER, 1): {"enable_packet": 1, "packet_id": UPPER_ID},
        }
    )
    starts: list[tuple[Tile, str, int, int]] = field(
        default_factory=lambda: [
            (MEMTILE, "s2mm", 0, 0),
            (MEMTILE, "mm2s", 0, 2),
            (MEMTILE, "mm2s", 1, 24),
            (MEMTILE, "s2mm", 2, 4),
            (MEMTILE, "s2mm", 3, 26),
            (MEMTILE, "mm2s", 2, 6),
            *((tile, direction, 0, bd) for tile in (LOWER, UPPER) for direction, bd in (("s2mm", 0), ("mm2s", 1))),
            (FIRST, "s2mm", 0, 0),
            (SECOND, "mm2s", 0, 1),
        ]
    )
    connections: list[Connection] = field(default_factory=circuits_of_both)
    shared: list[PacketConnection] = field(
        default_factory=lambda: [
            PacketConnection(connect(UPPER, "dma", 0, "south", 0), UPPER_ID),
            PacketConnection(connect(LOWER, "dma", 0, "south", 0), LOWER_ID),
            PacketConnection(connect(LOWER, "north", 0, "south", 0), UPPER_ID),
        ]
    )
    slots: list[Slot] = field(
        default_factory=lambda: [Slot(("north", 0), 0, LOWER_ID, 0), Slot(("north", 0), 1, UPPER_ID, 1)]
    )
    drop_headers: bool = True
    buffers: list[np.ndarray] = field(
        default_factory=lambda: [
            np.arange(2 * WORDS * BLOCKS, dtype=np.uint32),
            np.zeros(2 * WORDS * BLOCKS, dtype=np.uint32),
            np.arange(7000, 7000 + WORDS * BLOCKS, dtype=np.uint32),
            np.zeros(WORDS * BLOCKS, dtype=np.uint32),
        ]
    )

    def __post_init__(self) -> None:
        def relay(number: int, buffer: tuple[int, int, int], direction: str, following: int) -> None:
            address, empty, full = buffer
            acquire, release = (empty, full) if direction == "s2mm" else (full, empty)
            self._add(MEMTILE, number, address, (acquire, -1), (release, 1), following)

        relay(0, TO_LOWER, "s2mm", 1)
        relay(1, TO_UPPER, "s2mm", 0)
        relay(2, TO_LOWER, "mm2s", 2)
        relay(24, TO_UPPER, "mm2s", 24)
        relay(4, FROM_LOWER, "s2mm", 4)
        relay(26, FROM_UPPER, "s2mm", 26)
        relay(6, FROM_LOWER, "mm2s", 7)
        relay(7, FROM_UPPER, "mm2s", 6)
        for tile in (LOWER, UPPER, FIRST):
            self._add(tile, 0, IN, (IN_EMPTY, -1), (IN_FULL, 1), 0)
        for tile, address in ((LOWER, OUT), (UPPER, OUT), (SECOND, SECOND_OUT)):
            self._add(tile, 1, address, (OUT_FULL, -1), (OUT_EMPTY, 1), 1)
        if not self.operations:
            self.operations = [
                *transfer(1, 1, "s2mm", words=2 * WORDS * BLOCKS, token=True),
                *transfer(0, 0, "mm2s", words=2 * WORDS * BLOCKS),
                *transfer(1, 3, "s2mm", token=True, column=1),
                *transfer(0, 2, "mm2s", column=1),
                txn.Sync(0, 0, 0, 0),
                txn.Sync(1, 0, 0, 0),
            ]

    def _add(self, tile: Tile, number: int, address: int, acquire: tuple, release: tuple, following: int) -> None:
        self.descriptors[tile, number] = Descriptor(
            geometry.tile_kind(tile[1]), number, address, WORDS, acquire=acquire, release=release, next=following
        )

    def packed(self, tile: Tile, descriptor: Descriptor) -> tuple[int, ...]:
        fields = geometry.unpack_bd(descriptor.kind, descriptor.pack()) | self.fields.get((tile, descriptor.number), {})
        return tuple(geometry.pack_bd(descriptor.kind, **fields))

    def commands(self) -> list[cdo.Command]:
        ways: list[cdo.Command] = []
        for rule in self.shared:
            ways += packets(rule)
        for slot in self.slots:
            ways += slot.commands(MEMTILE)
        for arbiter, master in ((0, 2), (1, 3)):
            offset = geometry.master_offset("memtile", geometry.master_index("memtile", "dma", master))
            word = geometry.packet_master_word(arbiter, 1, drop_header=self.drop_headers)
            ways.append(register(MEMTILE, offset, word))
        self.extra[:0] = ways
        return super().commands()


def register(tile: Tile, offset: int, value: int) -> cdo.Command:
    return cdo.Write(geometry.tile_address(*tile, offset), value)
