"""Work items: which rows of which heads a column group does, against which key blocks, in which order.

Pure arithmetic on small integers, the same on the host and in the scalar code of the cores.  An item is of A query
heads that share K and V (mostly one; `Share`) and of P queries of each, the same ones: what limits hide is alike for
them.  With N such sets of heads in all (of all batch entries), T = ceil(S / P) rounds and G column groups:

* Items are numbered 0 .. T * N - 1, the last rounds (under a causal limit the longest) first: item n is round
  T - 1 - n // N of set n % N.  Group g does n = g, g + G, g + 2 G, ...  The last set of a head of K and V is moved up
  so that it ends with the head's last one, and some heads are computed by two items.
* Where memory tiles keep K and V (`by_heads`), group g does all items of heads g, g + G, ... of K and V instead, one
  head after the other, of each the last round first.
* An item's first query is base = max(0, min(round * P, S - P)): the last round is moved up so that it ends with the
  last query.
* An item has R rows, A bands of them, one a head.  In a band queries base .. base + P - 1 come again and again; rows
  beyond all bands are the last head's, again from the first query on.  Nothing outside the caller's rows is read or
  written.
* Lane l (one core) has rows l * Bq .. l * Bq + Bq - 1 of the item: of one band, or bands of P rows.
* The key blocks are those between the first key that the item's first query sees and the last that its last one sees,
  at least one, the same for all lanes: K and V are broadcast to them.  Row t of block b is key b * Bk + t; rows beyond
  the last key hold other rows of the same head, which the core hides.  Where a window leaves a block that all queries
  see whole, and not the first one, it comes first, then those behind it, and then those before it: cores find
  references for all rows in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from npuc.passes.attention.call import Call

LEAST_QUERIES = 2
"""Of an item: cores step through its rows by fours, and come back to the first query by two subtractions."""


class Share(NamedTuple):
    """How an item's rows are dealt out: `heads` query heads, `band` rows for each, of `queries` queries by turns.

    A band is as many rows as queries, or whole lanes.
    """

    heads: int
    queries: int
    band: int


def alone(call: Call, rows: int) -> Share:
    """Items of one head each."""
    return Share(1, max(LEAST_QUERIES, min(call.query_length, rows)), rows)


class Item(NamedTuple):
    """number: of the call.  head: its first one, of batch * heads.  base: first query.  first, end: key blocks
    first .. end - 1, of which `begin` comes first.  again: whether memory tiles keep these of the item before."""

    number: int
    head: int
    base: int
    first: int
    end: int
    begin: int
    again: bool = False

    @property
    def order(self) -> tuple[int, ...]:
        """Key blocks as they come."""
        return (*range(self.begin, self.end), *range(self.first, self.begin))


class Stretch(NamedTuple):
    """Rows one behind the other: of which of the item's heads, from which query of the head on, how many."""

    head: int
    query: int
    rows: int


