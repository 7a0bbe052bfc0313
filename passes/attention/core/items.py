"""Which rows and which blocks of keys a core works on: the scalar half of the program, the mirror of `..work`.

Items are numbered longest first: rounds of queries from the last to the first, in each the heads of all batches, or
sets of heads.  A column group takes every stride-th; or, where memory tiles keep K and V, all items of some heads of
these, where round 0 is followed by the next head's last one.  An item has SPAN queries, of one head or of each of
several, in rows that begin again with the first one behind the last; the last round is moved up to end with the last
query.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import Context
from npuc.passes.attention.core.parameters import Word
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

MOST_GROUPS = 4  # column groups; with one item to a round, a step goes so many rounds on


def first_item(k: Context) -> Reg:
    """Start of a call; returns how many items there are."""
    k.set_word(Word.POSITION, k.low_half(Word.STEPS, "first_position"))
    k.set_word(Word.ROUND, k.sum(k.word(Word.ROUNDS), -1))
    return k.word(Word.ITEMS)


def begin_item(k: Context) -> None:
    """The item at POSITION of ROUND: FIRST_QUERY, its blocks of keys, what of them this core's rows see; moves on."""
    round_, span = _settle(k), k.word(Word.SPAN)
    query = k.b.r("query")
    k.b.add(isa.MUL_mul_r_rr(query, round_, span))
    last_start = k.difference(k.word(Word.QUERIES), span)
    first_query = k.maximum(k.minimum(query, last_start), k.scalar(0, "no_query"), "first_query")
    k.set_word(Word.FIRST_QUERY, first_query)
    _blocks(k, first_query, span)
    _limits(k, first_query, span)


def _settle(k: Context) -> Reg:
    """Carries what POSITION is beyond a round over to ROUND, and moves POSITION on for the next item."""
    position, round_ = k.word(Word.POSITION), k.word(Word.ROUND)
    per_round = k.word(Word.PER_ROUND)
    for _ in range(MOST_GROUPS):
        beyond, carry = k.b.r("beyond"), k.b.r("carry")
        k.b.add(isa.GE(beyond, position, per_round))
        k.b.add(isa.MUL_mul_r_rr(carry, beyond, per_round))
        position, round_ = k.difference(position, carry, "position"), k.difference(round_, beyond, "round")
    k.set_word(Word.POSITION, k.sum(position, k.high_half(Word.STEPS, "stride")))
    before, rounds = k.b.r("before_first"), k.b.r("rounds_on")
    k.b.add(isa.LT(before, round_, k.scalar(0, "first_round")))
    k.b.add(isa.MUL_mul_r_rr(rounds, before, k.word(Word.ROUNDS)))
    round_ = k.sum(round_, rounds, "round")
    k.set_word(Word.ROUND, round_)
    return round_


def _queries(k: Context, first: Reg, end: Reg) -> tuple[Reg, Reg]:
    """The first and the last query before `end`, none beyond the last there is."""
    last_query = k.sum(k.word(Word.QUERIES), -1, "last_query")
    return k.minimum(first, last_query), k.minimum(k.sum(end, -1), last_query)


def _sees(k: Context, query: Reg) -> tuple[Reg, Reg]:
    """The first and the last key that a query sees, the first perhaps below 0."""
    diagonal = k.sum(query, k.word(Word.OFFSET), "diagonal")
    last_key = k.sum(k.word(Word.KEYS), -1, "last_key")
    first = k.sum(k.difference(diagonal, k.word(Word.WINDOW)), 1, "first_seen")
    return first, k.minimum(diagonal, last_key)


def _blocks(k: Context, first_query: Reg, span: Reg) -> None:
    """FIRST_KEY and BLOCKS: from the first block any row of the item sees to the last, at least one."""
    keys = k.shape.keys
    places = keys.bit_length() - 1
    first_query, last_query = _queries(k, first_query, k.sum(first_query, span))
    (first, _), (_, last) = _sees(k, first_query), _sees(k, last_query)
    count = k.shifted(k.sum(k.word(Word.KEYS), keys - 1), -places, "key_blocks")
    begin = k.shifted(k.maximum(first, k.scalar(0, "no_key")), -places, "first_block")
    begin = k.minimum(begin, k.sum(count, -1))
    end = k.minimum(k.sum(k.shifted(last, -places), 1), count)
    first_key, end_key = k.shifted(begin, places), k.shifted(end, places)
    if not k.shape.in_turn:
        k.set_word(Word.END_KEY, end_key)
        k.set_word(Word.BACK, k.difference(first_key, end_key))
        first_key = _seen_by_all(k, first_query, last_query, first_key)
    k.set_word(Word.FIRST_KEY, first_key)
    k.set_word(Word.BLOCKS, k.maximum(k.difference(end, begin), k.scalar(1, "one_block")))


