"""Buffer descriptors: register words, order of words, rings, lock protocol."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from stand_in_core import key_layout, query_layout, value_layout

from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1 import geometry
from npuc.passes.array import dma
from npuc.passes.array.descriptors import Descriptor, Dimension
from npuc.passes.array.fifo import FIRST_CORE_CHANNEL
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.streams import make_design, output_pieces
from npuc.passes.options import Options


@pytest.fixture(params=[(64, "0"), (128, "0"), (128, "1")], ids=str)
def plan(request: pytest.FixtureRequest) -> Plan:
    head_dim, split = request.param
    attention = Attention.make(heads=4, query_length=256, head_dim=head_dim)
    return make_plan(attention, Options(options={"split": split, "kept": "0"}))


@pytest.fixture(params=[24, 64, 128])
def keeping(request: pytest.FixtureRequest) -> Plan:
    attention = Attention.make(heads=4, query_length=256, head_dim=request.param)
    return make_plan(attention, Options(options={"split": "1", "kept": "1"}))


def test_core_descriptor_words_are_those_of_the_fact_sheet() -> None:
    # facts/platform/pdi_cdo.md, "Worked values": buffer 0x400, 1024 bytes, acquire 0 by -1, release 1 by +1, next 0
    descriptor = Descriptor("core", 0, 0x400, 256, acquire=(0, -1), release=(1, 1), next=0)
    assert descriptor.pack() == (0x00400100, 0, 0, 0, 0, 0x06043FE0)


def test_memtile_descriptor_words_are_those_of_the_fact_sheet_but_for_the_packet() -> None:
    order = (Dimension(8, 1), Dimension(4, 16), Dimension(0, 1))
    words = Descriptor("memtile", 1, 0x100, 64, order, acquire=(3, -1), release=(4, 1)).pack()
    assert words == (0x00000040, 0x00020040, 0x00100000, 0x0008000F, 0, 0, 0, 0x8144FF43)


def test_shim_descriptor_moves_on_block_by_block() -> None:
    words = Descriptor("shim", 0, 0, 1024, next=1, iterations=64, iteration_step=1024).pack()
    fields = geometry.unpack_bd("shim", words)
    assert (fields["iteration_wrap"], fields["iteration_step"], fields["iteration_current"]) == (63, 1023, 0)
    assert fields["valid"] and fields["use_next"] and fields["next_bd"] == 1


def sent(plan: Plan, direction: str, channel: int, number: int, rows: np.ndarray) -> np.ndarray:
    """`rows` through the memory tile's descriptor: gathered (mm2s) or scattered (s2mm)."""
    descriptor = dma.memtile_program(make_design(plan)).chain(direction, channel)[number]
    places = np.fromiter(descriptor.word_addresses(), dtype=np.int64) - descriptor.address // 4
    if direction == "mm2s":
        return rows.ravel()[places]
    result = np.zeros(rows.size, dtype=rows.dtype)
    result[places] = rows.ravel()
    return result


def test_cores_receive_keys_values_and_queries_in_the_layouts_they_read(plan: Plan) -> None:
    block = np.arange(plan.key_block * plan.row_words).reshape(plan.key_block, plan.row_words)
    tile = np.arange(plan.query_block * plan.row_words).reshape(plan.query_block, plan.row_words)
    layouts = {0: (key_layout, value_layout, key_layout, value_layout)}
    if plan.split:
        layouts = {0: (key_layout, key_layout), 1: (value_layout, value_layout)}
    for channel, of_blocks in layouts.items():
        for number, layout in enumerate(of_blocks):
            assert np.array_equal(sent(plan, "mm2s", channel, number, block), layout(block).ravel())
    for core in range(0 if plan.split else 4):
        assert np.array_equal(sent(plan, "mm2s", FIRST_CORE_CHANNEL + core, 1, tile), query_layout(tile).ravel())


