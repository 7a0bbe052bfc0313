"""Seventy-six more ways to break the small design, each with what the error must name.

`broken_designs.py` has the first kinds and how a case is written.
"""

from __future__ import annotations

from dataclasses import replace

from broken_designs import Broken, bd, register, run_core
from small_design import (
    BLOCKS,
    CORE,
    EMPTY,
    FULL,
    IN,
    IN_EMPTY,
    IN_FULL,
    MEMTILE,
    OUT,
    OUT_FULL,
    OWN,
    SHIM,
    WORDS,
    Design,
    port,
    transfer,
)

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import packets
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.router import Connection, PacketConnection

UPPER = (0, 3)
SOUTH = geometry.CORE_LOCK_SOUTH
CASES: dict[str, Broken] = {}
NOPS = "nop\n" * 8


def broken(*root: str, names: tuple[str, ...] = (), strict: bool = False):
    """Register a change of a design under its function's name."""

    def add(change):
        CASES[change.__name__] = Broken(change, root, names, strict)
        return change

    return add


def fields_of(design: Design, tile: tuple[int, int], number: int, **changes: int) -> None:
    """Write a descriptor with fields that Descriptor does not have."""
    kind = geometry.tile_kind(tile[1])
    fields = geometry.unpack_bd(kind, design.descriptors[tile, number].pack()) | changes
    place = geometry.tile_address(*tile, geometry.bd_offset(kind, number))
    design.extra.append(cdo.DmaWrite(place, tuple(geometry.pack_bd(kind, **fields))))


def shim_fields(design: Design, operation: int, **changes: int) -> None:
    """The same of a shim descriptor that the sequence writes."""
    write = design.operations[operation]
    fields = geometry.unpack_bd("shim", write.words) | changes
    design.operations[operation] = txn.BlockWrite(write.address, tuple(geometry.pack_bd("shim", **fields)))


def second_core(design: Design, text: str) -> None:
    design.programs[UPPER] = text
    design.enabled.add(UPPER)


def push(tile: tuple[int, int], direction: str, channel: int, number: int, repeat: int = 1) -> cdo.Command:
    offset = geometry.channel_queue_offset(geometry.tile_kind(tile[1]), direction, channel)
    return register(tile, offset, geometry.queue_word(number, repeat))


def no_start(design: Design, tile: tuple[int, int], direction: str) -> None:
    design.starts = [start for start in design.starts if start[:2] != (tile, direction)]


# --- channels without a task --------------------------------------------------------------------------------------
@broken("S2MM 0 of memtile(0,1)", "has no task", "words from MM2S 0 of shim(0,0) wait for it")
def memory_tile_does_not_receive(design):
    no_start(design, MEMTILE, "s2mm")


@broken("S2MM 0 of core(0,2)", "has no task", "words from MM2S 0 of memtile(0,1) wait for it")
def core_does_not_receive(design):
    no_start(design, CORE, "s2mm")


@broken("MM2S 0 of memtile(0,1)", "has no task")
def memory_tile_does_not_send(design):
    no_start(design, MEMTILE, "mm2s")


@broken("MM2S 0 of core(0,2)", "has no task")
def core_does_not_send(design):
    no_start(design, CORE, "mm2s")


@broken("S2MM 0 of shim(0,0)", "has no task", "words from MM2S 0 of core(0,2) wait for it")
def output_is_never_pushed(design):
    del design.operations[2]


@broken("MM2S 0 of shim(0,0)", "has no task", "the sequence pushes none")
def input_is_never_pushed(design):
    del design.operations[5]


@broken("S2MM 1 of memtile(0,1)", "nothing feeds it")
def task_goes_to_the_other_channel(design):
    """Descriptors of odd channels, pushed to channel 1; the stream comes by channel 0."""
    for number in (0, 1):
        old = design.descriptors.pop((MEMTILE, number))
        design.descriptors[MEMTILE, 24 + number] = replace(old, number=24 + number, next=24 + (1 - number))
    design.starts[0] = (MEMTILE, "s2mm", 1, 24)


