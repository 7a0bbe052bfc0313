"""Cycles of a plan for a call, by a model of six terms: compute, streams, DDR, dispatch, start-up and drain.

Costs of the machine are the target's, or those of another one that is asked about; those of the core program were
fitted to emulated runs of single columns (head sizes 8 to 256, 8 to 64 queries a core).
"""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.array.target import NPU1, Costs
from npuc.passes.attention import integer_cost
from npuc.passes.attention.core.parameters import WORDS
from npuc.passes.attention.plan import BYTES, CORES_PER_COLUMN, ELEMENT_BYTES, WORD_BYTES, Estimate, shared_out
from npuc.passes.attention.work import Work

# The core program.
MACS_PER_CYCLE = 128  # bf16 vmac.f on one core
BLOCK_FIXED = 95  # lock hand-over, ramps of the loops
BLOCK_RAMPS = 30  # more for each of the two loops, scores' and values', whose ramps do not overlap
BLOCK_MAC = 1.125  # bundles for one of MACs
BLOCK_OF_OUTPUT = 32  # keys whose MACs take as long as the loads and stores of O beside them
BLOCK_VECTOR = 26.0  # 32 scores beyond their MACs: softmax, and what of it does not hide
ACCURATE = 23.7  # more for them by the recipe, whose probabilities have two parts
ACCURATE_FIXED = 250  # and for the second walk over V beside its MACs
SOFTCAP, SOFTCAP_FIXED = 44.0, 130.0  # where they are capped, and the ramps of its loops
MASK, MASK_PART = 7.0, 8.4  # with a mask, and each of its parts
PARTIAL_BLOCK = 22.5  # and in a block that limits hide in part
PARTIAL_WALKED = 14.5  # where a mask has them walked over in any case
HIDDEN_BLOCK = 90  # a block that no row sees
MOVE_ROW = 61.0  # a query where references move: in the first blocks of an item, until all its rows see a key
MOVE_AGAIN = 1.5, 0.25  # and more where O holds something already: a query, each of its outputs
REMADE_ROW, REMADE_OUTPUT = 34.0, 0.25  # and where scores are made anew, with a mask
REMADE_CAPPED = 287.0  # and 32 of them capped
ITEM_FIXED = 212
ITEM_ROW = 10.8  # a query of an item, beside its blocks: Q turned, sums divided
ITEM_OUTPUT = 0.541  # and each of its outputs
ITEM_BEFORE = 0.35  # of that before the first block
# The same with scores of 16 bits (core/fixed_scores.py).
FIXED_BLOCK = 185
FIXED_RAMPS = 34  # for each pair of groups whose loops do not overlap with those of the pair before
FIXED_VECTOR, FIXED_CUBIC = 9.8, 1.5  # of 32 scores; and more by recipe balanced
BOUNDED_BLOCK, BOUNDED_VECTOR, BOUNDED_CUBIC = 155, 19.1, 0.7  # the same where they are capped (core/capped.py)
FIXED_PARTIAL = 21.0  # where limits hide some of them
FIXED_AGAIN = 35.0  # beside their MACs, where references move
FIXED_ITEM, FIXED_ROW, FIXED_OUTPUT = 621, 25.0, 0.40
FIXED_OUTPUT_SPLIT = 0.67

ALL_TOLD = (CORES_PER_COLUMN - 1) * 60  # the lowest core of a column knows of a call, then each tells the next one


@dataclass(frozen=True)
class Tiles:
    """What of a plan the costs depend on."""

    head_dim: int
    query_block: int
    key_block: int
    columns: int
    group_columns: int
    mask_parts: int = 0
    split: bool = False
    recipe: str = "balanced"
    capped: bool = False
    precision: str = "bf16"
    output: str = "bf16"
    kept: int = 0
    bounded: bool = False

    @property
    def rows(self) -> int:
        return self.group_columns * CORES_PER_COLUMN * self.query_block

    @property
    def groups(self) -> int:
        return self.columns // self.group_columns

    @property
    def fixed(self) -> bool:
        """As core/context.py's Shape has it."""
        adjusted = (self.capped and not self.bounded) or self.mask_parts
        return self.recipe != "accurate" and self.precision == "bf16" and not adjusted

    @property
    def pairs_apart(self) -> float:
        """Pairs of groups of four rows whose loops begin anew, as core/context.py's Shape unrolls them."""
        pairs = self.query_block / 8
        return pairs / next(n for n in (4, 2, 1) if pairs % n == 0 and (n == 1 or self.head_dim >= 32))


