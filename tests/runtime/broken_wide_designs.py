"""Ways to break the design of two columns, and what the first line of the diagnosis must name of each.

Every expectation was written down with the fault, before the diagnosis was seen: the unit at fault and the resource it
misses, as patterns (a fault that two units share may be laid to either).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from small_design import IN_EMPTY, IN_FULL, OUT_EMPTY, OWN, assemble, transfer
from wide_design import (
    FIRST,
    LOWER,
    LOWER_ID,
    MEMTILE,
    MEMTILE_1,
    MIDDLE,
    MIDDLE_EMPTY,
    MIDDLE_FULL,
    SECOND,
    SHIM,
    SHIM_1,
    UPPER,
    UPPER_ID,
    Slot,
    Tile,
    WideDesign,
    adder,
    connect,
    first_adder,
    register,
    second_adder,
)

from npuc.compiler.emit import cdo, txn
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Dimension

NOPS = "\n".join(["nop"] * 5)


@dataclass(frozen=True)
class BrokenWide:
    """root: patterns that the error's message (its first line) matches, all of them."""

    change: Callable[[WideDesign], None]
    root: tuple[str, ...]
    strict: bool = False


CASES: dict[str, BrokenWide] = {}


def broken(*root: str, strict: bool = False):
    """Register a change of the design under its function's name; ( ) . and + in the patterns are themselves."""

    def add(change: Callable[[WideDesign], None]) -> Callable[[WideDesign], None]:
        escaped = tuple("".join(f"\\{c}" if c in "()." else c for c in pattern) for pattern in root)
        CASES[change.__name__] = BrokenWide(change, escaped, strict)
        return change

    return add


def bd(design: WideDesign, tile: Tile, number: int, **changes) -> None:
    design.descriptors[tile, number] = replace(design.descriptors[tile, number], **changes)


def fields(design: WideDesign, tile: Tile, number: int, **changes: int) -> None:
    design.fields[tile, number] = design.fields.get((tile, number), {}) | changes


def instead(design: WideDesign, old, new) -> None:
    """Another connection in the place of one of the design's."""
    design.connections[design.connections.index(old)] = new


def start(design: WideDesign, tile: Tile, direction: str, channel: int, *other: tuple) -> None:
    """Other starts, or none, in the place of a channel's."""
    kept = [s for s in design.starts if s[:3] != (tile, direction, channel)]
    assert len(kept) == len(design.starts) - 1
    design.starts = [*kept, *other]


def slave_off(tile: Tile, name: str, number: int) -> cdo.Command:
    kind = geometry.tile_kind(tile[1])
    return register(tile, geometry.slave_offset(kind, geometry.slave_index(kind, name, number)), 0)


# --- locks --------------------------------------------------------------------------------------------------------
@broken("S2MM 3 of memtile(0,1)", "lock 6 of memtile(0,1)")
def second_half_of_the_join_starts_full(design):
    design.locks[MEMTILE, 6] = 0


@broken("S2MM 0 of memtile(0,1)", "lock 2 of memtile(0,1)")
def second_half_of_the_division_starts_full(design):
    design.locks[MEMTILE, 2] = 0


@broken("MM2S [01] of memtile(0,1)", "lock [13] of memtile(0,1)")
def both_halves_are_sent_on_one_lock(design):
    bd(design, MEMTILE, 24, acquire=(1, -1))


@broken("core(1,3)", "lock 5 of core(1,3)")
def first_core_says_full_in_its_own_tile(design):
    design.programs[FIRST] = first_adder(done_out=OWN + MIDDLE_FULL)


@broken("core(1,2)", "lock 4 of core(1,3)")
def second_core_never_gives_the_middle_back(design):
    design.programs[SECOND] = second_adder(done_in=None)


@broken("core(0,3)", "lock 1 of core(0,3)", "at least 2")
def core_waits_for_two_buffers_where_one_comes(design):
    design.programs[UPPER] = adder(wanted=-2)


@broken("S2MM 3 of memtile(0,1)", "lock 6 of memtile(0,1)")
def the_join_gives_back_the_other_half(design):
    bd(design, MEMTILE, 7, release=(4, 1))


