"""Ways to break the small design, and what the diagnosis must name of each: tile, unit and cause."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from small_design import (
    BLOCKS,
    CORE,
    EMPTY,
    FULL,
    IN_EMPTY,
    IN_FULL,
    MEMTILE,
    OUT_EMPTY,
    OWN,
    SHIM,
    WORDS,
    Design,
    assemble,
    port,
    program,
    transfer,
)

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import packets
from npuc.passes.array.router import Connection, PacketConnection


@dataclass(frozen=True)
class Broken:
    """names: what the error's message, place or details must say, in any order.  root: what its message must say."""

    change: Callable[[Design], None]
    root: tuple[str, ...]
    names: tuple[str, ...] = ()
    strict: bool = False


CASES: dict[str, Broken] = {}


def broken(*root: str, names: tuple[str, ...] = (), strict: bool = False):
    """Register a change of a design under its function's name."""

    def register(change: Callable[[Design], None]) -> Callable[[Design], None]:
        CASES[change.__name__] = Broken(change, root, names, strict)
        return change

    return register


def run_core(design: Design, **changes) -> None:
    design.programs[CORE] = program(**changes)


def bd(design: Design, tile: tuple[int, int], number: int, **changes) -> None:
    design.descriptors[tile, number] = replace(design.descriptors[tile, number], **changes)


def register(tile: tuple[int, int], offset: int, value: int) -> cdo.Command:
    return cdo.Write(geometry.tile_address(*tile, offset), value)


# --- locks --------------------------------------------------------------------------------------------------------
@broken("S2MM 0 of core(0,2)", "lock 0 of core(0,2)", "at least 1; it is 0", "nothing releases it")
def core_does_not_release_its_input(design):
    run_core(design, release_in=None)


@broken(
    "S2MM 0 of core(0,2)",
    "lock 0 of core(0,2)",
    "nothing releases it",
    names=(
        "lock 5 of core(0,2) is 1: core(0,2) released it and nothing has acquired it",
        "descriptor 0 of S2MM 0 of core(0,2): 32 words, base 0x400, acquires lock 0 by -1, releases lock 1 by "
        "1, then descriptor 0; queue empty",
    ),
)
def core_releases_the_wrong_lock(design):
    run_core(design, release_in=OWN + 5)


@broken("core(0,2)", "lock 7 of core(0,2)", "it is 0, last changed by", "nothing releases it")
def core_acquires_a_lock_that_is_never_released(design):
    run_core(design, acquire_in=OWN + 7)


@broken("S2MM 0 of memtile(0,1)", "lock 0 of memtile(0,1)", "it is 0", names=("circular wait",))
def memory_tile_lock_starts_at_0(design):
    design.locks[MEMTILE, EMPTY] = 0


@broken("lock 0 of memtile(0,1) to be exactly 1; it is 2", "S2MM 0 of memtile(0,1)")
def acquire_with_the_wrong_sign(design):
    for number in (0, 1):
        bd(design, MEMTILE, number, acquire=(EMPTY, 1))


@broken("lock 0 of memtile(0,1) to be at least 3; it is 2", "S2MM 0 of memtile(0,1)")
def acquire_of_more_than_there_is(design):
    for number in (0, 1):
        bd(design, MEMTILE, number, acquire=(EMPTY, -3))


@broken("circular wait", "core(0,2)", "lock 2 of core(0,2)", "MM2S 0 of core(0,2)", "lock 3 of core(0,2)")
def output_lock_starts_at_0(design):
    del design.locks[CORE, OUT_EMPTY]


@broken("lock 1 of memtile(0,1) leaves 0..63: -1", "S2MM 0 of memtile(0,1) releases -1", strict=True)
def release_with_the_wrong_sign(design):
    bd(design, MEMTILE, 0, release=(FULL, -1))


@broken("core(0,2)", "lock 5", "no south neighbour")
def core_uses_a_lock_of_a_neighbour_that_does_not_exist(design):
    run_core(design, acquire_in=5)


@broken("MM2S 0 of core(0,2)", "lock 9 of core(0,2)", "nothing releases it")
def descriptor_acquires_the_wrong_lock(design):
    bd(design, CORE, 1, acquire=(9, -1))


