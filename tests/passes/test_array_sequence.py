"""The runtime sequence of random calls: what it moves, and that it never overtakes queues, descriptors or tokens."""

from __future__ import annotations

import random
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from sequence_replay import Replay

from npuc.compiler.diagnostics import ResourceError
from npuc.compiler.emit import txn
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call, call_of
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.core.parameters import AHEAD, MOST_SHORT, SHORT_ITEM, Word, parameter_words
from npuc.passes.attention.core.query_blocks import with_one_more
from npuc.passes.attention.grouped import grouped
from npuc.passes.attention.integer_factors import Quantities
from npuc.passes.attention.masks import MaskCopy, mask_copy
from npuc.passes.attention.plan import Plan
from npuc.passes.attention.sequence import length_warnings, sequence
from npuc.passes.attention.shares import plan_work
from npuc.passes.attention.transfers import FIRST, OUTPUTS, SECOND, Channel, Operand, Operands, whole_arguments
from npuc.passes.attention.work import Item, Work
from npuc.passes.options import Options

Q, K, V, OUT, MASK = range(5)
ROLES = {"q": Q, "k": K, "v": V, "out": OUT}
LENGTHS = (1, 2, 15, 16, 17, 31, 33, 63, 65, 127, 129, 255, 257)
SEEDS = range(20)
KEPT = range(16, 20)  # of them those where memory tiles keep K and V


@cache
def planned(
    columns: int,
    group_columns: int,
    head_dim: int,
    query_block: int,
    split: bool = False,
    kept: bool = False,
    **attributes: str,
) -> Plan:
    chosen = {"query_block": query_block, "split": int(split), "kept": int(kept)}
    options = Options(columns=columns, options={key: str(value) for key, value in chosen.items()})
    plan = make_plan(Attention.make(heads=1, query_length=64, head_dim=head_dim, **attributes), options)  # type: ignore[arg-type]
    return replace(plan, group_columns=group_columns)


@cache
def planned_integers(columns: int, query_block: int) -> Plan:
    attention = Attention.make(heads=1, query_length=600, head_dim=64, dtype="i8", precision="int8", o_scale=(1.0,))
    options = {"query_block": str(query_block), "group_columns": str(columns)}
    return make_plan(attention, Options(columns=columns, options=options))


@cache
def random_case(seed: int) -> tuple[Plan, Call, Operands]:
    generator = random.Random(seed)
    columns, group = generator.choice(((1, 1), (2, 1), (2, 2), (4, 1), (4, 2), (4, 4)))
    plan = planned(
        columns, group, generator.choice((8, 64, 128)), generator.choice((8, 32)), split=seed % 2 == 1 or seed in KEPT
    )
    if seed in KEPT:
        plan = planned(columns, group, plan.head_dim, plan.query_block, split=True, kept=True)
    kv_heads = generator.randint(1, 2)
    queries, keys = generator.choice(LENGTHS), generator.choice(LENGTHS)
    call = Call(
        batch=generator.randint(1, 2),
        heads=kv_heads * generator.choice((1, 2, 3, 4)),
        kv_heads=kv_heads,
        query_length=queries,
        key_length=keys,
        scale=1.0,
        diagonal=generator.choice((NO_DIAGONAL, 0, keys - queries)),
        window=generator.choice((NO_WINDOW, 40)),
    )
    operands = whole_arguments(plan, call, ROLES)
    if generator.random() < 0.5:
        operands = Operands(*(strided(plan, call, getattr(operands, name), name) for name in "qkvo"))
    return plan, call, operands


def strided(plan: Plan, call: Call, operand: Operand, name: str) -> Operand:
    """[B, S, H, D] with rows of 4 words more than they need, behind 64 bytes of something else."""
    heads, length = (call.heads, call.query_length) if name in "qo" else (call.kv_heads, call.key_length)
    head = plan.row_words + 4
    return Operand(operand.argument, 64, length * heads * head, head, heads * head)


def rows(operand: Operand, width: int, batch: int, head: int, numbers: np.ndarray) -> np.ndarray:
    """[n * width, 2] (argument, word index) of rows of a head."""
    first = operand.place(batch, head, 0) // 4
    places = (first + numbers[:, None] * operand.row + np.arange(width)).ravel()
    return np.stack([np.full_like(places, operand.argument), places], axis=1)