@broken("core(1,2)", "lock 4 of core(0,2)")
def core_asks_its_west_neighbour_for_room(design):
    design.programs[FIRST] = first_adder(empty=geometry.CORE_LOCK_WEST + MIDDLE_EMPTY)


@broken("MM2S 1 of memtile(0,1)", "west")
def memory_tile_lock_without_the_offset_of_its_own(design):
    fields(design, MEMTILE, 24, acquire_lock=3)


@broken("S2MM 0 of core(0,3)", "lock 0 of core(0,3)")
def lock_of_one_core_of_two_is_not_set(design):
    del design.locks[UPPER, IN_EMPTY]


@broken("core(1,3)", "lock 2 of core(1,3)")
def output_descriptor_gives_back_the_input_lock(design):
    bd(design, SECOND, 1, release=(IN_EMPTY, 1))


@broken("MM2S 0 of core(1,3)", "lock 9 of core(1,3)")
def sender_of_the_last_core_waits_for_a_lock_nobody_knows(design):
    bd(design, SECOND, 1, acquire=(9, -1))


# --- tasks and starts ---------------------------------------------------------------------------------------------
@broken("S2MM 3 of memtile(0,1)", "no task")
def second_receiver_of_the_join_is_not_started(design):
    start(design, MEMTILE, "s2mm", 3)


@broken("MM2S 2 of memtile(0,1)", "no task")
def sender_of_the_join_is_not_started(design):
    start(design, MEMTILE, "mm2s", 2)


@broken("MM2S 1 of memtile(0,1)", "no task")
def sender_to_the_upper_core_is_not_started(design):
    start(design, MEMTILE, "mm2s", 1)


@broken("MM2S 0 of core(1,3)", "no task")
def sender_of_the_last_core_is_not_started(design):
    start(design, SECOND, "mm2s", 0)


@broken("S2MM 0 of core(0,3)", "no task")
def receiver_of_the_upper_core_is_not_started(design):
    start(design, UPPER, "s2mm", 0)


@broken("MM2S 1 of core(1,3)")
def sender_of_the_last_core_is_started_on_the_other_channel(design):
    start(design, SECOND, "mm2s", 0, (SECOND, "mm2s", 1, 1))


@broken("S2MM 2 of memtile(0,1)", "no task")
def receiver_of_the_join_runs_once_only(design):
    bd(design, MEMTILE, 4, next=None)


@broken("MM2S 1 of memtile(0,1)", "descriptor 2")
def odd_channel_is_given_an_even_descriptor(design):
    start(design, MEMTILE, "mm2s", 1, (MEMTILE, "mm2s", 1, 2))


@broken("MM2S 0 of shim(1,0)", "no task")
def input_of_the_second_column_is_never_pushed(design):
    del design.operations[11]
    assert isinstance(design.operations[10], txn.DdrPatch)


@broken("MM2S 0 of shim(1,0)", "no task")
def input_of_the_second_column_is_pushed_in_the_first(design):
    queue = geometry.channel_queue_offset("shim", "mm2s", 0)
    design.operations[11] = txn.Write(geometry.tile_address(*SHIM, queue), geometry.queue_word(0))


@broken("S2MM 0 of shim(0,0)")
def one_column_is_waited_for_twice(design):
    design.operations[-1] = txn.Sync(0, 0, 0, 0)


@broken("descriptor 2 of shim(1,0)", "not valid")
def queue_names_a_descriptor_that_nobody_wrote(design):
    queue = geometry.channel_queue_offset("shim", "mm2s", 0)
    design.operations[11] = txn.Write(geometry.tile_address(*SHIM_1, queue), geometry.queue_word(2))


@broken("descriptor 0 of shim(1,0)", "not valid")
def input_is_pushed_before_its_descriptor_is_written(design):
    written, patched, pushed = design.operations[9:12]
    design.operations[9:12] = [pushed, written, patched]


# --- routes -------------------------------------------------------------------------------------------------------
@broken("MM2S 1 of memtile(0,1)", "South 1 of core(0,2)")
def way_through_the_lower_core_is_missing(design):
    design.connections.remove(connect(LOWER, "south", 1, "north", 1))


