"""Ways to break the designs of `net_designs.py`, and what the first line of the diagnosis must name of each.

Every expectation was written down with the fault, before any of them was run: the unit at fault and what it misses or
does.  A fault that two units share may be laid to either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from net_designs import (
    CORE,
    EAST,
    IN,
    MEMTILE,
    MEMTILE_1,
    NOPS,
    OWN,
    SHIM,
    SHIM_1,
    START,
    TOP,
    UPPER,
    WORDS,
    Net,
    Tile,
    broadcast,
    cascade,
    control,
    job_program,
    link,
    masked,
    neighbour,
    packets,
    push,
    register,
    relay,
    streams,
    way,
    work,
)
from small_design import transfer

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry

Change = Callable[[Net], object]


@dataclass(frozen=True)
class BrokenNet:
    """root: patterns that the first line of the error must match, all of them; ( ) and . in them are themselves."""

    name: str
    base: Callable[[], Net]
    root: tuple[str, ...]
    changes: tuple[Change, ...]

    def made(self) -> Net:
        net = self.base()
        for change in self.changes:
            change(net)
        return net

    @property
    def patterns(self) -> list[str]:
        return ["".join(f"\\{c}" if c in "()." else c for c in pattern) for pattern in self.root]


# --- changes ------------------------------------------------------------------------------------------------------
def lock(tile: Tile, number: int, value: int) -> Change:
    return lambda net: net.locks.update({(tile, number): value})


def bd(tile: Tile, number: int, **changes) -> Change:
    def change(net: Net) -> None:
        net.descriptors[tile, number] = replace(net.descriptors[tile, number], **changes)

    return change


def fields(tile: Tile, number: int, **changes: int) -> Change:
    return lambda net: net.fields.update({(tile, number): net.fields.get((tile, number), {}) | changes})


def no_bd(tile: Tile, number: int) -> Change:
    return lambda net: net.descriptors.pop((tile, number))


def no_start(tile: Tile, direction: str, channel: int) -> Change:
    def change(net: Net) -> None:
        kept = [start for start in net.starts if start[:3] != (tile, direction, channel)]
        assert len(kept) == len(net.starts) - 1
        net.starts = kept

    return change


def start(tile: Tile, direction: str, channel: int, first: int) -> Change:
    return lambda net: net.starts.append((tile, direction, channel, first))


def cut(*texts: str) -> Change:
    def change(net: Net) -> None:
        for text in texts:
            net.connections.remove(way(text))

    return change


def ways(*texts: str) -> Change:
    return lambda net: net.ways(*texts)


def program(tile: Tile, text: str) -> Change:
    return lambda net: net.programs.update({tile: text})


def off(tile: Tile) -> Change:
    return lambda net: net.enabled.discard(tile)


def slot(number: int, **changes: int) -> Change:
    def change(net: Net) -> None:
        net.slots[number] = replace(net.slots[number], **changes)

    return change


def master(number: int, **changes) -> Change:
    def change(net: Net) -> None:
        net.masters[number] = replace(net.masters[number], **changes)

    return change


def also(*commands) -> Change:
    return lambda net: net.extra.extend(commands)


def operation(position: int, *new: txn.Operation, count: int = 1) -> Change:
    """Others in the place of `count` operations."""

    def change(net: Net) -> None:
        place = position % len(net.operations)
        net.operations[place : place + count] = new

    return change


def before(position: int, *new: txn.Operation) -> Change:
    return operation(position, *new, count=0)


def shim_bd(position: int, **changes: int) -> Change:
    """Other fields in the descriptor that an operation of the sequence writes."""

    def change(net: Net) -> None:
        write = net.operations[position]
        assert isinstance(write, txn.BlockWrite)
        words = geometry.unpack_bd("shim", write.words) | changes
        net.operations[position] = txn.BlockWrite(write.address, tuple(geometry.pack_bd("shim", **words)))

    return change


def place(tile: Tile, offset: int) -> int:
    return geometry.tile_address(*tile, offset)


def output(name: str, number: int) -> int:
    """The offset of a core's master register."""
    return geometry.master_offset("core", geometry.master_index("core", name, number))


