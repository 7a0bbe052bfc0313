"""DMA channels of the emulated array: addressing, padding, chains, repeats, iteration, locks, neighbours, resets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from array_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import Pattern
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.timing import PHOENIX

SHIM, MEMTILE, CORE, EAST = (0, 0), (0, 1), (0, 2), (1, 1)
OWN = geometry.MEMTILE_VIEW_OWN // 4
SEED = 5


def words(count: int) -> np.ndarray:
    print("seed", SEED)
    return np.random.default_rng(SEED).integers(1, 1 << 32, count, dtype=np.uint32)


def upward(bench: Bench, channel: int = 0, column: int = 0) -> None:
    """A circuit from the memory tile's MM2S `channel` to S2MM 0 of the core above."""
    bench.circuit((column, 1), ("dma", channel), ("north", 0))
    bench.circuit((column, 2), ("south", 0), ("dma", 0))


def counted(steps: list[int], wraps: list[int], pads: list[tuple[int, int]], length: int) -> list[int]:
    """The order of a pattern by nested loops, -1 for a zero: what the mixed-radix arithmetic must give."""
    sizes = [before + wrap + after for wrap, (before, after) in zip(wraps, pads, strict=True)]
    top = range(-(-length // max(1, int(np.prod(sizes)))))
    order = []
    for digits in itertools.product(top, *(range(size) for size in reversed(sizes))):
        inner = [digit - pad[0] for digit, pad in zip(reversed(digits[1:]), pads, strict=True)]
        zero = any(not 0 <= digit < wrap for digit, wrap in zip(inner, wraps, strict=True))
        place = digits[0] * steps[-1] + sum(d * s for d, s in zip(inner, steps, strict=False))
        order.append(-1 if zero else place)
    return order[:length]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_patterns_count_like_nested_loops(data: st.DataObject) -> None:
    levels = data.draw(st.integers(1, 4))
    steps = data.draw(st.lists(st.integers(1, 50), min_size=levels, max_size=levels))
    wraps = data.draw(st.lists(st.integers(1, 5), min_size=levels - 1, max_size=levels - 1))
    pad = st.tuples(st.integers(0, 2), st.integers(0, 2))
    pads = data.draw(st.lists(pad, min_size=levels - 1, max_size=levels - 1))
    length = data.draw(st.integers(1, 200))
    pattern = Pattern(length, tuple(steps), tuple(wraps), tuple(pads) if any(map(any, pads)) else ())
    order = counted(steps, wraps, pads, length)
    start = data.draw(st.integers(0, length - 1))
    assert pattern.offsets(0, length).tolist() == order
    assert pattern.offsets(start, length - start).tolist() == order[start:]
    assert pattern.reach == max(0, *order)
    if not any(map(any, pads)):
        assert pattern._reach_unpadded() == max(order)
    assert not pattern.linear or order == list(range(length))


def test_four_dimensions_and_padding_of_a_memory_tile_arrive_in_order():
    bench = Bench()
    upward(bench)
    data = words(4096)
    bench.put(MEMTILE, 0, data)
    steps, wraps, pads = [1, 16, 256, 1024], [4, 3, 2], [(2, 1), (1, 0), (0, 1)]
    order = counted(steps, wraps, pads, 150)
    bench.descriptor(
        MEMTILE,
        0,
        150,
        base_address=OWN,
        **{f"d{i}_step": step - 1 for i, step in enumerate(steps)},
        **{f"d{i}_wrap": wrap for i, wrap in enumerate(wraps)},
        **{
            f"d{i}_zero_{where}": pad
            for i, pair in enumerate(pads)
            for where, pad in zip(("before", "after"), pair, strict=True)
        },
    )
    bench.descriptor(CORE, 0, 150)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    assert bench.get(CORE, 0, 150).tolist() == [0 if place < 0 else int(data[place]) for place in order]


def test_receiving_scatters_over_three_dimensions():
    bench = Bench()
    upward(bench)
    data = words(60)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, 60, base_address=OWN)
    bench.descriptor(CORE, 0, 60, base_address=8, d0_step=9, d0_wrap=3, d1_step=0, d1_wrap=5, d2_step=99)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    places = [8 + 10 * a + b + 100 * c for c in range(4) for b in range(5) for a in range(3)]
    assert bench.get(CORE, 0, 1024)[places].tolist() == data.tolist()


def test_a_task_repeats_its_chain_and_iterations_move_the_base_each_run():
    bench = Bench()
    upward(bench)
    data = words(64)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, 4, base_address=OWN, iteration_step=7, iteration_wrap=2, use_next=1, next_bd=1)
    bench.descriptor(MEMTILE, 1, 2, base_address=OWN + 32)
    bench.descriptor(CORE, 0, 24)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0, repeat=4)
    bench.run()
    assert bench.get(CORE, 0, 24).tolist() == [
        int(word) for base in (0, 8, 16, 0) for word in (*data[base : base + 4], *data[32:34])
    ]
    assert bench.array.tiles[MEMTILE].channels["mm2s", 0].tasks == 1