# --- lengths and tasks --------------------------------------------------------------------------------------------
@broken("MM2S 0 of shim(0,0)", "has no task", "128 words", names=("S2MM 0 of shim(0,0)", "128 of 136 words moved"))
def output_is_longer_than_what_is_sent(design):
    design.buffers[1] = design.buffers[1].repeat(2)
    design.operations = [
        *transfer(1, 1, "s2mm", words=WORDS * BLOCKS + 8, token=True),
        *transfer(0, 0, "mm2s"),
        txn.Sync(0, 0, 0, 0),
    ]


@broken("MM2S 0 of shim(0,0)", "has no task", "120 words", names=("S2MM 0 of memtile(0,1)", "24 of 32 words moved"))
def input_is_shorter_than_what_is_expected(design):
    design.operations = [
        *transfer(1, 1, "s2mm", token=True),
        *transfer(0, 0, "mm2s", words=WORDS * BLOCKS - 8),
        txn.Sync(0, 0, 0, 0),
    ]


@broken("words from MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0)", "has no task", strict=True)
def output_is_shorter_than_what_is_sent(design):
    design.operations = [
        *transfer(1, 1, "s2mm", words=WORDS * BLOCKS - 8, token=True),
        *transfer(0, 0, "mm2s"),
        txn.Sync(0, 0, 0, 0),
    ]


@broken("the queue of MM2S 0 of shim(0,0) overflows", "pushes descriptor 0 while 4 tasks wait")
def queue_overflows(design):
    design.locks[MEMTILE, EMPTY] = 0
    design.operations = transfer(1, 1, "s2mm", token=True) + transfer(0, 0, "mm2s") * 7


@broken("writes descriptor 0 of shim(0,0) while MM2S 0 of shim(0,0) runs it", strict=True)
def descriptor_is_rewritten_while_it_runs(design):
    design.operations = [
        *transfer(1, 1, "s2mm", token=True),
        *transfer(0, 0, "mm2s"),
        *transfer(0, 0, "mm2s", offset=64, push=False),
        txn.Sync(0, 0, 0, 0),
    ]


