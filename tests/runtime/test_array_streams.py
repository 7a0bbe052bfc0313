"""Streams of the emulated array: circuits, broadcast, packets, arbiters, tokens, control packets, core ports."""

from __future__ import annotations

import numpy as np
import pytest
from array_bench import Bench
from hypothesis import given, settings
from hypothesis import strategies as st

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.descriptor import Packet, header
from npuc.runtime.emulator.errors import EmulationError

MEMTILE, CORE, UPPER = (0, 1), (0, 2), (0, 3)
OWN = geometry.MEMTILE_VIEW_OWN // 4
SEED = 11


def words(count: int) -> np.ndarray:
    print("seed", SEED)
    return np.random.default_rng(SEED).integers(0, 1 << 32, count, dtype=np.uint32)


def physical(tile: tuple[int, int]) -> tuple[int, int]:
    """What a packet header says of a tile: a partition starts at physical column 1 (device_npu1.md, last section)."""
    return tile[0] + 1, tile[1]


def north(bench: Bench, *tiles: tuple[int, int]) -> None:
    """A circuit from the memory tile's MM2S 0 to S2MM 0 of core tiles above it."""
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    for row in range(2, 6):
        masters = [("dma", 0)] if (0, row) in tiles else []
        if any(tile[1] > row for tile in tiles):
            masters.append(("north", 0))
        if masters:
            bench.circuit((0, row), ("south", 0), *masters)


def test_a_broadcast_word_moves_when_all_branches_accept():
    bench = Bench()
    north(bench, CORE, UPPER)
    data = words(256)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, 256, base_address=OWN)
    for tile in (CORE, UPPER):
        bench.descriptor(tile, 0, 256, base_address=64)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.at(1000, lambda: bench.start(UPPER, "s2mm", 0, 0))
    bench.run()
    for tile in (CORE, UPPER):
        assert np.array_equal(bench.get(tile, 64, 256), data)
        ((_, finished),) = bench.of(f"S2MM 0 of core(0,{tile[1]})", "receiving")
        assert 1000 < finished < 1300


def test_words_take_the_latency_of_the_crossings_and_then_a_cycle_each():
    bench = Bench()
    north(bench, CORE)
    bench.descriptor(MEMTILE, 0, 100, base_address=OWN)
    bench.descriptor(CORE, 0, 100)
    bench.start(CORE, "s2mm", 0, 0)
    bench.run()
    sent = bench.array.clock.cycle
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    machine = bench.array.machine
    latency = machine.local_to_external + machine.external_to_local
    ((_, end),) = bench.of("S2MM 0 of core(0,2)", "receiving")
    assert end == sent + machine.task_start + latency + 100


def test_a_sender_stops_when_the_way_and_the_receiving_buffer_are_full():
    bench = Bench()
    north(bench, CORE)
    bench.descriptor(MEMTILE, 0, 100, base_address=OWN)
    bench.descriptor(CORE, 0, 100, acquire_enable=1, acquire_lock=0, acquire_value=-1)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    sender = bench.array.tiles[MEMTILE].channels["mm2s", 0]
    machine = bench.array.machine
    assert sender.words == (machine.local_to_external_words + machine.external_to_local_words + machine.receive_words)
    assert [wait.kind for wait in sender.waits_for()] == ["room"]
    assert "until S2MM 0 of core(0,2) takes words" in str(sender.describe())
    bench.release(CORE, 0)
    bench.run()
    assert sender.words == 100 and sender.describe() is None


def test_words_wait_for_a_way_that_is_configured_later():
    bench = Bench()
    data = words(64)
    bench.put(MEMTILE, 0, data)
    bench.descriptor(MEMTILE, 0, 64, base_address=OWN)
    bench.descriptor(CORE, 0, 64)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    (wait,) = bench.array.tiles[MEMTILE].channels["mm2s", 0].waits_for()
    assert wait.kind == "way" and "slave DMA 0 of memtile(0,1), which is not enabled" in wait.text
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    bench.run()
    bench.circuit(CORE, ("south", 0), ("dma", 0))
    bench.run()
    assert np.array_equal(bench.get(CORE, 0, 64), data)
    assert bench.array.stuck == []