def test_tasks_of_the_queue_follow_each_other_and_status_counts_them():
    bench = Bench()
    upward(bench)
    bench.descriptor(MEMTILE, 0, 4, base_address=OWN, acquire_enable=1, acquire_lock=64, acquire_value=-1)
    status = geometry.channel_status_offset("memtile", "mm2s", 0)
    for number in range(4):
        assert bench.read(MEMTILE, status) >> 20 & 7 == max(0, number - 1)
        bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    assert bench.read(MEMTILE, status) == 2 | 1 << 2 | 1 << 19 | 3 << 20
    bench.start(MEMTILE, "mm2s", 0, 0)
    with pytest.raises(EmulationError, match="the queue of MM2S 0 of memtile.0,1. overflows"):
        bench.start(MEMTILE, "mm2s", 0, 0)
    bench.descriptor(CORE, 0, 20)
    bench.start(CORE, "s2mm", 0, 0)
    bench.release(MEMTILE, 0, 5)
    bench.run()
    assert bench.read(MEMTILE, status) & 1 << 19 == 0
    assert bench.array.tiles[MEMTILE].channels["mm2s", 0].tasks == 5


def test_out_of_order_packets_choose_their_descriptor():
    bench = Bench()
    upward(bench)
    data = words(12)
    bench.put(MEMTILE, 0, data)
    for number, target in ((0, 5), (1, 3), (2, 4)):
        bench.descriptor(
            MEMTILE,
            number,
            4,
            base_address=OWN + 4 * number,
            enable_packet=1,
            packet_id=1,
            out_of_order_id=target,
            use_next=int(number < 2),
            next_bd=number + 1,
        )
    for number in (3, 4, 5):
        bench.descriptor(CORE, number, 4, base_address=16 * number, release_lock=0, release_value=1)
    bench.control(CORE, "s2mm", 0, 1 << 3)
    bench.start(CORE, "s2mm", 0, 0, repeat=3)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    for number, part in ((5, data[:4]), (3, data[4:8]), (4, data[8:])):
        assert np.array_equal(bench.get(CORE, 16 * number, 4), part)
    assert bench.array.tiles[CORE].locks.values[0] == 3
    assert bench.array.tiles[CORE].channels["s2mm", 0].tasks == 1


def test_a_header_may_name_a_descriptor_that_is_not_there():
    bench = Bench()
    upward(bench)
    bench.put(MEMTILE, 0, words(4))
    bench.descriptor(MEMTILE, 0, 4, base_address=OWN, enable_packet=1, packet_id=1, out_of_order_id=40)
    bench.control(CORE, "s2mm", 0, 1 << 3)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    with pytest.raises(EmulationError, match="there is no descriptor 40.*for a packet's header"):
        bench.run()


@pytest.mark.parametrize("count", [64, 20])  # of 20 the last ones lie on the way
@pytest.mark.parametrize("resets", ["the sender", "the receiver"])
def test_a_channel_that_is_reset_while_words_are_on_their_way_starts_anew(resets: str, count: int) -> None:
    """What was to happen of what it did before happens no more: a lock is not released, a word count not counted."""
    bench = Bench()
    upward(bench)
    data = words(64)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, count, base_address=OWN, release_lock=64, release_value=1)
    bench.descriptor(CORE, 0, 32, acquire_enable=1, acquire_lock=2, acquire_value=-1)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()  # the receiver waits for its lock
    tile, direction = (MEMTILE, "mm2s") if resets == "the sender" else (CORE, "s2mm")
    bench.control(tile, direction, 0, 1 << geometry.CHANNEL_RESET_BIT)
    bench.control(tile, direction, 0, 0)
    bench.run()
    channel = bench.array.tiles[tile].channels[direction, 0]
    assert not channel.busy and channel.tasks == 0
    bench.release(CORE, 2, 1)
    bench.run()
    assert bench.array.tiles[MEMTILE].locks.values[0] == (resets == "the receiver" and count == 20)


