"""Attention -> Plan: tile sizes and columns by the cost model, work dealt out, memory maps laid down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import ResourceError, UsageError
from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention import memory
from npuc.passes.attention.call import call_of, with_default_sizes
from npuc.passes.attention.cost import estimate
from npuc.passes.attention.plan import CORES_PER_COLUMN, Plan
from npuc.passes.options import Options

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

KEY_BLOCK = 32
KEY_BLOCK_OF_WIDE_HEADS = 16  # beyond 192, where core memory holds no more
WIDE_HEAD = 192
HEAD_UNIT = 8  # elements; the runtime pads other head sizes
QUERY_BLOCK_UNIT = 8
QUERY_BLOCK_LIMIT = 64
OPTION_KEYS = ("query_block",)


def make_plan(attention: Attention, options: Options) -> Plan:
    """The plan with the least estimated cycles; ties go to more queries a core, then to fewer columns.

    Raises UnsupportedError for shapes the array does not run, UsageError for impossible options, ResourceError when no
    allowed tile fits the memories.
    """
    attention = with_default_sizes(attention)
    best = min(
        (_rank(attention, query_block, columns), query_block, columns)
        for query_block in _query_blocks(attention, options)
        for columns in _column_counts(options)
    )
    return _plan(attention, best[1], best[2])


def padded_head(head_dim: int) -> int:
    """The head size that the array computes with."""
    return -(-head_dim // HEAD_UNIT) * HEAD_UNIT


def _key_block(attention: Attention) -> int:
    return KEY_BLOCK if padded_head(attention.head_dim) <= WIDE_HEAD else KEY_BLOCK_OF_WIDE_HEADS


def _query_blocks(attention: Attention, options: Options) -> list[int]:
    """Allowed queries a core: multiples of 8 that fit its memory."""
    possible = list(range(QUERY_BLOCK_UNIT, QUERY_BLOCK_LIMIT + 1, QUERY_BLOCK_UNIT))
    wanted = options.options.get("query_block")
    if wanted is not None:
        if not wanted.isdecimal() or int(wanted) not in possible:
            raise UsageError(f"query_block={wanted}: possible are {', '.join(map(str, possible))}")
        possible = [int(wanted)]
    fitting, refusal = [], None
    for size in possible:
        try:
            memory.core_memory(padded_head(attention.head_dim), size, _key_block(attention))
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
    return attention.lengths.batch * attention.heads * -(-attention.lengths.query // (CORES_PER_COLUMN * query_block))


def _rank(attention: Attention, query_block: int, columns: int) -> tuple[int, int, int]:
    items = _item_count(attention, query_block)
    blocks = -(-attention.lengths.key // _key_block(attention))
    sizes = (padded_head(attention.head_dim), query_block, _key_block(attention))
    cost = estimate(*sizes, blocks, items, columns)
    # The sequence runs beside the cores: a sixteenth of it decides between otherwise equal choices.
    return (-(-items // columns) * cost.item + cost.sequence // 16, -query_block, columns)


def _plan(attention: Attention, query_block: int, columns: int) -> Plan:
    items = _item_count(attention, query_block)
    sizes = (padded_head(attention.head_dim), query_block, _key_block(attention))
    blocks = -(-attention.lengths.key // sizes[2])
    core_locks, core_initial = memory.core_locks()
    memtile_locks, memtile_initial = memory.memtile_locks()
    return Plan(
        head_dim=sizes[0],
        query_block=query_block,
        key_block=sizes[2],
        columns=columns,
        group_columns=1,
        core_buffers=memory.core_memory(*sizes),
        core_locks=core_locks,
        core_lock_initial=core_initial,
        memtile_buffers=memory.memtile_memory(*sizes),
        memtile_locks=memtile_locks,
        memtile_lock_initial=memtile_initial,
        call=call_of(attention),
        estimate=estimate(*sizes, blocks, items, columns),
    )
