"""Ways to break the small design that mistakes of habit make: a field forgotten, a number of a neighbour, an order.

`broken_designs.py` has how a case is written.
"""

from __future__ import annotations

from dataclasses import replace

from broken_designs import Broken, bd, register, run_core
from more_broken_designs import NOPS, fields_of, no_start, push, shim_fields
from small_design import (
    BLOCKS,
    CORE,
    EMPTY,
    FULL,
    IN_FULL,
    MEMTILE,
    OUT_EMPTY,
    OWN,
    SHIM,
    WORDS,
    assemble,
    port,
    program,
    transfer,
)

from npuc.compiler.emit import txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.configure import packets
from npuc.passes.array.descriptors import Dimension
from npuc.passes.array.router import Connection, PacketConnection

DEBUG_CONTROL = 0x32010  # Debug_Control0, bit 0 halts
PAUSE_STREAM = 1 << 2  # of the control register of a shim's channel
CASES: dict[str, Broken] = {}


def broken(*root: str, names: tuple[str, ...] = (), strict: bool = False):
    """Register a change of a design under its function's name."""

    def add(change):
        CASES[change.__name__] = Broken(change, root, names, strict)
        return change

    return add


@broken("S2MM 0 of memtile(0,1)", "has no task", "words from MM2S 0 of shim(0,0) wait for it")
def receiver_of_the_memory_tile_does_one_round_only(design):
    """Its chain ends instead of going back to the first buffer."""
    bd(design, MEMTILE, 1, next=None)


@broken("MM2S 0 of memtile(0,1)", "has no task")
def sender_of_the_memory_tile_does_one_buffer_only(design):
    bd(design, MEMTILE, 2, next=None)


@broken("MM2S 0 of core(0,2)", "has no task")
def core_sends_two_blocks_only(design):
    bd(design, CORE, 1, next=None)
    design.starts[3] = (CORE, "mm2s", 0, 1)
    design.extra.append(push(CORE, "mm2s", 0, 1))


@broken("S2MM 0 of core(0,2)", "has no task")
def repeats_of_the_receiver_are_one_too_few(design):
    bd(design, CORE, 0, next=None)
    no_start(design, CORE, "s2mm")
    design.extra.append(push(CORE, "s2mm", 0, 0, BLOCKS - 1))


@broken("circular wait", "core(0,2)", "lock 1 of core(0,2)")
def memory_tile_sends_before_the_core_has_room_for_two(design):
    """The core takes both input buffers of a ring of one before it gives any back."""
    run_core(design, before=f"movx r0, #{OWN + IN_FULL}; mov r1, #-1\nacq r0, r1")


@broken("MM2S 0 of memtile(0,1)", "lock 1 of memtile(0,1)", "it is 0")
def memory_tile_releases_the_wrong_way_round(design):
    for number in (0, 1):
        bd(design, MEMTILE, number, acquire=(FULL, -1), release=(EMPTY, 1))


@broken("S2MM 0 of memtile(0,1)", "has no task", names=("core(0,2)",))
def input_comes_a_second_time_for_a_ring_that_ended(design):
    for number in (0, 1):
        bd(design, MEMTILE, number, next=None if number else 1)
    design.operations[5] = txn.Write(design.operations[5].address, geometry.queue_word(0, 2))


@broken("S2MM 0 of memtile(0,1) uses address 0x100000", "there is no memory tile east of memtile(0,1)")
def iteration_runs_out_of_the_memory(design):
    bd(design, MEMTILE, 0, iterations=3, iteration_step=0x10000)


@broken(
    "MM2S 0 of core(0,2), descriptor 1, sends",
    names=("core(0,2), bundle", "loaded 4 bytes at 0x404 of the memory of core(0,2)"),
    strict=True,
)
def step_of_a_dimension_is_in_bytes(design):
    bd(design, CORE, 0, dimensions=(Dimension(4, 4 * 1024), Dimension(0, 4)))


@broken("the stream of MM2S 0 of shim(0,0) ends at slave South 3 of memtile(0,1), which is not enabled")
def shim_sends_to_a_port_of_the_memory_tile_that_nobody_enabled(design):
    old = Connection(port(SHIM, "south", 3), port(SHIM, "north", 0))
    design.connections[design.connections.index(old)] = Connection(old.source, port(SHIM, "north", 3))


@broken("a packet of MM2S 0 of memtile(0,1) has id 5", "no slot of slave South 0 of core(0,2) matches")
def packet_with_the_id_of_another_core(design):
    route = Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0))
    design.connections.remove(route)
    design.connections.remove(Connection(port(CORE, "south", 0), port(CORE, "dma", 0)))
    design.extra += packets(PacketConnection(route, 5))
    design.extra += packets(PacketConnection(Connection(port(CORE, "south", 0), port(CORE, "dma", 0)), 6))
    for number, following in ((2, 3), (3, 2)):
        fields_of(design, MEMTILE, number, enable_packet=1, packet_id=5, use_next=1, next_bd=following)