def test_finish_on_tlast_ends_a_descriptor_early_and_keeps_the_count():
    bench = Bench()
    upward(bench)
    data = words(40)
    bench.put(MEMTILE, 0, data)
    for number, (first, count) in enumerate(((0, 7), (7, 9), (16, 20))):
        bench.descriptor(MEMTILE, number, count, base_address=OWN + first, use_next=int(number < 2), next_bd=number + 1)
    for number in range(3):
        bench.descriptor(CORE, number, 32, base_address=100 * number, use_next=int(number < 2), next_bd=number + 1)
    bench.control(CORE, "s2mm", 0, 3 << 16)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    for number, part in enumerate((data[:7], data[7:16], data[16:36])):
        assert np.array_equal(bench.get(CORE, 100 * number, len(part)), part)
    counts = [bench.read(CORE, 0x1DF20) for _ in range(4)]
    assert counts == [7 | 1 << 31, 9 | 1 << 24 | 1 << 31, 20 | 2 << 24 | 1 << 30 | 1 << 31, 0]


def test_an_early_tlast_leaves_no_room_for_the_rest_of_the_descriptor():
    bench = Bench()
    upward(bench)
    bench.descriptor(MEMTILE, 0, 10, base_address=OWN, use_next=1, next_bd=1)
    bench.descriptor(MEMTILE, 1, 500, base_address=OWN)
    bench.descriptor(CORE, 0, 1000, use_next=1, next_bd=1)
    bench.descriptor(CORE, 1, 1000, acquire_enable=1, acquire_value=-1)
    bench.control(CORE, "s2mm", 0, 1 << 16)
    bench.start(CORE, "s2mm", 0, 0)
    bench.run()
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    machine = bench.array.machine
    way = machine.local_to_external_words + machine.external_to_local_words
    sent = bench.array.tiles[MEMTILE].channels["mm2s", 0].words
    assert 10 + machine.receive_words <= sent - way <= 10 + machine.receive_words + way
    bench.release(CORE, 0)
    bench.run()
    assert not bench.array.tiles[CORE].channels["s2mm", 0].busy


def test_tlast_suppressed_joins_descriptors_into_one_packet():
    bench = Bench()
    bench.packets(MEMTILE, ("dma", 0), [(3, 31, 0, 0)])
    bench.packet_master(MEMTILE, ("north", 0), 0, 1, False)
    bench.circuit(CORE, ("south", 0), ("dma", 0))
    data = words(8)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(
        MEMTILE, 0, 4, base_address=OWN, enable_packet=1, packet_id=3, tlast_suppress=1, use_next=1, next_bd=1
    )
    bench.descriptor(MEMTILE, 1, 4, base_address=OWN + 4, enable_packet=1, packet_id=3)
    bench.descriptor(CORE, 0, 64)
    bench.control(CORE, "s2mm", 0, 1 << 16)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    assert bench.get(CORE, 1, 9).tolist() == [*data.tolist(), 0]