@broken("S2MM 1 of core(0,2)", "no task")
def way_to_the_upper_core_ends_in_the_lower(design):
    instead(design, connect(LOWER, "south", 1, "north", 1), connect(LOWER, "south", 1, "dma", 1))


@broken("MM2S 0 of core(0,3)", "id 3", "North 0 of core(0,2)")
def slot_on_the_way_knows_another_id(design):
    design.shared[2] = replace(design.shared[2], packet_id=LOWER_ID)


@broken("S2MM 3 of memtile(0,1)")
def both_ids_go_to_one_receiver(design):
    design.slots[1] = Slot(("north", 0), 1, UPPER_ID, 0)


@broken("S2MM 3 of memtile(0,1)")
def mask_of_the_first_slot_takes_both_ids(design):
    design.slots[0] = Slot(("north", 0), 0, LOWER_ID, 0, mask=0x1E)


@broken("S2MM [23] of memtile(0,1)", strict=True)
def headers_stay_on_the_packets_of_the_join(design):
    design.drop_headers = False


@broken("MM2S 0 of core(0,3)", "North 0 of core(0,2)")
def lower_core_takes_the_shared_wire_as_a_circuit(design):
    master = geometry.master_offset("core", geometry.master_index("core", "south", 0))
    slave = geometry.slave_index("core", "dma", 0)
    design.extra += [
        register(LOWER, master, geometry.circuit_master_word(slave)),
        register(LOWER, geometry.slave_offset("core", slave), geometry.CIRCUIT_SLAVE_WORD),
    ]


@broken("MM2S 0 of shim(1,0)", "South 1 of core(1,2)")
def memory_tile_passes_the_input_on_by_another_port(design):
    instead(design, connect(MEMTILE_1, "south", 0, "north", 0), connect(MEMTILE_1, "south", 0, "dma", 0))
    instead(design, connect(MEMTILE_1, "south", 0, "dma", 0), connect(MEMTILE_1, "south", 1, "north", 1))
    instead(design, connect(SHIM_1, "south", 3, "north", 0), connect(SHIM_1, "south", 3, "north", 1))


@broken("MM2S 0 of core(1,3)", "North 0 of memtile(1,1)")
def way_down_through_the_memory_tile_is_missing(design):
    design.connections.remove(connect(MEMTILE_1, "north", 0, "south", 0))


@broken("S2MM [01] of shim(1,0)|South 3")
def output_of_the_second_column_goes_to_the_other_channel(design):
    instead(design, connect(SHIM_1, "north", 0, "south", 2), connect(SHIM_1, "north", 0, "south", 3))


@broken("South 0 of memtile(1,1)")
def slave_port_of_a_way_is_not_enabled(design):
    _late(design, slave_off(MEMTILE_1, "south", 0))


@broken("S2MM 1 of core(1,3)", "no task")
def broadcast_has_a_branch_that_nobody_takes(design):
    design.connections += [connect(FIRST, "south", 0, "north", 2), connect(SECOND, "south", 2, "dma", 1)]


@broken("West 0 of shim(1,0)")
def output_is_sent_east(design):
    instead(design, connect(SHIM, "north", 2, "south", 2), connect(SHIM, "north", 2, "east", 0))


@broken("shim(1,0)", "mux")
def mux_of_the_second_column_is_not_set(design):
    design.extra.append(register(SHIM_1, geometry.SHIM_MUX, 0))


@broken("shim(1,0)", "South 2")
def demux_of_the_second_column_is_not_set(design):
    design.extra.append(register(SHIM_1, geometry.SHIM_DEMUX, 0))


@broken("token of S2MM 0 of shim(1,0)")
def tokens_of_the_second_column_have_no_way(design):
    design.extra.append(slave_off(SHIM_1, "ctrl", 0))


def _late(design: WideDesign, *commands: cdo.Command) -> None:
    """Commands after all others but starts and enables."""
    design.extra += commands


# --- lengths ------------------------------------------------------------------------------------------------------
@broken("S2MM 0 of core(0,3)|MM2S 1 of memtile(0,1)", "28 of 32|124 words|31 words")
def half_is_sent_a_word_short(design):
    bd(design, MEMTILE, 24, words=31)


