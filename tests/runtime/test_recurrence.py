"""Arrays that go round for ever end by themselves; those that only take long do not."""

from __future__ import annotations

import pytest
from broken_designs import run_core
from small_design import CORE, MEMTILE, OWN, WORDS, Design, port, program

from npuc.compiler.emit import cdo
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array.descriptors import Descriptor
from npuc.passes.array.router import Connection
from npuc.runtime.emulator.errors import CycleLimit, Deadlock

SOUTH = geometry.CORE_LOCK_SOUTH
NOPS = "nop\n" * 6
ROUNDS = 12_000  # of what comes to an end; more events than a look for a round takes


def hands_over(take: int, give: int, first: str = "") -> str:
    """A program that acquires one lock and releases another, for ever."""
    return f"""
    {first}
    movx r0, #{take}; mov r1, #-1
    movx r2, #{give}; mov r3, #1
    here:
    acq r0, r1
    rel r2, r3
    j #here
    {NOPS}
    """


# --- for ever -----------------------------------------------------------------------------------------------------
def core_takes_its_own_lock(design: Design) -> tuple[str, ...]:
    loop = f"movx r0, #{OWN + 5}; mov r1, #1\nhere:\nrel r0, r1\nmov r2, #-1\nacq r0, r2\nj #here\n{NOPS}"
    run_core(design, before=loop)
    return "core(0,2)", "bundles every 11 cycles for ever", "acquires and releases lock 5 of core(0,2)"


def two_cores_hand_locks_to_and_fro(design: Design) -> tuple[str, ...]:
    design.programs[CORE] = hands_over(OWN + 5, OWN + 6)
    design.programs[0, 3] = hands_over(SOUTH + 6, SOUTH + 5)
    design.locks[CORE, 5] = 1
    design.enabled.add((0, 3))
    return "MM2S 0 of core(0,2)", "lock 3 of core(0,2)", "nothing releases it"


def channels_send_to_and_fro(design: Design) -> tuple[str, ...]:
    """A ring of descriptors without locks beside a core that waits for a lock which nothing releases."""
    design.descriptors[MEMTILE, 8] = Descriptor("memtile", 8, 0x9000, 16, next=8)
    design.descriptors[CORE, 5] = Descriptor("core", 5, 0x6000, 16, next=5)
    design.starts += [(MEMTILE, "mm2s", 2, 8), (CORE, "s2mm", 1, 5)]
    design.connections += [
        Connection(port(MEMTILE, "dma", 2), port(MEMTILE, "north", 1)),
        Connection(port(CORE, "south", 1), port(CORE, "dma", 1)),
    ]
    run_core(design, acquire_in=OWN + 7)
    return "core(0,2)", "lock 7 of core(0,2)", "nothing releases it"


def a_core_waits_for_channels_that_go_round(design: Design) -> tuple[str, ...]:
    """A ring with its own lock pair; the core waits for one of the pair to be 2, which it never is."""
    design.descriptors[MEMTILE, 8] = Descriptor("memtile", 8, 0x9000, 16, next=8)
    design.descriptors[CORE, 5] = Descriptor("core", 5, 0x6000, 16, acquire=(8, -1), release=(8, 1), next=5)
    design.locks[CORE, 8] = 1
    design.starts += [(MEMTILE, "mm2s", 2, 8), (CORE, "s2mm", 1, 5)]
    design.connections += [
        Connection(port(MEMTILE, "dma", 2), port(MEMTILE, "north", 1)),
        Connection(port(CORE, "south", 1), port(CORE, "dma", 1)),
    ]
    run_core(design, before=f"movx r0, #{OWN + 8}; mov r1, #-2\nacq r0, r1")
    return "S2MM 1 of core(0,2)", "runs descriptor 5 for ever"


def cores_send_words_round(design: Design) -> tuple[str, ...]:
    """Two cores pass a word to each other by their streams."""
    design.connections += [
        Connection(port(CORE, "core", 0), port(CORE, "north", 1)),
        Connection(port((0, 3), "south", 1), port((0, 3), "core", 0)),
        Connection(port((0, 3), "core", 0), port((0, 3), "south", 1)),
        Connection(port(CORE, "north", 1), port(CORE, "core", 0)),
    ]
    text = "mov r0, #7\nhere:\n{}\n{}\nj #here\n" + NOPS
    send, receive = "mov ms, r0, r28", "mov r0, SS\n" + NOPS + "nop"
    design.programs[CORE] = "movx r28, #0\n" + text.format(send, receive)
    design.programs[0, 3] = "movx r28, #0\n" + text.format(receive, send)
    design.enabled.add((0, 3))
    return "MM2S 0 of core(0,2)", "lock 3 of core(0,2)", "nothing releases it"