def block_ends(count: int) -> str:
    """Ends the program after `count` blocks, for `after`; r9 counts."""
    return f"add r9, r9, #1\nmovx r8, #{count}\nnop\nne r8, r8, r9\nnop\njnz r8, #run\n{NOPS}done\n{NOPS}"


COUNTED = f"movx r9, #0\n{NOPS}"
CASES: dict[str, BrokenNet] = {}


def broken(base: Callable[[], Net], name: str, root: tuple[str, ...], *changes: Change) -> None:
    assert name not in CASES
    CASES[name] = BrokenNet(name, base, root, changes)


# --- semaphores, rings, iteration, repeats ------------------------------------------------------------------------
broken(relay, "one sender of the ring takes two", ("MM2S 0 of memtile(0,1)", "lock 1 of memtile(0,1)|taken 512"),
       bd(MEMTILE, 4, acquire=(1, -2)))  # fmt: skip
broken(relay, "receiver's ring ends", ("S2MM 0 of memtile(0,1)", "no task"), bd(MEMTILE, 2, next=None))
broken(relay, "sender's ring ends", ("MM2S 0 of memtile(0,1)", "no task"), bd(MEMTILE, 5, next=None))
broken(relay, "core takes three of two", ("core(0,2)", "lock 1 of core(0,2)", "at least 3"),
       program(CORE, work(((OWN + 1, 3), (OWN + 2, 1)), ((OWN, 3), (OWN + 3, 1)), words=128)))  # fmt: skip
broken(relay, "core gives one of two back", ("core(0,2)", "lock 0 of core(0,2)"),
       program(CORE, work(((OWN + 1, 2), (OWN + 2, 1)), ((OWN, 1), (OWN + 3, 1)), words=128)))  # fmt: skip
broken(relay, "input repeats once", ("MM2S 0 of shim(0,0)", "no task", "256 words"),
       operation(8, push(SHIM, "mm2s", 0, 0)))  # fmt: skip
broken(relay, "input repeats three times", ("S2MM 0 of shim(0,0)", "no task"),
       operation(8, push(SHIM, "mm2s", 0, 0, repeat=3)))  # fmt: skip
broken(relay, "second output without a token", ("S2MM 0 of shim(0,0)", "token"),
       operation(5, push(SHIM, "s2mm", 0, 2)))  # fmt: skip
broken(
    relay,
    "three tokens awaited of two",
    ("S2MM 0 of shim(0,0)", "done 2|two|no token|2 of"),
    lambda net: net.operations.append(txn.Sync(0, 0, 0, 0)),
)
broken(relay, "second output too far on", ("descriptor 2 of shim(0,0)", "buffer argument 1"),
       operation(3, *transfer(2, 1, "s2mm", words=256, offset=2048, push=False), count=2))  # fmt: skip
broken(relay, "second buffer is half as long", ("memtile(0,1)", "descriptor [14]"), bd(MEMTILE, 1, words=32))
broken(relay, "semaphore starts at 70", ("lock 0 of memtile(0,1)", "70"), lock(MEMTILE, 0, 70))
broken(relay, "output of no words", ("descriptor 2 of shim(0,0)", "length 0"), shim_bd(3, length=0))
broken(relay, "input by the other channel", ("MM2S 1 of shim(0,0)", "South 7 of shim(0,0)"),
       operation(8, push(SHIM, "mm2s", 1, 0, repeat=2)))  # fmt: skip
broken(relay, "result's sender takes two", ("MM2S 1 of memtile(0,1)", "lock 3 of memtile(0,1)", "at least 2"),
       bd(MEMTILE, 25, acquire=(3, -2)))  # fmt: skip
broken(relay, "both outputs run twice", ("of shim(0,0)", "512 words"),
       operation(2, push(SHIM, "s2mm", 0, 1, repeat=2, token=True)))  # fmt: skip
