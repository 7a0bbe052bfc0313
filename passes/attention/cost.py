"""Cycles of a plan for a call, by a model of six terms: compute, streams, DDR, dispatch, start-up and drain.

Costs of the machine are the target's; those of the core program were
fitted to emulated runs of single columns (head sizes 8 to 256, 8 to 64 queries a core).
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.array.target import NPU1
from npuc.passes.attention.core.parameters import WORDS
from npuc.passes.attention.plan import CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Estimate
from npuc.passes.attention.work import Work

# The core program.
MACS_PER_CYCLE = 128  # bf16 vmac.f on one core
BLOCK_FIXED = 165  # lock hand-over, ramps of the loops
BLOCK_VECTOR = 32.0  # 32 scores beyond their MACs: softmax, and what of it does not hide
BLOCK_MAC = 1.29  # bundles for one of MACs
ITEM_ROW = 67.0  # a query of an item, beside its blocks: Q turned, sums divided, first references
ITEM_OUTPUT = 0.83  # and each of its outputs
PARTIAL_BLOCK = 6.0  # 32 scores of a block that is hidden in part
MASK_PART = 8.0  # 32 scores with one part of a mask

COSTS = NPU1.costs
PARAMETERS = COSTS.block_write + (WORDS - COSTS.block_words) * COSTS.block_word + COSTS.write  # and the start lock


@dataclass(frozen=True)
class Tiles:
    """What of a plan the costs depend on."""

    head_dim: int
    query_block: int
    key_block: int
    columns: int
    group_columns: int
    mask_parts: int = 0

    @property
    def rows(self) -> int:
        return self.group_columns * CORES_PER_COLUMN * self.query_block

    @property
    def groups(self) -> int:
        return self.columns // self.group_columns


def block_cycles(tiles: Tiles) -> int:
    """One key block on one core."""
    macs = 2 * tiles.query_block * tiles.key_block * tiles.head_dim / MACS_PER_CYCLE
    per_score = BLOCK_VECTOR + tiles.mask_parts * MASK_PART
    return round(BLOCK_MAC * macs + tiles.query_block * tiles.key_block / 32 * per_score + BLOCK_FIXED)


def stream_cycles(tiles: Tiles) -> int:
    """K and V of one key block on their channel, or the mask on its."""
    words = max(tiles.key_block * tiles.head_dim, mask_bytes(tiles) // WORD_BYTES)
    return round(COSTS.word * words) + COSTS.descriptor


def mask_bytes(tiles: Tiles) -> int:
    """The mask of a key block and the rows of one column."""
    return CORES_PER_COLUMN * tiles.query_block * tiles.key_block * tiles.mask_parts * ELEMENT_BYTES


def item_cycles(tiles: Tiles) -> int:
    """What an item costs a core beside its blocks."""
    return round(tiles.query_block * (ITEM_ROW + tiles.head_dim * ITEM_OUTPUT))


def estimate(tiles: Tiles, work: Work) -> Estimate:
    """Estimate for the items of a call."""
    call, heads = work.call, work.call.heads_in_all
    blocks = [end - first for first, end in (work.blocks(work.base(r)) for r in reversed(range(work.rounds)))]
    tail = bool(call.key_length % tiles.key_block)
    short = call.query_length < tiles.rows
    compute, stream = block_cycles(tiles), stream_cycles(tiles)
    tile_words = CORES_PER_COLUMN * tiles.query_block * tiles.head_dim * ELEMENT_BYTES // WORD_BYTES
    transfer = COSTS.shim_start + round(COSTS.word * tile_words)
    pushes = -(-max(blocks) // 64) + (1 if tail else 0)
    descriptors = 2 * pushes + (2 if tail else 0) + (4 if short else 2)
    alone = 2 * descriptors > NPU1.shim_descriptors or 2 * pushes > NPU1.task_queue  # one item under way at a time
    limited = call.diagonal < call.query_length or tail
    masked = round(PARTIAL_BLOCK * tiles.query_block * tiles.key_block / 32) if limited else 0
    fixed = item_cycles(tiles) + masked + (COSTS.completion + transfer if alone else 0)
    busiest = work.count(0)
    lengths = [blocks[number // heads] for number in range(0, work.items, tiles.groups)][:busiest]
    live = sum(lengths)
    core, streams = live * compute + busiest * fixed, live * stream
    column = sum(max(n * compute + fixed, n * stream) for n in lengths)
    all_blocks = heads * sum(blocks)
    moved = all_blocks * (
        2 * tiles.key_block * tiles.head_dim * ELEMENT_BYTES + tiles.group_columns * mask_bytes(tiles)
    )
    ddr = round((moved + work.items * tiles.group_columns * WORD_BYTES * tile_words) / COSTS.ddr_bytes)
    per_item = tiles.group_columns * (descriptors - 2 * pushes) + 2 * pushes
    dispatch = work.items * (per_item * (COSTS.block_write + COSTS.patch) + (pushes + 2) * COSTS.write)
    dispatch += busiest * (max(pushes, 2 if short else 1) - 1) * COSTS.push_gap
    start = COSTS.shim_start + tiles.columns * (
        3 * (COSTS.block_write + COSTS.patch + COSTS.write) + CORES_PER_COLUMN * PARAMETERS
    )
    start += round(COSTS.word * tile_words) // CORES_PER_COLUMN
    drain = tile_words + COSTS.completion
    terms = {"compute": core, "streams": streams, "ddr": ddr, "dispatch": dispatch}
    total = start + max(column, ddr, dispatch) + drain
    return Estimate(
        compute_per_block=compute,
        stream_per_block=stream,
        item=fixed,
        start=start,
        drain=drain,
        total=total,
        binds=max(terms, key=lambda name: terms[name]),
        **terms,
    )
