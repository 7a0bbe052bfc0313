"""Attention -> Plan: tile sizes and columns by the cost model, work dealt out, memory maps laid down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import ResourceError, UnsupportedError, UsageError
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention import memory
from npuc.passes.attention.cost import estimate
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan, WorkItem
from npuc.passes.options import Options

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

KEY_BLOCK = 32
QUERY_BLOCK_UNIT = 8
QUERY_BLOCK_LIMIT = {64: 64, 128: 32}  # head size -> queries a core: what the core kernel is written for
OPTION_KEYS = ("query_block",)


def make_plan(attention: Attention, options: Options) -> Plan:
    """The plan with the least estimated cycles; ties go to more queries a core, then to fewer columns.

    Raises UnsupportedError for shapes the array does not run, UsageError for impossible options, ResourceError when no
    allowed tile fits the memories.
    """
    _require_shape(attention)
    best = min(
        (_rank(attention, query_block, columns), query_block, columns)
        for query_block in _query_blocks(attention, options)
        for columns in _column_counts(options)
    )
    return _plan(attention, best[1], best[2])


def _require_shape(attention: Attention) -> None:
    if attention.head_dim not in QUERY_BLOCK_LIMIT:
        raise UnsupportedError(f"head size {attention.head_dim} is not supported on npu1", remedy="64 and 128 are")
    if attention.heads % attention.kv_heads:
        raise UnsupportedError(
            f"{attention.heads} query heads do not divide into {attention.kv_heads} heads of K and V"
        )
    for what, length, unit in (
        ("query length", attention.lengths.query, CORES_PER_COLUMN * 16),
        ("key length", attention.lengths.key, KEY_BLOCK),
    ):
        if length <= 0 or length % unit:
            raise UnsupportedError(f"{what} {length} is not a positive multiple of {unit}", remedy="pad the tensors")


def _query_blocks(attention: Attention, options: Options) -> list[int]:
    """Allowed queries a core: multiples of 8 up to the kernel's limit that cut the query length evenly and fit."""
    limit = QUERY_BLOCK_LIMIT[attention.head_dim]
    cuts = [
        size
        for size in range(QUERY_BLOCK_UNIT, limit + 1, QUERY_BLOCK_UNIT)
        if attention.lengths.query % (CORES_PER_COLUMN * size) == 0
    ]
    wanted = options.options.get("query_block")
    if wanted is not None:
        if not wanted.isdecimal() or int(wanted) not in cuts:
            raise UsageError(f"query_block={wanted}: possible here are {', '.join(map(str, cuts))}")
        return [int(wanted)]
    fitting, refusal = [], None
    for size in cuts:
        try:
            memory.core_memory(attention.head_dim, size, KEY_BLOCK)
            fitting.append(size)
        except ResourceError as error:
            refusal = error
    if not fitting and refusal is not None:
        raise refusal
    return fitting


def _column_counts(options: Options) -> list[int]:
    if options.columns is None:
        return list(range(1, geometry.COLUMNS + 1))
    if not 1 <= options.columns <= geometry.COLUMNS:
        raise UsageError(f"{options.columns} columns: npu1 has 1 to {geometry.COLUMNS} for a kernel")
    return [options.columns]


def _item_count(attention: Attention, query_block: int) -> int:
    return attention.lengths.batch * attention.heads * (attention.lengths.query // (CORES_PER_COLUMN * query_block))


def _rank(attention: Attention, query_block: int, columns: int) -> tuple[int, int, int]:
    items = _item_count(attention, query_block)
    blocks = attention.lengths.key // KEY_BLOCK
    cost = estimate(attention.head_dim, query_block, KEY_BLOCK, blocks, items, columns)
    # The sequence runs beside the cores: a sixteenth of it decides between otherwise equal choices.
    return (-(-items // columns) * cost.item + cost.sequence // 16, -query_block, columns)


def _deal(attention: Attention, query_block: int, columns: int) -> tuple[tuple[WorkItem, ...], ...]:
    """Consecutive items (rounds of a head, then heads, then batches) to different columns in turn."""
    group = attention.heads // attention.kv_heads
    rounds = attention.lengths.query // (CORES_PER_COLUMN * query_block)
    items = [
        WorkItem(batch, head, head // group, round_)
        for batch in range(attention.lengths.batch)
        for head in range(attention.heads)
        for round_ in range(rounds)
    ]
    return tuple(tuple(items[column::columns]) for column in range(columns))


def _plan(attention: Attention, query_block: int, columns: int) -> Plan:
    items = _deal(attention, query_block, columns)
    blocks = attention.lengths.key // KEY_BLOCK
    sizes = (attention.head_dim, query_block, KEY_BLOCK)
    core_locks, core_initial = memory.core_locks()
    memtile_locks, memtile_initial = memory.memtile_locks()
    return Plan(
        batch=attention.lengths.batch,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        query_length=attention.lengths.query,
        key_length=attention.lengths.key,
        head_dim=attention.head_dim,
        query_block=query_block,
        key_block=KEY_BLOCK,
        columns=columns,
        items=items,
        core_buffers=memory.core_memory(*sizes),
        core_locks=core_locks,
        core_lock_initial=core_initial,
        memtile_buffers=memory.memtile_memory(*sizes),
        memtile_locks=memtile_locks,
        memtile_lock_initial=memtile_initial,
        estimate=estimate(*sizes, blocks, sum(map(len, items)), columns),
    )
