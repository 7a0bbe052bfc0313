"""Seven designs of other kinds than `wide_design.py`, as parts that tests may change.

relay: three buffers under one semaphore, transposed, two at a time to a core, results by iteration.  cascade: three
cores in a row.  broadcast: one block to three cores of two columns.  packets: two cores by packet id, their results out
of order.  streams: two cores that read and write their streams.  neighbour: a memory tile that fills the next one.
control: parameters and a start lock from the sequence, two jobs a run.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from small_design import OWN, Design, port, transfer

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor, Dimension
from npuc.passes.array.router import Connection
from npuc.runtime.emulator.device import Device

Tile = tuple[int, int]
SHIM, SHIM_1, MEMTILE, MEMTILE_1 = (0, 0), (1, 0), (0, 1), (1, 1)
CORE, UPPER, TOP, EAST = (0, 2), (0, 3), (0, 4), (1, 2)
BLOCK, BLOCKS = 32, 4
WORDS = BLOCK * BLOCKS
IN, OUT = 0x400, 0x4000  # bytes in a core's memory
PARAMETER, START = 0x2000, 8  # of the control design: its place, and the lock that says that it is there
EASTERN = geometry.MEMTILE_VIEW_EAST // 4
OUT_OF_ORDER = 1 << 3  # of a channel's control register
NOPS = "nop\n" * 8


def work(
    takes: tuple[tuple[int, int], ...] = ((OWN + 1, 1), (OWN + 2, 1)),
    gives: tuple[tuple[int, int], ...] = ((OWN, 1), (OWN + 3, 1)),
    *,
    source: int = 0x70000 + IN,
    target: int = 0x70000 + OUT,
    words: int = BLOCK,
    get: str = "lda r2, [p0], #4",
    put: str = "st r2, [p1], #4",
    amount: str = "#1",
    first: str = "",
    before: str = "",
    after: str = "",
) -> str:
    """For ever: acquire (lock, value) of `takes`, add `amount` to each word, release those of `gives`."""

    def locks(operation: str, sign: int, pairs: tuple[tuple[int, int], ...]) -> str:
        return "\n".join(f"movx r0, #{lock}; mov r1, #{sign * by}\n{operation} r0, r1" for lock, by in pairs)

    return f"""
    {first}
    run:
    {before}
    {locks("acq", -1, takes)}
    movxm p0, #{source:#x}
    movxm p1, #{target:#x}
    movxm r4, #{words}
    word:
    {get}
    add r4, r4, #-1
    {NOPS}
    add r2, r2, {amount}
    {put}
    jnz r4, #word
    {NOPS}
    {locks("rel", 1, gives)}
    {after}
    j #run
    {NOPS}
    """


def link(kind: str, *, entries: int = 2, source: int = 0x70000 + IN, after: str = "", enable: str = "") -> str:
    """A core of the cascade, block by block: 'top' loads and writes, 'middle' passes on, 'bottom' reads and stores."""
    takes = {"top": ((OWN + 1, 1),), "middle": (), "bottom": ((OWN + 2, 1),)}[kind]
    gives = {"top": ((OWN, 1),), "middle": (), "bottom": ((OWN + 3, 1),)}[kind]
    load = f"vlda wl1, [p0], #32\nvlda wh1, [p0], #32\n{NOPS}" if kind == "top" else f"vmov x1, SCD\n{NOPS}"
    keep = f"vst wl1, [p1], #32\nvst wh1, [p1], #32\n{NOPS}" if kind == "bottom" else f"vmov MCD, x1\n{NOPS}"
    on = {"top": "crMCDEn", "middle": "crMCDEn crSCDEn", "bottom": "crSCDEn"}[kind] if not enable else enable
    first = f"movx r5, #1\n{NOPS}" + "".join(f"mov {each}, r5\n{NOPS}" for each in on.split())
    moves = (load + keep) * entries
    return work(takes, gives, source=source, words=1, get=moves, put="nop", first=first, after=after)


@dataclass(frozen=True)
class Slot:
    """Packets of an id (bits of `mask`) that come by a slave port of a tile go to a select of an arbiter."""

    tile: Tile
    slave: tuple[str, int]
    slot: int
    packet_id: int
    arbiter: int
    msel: int = 0
    mask: int = 31

    def commands(self) -> list[cdo.Command]:
        kind = geometry.tile_kind(self.tile[1])
        slave = geometry.slave_index(kind, *self.slave)
        word = geometry.slot_word(self.packet_id, self.mask, self.msel, self.arbiter)
        return [
            register(self.tile, geometry.slave_offset(kind, slave), geometry.PACKET_SLAVE_WORD),
            register(self.tile, geometry.slot_offset(kind, slave, self.slot), word),
        ]


@dataclass(frozen=True)
class Master:
    """A master port in packet mode."""

    tile: Tile
    port: tuple[str, int]
    arbiter: int
    msels: int = 1
    drop: bool = False

    def command(self) -> cdo.Command:
        kind = geometry.tile_kind(self.tile[1])
        offset = geometry.master_offset(kind, geometry.master_index(kind, *self.port))
        return register(self.tile, offset, geometry.packet_master_word(self.arbiter, self.msels, self.drop))


@dataclass
class Net(Design):
    """Parts of a design, none at first.  runs: how often the sequence runs on what the runs before left."""

    programs: dict[Tile, str | bytes] = field(default_factory=dict)
    enabled: set[Tile] = field(default_factory=set)
    locks: dict[tuple[Tile, int], int] = field(default_factory=dict)
    fields: dict[tuple[Tile, int], dict[str, int]] = field(default_factory=dict)
    starts: list[tuple[Tile, str, int, int]] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    slots: list[Slot] = field(default_factory=list)
    masters: list[Master] = field(default_factory=list)
    buffers: list[np.ndarray] = field(default_factory=list)
    runs: int = 1

    def __post_init__(self) -> None:
        pass

    def core(self, tile: Tile, text: str, **locks: int) -> None:
        """An enabled core with its program and its locks that do not start at 0, as l0=1."""
        self.programs[tile] = text
        self.enabled.add(tile)
        self.locks |= {(tile, int(name[1:])): value for name, value in locks.items()}

    def bd(
        self, tile: Tile, number: int, address: int, words: int = BLOCK, *, take: int | None = None,
        give: int | None = None, by: int = 1, then: int | None = None, dimensions: tuple[Dimension, ...] = (),
        iterations: int = 1, iteration_step: int = 1, **fields: int,
    ) -> None:  # fmt: skip
        """A descriptor; take: the lock to acquire (`by` of it), give: the one to release, then: the next."""
        acquire = (take, -by) if take is not None else None
        release = (give, 1) if give is not None else None
        self.descriptors[tile, number] = Descriptor(
            geometry.tile_kind(tile[1]), number, address, words, dimensions, acquire, release, then, iterations,
            iteration_step,
        )  # fmt: skip
        if fields:
            self.fields[tile, number] = fields

    def ways(self, *texts: str) -> None:
        self.connections += [way(text) for text in texts]

    def host(self, words: int = WORDS, start: int = 0) -> None:
        """Two more buffers, an input and an output."""
        self.buffers += [np.arange(start, start + words, dtype=np.uint32), np.zeros(words, dtype=np.uint32)]

    def packed(self, tile: Tile, descriptor: Descriptor) -> tuple[int, ...]:
        fields = geometry.unpack_bd(descriptor.kind, descriptor.pack()) | self.fields.get((tile, descriptor.number), {})
        return tuple(geometry.pack_bd(descriptor.kind, **fields))

    def commands(self) -> list[cdo.Command]:
        packets = [command for slot in self.slots for command in slot.commands()]
        late, self.extra = self.extra, [*packets, *(master.command() for master in self.masters), *self.extra]
        commands = super().commands()
        self.extra = late
        return commands

    def _shim(self, column: int) -> list[cdo.Command]:
        """Both channels of both directions: mux, demux and controller ids."""
        commands = super()._shim(column)
        for place, fields, ports in (
            (geometry.SHIM_MUX, geometry.SHIM_MUX_LSB, geometry.SHIM_MM2S_SLAVE_SOUTH),
            (geometry.SHIM_DEMUX, geometry.SHIM_DEMUX_LSB, geometry.SHIM_S2MM_MASTER_SOUTH),
        ):
            for number in ports:
                commands.append(masked((column, 0), place, 3 << fields[number], 1 << fields[number]))
        for direction in geometry.DIRECTIONS:
            for channel in range(2):
                control = geometry.channel_control_offset("shim", direction, channel)
                commands.append(masked((column, 0), control, 0x1F00, geometry.TOKEN_CONTROLLER_ID << 8))
        return commands

    def run(self, max_cycles: int | None = 3_000_000, strict: bool = False):
        device = Device(self.columns, strict=strict)
        device.load_pdi(self.pdi())
        for _ in range(self.runs):
            raw = [bytearray(buffer.tobytes()) for buffer in self.buffers]
            statistics = device.run(self.operations, raw, max_cycles)
        self.buffers = [np.frombuffer(bytes(data), np.uint32) for data in raw]
        return statistics


def register(tile: Tile, offset: int, value: int) -> cdo.Command:
    return cdo.Write(geometry.tile_address(*tile, offset), value)


def masked(tile: Tile, offset: int, mask: int, value: int) -> cdo.Command:
    return cdo.MaskWrite(geometry.tile_address(*tile, offset), mask, value)


def push(tile: Tile, direction: str, channel: int, number: int, repeat: int = 1, token: bool = False) -> txn.Write:
    offset = geometry.channel_queue_offset(geometry.tile_kind(tile[1]), direction, channel)
    return txn.Write(geometry.tile_address(*tile, offset), geometry.queue_word(number, repeat, token))


def way(text: str) -> Connection:
    """A connection in a tile's switch from "COL,ROW slaveN masterN"."""
    place, source, target = text.split()
    column, row = map(int, place.split(","))
    ends = [port((column, row), name.rstrip("0123456789"), int(name[-1])) for name in (source, target)]
    return Connection(ends[0], ends[1])