broken(relay, "another core is enabled", ("core(0,2)", "not enabled"), off(CORE), lambda net: net.enabled.add(UPPER))
broken(relay, "result buffers share the input's lock", ("memtile(0,1)", "lock [013] of memtile(0,1)"),
       bd(MEMTILE, 24, acquire=(0, -1)))  # fmt: skip
broken(relay, "core's result keeps its buffer", ("core(0,2)", "lock 2 of core(0,2)"), bd(CORE, 2, release=None))
broken(relay, "step of the transposed rows in bytes", ("descriptor 3 of memtile(0,1)|MM2S 0 of memtile(0,1)",),
       fields(MEMTILE, 3, d0_step=4 * 8 - 1))  # fmt: skip

# --- cascades -----------------------------------------------------------------------------------------------------
broken(cascade, "middle writes east", ("core(0,3)", "east"), also(register(UPPER, geometry.ACCUMULATOR_CONTROL, 2)))
broken(cascade, "bottom reads from the west", ("core(0,2)", "west"),
       also(register(CORE, geometry.ACCUMULATOR_CONTROL, 1)))  # fmt: skip
broken(cascade, "top writes one of two", ("core(0,[234])", "cascade"), program(TOP, link("top", entries=1)))
broken(cascade, "middle is not enabled", ("core(0,3)", "not enabled"), off(UPPER))
broken(cascade, "middle switches its output off", ("core(0,3)", "crMCDEn"),
       program(UPPER, f"movx r5, #0\n{NOPS}mov crMCDEn, r5\n{NOPS}" + link("middle", enable="crSCDEn")))  # fmt: skip
broken(cascade, "bottom reads three for two", ("core(0,2)", "cascade"), program(CORE, link("bottom", entries=3)))
broken(cascade, "bottom is not enabled", ("core(0,2)", "not enabled"), off(CORE))
broken(cascade, "top writes three for two", ("cascade", "core(0,[23])"),
       program(TOP, link("top", after=f"vmov MCD, x1\n{NOPS}")))  # fmt: skip
broken(cascade, "middle waits for a lock nobody knows", ("core(0,3)", "lock 5 of core(0,3)"),
       program(UPPER, link("middle", after=f"movx r0, #{OWN + 5}; mov r1, #-1\nacq r0, r1")))  # fmt: skip
broken(cascade, "middle ends after a block", ("core(0,3)", "done"),
       program(UPPER, link("middle", after=f"done\n{NOPS}")))  # fmt: skip
broken(cascade, "top reads the memory of its neighbour", ("core(0,4)",),
       program(TOP, link("top", source=geometry.CORE_VIEW_NORTH + IN)))  # fmt: skip
broken(cascade, "input gives another lock", ("core(0,4)", "lock 1 of core(0,4)"), bd(TOP, 0, release=(3, 1)))

# --- broadcasts and several outputs -------------------------------------------------------------------------------
broken(broadcast, "one of three has no room", ("S2MM 0 of core(1,2)", "lock 0 of core(1,2)"), lock(EAST, 0, 0))
broken(broadcast, "one of three outputs is not pushed", ("S2MM 1 of shim(0,0)", "no task"), operation(8))
broken(broadcast, "way into the eastern core is missing", ("West 0 of core(1,2)",), cut("1,2 west0 dma0"))
broken(broadcast, "way east is fed from another port", ("core(1,2)|MM2S 0 of memtile(0,1)", "South 1 of core(0,2)"),
       cut("0,2 south0 east0"), ways("0,2 south1 east0"))  # fmt: skip
broken(broadcast, "one column has no token", ("S2MM 0 of shim(1,0)", "token"),
       operation(11, push(SHIM_1, "s2mm", 0, 1)))  # fmt: skip
broken(broadcast, "demux of the second output", ("shim(0,0)", "South 3"),
       also(masked(SHIM, geometry.SHIM_DEMUX, 0xC0, 0)))  # fmt: skip