def block_cycles(tiles: Tiles) -> int:
    """One key block on one core."""
    if tiles.precision == "int8":
        return integer_cost.block_cycles(tiles)
    accurate = tiles.recipe == "accurate"
    units = tiles.query_block * tiles.key_block / 32  # of scores
    macs = tiles.query_block * tiles.key_block * tiles.head_dim / MACS_PER_CYCLE
    # O is loaded and stored tile by tile, which takes as long as the MACs of 32 keys; so for all fewer.
    walk = macs * max(1.0, BLOCK_OF_OUTPUT / tiles.key_block)
    if tiles.fixed:
        costs = (FIXED_BLOCK, FIXED_VECTOR, FIXED_CUBIC), (BOUNDED_BLOCK, BOUNDED_VECTOR, BOUNDED_CUBIC)
        once, vector, cubic = costs[tiles.bounded]
        softmax = units * (vector + cubic * (tiles.recipe != "fast"))
        return round(macs + walk + softmax + once + FIXED_RAMPS * tiles.pairs_apart)
    per_score = BLOCK_VECTOR + SOFTCAP * tiles.capped
    per_score += ACCURATE * accurate
    if tiles.mask_parts:
        per_score += MASK + tiles.mask_parts * MASK_PART
    # As core/scores.py and core/values.py unroll them.
    apart = 2 if tiles.head_dim < 32 else 1 if tiles.capped or tiles.mask_parts else 0
    fixed = BLOCK_FIXED + BLOCK_RAMPS * apart + ACCURATE_FIXED * accurate + SOFTCAP_FIXED * tiles.capped
    return round(BLOCK_MAC * (macs + walk) + walk * accurate + units * per_score + fixed)