def test_finished_tiles_come_out_row_major(plan: Plan) -> None:
    rows = np.arange(plan.query_block * plan.row_words).reshape(plan.query_block, plan.row_words)
    tiles = rows.reshape(plan.query_block // 4, 4, plan.row_words // 2, 2).transpose(0, 2, 1, 3)
    for core in range(4):
        assert np.array_equal(sent(plan, "s2mm", FIRST_CORE_CHANNEL + core, 0, tiles), rows.ravel())


@pytest.mark.parametrize("kind", ["core", "memtile"])
def test_descriptors_stay_inside_their_buffers(plan: Plan, kind: str) -> None:
    program, buffers = (
        (dma.core_program(make_design(plan)), plan.core_buffers)
        if kind == "core"
        else (dma.memtile_program(make_design(plan)), plan.memtile_buffers)
    )
    for descriptor in program.descriptors:
        (buffer,) = (one for one in buffers.values() if one.address <= descriptor.address < one.end)
        places = list(descriptor.word_addresses())
        assert len(set(places)) == descriptor.words
        assert buffer.address <= 4 * min(places) and 4 * max(places) + 4 <= buffer.end
        assert geometry.unpack_bd(kind, descriptor.pack())["valid"]


def test_pieces_of_finished_tiles_leave_a_core_in_order_each_by_a_lock_of_its_own(plan: Plan) -> None:
    chain = dma.core_program(make_design(plan)).chain("mm2s", 0)
    assert len(chain) == (output_pieces(plan.query_block) if plan.split else 1)
    assert plan.core_lock_initial["o_empty"] == len(chain)
    sent = np.concatenate([np.fromiter(one.word_addresses(), dtype=np.int64) for one in chain])
    first = plan.core_buffers["o"].address // 4
    assert np.array_equal(sent, np.arange(first, first + plan.query_block * plan.output_words))
    full, empty = plan.core_locks["o_full"], plan.core_locks["o_empty"]
    assert all((one.acquire, one.release) == ((full, -1), (empty, 1)) for one in chain)


def test_core_receives_leave_the_tile_of_ones_behind_v_alone(plan: Plan) -> None:
    for descriptor in dma.core_program(make_design(plan)).descriptors:
        for name in ("v0", "v1"):
            if descriptor.address == plan.core_buffers[name].address:
                assert 4 * descriptor.words == plan.core_buffers[name].size - plan.key_block // 8 * 64


def test_channels_use_descriptors_of_their_own_parity_and_no_two_share_one(plan: Plan) -> None:
    program = dma.memtile_program(make_design(plan))
    used = Counter()  # type: Counter[int]
    for start in program.starts:
        chain = program.chain(start.direction, start.channel)
        used.update(descriptor.number for descriptor in chain)
        pool = geometry.MEMTILE_ODD_CHANNEL_BDS if start.channel % 2 else geometry.MEMTILE_EVEN_CHANNEL_BDS
        assert all(descriptor.number in pool for descriptor in chain)
        assert chain[-1].next == start.first
    assert set(used.values()) == {1} and len(used) == len(program.descriptors)


def test_every_memtile_buffer_is_filled_and_emptied_under_the_same_pair_of_locks(plan: Plan) -> None:
    program = dma.memtile_program(make_design(plan))
    for buffer in plan.memtile_buffers.values():
        pair = [d for d in program.descriptors if d.address == buffer.address]
        assert len(pair) == 2
        filling, emptying = pair
        assert filling.acquire is not None and filling.release is not None
        assert emptying.acquire is not None and emptying.release is not None
        assert filling.acquire[1] == emptying.acquire[1] == -1
        assert filling.release[1] == emptying.release[1] == 1
        assert {filling.acquire[0], filling.release[0]} == {emptying.acquire[0], emptying.release[0]}
        assert filling.acquire[0] == emptying.release[0]


def test_an_empty_lock_starts_at_the_number_of_its_buffers(plan: Plan) -> None:
    program = dma.memtile_program(make_design(plan))
    receiving = [d for s in program.starts if s.direction == "s2mm" for d in program.chain(s.direction, s.channel)]
    waits = Counter(d.acquire[0] for d in receiving if d.acquire)
    for name, lock in plan.memtile_locks.items():
        assert plan.memtile_lock_initial[name] == (waits[lock] if name.endswith("empty") else 0)


def test_kept_streams_have_descriptors_of_their_own_parity_and_run_by_tasks_alone(keeping: Plan) -> None:
    program = dma.memtile_program(make_design(keeping))
    numbers = [descriptor.number for descriptor in program.descriptors]
    assert len(numbers) == len(set(numbers))
    assert {(start.direction, start.channel) for start in program.starts}.isdisjoint({("s2mm", 0), ("mm2s", 1)})
    for kept in dma.kept_streams(make_design(keeping)):
        pool = {*(geometry.MEMTILE_ODD_CHANNEL_BDS if kept.channel else geometry.MEMTILE_EVEN_CHANNEL_BDS)}
        assert {*kept.numbers, *kept.spare} <= pool and not {*kept.spare} & {*numbers} and len(kept.spare) >= 8
        fill, release, hold = kept.descriptors
        empty, full = kept.locks
        assert (fill.acquire, fill.release) == ((empty, -1), (full, 1))
        assert (release.acquire, release.release) == ((full, -1), (empty, 1))
        assert (hold.acquire, hold.release) == ((full, -1), None)
        assert {descriptor.iterations for descriptor in kept.descriptors} == {keeping.kept}
        name = kept.fifo.name
        assert keeping.memtile_lock_initial[f"{name}_empty"] == keeping.kept
        assert keeping.memtile_buffers[name].size == keeping.kept * kept.fifo.tile.nbytes


@pytest.mark.parametrize(("first", "count"), [(0, 1), (3, 5), (-2, 2), (-1, 4)])
@pytest.mark.parametrize("come", [False, True])
def test_kept_tiles_are_sent_from_any_place_in_the_layouts_that_cores_read(
    keeping: Plan, first: int, count: int, come: bool
) -> None:
    for kept, layout in zip(dma.kept_streams(make_design(keeping)), (key_layout, value_layout), strict=True):
        blocks = np.arange(kept.tiles * kept.fifo.tile.words).reshape(kept.tiles, keeping.key_block, keeping.row_words)
        place = first % kept.tiles
        chain = kept.sending(iter(range(40, 44)), place + kept.tiles, count, come, freed=7)
        places = [np.fromiter(one.word_addresses(), dtype=np.int64) - kept.address // 4 for one in chain]
        expected = [layout(blocks[(place + number) % kept.tiles]).ravel() for number in range(count)]
        assert np.array_equal(blocks.ravel()[np.concatenate(places)], np.concatenate(expected))
        assert [one.release for one in chain[:-1]] == [None] * (len(chain) - 1)
        assert chain[-1].release == (kept.locks[0], 7)
        waited = [one.acquire for one in chain]
        tiles = [-(one.words // kept.fifo.tile.words) for one in chain]
        assert waited == ([(kept.locks[1], some) for some in tiles] if come else [None] * len(chain))