broken(broadcast, "circuit that the switch cannot make", ("memtile(0,1) cannot connect north 1 to south 0",),
       cut("0,1 north1 south1"), ways("0,1 north1 south0"))  # fmt: skip
broken(broadcast, "two results on one port", ("MM2S 0 of core(0,2)", "DMA 0 of core(0,2)"),
       cut("0,2 north1 south1"), ways("0,2 north1 south0"))  # fmt: skip
broken(broadcast, "one core ends after two blocks", ("core(0,3)", "done"),
       program(UPPER, work(first=COUNTED, after=block_ends(2))))  # fmt: skip
broken(broadcast, "one of three takes half blocks", ("core(1,2)",), bd(EAST, 0, words=16))
broken(broadcast, "one of three writes a word too early", ("S2MM 0 of core(1,2) has run descriptor 0",),
       bd(EAST, 0, address=IN - 4))  # fmt: skip
broken(neighbour, "words two apart", ("S2MM 0 of memtile(0,1) has run descriptor 0",), fields(MEMTILE, 0, d0_step=1))
broken(broadcast, "one of three takes more than a block", ("core(0,3)", "of 40"), bd(UPPER, 0, words=40))
broken(broadcast, "descriptor of a core is in another", ("descriptor 0 of core(1,2)", "not valid"), no_bd(EAST, 0))
broken(broadcast, "one of three is not started", ("S2MM 0 of core(0,3)", "no task"), no_start(UPPER, "s2mm", 0))
broken(broadcast, "core writes its neighbour's result", ("core(0,[23])", "never written|undefined"),
       program(CORE, work(target=geometry.CORE_VIEW_NORTH + 0x4000)))  # fmt: skip

# --- packets and out-of-order descriptors -------------------------------------------------------------------------
broken(packets, "second half has another id", ("MM2S 0 of shim(0,0)", "id 3", "memtile(0,1)"), shim_bd(6, packet_id=3))
broken(packets, "first slot takes all ids", ("id 2", "South 0 of core(0,2)"), slot(0, mask=0))
broken(packets, "header stays on the packet", ("S2MM 0 of core(0,2)",), master(2, drop=False))
broken(packets, "results name another descriptor", ("descriptor 9 of memtile(0,1)", "S2MM 0 of memtile(0,1)"),
       fields(UPPER, 1, out_of_order_id=9))  # fmt: skip
broken(packets, "receiver takes them in order", ("S2MM 0 of memtile(0,1)",),
       also(register(MEMTILE, geometry.channel_control_offset("memtile", "s2mm", 0), 0)))  # fmt: skip
broken(packets, "results go to the input's arbiter", ("MM2S 0 of core(0,3) with id 5 go to S2MM 0 of core(0,2)",),
       slot(5, arbiter=0))  # fmt: skip
broken(packets, "both results name one descriptor", ("descriptor 5 of memtile(0,1)", "MM2S 0 of core(0,3)"),
       fields(UPPER, 1, out_of_order_id=4))  # fmt: skip
broken(packets, "one result's sender takes two", ("MM2S 0 of core(0,3)", "lock 3 of core(0,3)"),
       bd(UPPER, 1, acquire=(3, -2)))  # fmt: skip
broken(packets, "receiver takes one too few", ("S2MM 0 of memtile(0,1)", "no task"),
       lambda net: net.extra.__setitem__(-1, register(MEMTILE, 0xA0604, geometry.queue_word(4, 3))))  # fmt: skip
broken(packets, "packet does not end", ("core(0,2)", "arbiter 1|packet|TLAST"), fields(CORE, 1, tlast_suppress=1))
broken(packets, "master serves another select", ("id [45]", "core(0,2)", "no master"), master(4, msels=2))
broken(packets, "slot on the way knows the other id", ("MM2S 0 of core(0,3)", "id 5", "North 0 of core(0,2)"),
       slot(5, packet_id=4))  # fmt: skip