def test_strict_mode_refuses_to_send_without_a_way():
    bench = Bench(strict=True)
    bench.descriptor(MEMTILE, 0, 4, base_address=OWN)
    bench.start(MEMTILE, "mm2s", 0, 0)
    with pytest.raises(EmulationError, match="which is not enabled"):
        bench.run()


def test_the_fifo_of_a_switch_holds_sixteen_words_more():
    def sent(fifo: bool) -> int:
        bench = Bench()
        bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
        bench.circuit(CORE, ("south", 0), ("fifo" if fifo else "dma", 0))
        if fifo:
            bench.circuit(CORE, ("fifo", 0), ("dma", 0))
        bench.descriptor(MEMTILE, 0, 500, base_address=OWN)
        bench.start(MEMTILE, "mm2s", 0, 0)
        bench.run()
        return bench.array.tiles[MEMTILE].channels["mm2s", 0].words

    machine = Bench().array.machine
    assert sent(True) - sent(False) == machine.fifo_words + machine.local_to_local_words


# packets


def switched(bench: Bench, drop: bool) -> None:
    """Packets of the memory tile's MM2S 0 and 1: id 1 to core (0,2), id 2 to core (0,3), on one stream north."""
    for channel in (0, 1):
        bench.packets(MEMTILE, ("dma", channel), [(0, 0, 0, 0)])
    bench.packet_master(MEMTILE, ("north", 0), 0, 1, False)
    bench.packets(CORE, ("south", 0), [(1, 31, 0, 0), (2, 31, 1, 0)])
    bench.packet_master(CORE, ("dma", 0), 0, 1, drop)
    bench.packet_master(CORE, ("north", 0), 0, 2, False)
    bench.packets(UPPER, ("south", 0), [(2, 31, 0, 3)])
    bench.packet_master(UPPER, ("dma", 0), 3, 1, drop)