@dataclass(frozen=True)
class Work:
    """The items of a call.  rows: of an item (R).  groups: column groups (G).  shared: None for items of one head.
    by_heads: of K and V, one after the other, which are read once each.  in_turn: key blocks come as they lie."""

    call: Call
    rows: int
    key_block: int
    groups: int
    shared: Share | None = None
    by_heads: bool = False
    in_turn: bool = False

    @property
    def share(self) -> Share:
        return self.shared or alone(self.call, self.rows)

    @property
    def rounds(self) -> int:
        return -(-self.call.query_length // self.share.queries)

    @property
    def sets(self) -> int:
        """Of the query heads of a head of K and V."""
        return -(-(self.call.heads // self.call.kv_heads) // self.share.heads)

    @property
    def per_round(self) -> int:
        return self.call.batch * self.call.kv_heads * self.sets

    @property
    def items(self) -> int:
        return self.rounds * self.per_round

    @property
    def fills(self) -> bool:
        """Whether no row of an item is there twice."""
        return self.share.heads * min(self.share.queries, self.call.query_length) == self.rows

    @property
    def key_blocks(self) -> int:
        """Blocks of all keys."""
        return -(-self.call.key_length // self.key_block)

    @property
    def of_head(self) -> int:
        """Items of a head of K and V."""
        return self.rounds * self.sets

    @property
    def reads(self) -> int:
        """How often K and V of heads are read, all heads together."""
        return self.items // self.of_head if self.by_heads else self.items

    def count(self, group: int) -> int:
        """Items of a group."""
        if self.by_heads:
            return max(0, -(-(self.reads - group) // self.groups)) * self.of_head
        return max(0, -(-(self.items - group) // self.groups))

    def base(self, round_: int) -> int:
        queries = self.share.queries
        return max(0, min(round_ * queries, self.call.query_length - queries))

    def blocks(self, base: int) -> tuple[int, int]:
        """(first, end) of the key blocks of the item whose first query is `base`."""
        call = self.call
        last_query = min(base + self.share.queries, call.query_length) - 1
        last = min(last_query + call.diagonal, call.key_length - 1)
        first = max(0, base + call.diagonal - call.window + 1)
        begin = min(first // self.key_block, self.key_blocks - 1)
        end = max(begin + 1, min(last // self.key_block + 1, self.key_blocks))
        return begin, end

    def begin(self, base: int, first: int) -> int:
        """The first block in order, where `first` is the first one as they lie."""
        call = self.call
        last_query = min(base + self.share.queries, call.query_length) - 1
        begin = -(-max(0, last_query + call.diagonal - call.window + 1) // self.key_block)
        seen_by_all = min(base + call.diagonal, call.key_length - 1) + 1
        return begin if not self.in_turn and first < begin < seen_by_all // self.key_block else first

    def _item(self, number: int, head: int, base: int) -> Item:
        first, end = self.blocks(base)
        return Item(number, head, base, first, end, self.begin(base, first))

    def set_heads(self) -> list[int]:
        """The first query head of each set, of batch * heads."""
        call, heads = self.call, self.share.heads
        group = call.heads // call.kv_heads
        firsts = [min(number * heads, group - heads) for number in range(self.sets)]
        return [shared * group + first for shared in range(call.batch * call.kv_heads) for first in firsts]

    def of_group(self, group: int) -> Iterator[Item]:
        """The items of a group, in order."""
        heads = self.set_heads()
        rounds = [self._item(0, 0, self.base(r)) for r in range(self.rounds)]
        if not self.by_heads:
            for number in range(group, self.items, self.groups):
                round_, place = self.rounds - 1 - number // len(heads), number % len(heads)
                yield rounds[round_]._replace(number=number, head=heads[place])
            return
        for head in range(group, self.reads, self.groups):
            for turn in range(self.of_head):
                turned, place = turn // self.sets, head * self.sets + turn % self.sets
                number = turned * len(heads) + place
                yield rounds[self.rounds - 1 - turned]._replace(number=number, head=heads[place], again=turn > 0)

    def first_of_rounds(self) -> Iterator[Item]:
        """One item of each round: the others have its rows and key blocks, of other heads."""
        for round_ in range(self.rounds):
            yield self._item((self.rounds - 1 - round_) * self.per_round, 0, self.base(round_))

    def in_order(self, rounds: int) -> list[tuple[int, int]]:
        """Of each row of so many rounds: its head, counted from the item's first, and its query."""
        last = self.call.query_length - 1
        places = [self.place(row) for row in range(self.rows)]
        return [(head, min(self.base(r) + at, last)) for r in range(rounds) for head, at in places]

    def place(self, row: int) -> tuple[int, int]:
        """The head and the query, both counted from the item's first, that a row of an item is."""
        heads, queries, band = self.share
        head = min(row // band, heads)
        return min(head, heads - 1), (row - head * band) % queries

    def query(self, item: Item, row: int) -> int:
        """The query that row `row` of an item is."""
        return min(item.base + self.place(row)[1], self.call.query_length - 1)

    def stretches(self, base: int, first: int, count: int) -> Iterator[Stretch]:
        """Rows first .. first + count - 1 of an item, by heads and queries that follow each other."""
        heads, queries, band = self.share
        end, there = first + count, min(queries, self.call.query_length - base)
        while first < end:
            head, at = self.place(first)
            in_band = (min(first // band, heads) + 1) * band if first < heads * band else end
            many = max(1, min(there - at, in_band - first, end - first))
            yield Stretch(head, base + min(at, there - 1), many)
            first += many

    def lanes(self, query_block: int) -> Iterator[tuple[int, int]]:
        """The first and the last query, counted from the item's first, of each lane's rows."""
        queries = self.share.queries
        for row in range(0, self.rows, query_block):
            first = self.place(row)[1]
            end = first + query_block
            yield (0, queries - 1) if end > queries else (first, end - 1)

    def words(self, group: int, lane_row: int) -> tuple[int, ...]:
        """Words 0..9 of the parameters of a core whose lane begins at row `lane_row` of an item.

        Items of the group, the first item's place in its round and from each to the next, P, N, T, S, Skv, diagonal,
        window, lane_row and the query that it is; see core/parameters.py for words 10 and up.
        """
        call = self.call
        return (
            self.count(group),
            1 << 16 if self.by_heads else group | self.groups << 16,
            self.share.queries,
            self.sets if self.by_heads else self.per_round,
            self.rounds,
            call.query_length,
            call.key_length,
            call.diagonal,
            call.window,
            lane_row | self.place(lane_row)[1] << 16,
        )