def _seen_by_all(k: Context, first_query: Reg, last_query: Reg, first_key: Reg) -> Reg:
    """Where the first block begins that all queries see whole, if one is behind the item's first, else that one."""
    keys = k.shape.keys
    (first, _), (_, last) = _sees(k, last_query), _sees(k, first_query)
    key = k.b.r("seen_by_all")
    k.b.add(isa.AND(key, k.sum(first, keys - 1), k.scalar(-keys, "whole_blocks")))
    takes, inside = k.b.r("takes"), k.b.r("inside")
    k.b.add(isa.LT(takes, first_key, key))
    k.b.add(isa.GE(inside, last, k.sum(key, keys - 1)))
    k.b.add(isa.AND(takes, takes, inside))
    further = k.difference(key, first_key, "further")
    k.b.add(isa.MUL_mul_r_rr(further, further, takes))
    return k.sum(first_key, further)


def next_block(k: Context, first_key: Reg) -> None:
    """The register to the next block's first key, from that of a block."""
    b, keys = k.b, k.shape.keys
    b.add(
        isa.ADD_add_r_ri(first_key, first_key, keys)
        if keys < 64
        else isa.ADD(first_key, first_key, k.scalar(keys, "block_keys"))
    )
    if not k.shape.in_turn:
        end, back = b.r("at_end"), b.r("back")
        b.add(isa.EQ(end, first_key, k.word(Word.END_KEY)))
        b.add(isa.MUL_mul_r_rr(back, end, k.word(Word.BACK)))
        b.add(isa.ADD(first_key, first_key, back))


def _limits(k: Context, first_query: Reg, span: Reg) -> None:
    """HIDDEN_* and WHOLE_*: between which first keys blocks are seen in part, and wholly, by this core's rows."""
    keys = k.shape.keys
    first, end = _lane(k, span)
    first_query, last_query = _queries(k, k.sum(first_query, first), k.sum(first_query, end))
    first_low, first_high = _sees(k, first_query)
    last_low, last_high = _sees(k, last_query)
    k.set_word(Word.HIDDEN_ABOVE, last_high)
    k.set_word(Word.HIDDEN_BELOW, k.sum(first_low, 1 - keys))
    k.set_word(Word.WHOLE_ABOVE, k.sum(first_high, 1 - keys))
    k.set_word(Word.WHOLE_BELOW, last_low)


def _lane(k: Context, span: Reg) -> tuple[Reg, Reg]:
    """The first query of this core's rows and the one behind the last, counted from the item's first: all of the item's
    where the rows come to its last query and begin again."""
    first = k.high_half(Word.LANE, "lane_query")
    end = k.sum(first, k.shape.queries, "lane_end")
    within = k.b.r("within")
    k.b.add(isa.GE(within, span, end))
    k.b.add(isa.MUL_mul_r_rr(first, first, within))
    return first, k.minimum(end, span)


def classify(k: Context, first_key: Reg, hidden: Reg, partial: Reg) -> None:
    """Of the block that begins at `first_key`: hidden, no row sees any of its keys; partial, not all see all."""

    def outside(above: Word, below: Word, r: Reg) -> None:
        beyond, before = k.b.r("beyond"), k.b.r("before")
        k.b.add(isa.LT(beyond, k.word(above), first_key))
        k.b.add(isa.LT(before, first_key, k.word(below)))
        k.b.add(isa.OR(r, beyond, before))

    outside(Word.HIDDEN_ABOVE, Word.HIDDEN_BELOW, hidden)
    outside(Word.WHOLE_ABOVE, Word.WHOLE_BELOW, partial)