@broken("S2MM 0 of core(0,3)", "has no task", "words from MM2S 0 of memtile(0,1)")
def broadcast_to_a_core_that_does_not_receive(design):
    design.connections += [
        Connection(port(CORE, "south", 0), port(CORE, "north", 0)),
        Connection(port(UPPER, "south", 0), port(UPPER, "dma", 0)),
    ]


@broken("S2MM 0 of core(0,3)", "lock 0 of core(0,3)", "core(0,3) has no program")
def broadcast_to_a_core_without_a_program(design):
    broadcast_to_a_core_that_does_not_receive(design)
    design.descriptors[UPPER, 0] = replace(design.descriptors[CORE, 0], acquire=(IN_EMPTY, -1))
    design.locks[UPPER, IN_EMPTY] = 1
    design.starts.append((UPPER, "s2mm", 0, 0))


# --- locks --------------------------------------------------------------------------------------------------------
@broken("circular wait", "core(0,2)", "lock 1 of core(0,2) to be at least 2; it is 1", "S2MM 0 of core(0,2)")
def core_acquires_two_buffers_of_one(design):
    run_core(design, acquire_in=None, before="again:\n" + f"movx r0, #{OWN + IN_FULL}; mov r1, #-2\nacq r0, r1")


@broken("MM2S 0 of core(0,2)", "lock 3 of core(0,2)", "nothing releases it")
def core_does_not_release_its_output(design):
    run_core(design, release_out=None)


@broken("MM2S 0 of core(0,2)", "lock 3 of core(0,2)", "it is 0")
def core_releases_its_output_by_nothing(design):
    run_core(design, release_out=None, after=f"movx r0, #{OWN + OUT_FULL}; mov r1, #0\nrel r0, r1")


@broken("MM2S 0 of memtile(0,1)", "lock 1 of memtile(0,1)", "nothing releases it")
def memory_tile_s_receiver_releases_nothing(design):
    for number in (0, 1):
        bd(design, MEMTILE, number, release=None)


@broken("S2MM 0 of memtile(0,1)", "lock 0 of memtile(0,1)", "nothing releases it")
def memory_tile_s_sender_releases_nothing(design):
    for number in (2, 3):
        bd(design, MEMTILE, number, release=None)


@broken("core(0,2)", "lock 1 of core(0,2)", "nothing releases it")
def core_s_receiver_releases_nothing(design):
    bd(design, CORE, 0, release=None)


@broken("lock 2 of core(0,2)", "core(0,2)", "nothing releases it")
def core_s_sender_releases_nothing(design):
    bd(design, CORE, 1, release=None)


@broken("core(0,2)", "lock 1 of core(0,2)", "nothing releases it")
def core_s_receiver_releases_another_lock(design):
    bd(design, CORE, 0, release=(9, 1))


@broken("circular wait", "S2MM 0 of core(0,2)", "lock 0 of core(0,2) to be at least 1; it is 0", "core(0,2)")
def input_lock_starts_at_0(design):
    del design.locks[CORE, IN_EMPTY]


@broken("S2MM 0 of core(0,2)", "lock 0 of core(0,2) to be at least 2; it is 1")
def receiver_wants_two_buffers_of_one(design):
    bd(design, CORE, 0, acquire=(IN_EMPTY, -2))


@broken("MM2S 0 of memtile(0,1)", "lock 1 of memtile(0,1) to be exactly 2; it is 1")
def exact_acquire_of_more_than_comes(design):
    for number in (2, 3):
        bd(design, MEMTILE, number, acquire=(FULL, 2))
    design.locks[MEMTILE, EMPTY] = 1


@broken("uses lock 0", "there is no memory tile west of memtile(0,1)")
def memory_tile_lock_without_the_offset_of_its_own(design):
    fields_of(design, MEMTILE, 0, acquire_lock=EMPTY)


@broken("uses lock 129", "there is no memory tile east of memtile(0,1)")
def memory_tile_lock_of_an_eastern_neighbour(design):
    fields_of(design, MEMTILE, 2, acquire_lock=129)


@broken("core(0,2)", "lock 70", "0 to 63")
def lock_number_beyond_all(design):
    run_core(design, acquire_in=70)


