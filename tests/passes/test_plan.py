"""Tile sizes, columns, memory maps and work of plans."""

from __future__ import annotations

import itertools
import json

import pytest

from npuc.compiler.diagnostics import InputError, ResourceError, UsageError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.array.design import relay_buffers
from npuc.passes.array.target import NPU1
from npuc.passes.attention import memory
from npuc.passes.attention.call import NO_DIAGONAL, Call
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.cost import Tiles, estimate
from npuc.passes.attention.plan import Buffer, Plan
from npuc.passes.attention.streams import streams
from npuc.passes.attention.work import Work
from npuc.passes.options import Options

CASES = [
    dict(heads=heads, query_length=length, head_dim=size)
    for heads, length, size in itertools.product((1, 2, 3, 8), (64, 128, 192, 320, 1024), (64, 128))
]


def planned(columns: int | None = None, options: dict[str, str] | None = None, **shape: int) -> Plan:
    return make_plan(Attention.make(**shape), Options(columns=columns, options=options or {}))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", CASES, ids=str)
def test_column_groups_differ_by_one_item_at_most_and_none_is_idle(shape: dict[str, int]) -> None:
    plan = planned(**shape)
    counts = [plan.work.count(group) for group in range(plan.groups)]
    assert plan.query_block % 8 == 0 and sum(counts) == plan.work.items
    assert min(counts) >= 1 and max(counts) - min(counts) <= 1


TILES = [(64, size) for size in range(8, 65, 8)] + [(128, size) for size in range(8, 33, 8)]


@pytest.mark.parametrize("head_dim,query_block", TILES)
def test_buffers_are_aligned_and_apart_inside_the_memories(head_dim: int, query_block: int) -> None:
    sizes = (head_dim, query_block, 32)
    memtile = [relay_buffers(streams(*sizes, 0, split), NPU1) for split in (False, True)]
    for places, limit in ((memory.core_memory(*sizes), 0x10000), *((some, 0x80000) for some in memtile)):
        end = 0
        for buffer in sorted(places.values()):
            assert buffer.address % 64 == 0 and buffer.address >= end
            end = buffer.end
        assert end <= limit