@broken("writes descriptor 2 of shim(0,0), which MM2S 0 of shim(0,0) has still to run", strict=True)
def descriptor_is_rewritten_while_it_waits_in_the_queue(design):
    design.operations = [
        *transfer(1, 1, "s2mm", token=True),
        *transfer(0, 0, "mm2s", words=WORDS * BLOCKS // 2),
        *transfer(2, 0, "mm2s", words=WORDS * BLOCKS // 2, offset=256),
        *transfer(2, 0, "mm2s", words=8, push=False),
        txn.Sync(0, 0, 0, 0),
    ]
    design.locks[MEMTILE, EMPTY] = 0


@broken("S2MM 0 of shim(0,0)", "has no task", "none of them pushed with a token", names=("the runtime sequence",))
def token_is_never_asked_for(design):
    design.operations = [*transfer(1, 1, "s2mm"), *transfer(0, 0, "mm2s"), txn.Sync(0, 0, 0, 0)]


@broken("S2MM 1 of shim(0,0)", "has no task")
def sync_waits_for_the_wrong_channel(design):
    design.operations[-1] = txn.Sync(0, 0, 0, 1)


@broken("MM2S 0 of shim(0,0)", "none of them pushed with a token")
def sync_waits_for_the_wrong_direction(design):
    design.operations[-1] = txn.Sync(0, 0, 1, 0)


@broken("there is no tile (2,0) in 1 columns")
def sync_waits_for_a_column_that_is_not_there(design):
    design.operations[-1] = txn.Sync(2, 0, 0, 0)


@broken("MM2S 0 of shim(0,0)", "has no task", "operation 4 of the sequence, not reached, pushes one")
def sync_before_the_input_is_sent(design):
    design.operations = [*transfer(1, 1, "s2mm", token=True), txn.Sync(0, 0, 0, 0), *transfer(0, 0, "mm2s")]
    del design.operations[4:6]
    design.operations[3:3] = []


@broken("sequence operation", "core(0,2).Core_Status", "nothing that is under way changes it")
def poll_of_a_status_that_never_comes(design):
    address = geometry.tile_address(*CORE, geometry.CORE_STATUS)
    design.operations.append(txn.MaskPoll(address, 1 << 20, 1 << 20))


# --- descriptors --------------------------------------------------------------------------------------------------
@broken("descriptor 0 of core(0,2) (S2MM 0 of core(0,2))", "is run but not valid")
def descriptor_is_not_valid(design):
    del design.descriptors[CORE, 0]


@broken("descriptor 5 of core(0,2)", "MM2S 0 of core(0,2)", "not valid")
def chain_leads_to_a_descriptor_that_was_never_written(design):
    bd(design, CORE, 1, next=5)


@broken("descriptor 0 of core(0,2) (S2MM 0 of core(0,2))", "leaves the memory")
def descriptor_leaves_the_memory(design):
    bd(design, CORE, 0, address=0x10000 - 64)


@broken("MM2S 0 of memtile(0,1) cannot use descriptor 24", "even channels reach 0..23")
def channel_runs_a_descriptor_out_of_its_reach(design):
    bd(design, MEMTILE, 3, next=24)


@broken("MM2S 0 of memtile(0,1), descriptor 2", "never written", strict=True)
def buffers_are_swapped(design):
    bd(design, MEMTILE, 2, address=4 * WORDS)
    bd(design, MEMTILE, 3, address=0)


# --- streams ------------------------------------------------------------------------------------------------------
@broken("MM2S 0 of memtile(0,1)", "slave DMA 0 of memtile(0,1)")
def route_is_missing(design):
    design.connections = [c for c in design.connections if c.source != port(MEMTILE, "dma", 0)]


@broken("MM2S 0 of memtile(0,1)", "slave South 0 of core(0,2)", "not enabled")
def route_ends_half_way(design):
    design.connections = [c for c in design.connections if c.target != port(CORE, "dma", 0)]


@broken("circle", "South 0 of core(0,2)")
def route_is_a_loop(design):
    design.starts = [start for start in design.starts if start[:2] != (MEMTILE, "mm2s")]
    design.connections = [c for c in design.connections if c.tile != CORE and c.source != port(MEMTILE, "dma", 0)]
    design.connections += [
        Connection(port(CORE, "south", 0), port(CORE, "dma", 0)),
        Connection(port(CORE, "south", 0), port(CORE, "south", 0)),
        Connection(port(MEMTILE, "north", 0), port(MEMTILE, "north", 0)),
    ]


@broken("MM2S 0 of core(0,2)", "slave DMA 0 of core(0,2), which no master takes")
def two_producers_of_one_port(design):
    design.connections.append(Connection(port(CORE, "south", 0), port(CORE, "south", 0)))


@broken("S2MM 1 of memtile(0,1)", "nothing feeds it", "master DMA 1 of memtile(0,1) is not enabled")
def receiver_without_a_source(design):
    for number in (0, 1):
        old = design.descriptors.pop((MEMTILE, number))
        design.descriptors[MEMTILE, 24 + number] = replace(old, number=24 + number, next=24 + (1 - number))
    design.starts[0] = (MEMTILE, "s2mm", 1, 24)


@broken("MM2S 0 of core(0,2)", "slave DMA 0 of core(0,2)", "not enabled")
def sender_at_a_disabled_port(design):
    slave = geometry.slave_offset("core", geometry.slave_index("core", "dma", 0))
    design.extra.append(register(CORE, slave, 0))


@broken("shim(0,0)", "MM2S 0", "mux")
def shim_mux_is_not_set(design):
    design.mux = False


@broken("the task token of S2MM 0 of shim(0,0) is lost", "Ctrl 0 of shim(0,0)")
def token_route_is_missing(design):
    design.token_route = False


@broken("the task token of S2MM 0 of shim(0,0) is lost", "id 3, which no slot")
def token_has_the_wrong_packet_id(design):
    control = geometry.channel_control_offset("shim", "s2mm", 0)
    design.extra.append(register(SHIM, control, 3 << 8))


def send_packets(design: Design, packet_id: int, *, tlast_suppress: int = 0) -> None:
    """The memory tile sends to the core as packets, for which id 5 has a way."""
    route = Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0))
    design.connections.remove(route)
    design.extra += packets(PacketConnection(route, 5))
    for number, following in ((2, 3), (3, 2)):
        words = geometry.unpack_bd("memtile", design.descriptors[MEMTILE, number].pack())
        words |= {"enable_packet": 1, "packet_id": packet_id, "tlast_suppress": tlast_suppress, "next_bd": following}
        offset = geometry.bd_offset("memtile", number)
        design.extra.append(
            cdo.DmaWrite(geometry.tile_address(*MEMTILE, offset), tuple(geometry.pack_bd("memtile", **words)))
        )


