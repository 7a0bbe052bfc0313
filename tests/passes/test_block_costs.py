"""What cores do with each block of an item, against the limits' meaning, key by key."""

from __future__ import annotations

from dataclasses import replace

import hypothesis
import numpy as np
from hypothesis import strategies

from npuc.passes.attention import cost
from npuc.passes.attention.block_costs import runs
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call
from npuc.passes.attention.cost import Tiles
from npuc.passes.attention.shares import shared_work
from npuc.passes.attention.work import Item, Work


def expected(tiles: Tiles, work: Work, item: Item, blocks: tuple[int, ...]) -> list[list[int]]:
    """Cycles by block and core, from what each row sees; all of an item's, where a core's begin again."""
    call, by_core = work.call, []
    for first in range(0, tiles.rows, tiles.query_block):
        queries = [work.query(item, row) for row in range(first, first + tiles.query_block)]
        if queries != list(range(queries[0], queries[0] + tiles.query_block)):
            queries = list(range(item.base, min(item.base + work.share.queries, call.query_length)))
        rows, keys = np.array(queries)[:, None], np.arange(item.end * tiles.key_block)[None]
        sees = (keys <= rows + call.diagonal) & (keys > rows + call.diagonal - call.window) & (keys < call.key_length)
        by_core.append(sees.reshape(len(queries), item.end, tiles.key_block))
    cycles = []
    for place, block in enumerate(blocks):
        cycles.append([_one(tiles, core, blocks[:place], block) for core in by_core])
    return cycles


def _one(tiles: Tiles, core: np.ndarray, before_it: tuple[int, ...], block: int) -> int:
    """core: [rows, blocks, keys], what is seen."""
    here = core[:, block]
    if not here.any():
        return cost.HIDDEN_BLOCK
    before = core[:, list(before_it)].any(axis=(1, 2))  # rows that have seen a key
    moved = cost.moved_cycles(tiles, again=bool(before.any())) if not before.all() else 0
    seen = [one for one in (*before_it, block) if core[:, one].any()]
    if tiles.fixed and core[:, seen[0]].all():  # the first block that is seen is seen whole
        moved = 0
    return cost.block_cycles(tiles) + (0 if here.all() else cost.partial_cycles(tiles)) + moved


@hypothesis.given(strategies.data())
@hypothesis.settings(max_examples=150, deadline=None, derandomize=True)
def test_cores_take_as_long_for_a_block_as_their_rows_see_of_it(data: strategies.DataObject) -> None:
    def draw(*choices: int) -> int:
        return data.draw(strategies.sampled_from(choices))

    tiles = Tiles(64, draw(8, 16, 32), draw(16, 32), 4, draw(1, 2), draw(0, 1, 2))
    tiles = replace(tiles, capped=bool(draw(0, 1)), recipe=data.draw(strategies.sampled_from(["fast", "balanced"])))
    heads = draw(1, 2, 3, 8)
    call = Call(
        1,
        heads,
        1,
        data.draw(strategies.integers(1, 300), "queries"),
        data.draw(strategies.integers(1, 300), "keys"),
        1.0,
        data.draw(strategies.just(NO_DIAGONAL) | strategies.integers(-310, 310), "diagonal"),
        data.draw(strategies.just(NO_WINDOW) | strategies.integers(1, 310), "window"),
    )
    hypothesis.assume(call.diagonal != NO_DIAGONAL or call.window == NO_WINDOW)  # a window comes with a diagonal
    work = shared_work(call, tiles.rows, tiles.query_block, tiles.key_block, 1, masked=False)
    for item in work.first_of_rounds():
        found = [
            list(run.cycles) for run in runs(tiles, work, item.base, item.first, item.end) for _ in range(run.blocks)
        ]
        assert found == expected(tiles, work, item, item.order)


def test_caps_make_moved_references_dear() -> None:
    plain, masked, capped = (
        Tiles(64, 32, 32, 4, 4, parts, capped=cap) for parts, cap in ((0, False), (1, False), (1, True))
    )
    assert 0 < min(cost.moved_cycles(plain), cost.moved_cycles(masked)) < cost.moved_cycles(capped)
    assert all(cost.moved_cycles(tiles, again=True) > cost.moved_cycles(tiles) for tiles in (plain, masked, capped))
