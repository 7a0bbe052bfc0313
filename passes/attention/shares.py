"""Which query heads share items: several of one head of K and V, with fewer queries of each (`work.Share`).

K and V are read for the rows of all heads of an item at once, and of an item of fewer queries, fewer blocks of keys are
seen by some of its rows only: the cores that share it have the same ones to go through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from npuc.passes.array.target import NPU1
from npuc.passes.attention.call import Call
from npuc.passes.attention.work import LEAST_QUERIES, Share, Work, alone

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan

# Rows of queries of a head of K and V for which these are read once, where there are so many.  Plans that read them
# more often can be faster where DDR gives all it was measured to give, and lose more on machines that give less (8700g,
# 15.6 bytes a cycle) or beside other work.
REUSED_ROWS = 256
CORES_PER_COLUMN = NPU1.cores_per_column
KEYS_AND_VALUES = 4  # descriptors at most


def reads_allowed(call: Call) -> int:
    """How often K and V of a head may be read: once for so many rows of all query heads that share them."""
    return -(-(call.heads // call.kv_heads) * call.query_length // REUSED_ROWS)


def shared_work(
    call: Call, rows: int, query_block: int, key_block: int, groups: int, masked: bool, kept: int = 0
) -> Work:
    """The items of a call, of as many heads as is best.  masked: with a mask operand.  kept: blocks that memory tiles
    hold of what comes on a channel."""
    share = _best_share(call, rows, query_block, key_block, masked)
    work = Work(call, rows, key_block, groups, share, in_turn=masked)
    return replace(work, by_heads=True) if kept and _can_keep(work, kept) else work


def blocks_of_head(work: Work) -> int:
    """That come on the busier channel for all items of a head of K and V, whose keys come once: those of the first
    item, and all Q."""
    first, end = work.blocks(work.base(work.rounds - 1))
    return end - first + work.of_head * -(-work.rows // work.key_block // 2)


def _can_keep(work: Work, kept: int) -> bool:
    """Whether K and V of a head can be sent again for its further items: two heads fit, of which one comes while the
    other is worked on, and the first item has the blocks of all, which come as they lie.  (Factors of each head are
    found by its number.)"""
    first, end = work.blocks(work.base(work.rounds - 1))
    inside = all(first <= item.first == item.begin and item.end <= end for item in work.first_of_rounds())
    return work.of_head > 1 and inside and 2 * blocks_of_head(work) <= kept and len(work.call.quantities) < 2


def plan_work(plan: Plan, call: Call, masked: bool) -> Work:
    """Those of a call on a plan."""
    return shared_work(call, plan.rows_per_item, plan.query_block, plan.key_block, plan.groups, masked, plan.kept)


@lru_cache(maxsize=4096)
def _best_share(call: Call, rows: int, query_block: int, key_block: int, masked: bool) -> Share | None:
    """That which reads K and V as seldom as is wanted, else least often, and has the least blocks of keys to go
    through; with a mask Q and O stay where they are if it fills items."""
    if call.heads == call.kv_heads:
        return None
    limited = call.diagonal < call.query_length or call.window < call.key_length
    allowed = reads_allowed(call)

    def rank(share: Share) -> tuple[int, bool, int, bool, int]:
        work = Work(call, rows, key_block, 1, share)
        reads = work.rounds * work.sets
        blocks = work.key_blocks * work.rounds
        if limited:
            blocks = sum(end - first for first, end in (work.blocks(work.base(r)) for r in range(work.rounds)))
        copied = masked and not work.fills
        return max(0, reads - allowed), copied, blocks * work.sets, bool(share.band % query_block), share.heads

    best = min(_shares(call, rows, query_block), key=rank)
    return best if best.heads > 1 else None


def _shares(call: Call, rows: int, query_block: int) -> Iterator[Share]:
    """The fewest heads for each number of sets of them; their rows without gaps, or in whole lanes."""
    group, length = call.heads // call.kv_heads, call.query_length
    yield alone(call, rows)
    for heads in sorted({-(-group // sets) for sets in range(1, group)} - {1}):
        band = rows // heads
        lanes = band // query_block * query_block
        if len(call.quantities) > 1:  # rows of a lane have the factors of one head
            queries = max(LEAST_QUERIES, min(length, lanes))
            share = Share(heads, queries, -(-queries // query_block) * query_block)
            if lanes and _is_sent(Work(call, rows, query_block, 1, share), query_block):
                yield share
            continue
        queries = max(LEAST_QUERIES, min(length, band))
        if queries <= band:
            yield Share(heads, queries, queries)
        if 0 < lanes < length:
            yield Share(heads, lanes, lanes)


def _is_sent(work: Work, query_block: int) -> bool:
    """Whether the descriptors of one shim suffice for an item whose bands may have rows again: those of all Q, which
    the first column of a group may send in two parts, those of its O, likewise, and those of K and V."""
    if work.share.queries == work.share.band:
        return True
    queries = len(list(work.stretches(0, 0, work.rows))) + 1
    outputs = len(list(work.stretches(0, 0, CORES_PER_COLUMN * query_block))) + 1
    return queries + outputs + KEYS_AND_VALUES <= NPU1.shim_descriptors
