"""Work items of random calls: every row done, every visible key read, nothing outside, the order as it is said."""

from __future__ import annotations

import random

import pytest

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call, call_of
from npuc.passes.attention.core.parameters import WORDS, parameter_words
from npuc.passes.attention.shares import REUSED_ROWS, reads_allowed, shared_work
from npuc.passes.attention.work import Work

LENGTHS = (1, 2, 4, 17, 31, 32, 63, 64, 65, 127, 128, 129, 255, 257, 400)


def random_work(generator: random.Random) -> Work:
    queries, keys = generator.choice(LENGTHS), generator.choice(LENGTHS)
    kv_heads = generator.randint(1, 3)
    call = Call(
        batch=generator.randint(1, 2),
        heads=kv_heads * generator.choice((1, 1, 2, 3, 4, 7, 8)),
        kv_heads=kv_heads,
        query_length=queries,
        key_length=keys,
        scale=1.0,
        diagonal=generator.choice((NO_DIAGONAL, 0, keys - queries)),
        window=generator.choice((NO_WINDOW, 1, 7, 64, 300)),
    )
    rows, groups = generator.choice((32, 64, 128, 256, 512)), generator.choice((1, 2, 4))
    return shared_work(call, rows, generator.choice((8, 32)), 32, groups, masked=generator.random() < 0.3)


def visible(call: Call, query: int) -> range:
    """Keys a query sees, from CONTRACT's words: i - window < j <= i, i counted along the diagonal."""
    here = query + call.diagonal
    return range(max(0, here - call.window + 1), min(here, call.key_length - 1) + 1)


@pytest.mark.parametrize("seed", range(60))
def test_every_row_of_every_head_is_done_and_all_it_sees_is_read(seed: int) -> None:
    work = random_work(random.Random(seed))
    call = work.call
    done = set()
    for group in range(work.groups):
        items = list(work.of_group(group))
        assert len(items) == work.count(group)
        for item in items:
            assert 0 <= item.first < item.end <= work.key_blocks
            group = call.heads // call.kv_heads
            assert item.head // group == (item.head + work.share.heads - 1) // group, "heads of one head of K and V"
            for row in range(work.rows):
                query = work.query(item, row)
                assert 0 <= query < call.query_length
                keys = visible(call, query)
                if keys:
                    assert item.first * work.key_block <= keys[0] and keys[-1] < item.end * work.key_block
                done.add((item.head + work.place(row)[0], query))
    assert done == {(head, query) for head in range(call.heads_in_all) for query in range(call.query_length)}


@pytest.mark.parametrize("seed", range(60))
def test_the_keys_of_all_queries_are_those_that_each_sees(seed: int) -> None:
    call = random_work(random.Random(seed)).call
    seen = {tuple(visible(call, query)) for query in range(call.query_length)}
    assert {tuple(call.keys(query)) for query in range(call.query_length)} == seen
    assert (None if call.keys_of_all is None else tuple(call.keys_of_all)) == (seen.pop() if len(seen) == 1 else None)


@pytest.mark.parametrize("seed", range(60))
def test_stretches_and_orders_are_the_rows_of_items_one_by_one(seed: int) -> None:
    generator = random.Random(seed)
    work = random_work(generator)
    for item in work.first_of_rounds():
        rows = [(work.place(row)[0], work.query(item, row)) for row in range(work.rows)]
        first = generator.randrange(0, work.rows, 8)
        count = generator.randrange(8, work.rows - first + 1, 8)
        walked = [(s.head, s.query + i) for s in work.stretches(item.base, first, count) for i in range(s.rows)]
        assert walked == rows[first : first + count]
        round_ = work.rounds - 1 - item.number // work.per_round
        assert work.in_order(work.rounds)[round_ * work.rows :][: work.rows] == rows


@pytest.mark.parametrize("seed", range(60))
def test_lanes_are_of_one_head_or_of_rows_that_come_again_as_cores_count_them(seed: int) -> None:
    """Words of a core: the query of its first row; each further row is the next query, behind the last the first."""
    work = random_work(random.Random(seed))
    span, size = work.words(0, 0)[2], 8
    for row, (low, high) in zip(range(0, work.rows, size), work.lanes(size), strict=True):
        assert work.words(0, row)[9] & 0xFFFF == row
        first = work.words(0, row)[9] >> 16
        counted = [(first + i) % span for i in range(size)]
        assert counted == [work.place(row + i)[1] for i in range(size)]
        assert low <= min(counted) and max(counted) <= high