@broken("MM2S 2 of memtile(0,1)", strict=True)
def join_sends_both_halves_at_once_and_one_again(design):
    bd(design, MEMTILE, 6, words=64)


@broken("S2MM 0 of shim(1,0)", "64 of 128")
def last_core_sends_half_of_what_it_computes(design):
    bd(design, SECOND, 1, words=16)


@broken("S2MM 0 of core(1,2)", "29 of 33")
def receiver_expects_a_word_more(design):
    bd(design, FIRST, 0, words=33)


@broken("S2MM 0 of shim(1,0)", "128 of 132")
def output_of_the_second_column_is_too_long(design):
    design.buffers[3] = design.buffers[3].repeat(2)
    design.operations[6:9] = transfer(1, 3, "s2mm", words=132, token=True, column=1)


@broken("MM2S 0 of shim(0,0)", "224")
def input_of_the_first_column_is_half_a_block_short(design):
    design.operations[3:6] = transfer(0, 0, "mm2s", words=224)


@broken("descriptor 1 of memtile(0,1)", "length 0")
def half_without_words(design):
    bd(design, MEMTILE, 1, words=0)


@broken("descriptor 4 of memtile(0,1)", "leaves the memory")
def rows_of_a_block_lie_too_far_apart(design):
    bd(design, MEMTILE, 4, dimensions=(Dimension(8, 1), Dimension(0, 0x10000)))


@broken("descriptor 0 of core(0,3)", "leaves the memory")
def input_buffer_ends_beyond_the_memory(design):
    bd(design, UPPER, 0, address=0xFFC0)


@broken("descriptor 0 of shim(1,0)", "buffer argument 2")
def patch_begins_in_the_middle_of_its_buffer(design):
    design.operations[9:12] = transfer(0, 2, "mm2s", offset=64, column=1)


# --- chains -------------------------------------------------------------------------------------------------------
@broken("lock 3 of memtile(0,1)", "MM2S 1 of memtile(0,1)")
def first_half_is_chained_to_itself(design):
    bd(design, MEMTILE, 0, next=0)


@broken("lock 6 of memtile(0,1)|lock 7 of memtile(0,1)", "memtile(0,1)")
def join_sends_the_first_half_for_ever(design):
    bd(design, MEMTILE, 6, next=6)


@broken("S2MM 3 of memtile(0,1)", "no task")
def second_half_of_the_join_is_received_once(design):
    bd(design, MEMTILE, 26, next=None)


@broken("S2MM 0 of memtile(0,1)", "descriptor 24")
def chain_leads_to_a_descriptor_of_odd_channels(design):
    bd(design, MEMTILE, 1, next=24)


@broken("descriptor 0 of core(1,3)", "not valid")
def output_chain_leads_to_the_input_descriptor(design):
    bd(design, SECOND, 1, next=0)


@broken("MM2S 0 of shim(1,0)|descriptor 1", strict=True)
def input_is_chained_to_the_output(design):
    write = design.operations[9]
    words = geometry.unpack_bd("shim", write.words) | {"use_next": 1, "next_bd": 1}
    design.operations[9] = txn.BlockWrite(write.address, tuple(geometry.pack_bd("shim", **words)))


# --- core programs ------------------------------------------------------------------------------------------------
@broken("core(1,2)", "lock 5 of core(1,2)")
def second_program_is_loaded_into_both_cores(design):
    design.programs[FIRST] = second_adder()


@broken("core(1,3)", "7[4][0-9a-f]+", strict=True)
def first_core_writes_into_its_own_memory(design):
    design.programs[FIRST] = first_adder(target=0x70000 + MIDDLE)


@broken("core(0,3)", "not enabled")
def upper_core_is_not_enabled(design):
    design.enabled.discard(UPPER)


@broken("core(0,3)", "done")
def upper_core_ends_at_once(design):
    design.programs[UPPER] = adder(before=f"done\n{NOPS}")


@broken("core(1,2)", "done")
def first_core_ends_after_a_block(design):
    design.programs[FIRST] = first_adder(after=f"done\n{NOPS}")