def rows_of_item(operand: Operand, width: int, work: Work, item: Item, numbers: Sequence[int]) -> np.ndarray:
    """The same of rows of an item."""
    found = []
    for row in numbers:
        batch, head = divmod(item.head, work.call.heads)
        found.append(rows(operand, width, batch, head + work.place(row)[0], np.array([work.query(item, row)])))
    return np.concatenate(found)


@cache
def replayed(seed: int, style: str) -> tuple[Plan, Call, Operands, Work, Replay]:
    """A random case and what its sequence does; the same for all that ask."""
    plan, call, operands = random_case(seed)
    stream = sequence(plan, call, operands, style)
    call, operands = grouped(call, operands, plan.rows_per_item)  # test_grouped.py: the same attention
    work = plan_work(plan, call, masked=False)
    return plan, call, operands, work, Replay(plan, work, stream)


@pytest.mark.parametrize("style", ["default", "plain"])
@pytest.mark.parametrize("seed", SEEDS)
def test_every_item_gets_its_rows_and_gives_its_output_in_order(seed: int, style: str) -> None:
    plan, call, operands, work, replay = replayed(seed, style)
    tile = 4 * plan.query_block
    for column in range(plan.columns):
        group, member = divmod(column, plan.group_columns)
        items = list(work.of_group(group))
        part = tile // plan.outlets
        outputs = [
            (operands.o, channel, range(member * tile + number * part, member * tile + (number + 1) * part))
            for number, channel in enumerate(OUTPUTS[: plan.outlets])
        ]
        queries = [(operands.q, SECOND, range(member * tile, (member + 1) * tile))]
        for operand, channel, numbers in outputs if plan.split else queries + outputs:
            expected = [rows_of_item(operand, plan.row_words, work, item, numbers) for item in items]
            moved = replay.words(column, channel)
            assert np.array_equal(moved, np.concatenate(expected) if expected else np.zeros((0, 2)))
        if plan.split:
            for channel in (FIRST, SECOND):
                assert member == 0 or not len(replay.words(column, channel))
                check_channel(plan, work, operands, replay.at_cores(column, channel), channel, group)
        else:
            check_keys_values(plan, work, operands, replay.words(column, FIRST), group if member == 0 else None)