def in_and_out(net: Net, *, column: int = 0, argument: int = 0, words: int = WORDS) -> None:
    """The tasks of a column: output by descriptor 1, with a token, then input by descriptor 0."""
    net.operations += transfer(1, argument + 1, "s2mm", words=words, token=True, column=column)
    net.operations += transfer(0, argument, "mm2s", words=words, column=column)


def relay() -> Net:
    net = Net()
    net.core(CORE, work(((OWN + 1, 2), (OWN + 2, 1)), ((OWN, 2), (OWN + 3, 1)), words=128), l0=2, l2=1)
    net.locks |= {(MEMTILE, 0): 3, (MEMTILE, 2): 2}
    columns = (Dimension(8, 8), Dimension(0, 1))
    for number in range(3):
        net.bd(MEMTILE, number, 0x100 * number, 64, take=0, give=1, then=(number + 1) % 3)
        after = 3 + (number + 1) % 3
        net.bd(MEMTILE, 3 + number, 0x100 * number, 64, take=1, give=0, then=after, dimensions=columns)
    net.bd(MEMTILE, 24, 0x1000, 128, take=2, give=3, then=24, iterations=2, iteration_step=128)
    net.bd(MEMTILE, 25, 0x1000, 128, take=3, give=2, then=25, iterations=2, iteration_step=128)
    net.bd(CORE, 0, 0x400, 64, take=0, give=1, then=1)
    net.bd(CORE, 1, 0x500, 64, take=0, give=1, then=0)
    net.bd(CORE, 2, OUT, 128, take=3, give=2, then=2)
    net.starts = [
        (MEMTILE, "s2mm", 0, 0), (MEMTILE, "mm2s", 0, 3), (MEMTILE, "s2mm", 1, 24), (MEMTILE, "mm2s", 1, 25),
        (CORE, "s2mm", 0, 0), (CORE, "mm2s", 0, 2),
    ]  # fmt: skip
    net.ways("0,0 south3 north0", "0,1 south0 dma0", "0,1 dma0 north0", "0,2 south0 dma0", "0,2 dma0 south0")
    net.ways("0,1 north0 dma1", "0,1 dma1 south0", "0,0 north0 south2")
    net.host(512)
    twice = Descriptor("shim", 0, 0, 256, iterations=2, iteration_step=256)
    place = geometry.tile_address(0, 0, geometry.bd_offset("shim", 0))
    net.operations = [
        *transfer(1, 1, "s2mm", words=256, token=True), *transfer(2, 1, "s2mm", words=256, offset=1024, token=True),
        txn.BlockWrite(place, twice.pack()), txn.DdrPatch(place + 4, 0, 0), push(SHIM, "mm2s", 0, 0, repeat=2),
        txn.Sync(0, 0, 0, 0), txn.Sync(0, 0, 0, 0),
    ]  # fmt: skip
    return net