@pytest.mark.parametrize("drop", [True, False])
def test_packets_go_where_their_id_says_with_or_without_header(drop: bool):
    bench = Bench()
    switched(bench, drop)
    data = words(64)
    bench.put(MEMTILE, 0, data)
    for number, packet in ((0, 1), (1, 2)):
        bench.descriptor(
            MEMTILE,
            number,
            32,
            base_address=OWN + 32 * number,
            enable_packet=1,
            packet_id=packet,
            packet_type=3,
            use_next=1 - number,
            next_bd=1,
        )
    length = 32 if drop else 33
    for tile in (CORE, UPPER):
        bench.descriptor(tile, 0, length)
        bench.start(tile, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()
    for tile, part, packet in ((CORE, data[:32], 1), (UPPER, data[32:], 2)):
        got = bench.get(tile, 0, length)
        assert np.array_equal(got[-32:], part)
        if not drop:
            assert got[0] == header(Packet(packet, 3, 0), *physical(MEMTILE)) and int(got[0]).bit_count() % 2 == 1


@pytest.mark.parametrize("tile, packet, kind, recorded", [(MEMTILE, 2, 4, 0x80214002), (CORE, 4, 0, 0x00220004)])
def test_headers_are_those_that_hardware_sent(tile, packet, kind, recorded):
    """Words of recorded hardware output (facts/platform/device_npu1.md, last section)."""
    bench = Bench()
    sender, receiver = ("dma", 0), ("north", 0) if tile == MEMTILE else ("dma", 0)
    bench.packets(tile, sender, [(packet, 31, 0, 0)])
    bench.packet_master(tile, receiver, 0, 1, False)
    if tile == MEMTILE:
        bench.circuit(CORE, ("south", 0), ("dma", 0))
    base = {"base_address": OWN} if tile == MEMTILE else {"base_address": 64}
    bench.descriptor(tile, 0, 4, **base, enable_packet=1, packet_id=packet, packet_type=kind)
    bench.descriptor(CORE, 1, 5)
    bench.start(CORE, "s2mm", 0, 1)
    bench.start(tile, "mm2s", 0, 0)
    bench.run()
    assert bench.get(CORE, 0, 1).tolist() == [recorded]


def test_an_arbiter_serves_its_slaves_in_turn_a_whole_packet_at_a_time():
    bench = Bench()
    switched(bench, True)
    for channel, number in ((0, 0), (1, 24)):
        bench.put(MEMTILE, 64 * channel, np.full(64, channel + 1, np.uint32))
        bench.descriptor(MEMTILE, number, 8, base_address=OWN + 64 * channel, enable_packet=1, packet_id=1)
        bench.start(MEMTILE, "mm2s", channel, number, repeat=4)
    bench.descriptor(CORE, 0, 64)
    bench.start(CORE, "s2mm", 0, 0)
    bench.run()
    assert bench.get(CORE, 0, 64).reshape(8, 8).tolist() == [[1 + i % 2] * 8 for i in range(8)]


def test_a_packet_that_nothing_matches_is_an_error_that_names_it():
    bench = Bench()
    switched(bench, True)
    bench.descriptor(MEMTILE, 0, 8, base_address=OWN, enable_packet=1, packet_id=7)
    bench.start(MEMTILE, "mm2s", 0, 0)
    with pytest.raises(EmulationError, match=r"MM2S 0 of memtile\(0,1\) has id 7, .* slave South 0 of core\(0,2\)"):
        bench.run()


def test_a_stuck_packet_keeps_its_arbiter_and_who_waits_for_it_says_so():
    bench = Bench()
    switched(bench, True)
    for number, packet in ((0, 1), (24, 2)):
        bench.descriptor(MEMTILE, number, 64, base_address=OWN, enable_packet=1, packet_id=packet)
    bench.descriptor(UPPER, 0, 64)
    bench.start(UPPER, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)  # for core (0,2), which has no task
    bench.run()
    bench.start(MEMTILE, "mm2s", 1, 24)
    bench.run()
    stuck = bench.array.tiles[MEMTILE].channels["mm2s", 1]
    (wait,) = stuck.waits_for()
    assert wait.kind == "arbiter" and wait.peers == ("MM2S 0 of memtile(0,1)",)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_packets_of_many_senders_arrive_whole_and_in_the_order_of_each(data: st.DataObject) -> None:
    """Four channels share a stream north; ids choose one of three cores, whose channels start when they like."""
    bench = Bench()
    senders, cores = range(4), (2, 3, 4)
    for row in cores:
        bench.packets((0, row), ("south", 0), [(row, 31, 0, 1), (0, 0, 1, 1)])
        bench.packet_master((0, row), ("dma", 0), 1, 1, False)
        bench.packet_master((0, row), ("north", 0), 1, 2, False)
    bench.packet_master(MEMTILE, ("north", 0), 5, 1, False)
    wanted: dict[int, list[tuple[int, int, int]]] = {row: [] for row in cores}
    for sender in senders:
        bench.packets(MEMTILE, ("dma", sender), [(0, 0, 0, 5)])
        packets = data.draw(st.lists(st.tuples(st.sampled_from(cores), st.integers(1, 40)), min_size=1, max_size=5))
        first = 24 * (sender % 2) + 6 * (sender // 2)
        for order, (row, length) in enumerate(packets):
            place = 4096 * sender + 64 * order
            bench.put(MEMTILE, place, sender << 16 | order << 8 | np.arange(length, dtype=np.uint32))
            bench.descriptor(
                MEMTILE,
                first + order,
                length,
                base_address=OWN + place,
                enable_packet=1,
                packet_id=row,
                use_next=int(order + 1 < len(packets)),
                next_bd=first + order + 1,
            )
            wanted[row].append((sender, order, length))
        begin = data.draw(st.integers(0, 200))
        bench.at(begin, lambda sender=sender, first=first: bench.start(MEMTILE, "mm2s", sender, first))
    for row in cores:
        total = sum(length + 1 for _, _, length in wanted[row])
        if total:
            bench.descriptor((0, row), 0, total)
            begin = data.draw(st.integers(0, 400))
            bench.at(begin, lambda row=row: bench.start((0, row), "s2mm", 0, 0))
    bench.run()
    for row in cores:
        arrived = bench.get((0, row), 0, sum(length + 1 for _, _, length in wanted[row])).tolist()
        order_seen: dict[int, int] = {}
        found = []
        while arrived:
            assert arrived.pop(0) == header(Packet(row, 0, 0), *physical(MEMTILE))
            sender, order = arrived[0] >> 16, arrived[0] >> 8 & 0xFF
            length = next(entry[2] for entry in wanted[row] if entry[:2] == (sender, order))
            assert arrived[:length] == [sender << 16 | order << 8 | i for i in range(length)]
            assert order > order_seen.get(sender, -1)
            order_seen[sender] = order
            found.append((sender, order, length))
            del arrived[:length]
        assert sorted(found) == sorted(wanted[row])


# tokens


@pytest.mark.parametrize("tile", [(0, 0), MEMTILE, CORE])
def test_task_tokens_of_every_tile_reach_the_controller(tile: tuple[int, int]):
    bench = Bench()
    kind = bench.kind(tile)
    for row in range(tile[1], -1, -1):
        below = ("ctrl", 0) if row == tile[1] else ("north", 0)
        bench.packets((0, row), below, [(26, 31, 0, 0)])
        bench.packet_master((0, row), ("south", 0), 0, 1, row == 0)
    bench.shim_dma()
    bench.array.host.attach([bytearray(64)])
    address = (
        {
            "address_low": bench.array.host.address(0, 0, "x") >> 2 & 0x3FFFFFFF,
            "address_high": bench.array.host.address(0, 0, "x") >> 32,
        }
        if kind == "shim"
        else {}
    )
    base = {"base_address": OWN} if kind == "memtile" else {}
    bench.descriptor(tile, 0, 8, **address, **base)
    if kind == "shim":
        bench.circuit(tile, ("south", 3), ("south", 2))
        bench.start(tile, "s2mm", 0, 0)
    else:
        bench.circuit(tile, ("dma", 0), ("dma", 0))
        bench.start(tile, "s2mm", 0, 0)
    bench.control(tile, "mm2s", 0, 26 << 8)
    bench.start(tile, "mm2s", 0, 0, token=True)
    bench.run()
    assert list(bench.array.tokens) == [(0, tile[1], "mm2s", 0)]
    assert bench.array.lost_tokens == []


def test_a_token_without_a_way_is_lost_and_the_reason_kept():
    bench = Bench()
    bench.circuit(CORE, ("dma", 0), ("dma", 0))
    bench.descriptor(CORE, 0, 8)
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(CORE, "mm2s", 0, 0, token=True)
    bench.run()
    assert bench.array.tokens == {}
    assert bench.array.lost_tokens == [
        "the task token of MM2S 0 of core(0,2) is lost: the stream of the control port of core(0,2) ends at slave "
        "Ctrl 0 of core(0,2), which is not enabled"
    ]


# control packets


def control_word(address: int, beats: int, operation: int, response: int = 0) -> int:
    return address | beats - 1 << 20 | operation << 22 | response << 24


def send_control(bench: Bench, *packets: list[int]) -> None:
    """Control packets from the memory tile to core (0,2); what the core's control port sends comes back to it."""
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    bench.packets(CORE, ("south", 0), [(0, 0, 0, 0)])
    bench.packet_master(CORE, ("ctrl", 0), 0, 1, False)
    bench.packets(CORE, ("ctrl", 0), [(0, 0, 0, 1)])
    bench.packet_master(CORE, ("south", 0), 1, 1, False)
    bench.circuit(MEMTILE, ("north", 0), ("dma", 0))
    for number, packet in enumerate(packets):
        bench.put(MEMTILE, 64 * number, np.array(packet, np.uint32))
        bench.descriptor(
            MEMTILE,
            number,
            len(packet),
            base_address=OWN + 64 * number,
            use_next=number + 1 < len(packets),
            next_bd=number + 1,
        )
    bench.descriptor(MEMTILE, 20, 5, base_address=OWN + 4096)
    bench.start(MEMTILE, "s2mm", 0, 20)
    bench.start(MEMTILE, "mm2s", 0, 0)
    bench.run()


def test_control_packets_write_registers_and_read_them_back():
    bench = Bench()
    data = words(4).tolist()
    lock = geometry.lock_offset("core", 3)
    send_control(
        bench,
        [0, control_word(0x400, 4, 0), *data],
        [0, control_word(lock, 1, 0), 5],
        [0, control_word(0x400, 4, 1, response=9)],
    )
    assert bench.get(CORE, 0x100, 4).tolist() == data
    assert bench.array.tiles[CORE].locks.values[3] == 5
    answer = bench.get(MEMTILE, 4096, 5).tolist()
    assert answer == [header(Packet(9, 0, 0), *physical(CORE)), *data]


def test_answers_wait_for_room_on_their_way():
    bench = Bench()
    packets = [[0, control_word(0x400, 4, 1, response=9)]] * 12
    bench.circuit(MEMTILE, ("north", 0), ("dma", 0))
    send_control(bench, *packets)
    assert bench.array.tiles[MEMTILE].channels["s2mm", 0].tasks == 1
    bench.descriptor(MEMTILE, 21, 55, base_address=OWN + 5000)
    bench.start(MEMTILE, "s2mm", 0, 21)
    bench.run()
    assert bench.get(MEMTILE, 5000, 55).tolist() == [header(Packet(9, 0, 0), *physical(CORE)), 0, 0, 0, 0] * 11


@pytest.mark.parametrize(
    "packet,text",
    [
        ([0], "needs a header and a control word"),
        ([0, control_word(0x400, 2, 0), 1], "writes 2 words and carries 1"),
        ([0, control_word(0x400, 1, 2), 1], "operation 2, which is not modelled"),
        ([0, control_word(0x34, 1, 0) + 1, 1], "not a word"),
    ],
)
def test_malformed_control_packets_are_named(packet: list[int], text: str):
    with pytest.raises(EmulationError, match=text):
        send_control(Bench(), packet)


# the core's ports


def test_a_core_reads_words_from_its_stream_and_writes_a_packet_with_tlast():
    bench = Bench()
    data = words(4)
    bench.put(MEMTILE, 0, data)
    bench.circuit(MEMTILE, ("dma", 0), ("north", 0))
    bench.circuit(CORE, ("south", 0), ("core", 0))
    bench.circuit(CORE, ("core", 0), ("dma", 0))
    bench.descriptor(MEMTILE, 0, 4, base_address=OWN)
    bench.descriptor(CORE, 0, 16)
    bench.control(CORE, "s2mm", 0, 1 << 16)  # finish on TLAST
    bench.start(CORE, "s2mm", 0, 0)
    bench.start(MEMTILE, "mm2s", 0, 0)
    nops = "nop\n" * 8
    bench.program(
        CORE,
        f"mov r1, SS\n mov r2, SS\n mov r3, SS\n mov r4, SS\n{nops} mov ms, r4\n mov ms, r3\n"
        f" mov.tlast ms, r1\n{nops} done\n{nops}",
    )
    bench.run()
    assert bench.get(CORE, 0, 4).tolist() == [data[3], data[2], data[0], 0]
    assert not bench.array.tiles[CORE].channels["s2mm", 0].busy


def test_a_core_writes_a_word_a_bundle_and_waits_when_its_way_is_full():
    bench = Bench()
    bench.circuit(CORE, ("core", 0), ("dma", 0))
    bench.descriptor(CORE, 0, 64, acquire_enable=1, acquire_value=-1)
    bench.start(CORE, "s2mm", 0, 0)
    nops = "nop\n" * 8
    bench.program(CORE, nops + "mov ms, r1\n" * 64 + nops + "done\n" + nops)
    bench.at(500, lambda: bench.release(CORE, 0))
    bench.run()
    core, machine = bench.array.tiles[CORE].core, bench.array.machine
    assert core is not None and core.done_at is not None
    ((_, last),) = bench.of("S2MM 0 of core(0,2)", "receiving")
    held = machine.receive_words + machine.local_to_local_words
    assert core.stall_stream >= 500 - 40 - held
    assert last == 500 + machine.lock_visible + machine.receive_resume + 64 - machine.receive_words