def check_channel(
    plan: Plan, work: Work, operands: Operands, moved: np.ndarray, channel: Channel, group: int | None
) -> None:
    """Blocks of the items' Q, the first half of them before K and the others before V, and those of K or V."""
    call, size = work.call, plan.key_block * plan.row_words
    blocks = deque(moved.reshape(-1, size, 2))
    for item in work.of_group(group) if group is not None else ():
        middle = -(-work.rows // plan.key_block // 2) * plan.key_block
        for first in range(*((0, middle) if channel == FIRST else (middle, work.rows)), plan.key_block):
            wanted = rows_of_item(operands.q, plan.row_words, work, item, range(first, first + plan.key_block))
            assert np.array_equal(blocks.popleft(), wanted)
        for block in item.order:
            check_keys(plan, call, operands.k if channel == FIRST else operands.v, item, block, blocks.popleft())
    assert not blocks


def check_keys_values(plan: Plan, work: Work, operands: Operands, moved: np.ndarray, group: int | None) -> None:
    """K and V of the items' blocks in turn; rows beyond the last key are rows of the same head."""
    call, size = work.call, plan.key_block * plan.row_words
    blocks = deque(moved.reshape(-1, size, 2))
    for item in work.of_group(group) if group is not None else ():
        for block in item.order:
            for operand in (operands.k, operands.v):
                check_keys(plan, call, operand, item, block, blocks.popleft())
    assert not blocks


def check_keys(plan: Plan, call: Call, operand: Operand, item: Item, block: int, words: np.ndarray) -> None:
    batch, head = divmod(item.head, call.heads)
    head //= call.heads // call.kv_heads
    keys = np.arange(block * plan.key_block, min((block + 1) * plan.key_block, call.key_length))
    there = len(keys) * plan.row_words
    assert np.array_equal(words[:there], rows(operand, plan.row_words, batch, head, keys))
    numbers = (words[there :: plan.row_words, 1] - operand.place(batch, head, 0) // 4) // operand.row
    assert len(numbers) == 0 or 0 <= min(numbers) <= max(numbers) < call.key_length
    assert np.array_equal(words[there:], rows(operand, plan.row_words, batch, head, numbers))


@pytest.mark.parametrize("seed", range(40))
def test_keys_are_read_once_for_256_rows_of_all_heads_that_share_them_or_all_there_are(seed: int) -> None:
    """Words of a key that all queries' blocks hold, as all shims fetch it, whatever plan was chosen."""
    generator = random.Random(seed)
    kv_heads, group = generator.choice((1, 2, 4)), generator.choice((1, 2, 3, 4, 5, 8, 16))
    queries, keys = generator.choice((1, 2, 4, 16, 17, 65, 100, 255, 257, 600, 1000)), generator.choice((33, 65, 257))
    limits = generator.choice(({}, {}, {"causal": True}, {"causal": True, "align": "bottom-right"}, {"window": 2000}))
    head_dim = generator.choice((8, 64, 72, 128, 192, 256))
    if 256 % group and head_dim > 192:  # items of 256 rows, which the heads do not share without a rest
        group = 4
    attention = Attention.make(
        batch=generator.choice((1, 2)),
        heads=kv_heads * group,
        kv_heads=kv_heads,
        head_dim=head_dim,
        query_length=queries,
        key_length=keys,
        mask=generator.choice((None, None, "keep")),
        **limits,
    )
    plan, call = make_plan(attention, Options()), call_of(attention)
    numbers = {argument.role: number for number, argument in enumerate(attention.arguments)}
    mask = attention.argument("mask").shape if attention.mask is not None else None
    operands = whole_arguments(plan, call, numbers, mask)  # type: ignore[arg-type]
    stream = sequence(plan, call, operands)
    call = call if mask is not None else grouped(call, operands, plan.rows_per_item)[0]
    replay = Replay(plan, plan_work(plan, call, masked=mask is not None), stream)
    moved = np.concatenate([replay.words(column, FIRST) for column in range(plan.columns)])
    reads = np.count_nonzero((moved == (numbers["k"], 0)).all(axis=1))
    copies = -(-plan.key_block // call.key_length)  # in a block of which the keys do not fill one
    assert 1 <= reads <= copies * -(-group * queries // 256)


@pytest.mark.parametrize("group", [2, 3, 4, 8])
def test_heads_with_factors_of_their_own_share_items_as_far_as_descriptors_reach(group: int) -> None:
    """Each core's rows are of one head; any length has a sequence."""
    for rows_per_item, query_block, columns in ((512, 32, 4), (256, 32, 2), (128, 8, 4), (64, 8, 2)):
        plan = planned_integers(columns, query_block)
        assert plan.rows_per_item == rows_per_item
        for length in (1, 2, 3, 8, 17, 24, 31, 33, 64, 65, 100, 257, 600):
            factors = (Quantities(1e-4, 1e-2),) * (2 * group)
            call = Call(2, 2 * group, 2, length, 100, 0.1, diagonal=0, quantities=factors)
            work = plan_work(plan, call, masked=False)
            for first in range(0, rows_per_item, query_block):
                assert len({work.place(row)[0] for row in range(first, first + query_block)}) == 1
            assert sequence(plan, call, whole_arguments(plan, call, ROLES))
            if length in (64, 600) and 256 % group == 0:
                assert work.rounds * work.sets <= -(-group * length // 256) or rows_per_item < 256


MASKS = (dict(mask="keep"), dict(mask="add"), dict(mask="add", dtype="f32"))


def masked_case(seed: int) -> tuple[Plan, Call, Operands, tuple[int, ...]]:
    generator = random.Random(seed)
    columns, group = generator.choice(((1, 1), (2, 1), (2, 2), (4, 2)))
    head_dim, query_block = generator.choice(((8, 32), (40, 16), (64, 32), (80, 8), (128, 16), (208, 8)))
    plan = planned(columns, group, head_dim, query_block, **generator.choice(MASKS))
    queries, keys = generator.choice(LENGTHS), generator.choice(LENGTHS)
    limits = dict(diagonal=generator.choice((NO_DIAGONAL, 0)), window=generator.choice((NO_WINDOW, 40)))
    kv_heads = generator.choice((1, 2, 4))
    call = Call(generator.randint(1, 2), 4, kv_heads, queries, keys, 1.0, **limits)
    shape = tuple(generator.choice((1, size)) for size in (call.batch, call.heads, queries, keys))
    shape = shape[generator.randint(0, 3) :]
    return plan, call, whole_arguments(plan, call, ROLES | {"mask": MASK}, shape), shape


@pytest.mark.parametrize("style", ["default", "plain"])
@pytest.mark.parametrize("seed", SEEDS)
def test_queries_and_every_needed_block_of_the_mask_come_once_for_every_row(seed: int, style: str) -> None:
    """Q's columns in blocks, the last one moved up to end with them, then all parts of the item's key blocks."""
    plan, call, operands, shape = masked_case(seed)
    work = plan_work(plan, call, masked=True)
    replay = Replay(plan, work, sequence(plan, call, operands, style))
    assert operands.mask is not None
    width, tile = plan.key_block // 2, 4 * plan.query_block
    row_words = -(-call.key_length // plan.key_block) * plan.mask_parts * width
    starts = [min(chunk * width, plan.row_words - width) for chunk in range(plan.query_chunks)]
    assert starts[-1] + width == plan.row_words
    copy = mask_copy(plan, call, shape)
    for column in range(plan.columns):
        group, member = divmod(column, plan.group_columns)
        expected = []
        for item in work.of_group(group):
            numbers = range(member * tile, (member + 1) * tile)
            places = q_places(plan, work, item, numbers)
            expected += [(Q, places[:, None] + start + np.arange(width)) for start in starts]
            places = mask_places(work, copy, shape, item, numbers) * row_words
            for part in range(item.first * plan.mask_parts, item.end * plan.mask_parts):
                expected.append((MASK, places[:, None] + part * width + np.arange(width)))
        words = [np.stack([np.full(place.size, argument), place.ravel()], axis=1) for argument, place in expected]
        moved = replay.words(column, SECOND)
        assert np.array_equal(moved, np.concatenate(words) if words else np.zeros((0, 2)))
        check_keys_values(plan, work, operands, replay.words(column, FIRST), group if member == 0 else None)
    assert copy.shape == (*copy.shape[:3], row_words // width // plan.mask_parts, plan.mask_parts, 2 * width)


def ordinal(work: Work, item: Item) -> int:
    """Which item it is in the order of copies: by sets of heads, then by rounds."""
    return work.set_heads().index(item.head) * work.rounds + work.rounds - 1 - item.number // work.per_round


def q_places(plan: Plan, work: Work, item: Item, numbers: range) -> np.ndarray:
    """Words at which rows of an item lie in Q: where the caller has them, or in the order of items."""
    if not work.fills:
        return (ordinal(work, item) * work.rows + np.array(numbers)) * plan.row_words
    places = [((item.head + work.place(row)[0]) * work.call.query_length + work.query(item, row)) for row in numbers]
    return np.array(places) * plan.row_words


def mask_places(work: Work, copy: MaskCopy, shape: tuple[int, ...], item: Item, numbers: range) -> np.ndarray:
    """Rows of the copy that have the numbers of these rows, by what the copy says of itself."""
    batches, heads, mask_rows, _ = (1,) * (4 - len(shape)) + shape
    batch, head = divmod(item.head, work.call.heads)
    places = np.arange(np.prod(copy.shape[:3], dtype=int)).reshape(copy.shape[:3])[batch if batches > 1 else 0]
    found = places[work.set_heads().index(head) if heads > 1 else 0]
    if copy.by_rows:
        round_ = work.rounds - 1 - item.number // work.per_round if mask_rows > 1 else 0
        return found[round_ * work.rows :][numbers]
    return found[[work.query(item, row) for row in numbers]] if mask_rows > 1 else found[: len(numbers)]


@pytest.mark.parametrize("style", ["default", "plain"])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_core_with_work_gets_its_parameters_and_one_start(seed: int, style: str) -> None:
    plan, call, operands, work, replay = replayed(seed, style)
    busy = [column for column in range(plan.columns) if work.count(column // plan.group_columns)]
    tiles = [(column, row) for column in busy for row in geometry.CORE_ROWS]
    assert sorted(replay.started) == tiles and sorted(replay.parameters) == tiles
    for column, row in tiles:
        group, member = divmod(column, plan.group_columns)
        lanes = [(member * 4 + core) * plan.query_block for core in range(row - geometry.CORE_ROWS[0], 4)]
        flags = replay.parameters[column, row][Word.FLAGS]
        ahead, short = bool(flags & AHEAD), flags >> SHORT_ITEM & MOST_SHORT
        assert ahead or not short
        words = parameter_words(work, group, lanes[0], ahead, short=short, north=lanes[1:])
        assert replay.parameters[column, row] == words
        assert not ahead or (plan.split and style == "default")


@pytest.mark.parametrize("queries", [256, 10])
def test_no_output_is_waited_for_before_the_next_item_is_sent_where_cores_are_told_so(queries: int) -> None:
    """What is not sent ahead: items whose rows come again and again, by tasks of their own."""
    plan = planned(2, 2, 64, 16, split=True)
    call = Call(1, 5, 5, queries, 100, 1.0)
    work = plan_work(plan, call, masked=False)
    replay = Replay(plan, work, sequence(plan, call, whole_arguments(plan, call, ROLES)))
    assert bool(replay.parameters[0, 2][Word.FLAGS] & AHEAD) == (queries == 256)
    size = plan.key_block * plan.row_words
    whole = [(plan.query_blocks[0] + item.end - item.first) * size for item in work.of_group(0)]
    sent = [sum(whole[: 2 + number]) for number in range(len(whole))]  # by the wait for each output
    waits = replay.sent_at_waits[0]
    assert len(waits) == len(whole) and (queries != 256 or all(map(int.__ge__, waits, sent)))


@pytest.mark.parametrize("seed", SEEDS)
def test_the_plain_style_needs_no_chain_iteration_or_repeat(seed: int) -> None:
    replay = replayed(seed, "plain")[-1]
    assert (replay.chained, replay.iterated, replay.repeated) == (0, 0, 0)
    assert all(task.token for shim in replay.shims for tasks in shim.tasks.values() for task in tasks)


@pytest.mark.parametrize("keys", [4097, 8191, 8192, 20_000])
def test_long_keys_pass_through_the_queue_by_waiting_for_its_oldest_task(keys: int) -> None:
    plan = planned(1, 1, 8, 8)
    call = Call(1, 2, 2, 40, keys, 1.0)
    operands = whole_arguments(plan, call, ROLES)
    work = plan_work(plan, call, masked=False)
    replay = Replay(plan, work, sequence(plan, call, operands))
    check_keys_values(plan, work, operands, replay.words(0, FIRST), 0)


@pytest.mark.parametrize("batch,queries", [(1, 3), (2, 3), (1, 7)])
def test_keys_of_an_item_with_more_descriptors_than_a_shim_has_wait_for_its_queries(batch: int, queries: int) -> None:
    plan = planned(4, 4, 256, 16, split=True)
    call = Call(batch, 14, 2, queries, 513, 1.0, diagonal=513 - queries, window=64)
    operands = whole_arguments(plan, call, ROLES)
    work = plan_work(plan, call, masked=False)
    replay = Replay(plan, work, sequence(plan, call, operands))
    for channel in (FIRST, SECOND):
        check_channel(plan, work, operands, replay.at_cores(0, channel), channel, 0)


def test_two_items_are_under_way_where_queues_and_descriptors_hold_them() -> None:
    plan = planned(1, 1, 64, 32)
    for keys in (256, 250):
        call = Call(1, 8, 8, 128, keys, 1.0)
        operations = txn.read_txn(sequence(plan, call, whole_arguments(plan, call, ROLES))).operations
        pushes = [o for o in operations if isinstance(o, txn.Sync) or getattr(o, "value", 0) >> 31]
        assert [type(o) for o in pushes[:3]] == [txn.Write, txn.Write, txn.Sync if keys == 250 else txn.Write]


def test_the_same_call_gives_the_same_bytes() -> None:
    plan, call, operands = random_case(5)
    assert sequence(plan, call, operands) == sequence(plan, call, operands)


def test_a_new_length_takes_less_than_100_calls_an_item() -> None:
    """Of Python's functions, which are as many on any machine: some milliseconds for these 512 items."""
    plan = planned(4, 1, 128, 32)
    call = Call(1, 32, 16, 2048, 2048, 1.0, diagonal=0)
    operands = whole_arguments(plan, call, ROLES)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        sequence(plan, call, operands)
    finally:
        sys.setprofile(None)
    print(calls, "calls")
    assert 512 < calls < 512 * 100


def test_strides_beyond_a_descriptor_are_a_resource_error() -> None:
    plan = planned(1, 1, 64, 32)
    call = Call(1, 1, 1, 64, 64, 1.0)
    operands = whole_arguments(plan, call, ROLES)
    wide = replace(operands, k=replace(operands.k, row=40_000))
    with pytest.raises(ResourceError, match="rows of K lie 40000 words apart"):
        sequence(plan, call, wide)


def test_sequences_longer_than_any_that_ran_on_hardware_are_warned_of() -> None:
    assert not length_warnings(256 << 10)
    assert "257 KiB" in length_warnings(257 << 10)[0]


@pytest.mark.parametrize("style", ["default", "plain"])
@pytest.mark.parametrize("seed", range(12))
def test_heads_whose_keys_memory_tiles_keep_are_read_once(seed: int, style: str) -> None:
    """Short keys, several items of a head: causal or not, of one head or of several that share K and V."""
    generator = random.Random(seed)
    columns, group = generator.choice(((1, 1), (2, 2), (4, 1)))
    plan = planned(columns, group, generator.choice((8, 64)), 8, split=True, kept=True)
    kv_heads, of_each = generator.choice(((1, 3), (3, 2), (5, 1), (8, 1)))
    rows = plan.rows_per_item
    queries, keys = generator.randint(rows + 1, 4 * rows), generator.randint(40, 150)
    diagonal = generator.choice((NO_DIAGONAL, 0, keys - queries))
    call = Call(generator.randint(1, 2), kv_heads * of_each, kv_heads, queries, keys, 1.0, diagonal=diagonal)
    operands = whole_arguments(plan, call, ROLES)
    stream = sequence(plan, call, operands, style)
    call, operands = grouped(call, operands, plan.rows_per_item)
    work = plan_work(plan, call, masked=False)
    assert work.by_heads and work.reads == call.batch * kv_heads
    replay = Replay(plan, work, stream)
    for column in range(plan.columns):
        for channel in (FIRST, SECOND):
            check_channel(plan, work, operands, replay.at_cores(column, channel), channel, column // group)
    moved = np.concatenate([replay.words(column, FIRST) for column in range(plan.columns)])
    keys_read = np.unique(moved[moved[:, 0] == K], axis=0, return_counts=True)[1]
    seen = min(keys, work.blocks(work.base(work.rounds - 1))[1] * plan.key_block)  # by any query
    most = 1 if seen < keys or keys % plan.key_block == 0 else 2  # some fill the last block
    assert len(keys_read) == call.batch * kv_heads * seen * plan.row_words and max(keys_read) <= most


def test_an_item_that_is_longer_than_tasks_of_a_memory_tile_is_refused() -> None:
    plan = planned(1, 1, 8, 8, split=True, kept=True)
    call = Call(1, 2, 2, 40, 40_000, 1.0)
    with pytest.raises(ResourceError, match="1,250 blocks of keys"):
        sequence(plan, call, whole_arguments(plan, call, ROLES))


def test_what_is_over_of_blocks_is_taken_in_the_first_part_and_the_last_ones() -> None:
    assert [with_one_more(over, 4) for over in range(4)] == [0b0000, 0b0001, 0b1001, 0b1101]
    assert [with_one_more(over, 2) for over in range(2)] == [0, 1]