@broken("core(0,3)", "lock 20", "no west neighbour")
def core_takes_its_lock_from_a_column_that_is_not_there(design):
    second_core(design, f"movx r0, #20; mov r1, #-1\nacq r0, r1\ndone\n{NOPS}")


@broken("core(0,3)", "has executed done", names=("core(0,2)", "lock 6 of core(0,2)"))
def neighbour_ends_before_it_releases(design):
    """The other core counts the rounds and stops after two; the first waits for it in each."""
    run_core(design, before="", after=f"movx r0, #{OWN + 6}; mov r1, #-1\nacq r0, r1")
    give = f"movx r0, #{SOUTH + 6}; mov r1, #1\nrel r0, r1\n"
    second_core(design, give + give + f"done\n{NOPS}")


@broken("circular wait", "lock 6 of core(0,2)", "lock 7 of core(0,2)", "core(0,3)")
def two_cores_wait_for_each_other(design):
    run_core(
        design,
        before=f"movx r0, #{OWN + 6}; mov r1, #-1\nacq r0, r1\nmovx r0, #{OWN + 7}; mov r1, #1\nrel r0, r1",
    )
    second_core(
        design,
        f"movx r0, #{SOUTH + 7}; mov r1, #-1\nacq r0, r1\nmovx r0, #{SOUTH + 6}; mov r1, #1\nrel r0, r1\ndone\n{NOPS}",
    )


@broken("core(0,2)", "acquires and releases lock 5 of core(0,2)", "for ever")
def core_takes_and_gives_its_own_lock(design):
    run_core(
        design,
        before=f"movx r0, #{OWN + 5}; mov r1, #1\nhere:\nrel r0, r1\nmov r2, #-1\nacq r0, r2\nj #here\n{NOPS}",
    )


@broken("lock 0 of core(0,2) leaves 0..63", "core(0,2)", strict=True)
def core_releases_more_than_a_lock_holds(design):
    run_core(design, before=f"movx r0, #{OWN + IN_EMPTY}; mov r1, #63\nrel r0, r1")


# --- descriptors and tasks ----------------------------------------------------------------------------------------
@broken("the descriptor of S2MM 0 of shim(0,0) is longer than what is sent", "124 of 128 words")
def core_sends_less_than_it_makes(design):
    bd(design, CORE, 1, words=WORDS - 1)


@broken("S2MM 0 of memtile(0,1)", "in descriptor 0, 128 of 160 words moved", "MM2S 0 of shim(0,0)")
def memory_tile_waits_for_more_than_the_input(design):
    bd(design, MEMTILE, 0, words=5 * WORDS)


@broken("the descriptor of S2MM 0 of core(0,2) is longer than what is sent", "128 of 160 words")
def core_waits_for_more_than_the_input(design):
    bd(design, CORE, 0, words=5 * WORDS)


@broken("the descriptor of S2MM 0 of shim(0,0) is longer than what is sent", "128 of 256 words")
def output_is_twice_what_is_sent(design):
    design.buffers[1] = design.buffers[1].repeat(2)
    design.operations[:3] = transfer(1, 1, "s2mm", words=2 * WORDS * BLOCKS, token=True)


@broken("the task of S2MM 0 of shim(0,0) never ends", "descriptor 1 is chained to itself")
def output_is_chained_to_itself(design):
    shim_fields(design, 0, use_next=1, next_bd=1)


@broken("the task of MM2S 0 of shim(0,0) never ends", "descriptor 0 is chained to itself")
def input_is_chained_to_itself_and_waited_for(design):
    shim_fields(design, 3, use_next=1, next_bd=0)
    design.operations[-1] = txn.Sync(0, 0, 1, 0)


@broken("the task of S2MM 0 of memtile(0,1) never ends", "descriptors [0, 1] are a ring")
def sync_on_the_ring_of_a_memory_tile(design):
    design.operations[-1] = txn.Sync(0, 1, 0, 0)


@broken("the sequence has ended", "the task of MM2S 0 of shim(0,0) never ends", "chained to itself", strict=True)
def input_is_chained_to_itself(design):
    shim_fields(design, 3, use_next=1, next_bd=0)


@broken(
    "the sequence has ended", "from MM2S 0 of core(0,2) wait for S2MM 0 of shim(0,0), which has no task", strict=True
)
def input_is_pushed_twice(design):
    design.operations[5] = txn.Write(design.operations[5].address, geometry.queue_word(0, 2))