ENDLESS = [
    core_takes_its_own_lock, two_cores_hand_locks_to_and_fro, channels_send_to_and_fro,
    a_core_waits_for_channels_that_go_round, cores_send_words_round,
]  # fmt: skip


@pytest.mark.parametrize("change", ENDLESS, ids=lambda change: change.__name__)
def test_what_goes_round_for_ever_ends_by_itself_with_the_root_named(change):
    design = Design()
    says = change(design)
    with pytest.raises(Deadlock) as caught:
        design.run(None)
    assert [text for text in says if text not in str(caught.value)] == [], str(caught.value)


def test_a_limit_of_cycles_comes_first_where_it_is_lower():
    design = Design()
    core_takes_its_own_lock(design)
    with pytest.raises(CycleLimit):
        design.run(3000)


# --- long, not for ever -------------------------------------------------------------------------------------------
def lock_loop(count: str) -> str:
    """Releases and acquires a lock ROUNDS times; count: what is done in each round, r9 is 0 in the last."""
    return f"""
    movxm r8, #{ROUNDS}
    movxm p2, #0x77000
    st r8, [p2, #0]
    movx r0, #{OWN + 5}; mov r1, #1
    here:
    rel r0, r1
    mov r2, #-1
    acq r0, r2
    {count}
    jnz r9, #here
    {NOPS}
    """


def counts_in_a_register(design: Design) -> None:
    run_core(design, before=lock_loop("add r8, r8, #-1\nmov r9, r8"))


def counts_in_memory(design: Design) -> None:
    """At every lock the registers are the same."""
    count = f"lda r8, [p2, #0]\n{NOPS}nop\nadd r8, r8, #-1\nst r8, [p2, #0]\nmov r9, r8\nmovx r8, #0"
    run_core(design, before=lock_loop(count).replace("rel r0, r1", "movx r9, #0\nrel r0, r1"))


def counts_in_a_lock_of_another_core(design: Design) -> None:
    """Core (0,3) gives up to 60 times for each time that the first takes 60; the first counts the rest in memory."""
    counts_in_memory(design)
    design.programs[0, 3] = hands_over(SOUTH + 7, SOUTH + 8)
    design.locks[CORE, 7] = 60
    design.enabled.add((0, 3))


def computes_alone_for_longer_than_any_limit(design: Design) -> None:
    """Seven million cycles without a lock or a stream."""
    run_core(design, before=f"movxm r8, #1000000\nhere:\nadd r8, r8, #-1\njnz r8, #here\n{NOPS}")


def waits_for_a_time(design: Design) -> None:
    """The core looks at its timer; between two looks all is as it was."""
    count = f"mov r17:r16, cntr\n{NOPS}movxm r10, #150000\nltu r9, r16, r10\nmovx r16, #0"
    run_core(design, before=lock_loop(count))


LONG = [
    counts_in_a_register, counts_in_memory, counts_in_a_lock_of_another_core, computes_alone_for_longer_than_any_limit,
    waits_for_a_time,
]  # fmt: skip


@pytest.mark.parametrize("change", LONG, ids=lambda change: change.__name__)
def test_what_only_takes_long_comes_to_its_end(change):
    design = Design()
    change(design)
    assert design.run(None).cycles > 100_000
    assert (design.buffers[1] == design.buffers[0] + 1).all()


def test_an_image_that_is_right_is_no_round_whatever_it_does_again_and_again():
    """Long transfers of equal words through the whole design: most states look alike."""
    design = Design()
    blocks = 600
    design.buffers = [design.buffers[0][:1].repeat(WORDS * blocks), design.buffers[1][:1].repeat(WORDS * blocks)]
    for operation in range(len(design.operations)):
        change = design.operations[operation]
        if hasattr(change, "words"):
            design.operations[operation] = type(change)(change.address, (WORDS * blocks, *change.words[1:]))
    design.run(None)
    assert (design.buffers[1] == design.buffers[0] + 1).all()


def test_data_memory_written_from_outside_is_state():
    """What the sequence has written to a core's memory before it waits is what the program sees."""
    design = Design()
    design.extra.append(cdo.Write(geometry.tile_address(*CORE, 0x7000), 3))
    design.programs[CORE] = program()
    design.run(None)
    assert (design.buffers[1] == design.buffers[0] + 1).all()
