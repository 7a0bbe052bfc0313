"""What each core does with the blocks of an item, in cycles.

The cores that share an item take its blocks together, but not to the same end: limits hide a block from one core's
rows, leave others a part of it, and all of it to some.  References move in the first blocks that a core's rows see,
until each of them has seen a key; with a mask that means to make a block's scores twice.  What masks hide is not known
here.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from npuc.passes.attention import cost
from npuc.passes.attention.call import Call
from npuc.passes.attention.cost import Tiles
from npuc.passes.attention.work import Work


class Run(NamedTuple):
    """So many blocks, each at the same cost to a core: cycles, core by core."""

    blocks: int
    cycles: tuple[int, ...]


class _Rows(NamedTuple):
    """A core's rows: blocks that they see, see whole, and need until each has seen a key, from `first` on."""

    seen: range
    whole: range
    moving: range
    first: int

    def cycles(self, tiles: Tiles, block: int) -> int:
        if block not in self.seen:
            return cost.HIDDEN_BLOCK
        cycles = cost.block_cycles(tiles)
        if block not in self.whole:
            cycles += cost.partial_cycles(tiles)
        # Scores of 16 bits leave references at zero where all queries see all of the first block, or they are capped.
        if block in self.moving and not (tiles.bounded or (tiles.fixed and self.first in self.whole)):
            cycles += cost.moved_cycles(tiles, again=block > self.first)
        return cycles


@lru_cache(maxsize=4096)
def runs(tiles: Tiles, work: Work, base: int, first: int, end: int) -> tuple[Run, ...]:
    """Of blocks first .. end - 1, for an item whose first query is `base`."""
    call, last = work.call, work.call.query_length - 1
    cores = []
    for low, high in work.lanes(tiles.query_block):
        cores.append(_rows(tiles, call, min(base + low, last), min(base + high, last)))
    begin = work.begin(base, first)
    if begin > first:  # all see all of the first in order
        cores = [core._replace(moving=range(begin, begin + 1), first=begin) for core in cores]
    ranges = [blocks for core in cores for blocks in (core.seen, core.whole, core.moving)]
    # References move in the first block otherwise than in those after it.
    edges = {
        first,
        begin,
        end,
        *(core.first + 1 for core in cores),
        *(edge for r in ranges for edge in (r.start, r.stop)),
    }
    inside = sorted(edge for edge in edges if first <= edge <= end)
    found = [
        (before, Run(after - before, tuple(core.cycles(tiles, before) for core in cores)))
        for before, after in zip(inside, inside[1:], strict=False)
    ]
    return tuple(run for before, run in sorted(found, key=lambda one: (one[0] < begin, one[0])))


def _rows(tiles: Tiles, call: Call, first: int, last: int) -> _Rows:
    """Of queries first .. last."""
    size, keys = tiles.key_block, call.key_length
    lowest, low = (row + call.diagonal - call.window + 1 for row in (first, last))  # the first key of each
    high, highest = (row + call.diagonal for row in (first, last))  # and its last one
    if highest < 0 or lowest >= keys:
        return _Rows(range(0), range(0), range(0), 0)
    seen = range(max(lowest, 0) // size, min(highest, keys - 1) // size + 1)
    whole = range(-(-max(low, 0) // size), (min(high, keys - 1) + 1) // size)
    all_see = high >= 0 and low < keys
    return _Rows(seen, whole, range(seen.start, max(low, 0) // size + 1) if all_see else seen, seen.start)