@broken("MM2S 0 of memtile(0,1) has id 7, which no slot of slave DMA 0 of memtile(0,1) matches")
def packet_with_an_id_that_no_slot_matches(design):
    send_packets(design, 7)


@broken("MM2S 1 of memtile(0,1)", "arbiter 0 of memtile(0,1)", "MM2S 0 of memtile(0,1)", names=("circular wait",))
def packet_without_an_end_holds_its_arbiter(design):
    """Two channels share an arbiter; the first never ends its packet and waits for what the second should bring."""
    send_packets(design, 5, tlast_suppress=1)
    slave = geometry.slave_index("memtile", "dma", 1)
    design.extra += [
        register(MEMTILE, geometry.slave_offset("memtile", slave), geometry.PACKET_SLAVE_WORD),
        register(MEMTILE, geometry.slot_offset("memtile", slave, 0), geometry.slot_word(5, 31, 0, 0)),
    ]
    fields = geometry.unpack_bd("memtile", design.descriptors[MEMTILE, 2].pack())
    fields |= {"enable_packet": 1, "packet_id": 5, "use_next": 0, "acquire_enable": 0, "release_lock": 64 + 9}
    design.extra.append(
        cdo.DmaWrite(
            geometry.tile_address(*MEMTILE, geometry.bd_offset("memtile", 24)),
            tuple(geometry.pack_bd("memtile", **fields)),
        )
    )
    bd(design, MEMTILE, 0, acquire=(9, -1))
    design.locks[MEMTILE, 9] = 1
    queue = geometry.channel_queue_offset("memtile", "mm2s", 1)
    push = txn.Write(geometry.tile_address(*MEMTILE, queue), geometry.queue_word(24))
    meanwhile = [txn.Write(geometry.tile_address(*MEMTILE, 0x8000), 0)] * 10  # the first packet is on its way
    design.operations[-1:] = [*meanwhile, push, design.operations[-1]]


# --- the sequence and its buffers ---------------------------------------------------------------------------------
@broken("sequence operation 1 names buffer argument 5; the call has 2")
def patch_of_a_buffer_that_is_not_there(design):
    design.operations[1] = replace(design.operations[1], argument=5)


@broken("descriptor 0 of shim(0,0)", "of buffer argument 0, which has 512")
def transfer_leaves_its_buffer(design):
    design.operations = [*transfer(1, 1, "s2mm", token=True), *transfer(0, 0, "mm2s", offset=256), txn.Sync(0, 0, 0, 0)]


@broken("descriptor 1 of shim(0,0)", "where no buffer lies")
def descriptor_without_a_patch(design):
    del design.operations[1]


@broken("sequence operation 0", "tile (3,0)", "outside the 1 columns")
def sequence_leaves_the_partition(design):
    design.operations.insert(0, txn.Write(geometry.tile_address(3, 0, geometry.SHIM_MUX), 0))


# --- programs -----------------------------------------------------------------------------------------------------
@broken("core(0,2)", "has a program but is not enabled")
def core_is_never_enabled(design):
    design.enabled = set()


@broken("MM2S 0 of core(0,2)", "lock 3 of core(0,2)", "core(0,2) has no program")
def image_without_a_program(design):
    design.programs, design.enabled = {}, set()