@broken("the sequence has ended", "1 of 32 words", strict=True)
def input_is_a_word_too_long(design):
    design.buffers[0] = design.buffers[0].repeat(2)
    design.operations[3:6] = transfer(0, 0, "mm2s", words=WORDS * BLOCKS + 1)


@broken("descriptor 1 of shim(0,0)", "is run but not valid")
def shim_descriptor_is_not_valid(design):
    shim_fields(design, 0, valid=0)


@broken("descriptor 0 of shim(0,0)", "has length 0")
def transfer_of_no_words(design):
    shim_fields(design, 3, length=0)


@broken("descriptor 9 of core(0,2)", "S2MM 0 of core(0,2)", "is run but not valid")
def start_names_a_descriptor_that_was_never_written(design):
    design.starts[2] = (CORE, "s2mm", 0, 9)


@broken("MM2S 0 of memtile(0,1) uses address 0x0", "there is no memory tile west of memtile(0,1)")
def memory_tile_address_without_the_offset_of_its_own(design):
    fields_of(design, MEMTILE, 2, base_address=0)


@broken("descriptor 1 of memtile(0,1)", "leaves the memory of memtile(0,1)")
def memory_tile_buffer_beyond_its_memory(design):
    bd(design, MEMTILE, 1, address=0x80000 - 64)


@broken("descriptor 0 of shim(0,0)", "where no buffer lies")
def patch_of_another_descriptor(design):
    design.operations[4] = replace(design.operations[4], address=design.operations[4].address + 0x80)


@broken("bytes 0..1007", "of buffer argument 0, which has 512")
def transfer_with_a_step_too_long(design):
    shim_fields(design, 3, d0_wrap=4, d0_step=0, d1_step=7, length=128)


@broken("S2MM 1 of shim(0,0)", "has no task")
def two_outputs_are_waited_for_and_one_is_pushed(design):
    design.operations.append(txn.Sync(0, 0, 0, 1))


@broken("there is no tile (1,0) in 1 columns")
def sync_over_more_columns_than_there_are(design):
    design.operations[-1] = txn.Sync(0, 0, 0, 0, columns=2)


@broken("shim(0,0) has no channel S2MM 3")
def sync_of_a_channel_that_does_not_exist(design):
    design.operations[-1] = txn.Sync(0, 0, 0, 3)


@broken("pushes descriptor 0 to S2MM 0 of core(0,2), which is held in reset")
def channel_is_held_in_reset(design):
    design.extra.append(register(CORE, geometry.channel_control_offset("core", "s2mm", 0), 2))


# --- streams ------------------------------------------------------------------------------------------------------
@broken("MM2S 0 of memtile(0,1)", "South 1 of core(0,2)", "not enabled")
def stream_goes_up_by_another_port(design):
    old = Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0))
    design.connections[design.connections.index(old)] = Connection(old.source, port(MEMTILE, "north", 1))


@broken("S2MM 0 of shim(0,0)", "nothing feeds it", "is the array image that of another kernel?")
def image_without_the_way_to_the_host(design):
    design.connections = [c for c in design.connections if c.target != port(SHIM, "south", 2)]
    design.connections = [c for c in design.connections if c.source != port(CORE, "dma", 0)]
    no_start(design, CORE, "mm2s")


@broken("shim(0,0)", "MM2S 1 is not connected to South 7 by the mux")
def sequence_uses_the_other_input_channel(design):
    design.operations[3:6] = transfer(0, 0, "mm2s", channel=1)


@broken("S2MM 1 of shim(0,0)", "nothing feeds it", "is the array image that of another kernel?")
def sequence_uses_the_other_output_channel(design):
    design.operations[:3] = transfer(1, 1, "s2mm", channel=1, token=True)
    design.operations[-1] = txn.Sync(0, 0, 0, 1)
    design.operations[3:6] = []