def cascade() -> Net:
    net = Net()
    net.core(TOP, link("top"), l0=1)
    net.core(UPPER, link("middle"))
    net.core(CORE, link("bottom"), l2=1)
    net.extra = [register(tile, geometry.ACCUMULATOR_CONTROL, 0) for tile in (CORE, UPPER, TOP)]
    net.bd(TOP, 0, IN, take=0, give=1, then=0)
    net.bd(CORE, 1, OUT, take=3, give=2, then=1)
    net.starts = [(TOP, "s2mm", 0, 0), (CORE, "mm2s", 0, 1)]
    net.ways("0,0 south3 north0", "0,1 south0 north0", "0,2 south0 north0", "0,3 south0 north0", "0,4 south0 dma0")
    net.ways("0,2 dma0 south0", "0,1 north0 south0", "0,0 north0 south2")
    net.host()
    in_and_out(net)
    net.operations.append(txn.Sync(0, 0, 0, 0))
    return net


def broadcast() -> Net:
    net = Net(columns=2)
    net.locks[MEMTILE, 0] = 2
    for number, (take, give, then) in enumerate(((0, 1, 1), (0, 1, 0), (1, 0, 3), (1, 0, 2))):
        net.bd(MEMTILE, number, 4 * BLOCK * (number % 2), take=take, give=give, then=then)
    net.starts = [(MEMTILE, "s2mm", 0, 0), (MEMTILE, "mm2s", 0, 2)]
    for tile in (CORE, UPPER, EAST):
        net.core(tile, work(), l0=1, l2=1)
        net.bd(tile, 0, IN, take=0, give=1, then=0)
        net.bd(tile, 1, OUT, take=3, give=2, then=1)
        net.starts += [(tile, "s2mm", 0, 0), (tile, "mm2s", 0, 1)]
    net.ways("0,0 south3 north0", "0,1 south0 dma0", "0,1 dma0 north0", "0,2 south0 dma0", "0,2 south0 north0")
    net.ways("0,2 south0 east0", "0,3 south0 dma0", "1,2 west0 dma0")
    net.ways("0,2 dma0 south0", "0,1 north0 south0", "0,0 north0 south2")
    net.ways("0,3 dma0 south1", "0,2 north1 south1", "0,1 north1 south1", "0,0 north1 south3")
    net.ways("1,2 dma0 south0", "1,1 north0 south0", "1,0 north0 south2")
    net.host()
    net.buffers += [np.zeros(WORDS, dtype=np.uint32) for _ in range(2)]
    in_and_out(net)
    net.operations += transfer(2, 2, "s2mm", channel=1, token=True)
    net.operations += transfer(1, 3, "s2mm", column=1, token=True)
    net.operations += [txn.Sync(0, 0, 0, 0, columns=2), txn.Sync(0, 0, 0, 1)]
    return net