@pytest.mark.parametrize(
    "view,lock,tile",
    [
        (geometry.MEMTILE_VIEW_EAST // 4, geometry.MEMTILE_LOCK_EAST, EAST),
        (geometry.MEMTILE_VIEW_WEST // 4, geometry.MEMTILE_LOCK_WEST, MEMTILE),
    ],
)
def test_a_memory_tile_reads_and_writes_its_neighbours(view: int, lock: int, tile: tuple[int, int]):
    bench = Bench(2)
    here = MEMTILE if tile == EAST else EAST
    bench.circuit(here, ("dma", 0), ("dma", 0))
    data = words(16)
    bench.put(tile, 4, data)
    common = dict(acquire_enable=1, release_value=1)
    bench.descriptor(
        here, 0, 16, base_address=view + 4, acquire_lock=lock, acquire_value=-1, release_lock=lock + 1, **common
    )
    bench.descriptor(
        here, 1, 16, base_address=view + 100, acquire_lock=lock + 2, acquire_value=-1, release_lock=lock + 3, **common
    )
    bench.start(here, "mm2s", 0, 0)
    bench.start(here, "s2mm", 0, 1)
    bench.run()
    (wait,) = bench.array.tiles[here].channels["mm2s", 0].waits_for()
    assert wait.on == f"lock 0 of memtile({tile[0]},1)"
    bench.release(tile, 0)
    bench.release(tile, 2)
    bench.run()
    assert np.array_equal(bench.get(tile, 100, 16), data)
    assert bench.array.tiles[tile].locks.values[:4] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    "channel,column,text", [(4, 0, "only channels 0..3 reach neighbours"), (0, 1, "there is no memory tile east")]
)
def test_neighbours_out_of_reach_are_named(channel: int, column: int, text: str):
    bench = Bench(2)
    bench.descriptor((column, 1), 0, 16, base_address=geometry.MEMTILE_VIEW_EAST // 4)
    with pytest.raises(EmulationError, match=text):
        bench.start((column, 1), "mm2s", channel, 0)


@pytest.mark.parametrize(
    "tile,length,base,text",
    [
        (CORE, 8, 0x4000 - 4, r"leaves the memory of core\(0,2\): words 0x3ffc..0x4003"),
        (MEMTILE, 8, OWN + 0x20000 - 4, r"leaves the memory of memtile\(0,1\)"),
    ],
)
def test_a_descriptor_that_leaves_its_memory_is_named(tile: tuple[int, int], length: int, base: int, text: str):
    bench = Bench()
    with pytest.raises(EmulationError, match=text):
        bench.descriptor(tile, 0, length, base_address=base & 0x3FFF if tile == CORE else base)
        bench.start(tile, "mm2s", 0, 0)


@pytest.mark.parametrize(
    "tile,fields,text",
    [
        (CORE, dict(enable_compression=1), "uses compression"),
        (CORE, dict(valid=0), "is run but not valid"),
        (MEMTILE, dict(d1_zero_before=1, d0_wrap=4, base_address=OWN), "pads dimension 1, which has no wrap"),
    ],
)
def test_descriptors_without_known_meaning_are_named(tile: tuple[int, int], fields: dict[str, int], text: str):
    bench = Bench()
    bench.descriptor(tile, 0, 4, **fields)
    with pytest.raises(EmulationError, match=text):
        bench.start(tile, "mm2s", 0, 0)


def test_reset_drops_the_tasks_and_what_was_received_so_that_the_channel_starts_afresh():
    bench = Bench()
    upward(bench)
    data = words(40)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, 20, base_address=OWN)
    bench.descriptor(CORE, 0, 40)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    bench.control(CORE, "s2mm", 0, 2)
    bench.control(CORE, "s2mm", 0, 0)
    bench.descriptor(CORE, 0, 20, base_address=200)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    assert bench.get(CORE, 0, 20).tolist() == [0] * 20
    assert np.array_equal(bench.get(CORE, 200, 20), data[:20])
    assert bench.array.tiles[MEMTILE].channels["mm2s", 0].tasks == 2


def test_a_paused_shim_channel_moves_no_word_until_it_goes_on():
    bench = Bench()
    bench.shim_dma()
    bench.circuit(SHIM, ("south", 3), ("south", 2))
    source, target = words(64), bytearray(256)
    bench.array.host.attach([bytearray(source.tobytes()), target])
    for number in range(2):
        address = bench.array.host.address(number, 0, "x") // 4
        bench.descriptor(SHIM, number, 64, address_low=address & 0x3FFFFFFF, address_high=address >> 30)
    bench.control(SHIM, "mm2s", 0, 1 << 2)
    bench.start(SHIM, "s2mm", 0, 1)
    bench.start(SHIM, "mm2s", 0, 0)
    bench.run()
    assert bench.array.tiles[SHIM].channels["mm2s", 0].words == 0
    bench.control(SHIM, "mm2s", 0, 0)
    bench.run()
    bench.array.host.detach([bytearray(256), target])
    assert target == source.tobytes()


def test_writes_to_ddr_share_its_rate_only_while_they_last():
    """Three short transfers beside a long one cost it what they take of the rate, and nothing afterwards."""
    lengths = (16384, 1024, 1024, 1024)
    ends = []
    for columns in (1, 4):
        bench = Bench(columns, machine=PHOENIX.at_clock(2.0))  # 13 bytes a cycle
        bench.array.host.attach([bytearray(4 * length) for length in lengths])
        for column in range(columns):
            bench.shim_dma(column)
            bench.circuit((column, 1), ("dma", 0), ("south", 0))
            bench.circuit((column, 0), ("north", 0), ("south", 2))
            address = bench.array.host.address(column, 0, "x") // 4
            bench.descriptor(
                (column, 0), 0, lengths[column], address_low=address & 0x3FFFFFFF, address_high=address >> 30
            )
            bench.descriptor((column, 1), 0, lengths[column], base_address=OWN)
            bench.start((column, 0), "s2mm", 0, 0)
            bench.start((column, 1), "mm2s", 0, 0)
        bench.run()
        ends.append(bench.of("S2MM 0 of shim(0,0)", "task finished")[0][0])
    alone, beside = ends
    machine = bench.array.machine
    assert 0 < beside - alone <= 1.5 * 1024 * (4 * 4 / machine.ddr_write_bytes)
