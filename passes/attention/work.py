"""Work items: which rows of which head a column group does, against which key blocks, in which order.

Pure arithmetic on small integers, the same on the host and in the scalar code of the cores.  With N heads in all (of
all batch entries), R rows an item, T = ceil(S / R) rounds and G column groups:

* Items are numbered 0 .. T * N - 1, the last rounds (under a causal limit the longest) first: item n is round
  T - 1 - n // N of head n % N.  Group g does n = g, g + G, g + 2 G, ...
* An item's first row is base = max(0, min(round * R, S - R)): the last round is moved up so that it ends with the last
  row, and some rows are computed by two items.  Row i of the item is query min(base + i, S - 1): only where S < R is
  the last query computed (and written) several times.  There, if all queries see the same keys and S divides Bk, row i
  is query i mod S: a task moves that.  Nothing outside the caller's rows is read or written.
* Lane l (one core) has rows l * Bq .. l * Bq + Bq - 1 of the item.
* The key blocks are those between the first key that the item's first row sees and the last that its last row sees, at
  least one, the same for all lanes: K and V are broadcast to them.  Row t of block b is key b * Bk + t; rows beyond the
  last key hold other rows of the same head, which the core hides.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from npuc.passes.attention.call import Call


class Item(NamedTuple):
    """number: of the call.  head: of batch * heads.  base: first row.  first, end: key blocks first .. end - 1."""

    number: int
    head: int
    base: int
    first: int
    end: int


@dataclass(frozen=True)
class Work:
    """The items of a call.  rows: of an item (R).  groups: column groups (G)."""

    call: Call
    rows: int
    key_block: int
    groups: int

    @property
    def rounds(self) -> int:
        return -(-self.call.query_length // self.rows)

    @property
    def items(self) -> int:
        return self.rounds * self.call.heads_in_all

    @property
    def key_blocks(self) -> int:
        """Blocks of all keys."""
        return -(-self.call.key_length // self.key_block)

    def count(self, group: int) -> int:
        """Items of a group."""
        return max(0, -(-(self.items - group) // self.groups))

    def base(self, round_: int) -> int:
        return max(0, min(round_ * self.rows, self.call.query_length - self.rows))

    def blocks(self, base: int) -> tuple[int, int]:
        """(first, end) of the key blocks of the item whose first row is `base`."""
        call = self.call
        last_row = min(base + self.rows - 1, call.query_length - 1)
        last = min(last_row + call.diagonal, call.key_length - 1)
        first = max(0, base + call.diagonal - call.window + 1)
        begin = min(first // self.key_block, self.key_blocks - 1)
        end = max(begin + 1, min(last // self.key_block + 1, self.key_blocks))
        return begin, end

    def of_group(self, group: int) -> Iterator[Item]:
        """The items of a group, in order."""
        heads = self.call.heads_in_all
        ranges = [(self.base(r), *self.blocks(self.base(r))) for r in range(self.rounds)]
        for number in range(group, self.items, self.groups):
            round_, head = self.rounds - 1 - number // heads, number % heads
            yield Item(number, head, *ranges[round_])

    def first_of_rounds(self) -> Iterator[Item]:
        """One item of each round: the others have its rows and key blocks, of other heads."""
        for round_ in range(self.rounds):
            base = self.base(round_)
            yield Item((self.rounds - 1 - round_) * self.call.heads_in_all, 0, base, *self.blocks(base))

    @property
    def by_turns(self) -> bool:
        """Whether an item's rows are all queries in turn, again and again: a few of them that see the same keys.

        With a mask operand they are not: Q and O are padded copies then, of rows of which the last ones do not matter.
        """
        queries = self.call.query_length
        return queries < self.rows and self.key_block % queries == 0 and self.call.keys_of_all is not None

    def query(self, item: Item, row: int) -> int:
        """The query that row `row` of an item is."""
        last = self.call.query_length - 1
        return row % (last + 1) if self.by_turns else min(item.base + row, last)

    def words(self, group: int, lane_row: int) -> tuple[int, ...]:
        """Words 0..9 of the parameters of a core whose lane begins at row `lane_row` of an item.

        Items of the group, the first item's number, G, N, T, S, Skv, diagonal, window, lane_row; see core/parameters.py
        for words 10 and up.
        """
        call = self.call
        return (
            self.count(group),
            group,
            self.groups,
            call.heads_in_all,
            self.rounds,
            call.query_length,
            call.key_length,
            call.diagonal,
            call.window,
            lane_row,
        )