def packets() -> Net:
    """The host sends the lower core's half as packet 1, the upper's as packet 2; results come as 4 and 5."""
    net = Net()
    for tile, number in ((CORE, 4), (UPPER, 5)):
        net.core(tile, work(), l0=1, l2=1)
        net.bd(tile, 0, IN, take=0, give=1, then=0)
        net.bd(tile, 1, OUT, take=3, give=2, then=1, enable_packet=1, packet_id=number, out_of_order_id=number)
        net.bd(MEMTILE, number, 8 * BLOCK * (number - 4), give=1, iterations=2, iteration_step=BLOCK)
        net.starts += [(tile, "s2mm", 0, 0), (tile, "mm2s", 0, 1)]
    net.bd(MEMTILE, 6, 0, WORDS, take=1, by=4, then=6)
    net.starts.append((MEMTILE, "mm2s", 2, 6))
    control = geometry.channel_control_offset("memtile", "s2mm", 0)
    four = push(MEMTILE, "s2mm", 0, 4, repeat=BLOCKS)
    net.extra = [register(MEMTILE, control, OUT_OF_ORDER), cdo.Write(four.address, four.value)]
    net.ways("0,0 south3 north0", "0,2 south1 north1", "0,3 dma0 south0")
    net.ways("0,1 north0 dma0", "0,1 dma2 south0", "0,0 north0 south2")
    net.slots = [
        Slot(MEMTILE, ("south", 0), 0, 1, 0), Slot(MEMTILE, ("south", 0), 1, 2, 1), Slot(CORE, ("south", 0), 0, 1, 0),
        Slot(UPPER, ("south", 1), 0, 2, 0), Slot(CORE, ("dma", 0), 0, 4, 1), Slot(CORE, ("north", 0), 0, 5, 1),
    ]  # fmt: skip
    net.masters = [
        Master(MEMTILE, ("north", 0), 0), Master(MEMTILE, ("north", 1), 1), Master(CORE, ("dma", 0), 0, drop=True),
        Master(UPPER, ("dma", 0), 0, drop=True), Master(CORE, ("south", 0), 1),
    ]  # fmt: skip
    net.host()
    net.operations = transfer(1, 1, "s2mm", token=True)
    for number in (1, 2):
        half = transfer(1 + number, 0, "mm2s", words=WORDS // 2, offset=2 * WORDS * (number - 1))
        assert isinstance(half[0], txn.BlockWrite)
        words = geometry.unpack_bd("shim", half[0].words) | {"enable_packet": 1, "packet_id": number}
        half[0] = txn.BlockWrite(half[0].address, tuple(geometry.pack_bd("shim", **words)))
        net.operations += half
    net.operations.append(txn.Sync(0, 0, 0, 0))
    return net


def streams() -> Net:
    net = Net(columns=2)
    net.core(CORE, work((), (), get="mov r2, SS", put="mov ms, r2"))
    net.core(EAST, work(((OWN + 2, 1),), ((OWN + 3, 1),), get="mov r2, SS"), l2=1)
    net.bd(EAST, 1, OUT, take=3, give=2, then=1)
    net.starts = [(EAST, "mm2s", 0, 1)]
    net.ways("0,0 south3 north0", "0,1 south0 north0", "0,2 south0 core0", "0,2 core0 east0", "1,2 west0 core0")
    net.ways("1,2 dma0 south0", "1,1 north0 south0", "1,0 north0 south2")
    net.host()
    net.operations = [
        *transfer(1, 1, "s2mm", column=1, token=True), *transfer(0, 0, "mm2s"), txn.Sync(1, 0, 0, 0),
    ]  # fmt: skip
    return net


def neighbour() -> Net:
    net = Net(columns=2)
    net.locks[MEMTILE_1, 0] = 2
    for number in range(2):
        there = {"base_address": EASTERN + BLOCK * number, "acquire_lock": 128, "release_lock": 129}
        net.bd(MEMTILE, number, 0, take=0, give=1, then=1 - number, **there)
        net.bd(MEMTILE_1, number, 4 * BLOCK * number, take=1, give=0, then=1 - number)
    net.core(EAST, work(), l0=1, l2=1)
    net.bd(EAST, 0, IN, take=0, give=1, then=0)
    net.bd(EAST, 1, OUT, take=3, give=2, then=1)
    net.starts = [(MEMTILE, "s2mm", 0, 0), (MEMTILE_1, "mm2s", 0, 0), (EAST, "s2mm", 0, 0), (EAST, "mm2s", 0, 1)]
    net.ways("0,0 south3 north0", "0,1 south0 dma0", "1,1 dma0 north0", "1,2 south0 dma0")
    net.ways("1,2 dma0 south0", "1,1 north0 south0", "1,0 north0 south2")
    net.host()
    net.operations = [
        *transfer(1, 1, "s2mm", column=1, token=True), *transfer(0, 0, "mm2s"), txn.Sync(1, 0, 0, 0),
    ]  # fmt: skip
    return net


def job(number: int, value: int) -> list[txn.Operation]:
    """One of the control design: the parameter, the start lock, output and input of 64 words, its end."""
    half = 4 * WORDS // 2
    return [
        txn.BlockWrite(geometry.tile_address(*CORE, PARAMETER), (value,)),
        txn.Write(geometry.tile_address(*CORE, geometry.lock_offset("core", START)), 1),
        *transfer(2 * number + 1, 1, "s2mm", words=WORDS // 2, offset=half * number, token=True),
        *transfer(2 * number, 0, "mm2s", words=WORDS // 2, offset=half * number),
        txn.Sync(0, 0, 0, 0),
    ]


def job_program(blocks: int = 2, *, start: int = START, parameter: int = PARAMETER, after: str = "") -> str:
    """For ever: wait for the start, read the parameter, add it to the words of `blocks` blocks."""
    wait = f"movx r0, #{OWN + start}; mov r1, #-1\nacq r0, r1\n"
    read = f"movxm p2, #{0x70000 + parameter:#x}\n{NOPS}lda r5, [p2, #0]\n{NOPS}movx r6, #{blocks}"
    loop = f"add r6, r6, #-1\nnop\njnz r6, #run\n{NOPS}{after}\nj #job\n{NOPS}"
    return work(amount="r5", first=f"job:\n{wait}{read}", after=loop)


def control() -> Net:
    net = Net(runs=2)
    net.core(CORE, job_program(), l0=1, l2=1)
    net.bd(CORE, 0, IN, take=0, give=1, then=0)
    net.bd(CORE, 1, OUT, take=3, give=2, then=1)
    net.starts = [(CORE, "s2mm", 0, 0), (CORE, "mm2s", 0, 1)]
    net.ways("0,0 south3 north0", "0,1 south0 north0", "0,2 south0 dma0")
    net.ways("0,2 dma0 south0", "0,1 north0 south0", "0,0 north0 south2")
    net.host()
    net.operations = [*job(0, 5), *job(1, 9)]
    return net