@broken("MM2S 1 of shim(0,0)", "has no task", "the sequence pushes none", "another kernel?")
def image_of_another_kernel_that_takes_a_second_input(design):
    design.connections += [
        Connection(port(SHIM, "south", 7), port(SHIM, "north", 2)),
        Connection(port(MEMTILE, "south", 2), port(MEMTILE, "north", 2)),
        Connection(port(CORE, "south", 2), port(CORE, "dma", 1)),
    ]
    design.extra.append(cdo.MaskWrite(geometry.tile_address(*SHIM, geometry.SHIM_MUX), 0xC000, 0x4000))
    design.descriptors[CORE, 4] = Descriptor("core", 4, 0x6000, WORDS, acquire=(8, -1), release=(9, 1), next=4)
    design.locks[CORE, 8] = 1
    design.starts.append((CORE, "s2mm", 1, 4))
    run_core(design, after=f"movx r0, #{OWN + 9}; mov r1, #-1\nacq r0, r1")


@broken("S2MM 0 of memtile(0,1) in descriptor 0, 128 of 192 words moved", "MM2S 0 of shim(0,0)")
def image_of_another_kernel_with_longer_blocks(design):
    for number in (0, 1, 2, 3):
        bd(design, MEMTILE, number, words=6 * WORDS, address=(number % 2) * 24 * WORDS)
    bd(design, CORE, 0, words=6 * WORDS)
    bd(design, CORE, 1, words=6 * WORDS)


@broken("stream of MM2S 0 of core(0,2) leaves shim(0,0) by South 2, which feeds no S2MM channel")
def shim_demux_is_not_set(design):
    design.extra.append(cdo.MaskWrite(geometry.tile_address(*SHIM, geometry.SHIM_DEMUX), 0x30, 0))


@broken("core(0,2)", "for a word on its stream input", "nothing feeds it")
def core_reads_a_stream_that_nothing_feeds(design):
    run_core(design, before=f"mov r6, SS\n{NOPS}")


@broken("the stream output of core(0,2)", "ends at slave Core 0 of core(0,2)")
def core_writes_a_stream_that_leads_nowhere(design):
    run_core(design, before="movx r28, #0\nmovx r6, #5\n" + "mov ms, r6, r28\n" * 12)


@broken("the sequence has ended", "descriptor 0 of S2MM 0 of core(0,2) is half done: 4 of 32 words", strict=True)
def packets_keep_their_headers_where_words_are_counted_without(design):
    """A word more a block: the last block of the input is never whole, the output is."""
    route = Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0))
    design.connections.remove(route)
    design.extra += packets(PacketConnection(route, 5))
    for number, following in ((2, 3), (3, 2)):
        fields_of(design, MEMTILE, number, enable_packet=1, packet_id=5, use_next=1, next_bd=following)


@broken("a packet of MM2S 0 of memtile(0,1) with id 5 is lost", "memtile(0,1) leads to no master")
def packets_for_a_master_of_another_arbiter(design):
    route = Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0))
    design.connections.remove(route)
    design.extra += packets(PacketConnection(route, 5))
    slave = geometry.slave_index("memtile", "dma", 0)
    design.extra.append(register(MEMTILE, geometry.slot_offset("memtile", slave, 0), geometry.slot_word(5, 31, 0, 3)))
    for number, following in ((2, 3), (3, 2)):
        fields_of(design, MEMTILE, number, enable_packet=1, packet_id=5, use_next=1, next_bd=following)


@broken("S2MM 0 of shim(0,0)", "from the control port of shim(0,0)", "nothing but task tokens")
def token_goes_where_data_goes(design):
    design.token_route = False
    design.connections = [c for c in design.connections if c.target != port(SHIM, "south", 2)]
    design.connections.append(Connection(port(SHIM, "ctrl"), port(SHIM, "south", 2)))
    design.operations = [*transfer(1, 1, "s2mm", token=True), txn.Sync(0, 0, 0, 0)]
    design.extra.append(register(SHIM, geometry.slave_offset("shim", geometry.slave_index("shim", "ctrl")), 1 << 31))
    design.descriptors[CORE, 1] = replace(design.descriptors[CORE, 1], next=None)


# --- cores and their programs -------------------------------------------------------------------------------------
@broken("core(0,2)", "has a program but is held in reset")
def core_stays_in_reset(design):
    design.extra.append(cdo.MaskWrite(geometry.tile_address(*CORE, geometry.CORE_CONTROL), 2, 2))