@broken("core(0,2)", "for a word on its stream input", "MM2S 0 of memtile(0,1)")
def core_reads_more_words_from_its_stream_than_come(design):
    design.connections.remove(Connection(port(CORE, "south", 0), port(CORE, "dma", 0)))
    design.connections.append(Connection(port(CORE, "south", 0), port(CORE, "core", 0)))
    run_core(design, acquire_in=None, release_in=None, load="mov r2, SS", after=f"mov r2, SS\n{NOPS}")


@broken("core(0,2)", "halted")
def core_halts_at_a_breakpoint_that_was_left(design):
    design.extra.append(register(CORE, DEBUG_CONTROL, 1))


@broken("S2MM 0 of shim(0,0)", "paused")
def output_channel_is_paused(design):
    place = geometry.tile_address(*SHIM, geometry.channel_control_offset("shim", "s2mm", 0))
    design.operations.insert(0, txn.MaskWrite(place, PAUSE_STREAM, PAUSE_STREAM))


@broken("core(0,2)", "has a program but is held in reset")
def sequence_resets_the_core(design):
    place = geometry.tile_address(*CORE, geometry.CORE_CONTROL)
    design.operations.insert(3, txn.MaskWrite(place, 2, 3))


@broken("core(0,2)", "lock 2 of core(0,2)", "it is 0")
def sequence_clears_a_lock(design):
    place = geometry.tile_address(*CORE, geometry.lock_offset("core", OUT_EMPTY))
    design.operations.insert(3, txn.Write(place, 0))


@broken("S2MM 0 of memtile(0,1) in descriptor 1, 24 of 32 words moved", "MM2S 0 of shim(0,0)", "120 words in all")
def last_block_is_shorter(design):
    """The input ends 8 words before the end; the output expects all."""
    design.operations[3:6] = transfer(0, 0, "mm2s", words=WORDS * BLOCKS - 8)


@broken("the stream of MM2S 0 of memtile(0,1) ends at slave Dma 0 of memtile(0,1), which is not enabled")
def way_up_is_taken_out_with_its_slave(design):
    """The output goes back to the input, and what fed the input leads nowhere."""
    design.connections.remove(Connection(port(MEMTILE, "dma", 0), port(MEMTILE, "north", 0)))
    design.connections.remove(Connection(port(CORE, "south", 0), port(CORE, "dma", 0)))
    design.connections.remove(Connection(port(CORE, "dma", 0), port(CORE, "south", 0)))
    design.connections.append(Connection(port(CORE, "dma", 0), port(CORE, "dma", 0)))


@broken("descriptor 1 of shim(0,0)", "accesses bytes 0..511 of buffer argument 1, which has 128")
def buffers_are_smaller_than_the_sequence_was_made_for(design):
    design.buffers[1] = design.buffers[1][: WORDS * BLOCKS // 4]


@broken("sequence operation 4 patches descriptor 0 of shim(0,0)", "offset of 2 bytes", strict=True)
def patch_with_an_offset_of_half_a_word(design):
    design.operations[4] = replace(design.operations[4], offset=2)


@broken("core(0,2), bundle 0x4000", "is outside program memory")
def program_is_cut_off(design):
    """The image holds the first half of the program only: behind it is nothing."""
    code = assemble(program())
    design.programs[CORE] = code[: len(code) // 2 // 16 * 16]


@broken(
    "MM2S 0 of core(0,2) in descriptor 1: waits for lock 3 of core(0,2)",
    "nothing releases it",
    names=("lock 15 of core(0,2) is 1: core(0,2) released it and nothing has acquired it",),
)
def core_releases_the_last_lock_of_its_window(design):
    run_core(design, release_out=OWN + 15)


@broken("core(0,2).Core_Status & 0x100000", "nothing that is under way changes it")
def sequence_polls_until_an_endless_core_is_done(design):
    place = geometry.tile_address(*CORE, geometry.CORE_STATUS)
    design.operations.append(txn.MaskPoll(place, 1 << 20, 1 << 20))


@broken("S2MM 0 of shim(0,0) in descriptor 1: waits for lock 3 of shim(0,0)", "nothing releases it")
def shim_descriptor_with_a_lock(design):
    shim_fields(design, 0, acquire_enable=1, acquire_lock=3, acquire_value=-1)


@broken("core(0,2) writes its cascade to the south, where no core is")
def core_fills_a_cascade_it_was_not_given_a_direction_for(design):
    run_core(design, before=f"movx r0, #1\nmov crMCDEn, r0\n{NOPS}" + "vmov MCD, bml0\n" * 8 + NOPS)