def stream_cycles(tiles: Tiles, costs: Costs) -> int:
    """One key block on the busier channel: K or V where they have one each, else both, or the mask on the other."""
    words = block_words(tiles)
    if not tiles.split:
        words = max(2 * words, mask_bytes(tiles) // WORD_BYTES)
    return round(costs.word * words) + costs.descriptor


def block_words(tiles: Tiles) -> int:
    """32-bit words of K or V of one key block."""
    return tiles.key_block * tiles.head_dim * BYTES[tiles.precision] // WORD_BYTES


def query_cycles(tiles: Tiles, costs: Costs) -> int:
    """Q of an item on the channel of K, before which more comes than before V; without a split it is on another."""
    if not tiles.split:
        return 0
    return round(costs.word * shared_out(tiles.rows, tiles.key_block)[0] * block_words(tiles))


def mask_bytes(tiles: Tiles) -> int:
    """The mask of a key block and the rows of one column."""
    return CORES_PER_COLUMN * tiles.query_block * tiles.key_block * tiles.mask_parts * ELEMENT_BYTES


def item_cycles(tiles: Tiles) -> int:
    """What an item costs a core beside its blocks."""
    if tiles.precision == "int8":
        return integer_cost.item_cycles(tiles)
    if tiles.fixed:
        outputs = FIXED_OUTPUT_SPLIT if tiles.split else FIXED_OUTPUT
        return round(FIXED_ITEM + tiles.query_block * (FIXED_ROW + tiles.head_dim * outputs))
    return round(ITEM_FIXED + tiles.query_block * (ITEM_ROW + tiles.head_dim * ITEM_OUTPUT))


def partial_cycles(tiles: Tiles) -> int:
    """What a block takes longer where the core's rows see it in part."""
    if tiles.precision == "int8":
        return integer_cost.partial_cycles(tiles)
    per_score = FIXED_PARTIAL if tiles.fixed else PARTIAL_WALKED if tiles.mask_parts else PARTIAL_BLOCK
    return round(per_score * tiles.query_block * tiles.key_block / 32)


def moved_cycles(tiles: Tiles, again: bool = False) -> int:
    """What a block takes longer where the core's references move; again: O holds earlier blocks."""
    if tiles.precision == "int8":
        return integer_cost.moved_cycles(tiles, again)
    row = MOVE_ROW
    if again:
        row += MOVE_AGAIN[0] + tiles.head_dim * MOVE_AGAIN[1]
    if tiles.fixed:  # scores are made again in fp32, limited, and rounded
        units = tiles.query_block * tiles.key_block / 32
        return round(tiles.query_block * row + units * (tiles.head_dim / 4 + FIXED_AGAIN))
    if tiles.mask_parts:
        row += REMADE_ROW + tiles.head_dim * REMADE_OUTPUT
        row += tiles.key_block / 32 * REMADE_CAPPED * tiles.capped
    return round(tiles.query_block * row)


def start_cycles(tiles: Tiles, tile_words: int, costs: Costs) -> int:
    """Until the last core has its Q and first keys.  tile_words: 32-bit words of a column's O.

    Shims are told of Q, K and V, and memory tiles of what they keep; then cores start, one by one.  Q of an item waits
    for them all, but for two blocks on a channel; or comes core by core.
    """
    descriptor, words = costs.block_write + costs.patch, block_words(tiles)
    parameters = costs.block_write + (WORDS - costs.block_words) * costs.block_word + costs.write  # and the start lock
    cores = tiles.columns * parameters + ALL_TOLD
    if not tiles.split:
        sent = tiles.columns * (3 * descriptor + 2 * costs.write)
        last = costs.shim_start + tiles.columns * (descriptor + costs.write) + round(costs.word * tile_words)
        return max(sent + cores, last + tile_words // CORES_PER_COLUMN)
    sent = tiles.groups * (4 * descriptor + 2 * costs.write)
    told = 4 * tiles.columns * costs.write if tiles.kept else 0
    first = shared_out(tiles.rows, tiles.key_block)[0]
    queries = costs.shim_start + sent + query_cycles(tiles, costs)
    return max(sent + told + cores + max(0, first - 2) * words, queries) + words


def estimate(tiles: Tiles, work: Work, costs: Costs = NPU1.costs) -> Estimate:
    """Estimate for the items of a call, on the machine with these costs."""
    call, heads = work.call, work.per_round
    blocks = [end - first for first, end in (work.blocks(work.base(r)) for r in reversed(range(work.rounds)))]
    tail = bool(call.key_length % tiles.key_block)
    short = not work.fills
    compute, stream = block_cycles(tiles), stream_cycles(tiles, costs)
    tile_words = CORES_PER_COLUMN * tiles.query_block * tiles.head_dim * BYTES[tiles.output] // WORD_BYTES
    transfer = costs.shim_start + round(costs.word * tile_words)
    if not tiles.split:
        pushes = -(-max(blocks) // 64) + (1 if tail else 0)
        shared, own, queued = 2 * pushes + (2 if tail else 0), 4 if short else 2, pushes
    else:  # Q and K, Q and V
        pushes = 4 if short else 2
        shared, own, queued = pushes + 2 + (2 if tail else 0), 4 if short else 2, pushes // 2
    descriptors = shared + own
    alone = 2 * descriptors > NPU1.shim_descriptors or 2 * queued > NPU1.task_queue  # one item under way at a time
    limited = call.diagonal < call.query_length or tail
    masked = partial_cycles(tiles) if limited else 0
    moved = 0 if tiles.fixed else moved_cycles(tiles)
    fixed = item_cycles(tiles) + moved + masked + (costs.completion + transfer if alone else 0)
    busiest = work.count(0)
    if work.by_heads:
        lengths = [n for n in blocks for _ in range(work.sets)] * (busiest // work.of_head)
    else:
        lengths = [blocks[number // heads] for number in range(0, work.items, tiles.groups)][:busiest]
    live = sum(lengths)
    queries = query_cycles(tiles, costs)
    # Of Q, the first blocks are in the tiles; the others come while the output of the item before is made.
    fixed += max(0, round(queries - stream - (1 - ITEM_BEFORE) * item_cycles(tiles))) if tiles.split else 0
    core, streams = live * compute + busiest * fixed, live * stream + busiest * queries
    column = sum(max(n * compute + fixed, n * stream + queries) for n in lengths)
    all_blocks = work.reads * blocks[0] if work.by_heads else heads * sum(blocks)
    moved = all_blocks * (
        2 * tiles.key_block * tiles.head_dim * BYTES[tiles.precision] + tiles.group_columns * mask_bytes(tiles)
    )
    ddr = round((moved + work.items * tiles.group_columns * WORD_BYTES * tile_words) / costs.ddr_bytes)
    per_item = tiles.group_columns * own + shared
    dispatch = work.items * (per_item * (costs.block_write + costs.patch) + (pushes + 2) * costs.write)
    dispatch += busiest * (max(queued, 2 if short else 1) - 1) * costs.push_gap
    if work.by_heads:  # what memory tiles are told of each item
        dispatch += 2 * work.items * tiles.group_columns * (2 * costs.block_write + costs.write)
    start = start_cycles(tiles, tile_words, costs)
    drain = tile_words // (1 + tiles.split) + costs.completion
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