@broken("core(0,2)", "has a program but is not enabled")
def another_core_is_enabled(design):
    """The other one's program ends at once."""
    design.programs[UPPER] = f"done\n{NOPS}"
    design.enabled = {UPPER}


@broken("core(0,3)", "has no program", names=("core(0,2)", "cascade data from the north"))
def core_reads_a_cascade_that_nobody_writes(design):
    run_core(design, before=f"movx r0, #1\nmov crSCDEn, r0\n{NOPS}vmov bml0, SCD\n{NOPS}")


@broken("core(0,2)", "writes its cascade to the south, where no core is")
def core_writes_a_cascade_where_no_core_is(design):
    run_core(design, before=f"movx r0, #1\nmov crMCDEn, r0\n{NOPS}vmov MCD, bml0\n{NOPS}")


@broken("core(0,2)", "has executed done", names=("MM2S 0 of core(0,2)",))
def core_ends_after_its_first_block(design):
    run_core(design, after=f"done\n{NOPS}")


@broken(
    "program counter", "outside program memory", names=("core(0,2)", "the stack pointer of core(0,2)", "descriptor 0")
)
def stack_grows_into_a_buffer(design):
    """Every call goes one frame of 64 bytes deeper; the buffer's words become return addresses."""
    calls = f"movxm sp, #{0x70000 + IN - 256:#x}\ndeeper:\npaddb [sp], #64\n"
    run_core(
        design,
        before=calls
        + f"movxm r9, #{0x70000 + IN + 32:#x}\nmov r8, sp\nlt r9, r8, r9\njnz r9, #deeper\n{NOPS}"
        + f"movxm p2, #0x60000\n{NOPS}j p2\n{NOPS}",
    )


@broken(
    "core(0,2)", "lock 9 of core(0,2)", "nothing releases it", names=("the stack pointer of core(0,2)", "descriptor 1")
)
def stack_is_in_the_output_buffer(design):
    run_core(
        design,
        acquire_in=OWN + 9,
        before=f"movxm sp, #{0x70000 + OUT - 64:#x}\nnop\npaddb [sp], #128\nnop",
    )


@broken("access to 0x", "core(0,2)")
def pointer_of_another_address_space(design):
    run_core(design, load="lda r2, [p3], #4", before="movxm p3, #0x20000")


@broken("access to 4 bytes at 0x70402 is not aligned", names=("core(0,2)",))
def word_load_from_an_odd_address(design):
    run_core(design, load="lda r2, [p3], #4", before=f"movxm p3, #{0x70000 + IN + 2:#x}")


# --- the image and the sequence -----------------------------------------------------------------------------------
@broken("CDO command", "core(0,2)", "not a word")
def image_writes_half_a_register(design):
    design.extra.append(register(CORE, geometry.CORE_CONTROL + 2, 0))


@broken("sequence operation 0", "memtile(0,1)", "is not modelled")
def sequence_writes_a_register_that_does_not_exist(design):
    design.operations.insert(0, txn.Write(geometry.tile_address(*MEMTILE, 0xFF000), 1))


@broken("sequence operation 0 patches", "which is no shim descriptor")
def patch_of_what_is_no_descriptor(design):
    design.operations.insert(0, txn.DdrPatch(geometry.tile_address(*SHIM, 0x1D204), 0, 0))


@broken("sequence operation 0", "loads array image 3")
def sequence_loads_another_image(design):
    design.operations.insert(0, txn.LoadPdi(3, 100, 0))


@broken("sequence operation", "core(0,2).DMA_S2MM_Status_0", "nothing that is under way changes it")
def poll_of_a_channel_that_never_gets_there(design):
    address = geometry.tile_address(*CORE, geometry.channel_status_offset("core", "s2mm", 0))
    design.operations.append(txn.MaskPoll(address, 7 << 20, 5 << 20))


@broken("writes descriptor 1 of shim(0,0)", "S2MM 0 of shim(0,0)", strict=True)
def output_descriptor_is_rewritten_too_early(design):
    design.operations[3:3] = transfer(1, 1, "s2mm", words=64, push=False)