broken(packets, "sender waits for five of four", ("MM2S 2 of memtile(0,1)", "lock 1 of memtile(0,1)", "at least 5"),
       bd(MEMTILE, 6, acquire=(1, -5)))  # fmt: skip
broken(packets, "first half is no packet", ("MM2S 0 of shim(0,0)", "id 0"), shim_bd(3, enable_packet=0))
broken(packets, "input goes to the results' arbiter", ("descriptor 0 of memtile(0,1)|S2MM 0 of core(0,2)",),
       slot(2, arbiter=1))  # fmt: skip
broken(packets, "master is not in packet mode", ("core(0,3)", "South 1 of core(0,3)|DMA 0|dma 0"),
       lambda net: net.masters.pop(3), ways("0,3 south0 dma0"))  # fmt: skip
broken(packets, "second half is not pushed", ("MM2S 0 of shim(0,0)", "no task", "64 words"), operation(8))
broken(packets, "both halves have one id", ("core(0,[23])|MM2S 0 of shim(0,0)", "packet|id|half|longer|task"),
       shim_bd(6, packet_id=1))  # fmt: skip

broken(packets, "upper core has no room for results", ("core(0,3)", "lock 2 of core(0,3)"), lock(UPPER, 2, 0))
broken(packets, "input says nothing", ("core(0,2)", "S2MM 0 of core(0,2) has run descriptor 0"),
       bd(CORE, 0, release=None))  # fmt: skip

# --- cores on streams ---------------------------------------------------------------------------------------------
broken(streams, "first core ends after three blocks", ("core(0,2)", "done"),
       program(CORE, work((), (), get="mov r2, SS", put="mov ms, r2", first=COUNTED, after=block_ends(3))))  # fmt: skip
broken(streams, "way east is fed by the DMA's port", ("core(0,2)", "Core 0 of core(0,2)"),
       cut("0,2 core0 east0"), ways("0,2 dma0 east0"))  # fmt: skip
broken(streams, "way into the second core is missing", ("West 0 of core(1,2)",), cut("1,2 west0 core0"))
broken(streams, "second core reads a word too many", ("core(1,2)", "stream input"),
       program(EAST, work(((OWN + 2, 1),), ((OWN + 3, 1),), get="mov r2, SS", words=33)))  # fmt: skip
broken(streams, "second core is not enabled", ("core(1,2)", "not enabled"), off(EAST))
broken(streams, "first core writes each word twice", ("shim(1,0)|core(1,2)", "words|wait"),
       program(CORE, work((), (), get="mov r2, SS", put="mov ms, r2\nmov ms, r2")))  # fmt: skip
broken(streams, "branches of a broadcast wait for each other", ("circular wait", "core(1,2)", "S2MM 0 of core(1,2)"),
       ways("1,2 west0 dma0"), lambda net: net.bd(EAST, 0, IN, take=0, give=1, then=0), lock(EAST, 0, 1),
       start(EAST, "s2mm", 0, 0),
       program(EAST, work(((OWN + 1, 1), (OWN + 2, 1)), ((OWN, 1), (OWN + 3, 1)), get="mov r2, SS")))  # fmt: skip

# --- memory tiles that reach each other ---------------------------------------------------------------------------
broken(neighbour, "full is said in its own tile", ("MM2S 0 of memtile(1,1)", "lock 1 of memtile(1,1)", "nothing"),
       fields(MEMTILE, 0, release_lock=65), fields(MEMTILE, 1, release_lock=65))  # fmt: skip
broken(neighbour, "sender gives another lock back", ("S2MM 0 of memtile(0,1)", "lock 0 of memtile(1,1)"),
       bd(MEMTILE_1, 0, release=(5, 1)), bd(MEMTILE_1, 1, release=(5, 1)))  # fmt: skip
broken(neighbour, "channel that reaches no neighbour", ("S2MM 4 of memtile(0,1)", "neighbour"),
       no_start(MEMTILE, "s2mm", 0), start(MEMTILE, "s2mm", 4, 0), cut("0,1 south0 dma0"),
       ways("0,1 south0 dma4"))  # fmt: skip