@broken("core(1,2)", "access|0x70000|address")
def loop_counter_is_never_decremented(design):
    design.programs[FIRST] = first_adder(step=0)


@broken("core(0,2)", "lock 3 of core(0,2)")
def core_acquires_full_where_empty_is_meant(design):
    design.programs[LOWER] = adder(empty=OWN + 3)


@broken("core(1,3)", "407c|never written|undefined", strict=True)
def first_core_leaves_out_the_last_word(design):
    design.programs[FIRST] = first_adder(words=31)


@broken("core(0,3) starts at 0x0", "program lies in 0x100")
def program_is_loaded_at_another_address(design):
    code = assemble(design.programs.pop(UPPER))
    words = tuple(int.from_bytes(code[i : i + 4], "little") for i in range(0, len(code), 4))
    design.extra += [
        cdo.DmaWrite(geometry.tile_address(*UPPER, geometry.PROGRAM_MEMORY_OFFSET + 0x100), words),
        cdo.MaskWrite(geometry.tile_address(*UPPER, geometry.CORE_CONTROL), geometry.CORE_CONTROL_RESET, 0),
    ]


@broken("core(0,2)", "west")
def core_reads_from_where_no_neighbour_is(design):
    design.programs[LOWER] = adder(source=geometry.CORE_VIEW_WEST + 0x400)


@broken("core(1,3)", "no bundle decodes|outside program memory|not 16-byte aligned|nothing was loaded")
def stack_of_the_second_core_is_in_the_middle_buffer(design):
    """Nine calls, each in the one before, with 32 bytes of stack each, while the first core fills the buffer anew."""
    deeper = f"""
    deeper:
    paddb [sp], #32
    nop
    st lr, [sp, #-32]
    add r9, r9, #-1
    jnz r9, #further
    {NOPS}
    j #back
    {NOPS}
    further:
    jl #deeper
    {NOPS}
    back:
    movx r8, #60
    later:
    add r8, r8, #-1
    jnz r8, #later
    {NOPS}
    lda lr, [sp, #-32]
    {NOPS}
    nop
    nop
    paddb [sp], #-32
    ret lr
    {NOPS}
    """
    stack = f"movxm sp, #{0x70000 + MIDDLE:#x}\n{NOPS}"
    design.programs[SECOND] = second_adder(before=stack, after=f"movx r9, #9\njl #deeper\n{NOPS}") + deeper


# --- buffers ------------------------------------------------------------------------------------------------------
@broken("MM2S 2 of memtile(0,1)", "descriptor 7|0x280", strict=True)
def both_halves_of_the_join_have_one_buffer(design):
    bd(design, MEMTILE, 26, address=0x200)


@broken("MM2S 0 of core(1,3), descriptor 1", "never written", strict=True)
def sender_has_another_buffer_than_its_core(design):
    bd(design, SECOND, 1, address=0xA000)


@broken("core(1,2)", strict=True)
def receiver_has_another_buffer_than_its_core(design):
    bd(design, FIRST, 0, address=0x440)