def banks_of(buffer: Buffer) -> set[int]:
    return set(range(buffer.address // memory.BANK, (buffer.end - 1) // memory.BANK + 1))


@pytest.mark.parametrize("head_dim,query_block", TILES)
def test_what_one_bundle_accesses_together_lies_in_different_banks(head_dim: int, query_block: int) -> None:
    buffers = memory.core_memory(head_dim, query_block, 32)
    for number in "01":
        keys = buffers[f"k{number}"]
        half = keys.size // 2
        shared = sum(
            (keys.address + at) // memory.BANK == (keys.address + half + at) // memory.BANK for at in range(0, half, 64)
        )
        assert shared * 64 <= half // 8
        assert not banks_of(keys) & banks_of(buffers["q"])
        assert not banks_of(buffers[f"v{number}"]) & banks_of(buffers["o"])


def test_the_largest_tile_of_head_size_128_fits_with_896_bytes_to_spare() -> None:
    buffers = memory.core_memory(128, 32, 32)
    assert sum(buffer.size for buffer in buffers.values()) == 64_640


def test_a_tile_beyond_core_memory_names_the_buffer_and_the_option() -> None:
    with pytest.raises(ResourceError, match="65,536.*does not fit.*query_block"):
        memory.core_memory(128, 64, 32)


def test_lock_ids_are_distinct_and_in_range() -> None:
    plan = planned(heads=1, query_length=64, head_dim=64)
    for ids, initial, limit in (
        (plan.core_locks, plan.core_lock_initial, 16),
        (plan.memtile_locks, plan.memtile_lock_initial, 64),
    ):
        assert sorted(ids.values()) == list(range(len(ids))) and len(ids) <= limit
        assert set(ids) == set(initial)


def test_columns_asked_for_are_used() -> None:
    assert planned(columns=3, heads=8, query_length=256, head_dim=64).columns == 3


def test_query_block_asked_for_is_used() -> None:
    assert planned(options={"query_block": "16"}, heads=8, query_length=256, head_dim=64).query_block == 16


@pytest.mark.parametrize("head_dim", [64, 128, 256])
def test_keys_and_values_are_read_once_for_256_queries_of_a_head(head_dim: int) -> None:
    for queries in (64, 256, 1000):
        plan = planned(heads=8, query_length=queries, head_dim=head_dim)
        assert plan.rows_per_item >= min(256, queries) or plan.work.reads <= 8 * -(-queries // 256)


def test_short_keys_are_kept_in_memory_tiles_and_sent_again() -> None:
    """Two heads' K, V and Q of 128 KiB and 64 KiB, in 512 KiB with the output; longer ones do not fit twice."""
    plan = planned(heads=32, query_length=256, head_dim=128)
    assert plan.kept and plan.work.by_heads and plan.work.reads == 32
    assert "read once and sent 2 times" in plan.describe()
    data = json.loads(json.dumps(plan.to_json()))
    assert Plan.from_json(data) == plan
    assert not planned(heads=32, query_length=1024, head_dim=128).kept
    assert not planned(options={"kept": "0"}, heads=32, query_length=256, head_dim=128).kept


def test_of_close_choices_that_is_taken_whose_sequence_takes_clearly_less() -> None:
    """Measured: 4 heads 53,686 cycles against 56,539 by turns; 32 heads 253,183 by turns against 261,903."""
    assert planned(heads=4, query_length=256, head_dim=64).split
    assert not planned(heads=32, query_length=256, head_dim=64).split


def test_groups_asked_for_are_used() -> None:
    assert planned(options={"group_columns": "1"}, heads=8, query_length=1024, head_dim=128).group_columns == 1
    with pytest.raises(UsageError, match="group_columns=3: possible are 1, 2, 4"):
        planned(columns=4, options={"group_columns": "3"}, heads=8, query_length=1024, head_dim=128)


@pytest.mark.parametrize(
    "wrong",
    [
        dict(columns=0),
        dict(columns=5),
        dict(options={"query_block": "72"}),
        dict(options={"query_block": "20"}),
        dict(options={"query_block": "-8"}),
        dict(options={"split": "2"}),
        dict(options={"kept": "2"}),
    ],
    ids=str,
)
def test_impossible_options_are_usage_errors(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        planned(heads=1, query_length=256, head_dim=64, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "damage",
    [
        {"columns": 5},
        {"columns": 0},
        {"group_columns": 3},
        {"query_block": "x"},
        {"call": {}},
        {"more": 1},
        {"split": True, "mask_parts": 1},
        {"split": False, "kept": 8},
        {"kept": 64},
        {"bounded": 2},
        {"bounded": True, "mask_parts": 1},
    ],
    ids=str,
)
def test_a_damaged_plan_is_an_input_error(damage: dict[str, object]) -> None:
    data = planned(heads=8, query_length=1024, head_dim=64).to_json()
    with pytest.raises(InputError, match="not a plan"):
        Plan.from_json({**data, **damage})


def test_a_plan_is_json_and_text() -> None:
    plan = planned(heads=8, query_length=1024, head_dim=64)
    data = json.loads(json.dumps(plan.to_json()))
    assert data["query_block"] == plan.query_block and Plan.from_json(data) == plan
    capped = planned(heads=8, query_length=1024, head_dim=64, softcap=50.0)
    assert capped.bounded and Plan.from_json(capped.to_json()) == capped
    text = plan.describe()
    assert "16 cores" in text and all(f"  {name}\n" in text for name in plan.core_buffers)


def test_cost_grows_with_keys_and_shrinks_with_columns() -> None:
    def cost(keys: int, columns: int, diagonal: int = NO_DIAGONAL) -> int:
        tiles = Tiles(64, 64, 32, columns, 1)
        call = Call(1, 8, 8, 1024, keys, 1.0, diagonal=diagonal)
        return estimate(tiles, Work(call, tiles.rows, 32, tiles.groups)).total

    assert cost(2048, 1) > cost(1024, 1) > cost(1024, 4)
    assert cost(1024, 1, diagonal=0) < 0.75 * cost(1024, 1)