@pytest.mark.parametrize("group", [2, 3, 5, 6, 7, 8, 12, 16, 32, 71])
@pytest.mark.parametrize(("rows", "query_block"), [(512, 32), (1024, 64), (384, 24)])
@pytest.mark.parametrize("masked", [False, True])
def test_keys_are_read_once_for_256_rows_of_all_heads_that_share_them(
    group: int, rows: int, query_block: int, masked: bool
) -> None:
    """By items of 384 rows and more; by such of 256 where these are a multiple of the heads."""
    for length in (*range(2, 20), 43, 64, 65, 85, 100, 129, 213, 256, 257, 300, 511, 1000, 2048):
        call = Call(2, 3 * group, 3, length, length, 1.0, diagonal=0)
        work = shared_work(call, rows, query_block, 32, 1, masked)
        assert work.rounds * work.sets <= -(-group * length // REUSED_ROWS) == reads_allowed(call)
        if 256 % group == 0:
            work = shared_work(call, 256, 16, 32, 1, masked)
            assert work.rounds * work.sets <= reads_allowed(call)


def test_items_of_several_heads_leave_less_for_cores_to_wait_for() -> None:
    """Causal: blocks that an item's cores go through together, against those that one of them sees."""
    call = Call(1, 32, 16, 2048, 2048, 1.0, diagonal=0)
    shared, lone = shared_work(call, 256, 32, 32, 1, masked=False), Work(call, 256, 32, 1)
    blocks = [sum(item.end - item.first for item in work.of_group(0)) for work in (shared, lone)]
    assert shared.share.heads == 2 and blocks[0] < 0.95 * blocks[1]


@pytest.mark.parametrize("seed", range(60))
def test_no_item_reads_a_block_that_none_of_its_rows_sees(seed: int) -> None:
    work = random_work(random.Random(seed))
    for item in work.of_group(0):
        seen = {key // work.key_block for row in range(work.rows) for key in visible(work.call, work.query(item, row))}
        read = set(range(item.first, item.end))
        assert read == seen or (not seen and len(read) == 1)


@pytest.mark.parametrize("seed", range(20))
def test_longest_items_come_first_under_a_causal_limit(seed: int) -> None:
    generator = random.Random(seed)
    call = Call(1, 4, 4, generator.randint(300, 2000), 2000, 1.0, diagonal=0)
    work = Work(call, 128, 32, 1)
    lengths = [item.end - item.first for item in work.of_group(0)]
    assert lengths == sorted(lengths, reverse=True)


def test_rows_are_repeated_only_where_there_are_fewer_than_an_item_has() -> None:
    work = Work(Call(1, 1, 1, 200, 64, 1.0), 128, 32, 1)
    assert [item.base for item in work.of_group(0)] == [72, 0]
    short = Work(Call(1, 1, 1, 3, 64, 1.0), 128, 32, 1)
    (item,) = short.of_group(0)
    assert [short.query(item, row) for row in (0, 1, 2, 3, 127)] == [0, 1, 2, 0, 1]


def test_parameters_are_sixteen_unsigned_words() -> None:
    work = Work(Call(2, 3, 1, 5, 40, 1.0, diagonal=-35 + 30), 128, 32, 2)
    words = parameter_words(work, 1, 96)
    assert len(words) == WORDS and all(0 <= word < 1 << 32 for word in words)
    assert words[:10] == (3, 1 | 2 << 16, 5, 6, 1, 5, 40, (1 << 32) - 5, NO_WINDOW, 96 | 1 << 16)


def test_calls_follow_the_attention() -> None:
    plain = call_of(Attention.make(heads=4, query_length=10, key_length=30, head_dim=64))
    assert (plain.diagonal, plain.window) == (NO_DIAGONAL, NO_WINDOW)
    causal = Attention.make(heads=4, query_length=10, key_length=30, head_dim=64, causal=True, align="bottom-right")
    assert (call_of(causal).diagonal, call_of(causal).window) == (20, NO_WINDOW)
    window = Attention.make(heads=4, query_length=10, key_length=30, head_dim=64, window=8)
    assert (call_of(window).diagonal, call_of(window).window) == (0, 8)


@pytest.mark.parametrize(
    "wrong", [dict(query_length=0), dict(key_length=1 << 17), dict(heads=3, kv_heads=2), dict(batch=0)], ids=str
)
def test_impossible_calls_are_input_errors(wrong: dict[str, int]) -> None:
    numbers = dict(batch=1, heads=1, kv_heads=1, query_length=1, key_length=1) | wrong
    with pytest.raises(InputError):
        Call(scale=1.0, **numbers)  # type: ignore[arg-type]