@broken("S2MM 3 of memtile(0,1)", "west")
def receiver_of_the_join_writes_west(design):
    fields(design, MEMTILE, 26, base_address=0x280 // 4)


# --- packets ------------------------------------------------------------------------------------------------------
@broken("MM2S 0 of core(0,3)", "id 1")
def words_without_a_header_go_where_packets_go(design):
    fields(design, UPPER, 1, enable_packet=0)


@broken("S2MM 2 of memtile(0,1)")
def both_cores_send_one_id(design):
    fields(design, LOWER, 1, packet_id=UPPER_ID)
    design.shared[1] = replace(design.shared[1], packet_id=UPPER_ID)


@broken("arbiter 0 of core(0,2)|MM2S 0 of core(0,3)", "core(0,3)")
def packet_of_the_upper_core_never_ends(design):
    fields(design, UPPER, 1, tlast_suppress=1)


# --- the sequence -------------------------------------------------------------------------------------------------
@broken("S2MM 0 of shim(1,0)", "token")
def second_column_is_not_asked_for_a_token(design):
    design.operations[6:9] = transfer(1, 3, "s2mm", column=1)


@broken("token of S2MM 0 of shim(1,0)", "id 0")
def controller_id_of_the_second_column_is_not_set(design):
    control = geometry.tile_address(*SHIM_1, geometry.channel_control_offset("shim", "s2mm", 0))
    design.extra.append(cdo.MaskWrite(control, 0x1F00, 0))


@broken("descriptor 1 of shim(1,0)")
def output_of_the_second_column_has_no_patch(design):
    del design.operations[7]


@broken("descriptor 1 of shim([01],0)")
def patch_goes_to_the_first_column(design):
    place = geometry.tile_address(*SHIM, geometry.bd_offset("shim", 1))
    design.operations[7] = txn.DdrPatch(place + 4, 3, 0)


@broken("MM2S 0 of shim(1,0)", "token")
def second_column_is_waited_for_in_the_wrong_direction(design):
    design.operations[-1] = txn.Sync(1, 0, 1, 0)


@broken("core(1,3)", "not enabled|disabled|enable")
def sequence_stops_a_core(design):
    design.operations[0:0] = [txn.Write(geometry.tile_address(*SECOND, geometry.CORE_CONTROL), 0)]


@broken("column", "1 columns|(1,")
def partition_is_a_column_too_narrow(design):
    design.columns = 1


@broken("lock 5 of memtile(0,1)|lock 4 of memtile(0,1)")
def sequence_takes_away_a_lock_of_the_join(design):
    place = geometry.tile_address(*MEMTILE, geometry.lock_offset("memtile", 4))
    design.operations[0:0] = [txn.Write(place, 0)]


@broken("S2MM 0 of core(0,3)", "lock 0 of core(0,3)")
def core_gives_its_input_back_to_its_neighbour(design):
    design.programs[UPPER] = adder(done_in=geometry.CORE_LOCK_SOUTH + IN_EMPTY)


@broken("core(0,2)", "lock 0 of core(0,2)")
def two_locks_of_a_core_are_exchanged(design):
    design.programs[LOWER] = adder(done_in=OWN + OUT_EMPTY, full=OWN + IN_FULL, empty=OWN + IN_EMPTY)


# --- found by changing every part of the design in turn -----------------------------------------------------------
@broken("descriptor of S2MM 0 of core(0,2)", "from MM2S 0 of memtile(0,1), which sends 31 a descriptor")
def lower_half_is_sent_a_word_short(design):
    bd(design, MEMTILE, 2, words=31)


@broken("S2MM 0 of shim(0,0)", "160 of 256", "memtile(0,1) has taken 416 words and sent 320")
def half_is_received_twice_as_long_as_it_is_sent(design):
    bd(design, MEMTILE, 0, words=64)


@broken("S2MM 0 of shim(0,0)", "160 of 256", "core(0,3) has taken 128 words and sent 66")
def core_receives_twice_what_it_computes(design):
    """Two blocks of 32 words and their packet headers come out of it."""
    bd(design, UPPER, 0, words=64)


@broken("lock 5 of core(1,3)", "nothing releases it, neither core(1,3) nor core(1,2), which could")
def first_core_never_says_full(design):
    design.programs[FIRST] = first_adder(done_out=None)


@broken(
    "descriptor 0 of MM2S 0 of shim(0,0) is half done",
    "S2MM 0 of core(0,3)|lock 2 of memtile(0,1)",
    strict=True,
)
def output_of_a_core_gives_back_another_lock(design):
    bd(design, UPPER, 1, release=(3, 1))


@broken("MM2S 0 of memtile(0,1)", "lock 1 of memtile(0,1)", "nothing releases it")
def half_is_received_and_never_full(design):
    """Its lock for empty is given back at once, so nothing is ever sent of it."""
    bd(design, MEMTILE, 0, release=(0, 1))
    bd(design, MEMTILE, 1, release=(2, 1))


@broken("memtile(0,1) has taken", "and sent", strict=True)
def half_is_said_to_be_full_twice(design):
    bd(design, MEMTILE, 0, release=(1, 2))