@broken("core(0,2)", "repeats the 6 bundles", "for ever")
def core_loops_for_ever(design):
    run_core(design, before="here:\nj #here\n" + "nop\n" * 5)


@broken("core(0,2)", "repeats", "for ever")
def core_waits_for_memory_that_nobody_writes(design):
    run_core(
        design, before="movxm p2, #0x70200\nhere:\nlda r5, [p2, #0]\n" + "nop\n" * 7 + "jz r5, #here\n" + "nop\n" * 5
    )


@broken("core(0,3)", "repeats", "for ever")
def core_waits_for_memory_of_its_neighbour(design):
    loop = "movxm p2, #0x40200\nhere:\nlda r5, [p2, #0]\n" + "nop\n" * 7 + "jz r5, #here\n" + "nop\n" * 5
    design.programs[0, 3] = loop + f"movx r0, #{IN_FULL}; mov r1, #1\nrel r0, r1\ndone\n" + "nop\n" * 5
    design.enabled.add((0, 3))
    bd(design, CORE, 0, release=None)


@broken("program counter 0x8000 is outside program memory", names=("core(0,2)",))
def jump_outside_program_memory(design):
    run_core(design, before="movxm p2, #0x8000\nnop\nnop\nj p2\n" + "nop\n" * 5)


@broken("target 0x24", "not 16-byte aligned", names=("core(0,2)",))
def jump_to_an_address_that_is_not_aligned(design):
    run_core(design, before="movxm p2, #0x24\nnop\nnop\nj p2\n" + "nop\n" * 5)


@broken("no bundle decodes at 0x0", names=("core(0,2)",))
def program_that_does_not_decode(design):
    design.programs[CORE] = bytes([0xFF] * 16) + assemble(program())


@broken("a vector load at 0x70404 is not aligned to 32 bytes", names=("core(0,2)",), strict=True)
def vector_access_that_is_not_aligned(design):
    run_core(design, before="movxm p2, #0x70404\nnop\nnop\nvldb wl0, [p2, #0]\n" + "nop\n" * 8)


@broken("access to 0x80000", "no data memory", names=("core(0,2)",))
def access_outside_the_banks(design):
    run_core(design, before="movxm p2, #0x80000\nnop\nnop\nlda r5, [p2, #0]\n" + "nop\n" * 8)


@broken("core(0,2)", "0x40", "south")
def access_to_a_neighbour_that_does_not_exist(design):
    run_core(design, before="movxm p2, #0x40000\nnop\nnop\nlda r5, [p2, #0]\n" + "nop\n" * 8)


@broken("loads 4 bytes at 0x70200, memory never written", names=("core(0,2)",), strict=True)
def core_decides_on_memory_that_was_never_written(design):
    run_core(
        design, before="movxm p2, #0x70200\nnop\nnop\nlda r5, [p2, #0]\n" + "nop\n" * 8 + "jz r5, #run\n" + "nop\n" * 5
    )


@broken(
    "MM2S 0 of core(0,2), descriptor 1", "sends 32 words of memory that holds undefined bits", "reads r20", strict=True
)
def core_stores_what_it_never_defined(design):
    run_core(design, load="add r2, r20, r4")


@broken("MM2S 0 of core(0,2), descriptor 1", "sends 1 words of memory never written", "0x407c", strict=True)
def core_leaves_out_a_word(design):
    run_core(design, words=WORDS - 1)


@broken("a control transfer in the delay slots of another", names=("core(0,2)",))
def branch_in_a_delay_slot(design):
    run_core(design, before="j #run\nj #run\n" + "nop\n" * 5)


@broken("core(0,2)", "has executed done")
def core_ends_too_early(design):
    run_core(design, before="done\n" + "nop\n" * 5)


@broken("core(0,2)", "lock 1 of core(0,2)", "S2MM 0 of core(0,2)", names=("circular wait",))
def core_takes_its_input_twice(design):
    run_core(design, after=f"movx r0, #{OWN + IN_FULL}; mov r1, #-1\nacq r0, r1")
    bd(design, CORE, 0, acquire=(IN_EMPTY, -1))