broken(neighbour, "one sender takes two", ("MM2S 0 of memtile(1,1)", "lock 1 of memtile(1,1)", "128 words"),
       bd(MEMTILE_1, 1, acquire=(1, -2)))  # fmt: skip
broken(neighbour, "address in the west", ("S2MM 0 of memtile(0,1)", "west"), fields(MEMTILE, 0, base_address=0))
broken(neighbour, "lock is set in the other tile", ("S2MM 0 of memtile(0,1)", "lock 0 of memtile(1,1)"),
       lock(MEMTILE_1, 0, 0), lock(MEMTILE, 0, 2))  # fmt: skip
broken(neighbour, "words stay in its own tile", ("MM2S 0 of memtile(1,1)", "never written"),
       fields(MEMTILE, 0, base_address=geometry.MEMTILE_VIEW_OWN // 4))  # fmt: skip
broken(neighbour, "way up by the next port", ("MM2S 0 of memtile(1,1)", "South 1 of core(1,2)"),
       cut("1,1 dma0 north0"), ways("1,1 dma0 north1"))  # fmt: skip

# --- sequences, and what a run leaves to the next -----------------------------------------------------------------
broken(control, "second job is not started", ("core(0,2)", "lock 8 of core(0,2)"), operation(10))
broken(control, "start by another lock", ("core(0,2)", "lock 8 of core(0,2)"),
       operation(1, txn.Write(place(CORE, geometry.lock_offset("core", START + 1)), 1)))  # fmt: skip
broken(
    control,
    "parameter elsewhere",
    ("core(0,2)", "0x72000|parameter"),
    operation(0, txn.BlockWrite(place(CORE, 0x2100), (5,))),
)
broken(control, "job of one block", ("core(0,2)", "lock 8 of core(0,2)"), program(CORE, job_program(1)))
broken(control, "end before the output is pushed", ("S2MM 0 of shim(0,0)", "not reached, pushes"),
       operation(-1), before(-3, txn.Sync(0, 0, 0, 0)), operation(13),
       before(16, push(SHIM, "s2mm", 0, 3, token=True)))  # fmt: skip
broken(control, "sequence resets the core's channel", ("S2MM 0 of core(0,2)", "no task|reset"),
       before(9, txn.Write(place(CORE, 0x1DE00), 2), txn.Write(place(CORE, 0x1DE00), 0)))  # fmt: skip
broken(control, "sequence polls a lock that is taken", ("core(0,2)", "Lock8|lock 8", "nothing that is under way"),
       before(2, txn.MaskPoll(place(CORE, geometry.lock_offset("core", START)), 1, 1)))  # fmt: skip
broken(control, "core ends with the first run", ("core(0,2)", "done"),
       program(CORE, COUNTED + job_program(after=block_ends(2).replace("#run", "#job"))))  # fmt: skip
broken(control, "sequence shortens the result", ("descriptor 1 of core(0,2)|MM2S 0 of core(0,2)",),
       before(9, txn.Write(place(CORE, geometry.bd_offset("core", 1)), 0x4000 // 4 << 14 | 16)))  # fmt: skip
broken(control, "sequence takes the mux away", ("shim(0,0)", "mux"),
       before(9, txn.MaskWrite(place(SHIM, geometry.SHIM_MUX), 0xC00, 0)))  # fmt: skip
broken(control, "sequence takes the result's way away", ("MM2S 0 of core(0,2)", "DMA 0 of core(0,2)"),
       before(9, txn.Write(place(CORE, output("south", 0)), 0)))  # fmt: skip
broken(control, "sequence halts the core", ("core(0,2)", "halt"), before(9, txn.Write(place(CORE, 0x32010), 1)))
broken(control, "second job's input is patched to the output", ("core(0,2)|shim(0,0)", "argument 1|descriptor 2"),
       operation(15, txn.DdrPatch(place(SHIM, geometry.bd_offset("shim", 2)) + 4, 1, 4 * WORDS - 128)))  # fmt: skip
