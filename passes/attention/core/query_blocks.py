"""Q in blocks of all cores' rows, on the rings of K and V before an item's keys.

A core takes its own rows out of every block and lets the others' go by.  Where the sequence sends ahead, the next
item's are taken while the output of the last one is made, some of them at a time: what is in the tiles then makes way
for the next ones, and for the first keys.
"""

from __future__ import annotations

from collections.abc import Callable

from npuc.passes.attention.core.context import Context, Shape
from npuc.passes.attention.core.items import begin_item
from npuc.passes.attention.core.normalise import normalise
from npuc.passes.attention.core.parameters import AHEAD, SHORT_ITEM, Word
from npuc.passes.attention.core.query import transpose_rows
from npuc.passes.attention.streams import output_pieces
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

STREAMS = (("k", "keys"), ("v", "values"))
PARTS_BESIDE = 2  # parts of Q for each part of an output
TakeRows = Callable[[Context, str, Reg, Reg], None]  # of the core's own out of a block: `transpose_rows`
Finish = Callable[[int, Reg], None]  # results of so many groups, behind those that the register counts


def passes(shape: Shape) -> int:
    """In how many parts the next item's blocks are taken, between the first of which outputs are made and sent."""
    return PARTS_BESIDE * output_pieces(shape.queries)


def with_one_more(over: int, parts: int) -> int:
    """Bits of the parts that take one of so many blocks more, the first part's lowest: the first and the last of them,
    as a block is the longer on its way the sooner the one before it was taken; and what is over beside the last."""
    if over < 2:
        return over
    return 1 | ((1 << over - 1) - 1) << parts - over + 1


def begin_queries(k: Context, items: Reg) -> None:
    """Start of a call of so many items."""
    k.set_word(Word.LEFT, items)
    k.set_word(Word.TAKEN, k.registers["zero"])


def take_queries(k: Context, rows_of: TakeRows = transpose_rows) -> None:
    """Start of an item, unless the one before took its Q."""
    b, missing = k.b, k.b.r("missing")
    b.add(isa.EQZ(missing, k.word(Word.TAKEN)))
    with b.if_nonzero(missing):
        _begin_item(k)
        before_keys, before_values = k.shape.query_blocks
        rows, turns, ahead = _first_rows(k), k.scalar(1, "turns"), _ahead(k)
        alike = before_keys == before_values
        if alike:  # by turns; without a promise that both come together, one after the other
            b.add(isa.MUL_mul_r_rr(turns, ahead, k.scalar(before_keys - 1, "turns_more")))
            b.add(isa.ADD_add_r_ri(turns, turns, 1))
        with b.counted_loop(turns, "q_turns"):
            for (stream, ring), row, blocks in zip(STREAMS, rows, k.shape.query_blocks, strict=True):
                count = k.scalar(blocks, "q_blocks")
                if alike:
                    b.add(isa.MUL_mul_r_rr(count, ahead, k.scalar(1 - blocks, "q_blocks_less")))
                    b.add(isa.ADD_add_r_ri(count, count, blocks))
                if blocks:
                    _take(k, rows_of, stream, ring, row, count)


def _ahead(k: Context) -> Reg:
    """Whether the sequence sends for an item's Q without waiting for the output of the one before."""
    ahead = k.b.r("ahead")
    k.b.add(isa.AND(ahead, k.word(Word.FLAGS), k.scalar(AHEAD, "flag_bit")))
    k.b.add(isa.NEZ(ahead, ahead))
    return ahead


def _is_short(k: Context) -> Reg:
    """Whether the item has fewer blocks of keys than the sequence says."""
    least, short = k.b.r("least_blocks"), k.b.r("short")
    k.b.add(isa.EXTENDu8(least, k.shifted(k.word(Word.FLAGS), -SHORT_ITEM, "least_blocks", signed=False)))
    k.b.add(isa.LT(short, k.word(Word.BLOCKS), least))
    return short


def take_queries_between(k: Context, rows_of: TakeRows = transpose_rows, finish: Finish | None = None) -> None:
    """End of an item: its output is made, and the next item's Q taken where there is one and it comes ahead.

    The output is done with the first of these blocks, and leaves while the others are waited for."""
    b = k.b
    with b.source("rows and keys of the item"):
        left = k.sum(k.word(Word.LEFT), -1, "items_left")
        k.set_word(Word.LEFT, left)
        taken, more = b.r("taken"), b.r("more")
        b.add(isa.NEZ(more, left))
        b.add(isa.AND(taken, _ahead(k), more))
        k.set_word(Word.TAKEN, taken)
        short = _is_short(k)
    with b.if_nonzero(taken):
        _begin_item(k)
    parts = passes(k.shape)
    rows, done, outputs = _first_rows(k), k.scalar(0, "groups_done"), k.scalar(parts // PARTS_BESIDE, "parts_of_output")
    only_outputs = b.r("only_outputs")
    b.add(isa.MUL_mul_r_rr(only_outputs, short, outputs))
    left = k.sum(only_outputs, parts, "parts")
    # Blocks of a part and, where they are no multiple of the parts, which parts take one more.
    over = [k.scalar(with_one_more(blocks % parts, parts), "q_blocks_over") for blocks in k.shape.query_blocks]
    with b.counted_loop(left, "between"):
        takes = b.r("takes")
        b.add(isa.EQZ(takes, only_outputs))
        b.add(isa.AND(takes, takes, k.word(Word.TAKEN)))
        with b.if_nonzero(takes):
            for (stream, ring), row, rest, blocks in zip(STREAMS, rows, over, k.shape.query_blocks, strict=True):
                count = k.scalar(blocks // parts, "q_blocks")
                if blocks % parts:
                    more = b.r("one_more")
                    b.add(isa.AND(more, rest, k.registers["one"]))
                    b.add(isa.ADD(count, count, more))
                    b.add(isa.ASHL(rest, rest, k.scalar(-1, "next_part")))
                if blocks >= parts:
                    _take(k, rows_of, stream, ring, row, count)
                elif blocks:
                    with b.if_nonzero(count):
                        _take(k, rows_of, stream, ring, row, count)
        with b.if_nonzero(outputs):
            with b.source("normalise: O divided by the sums"):
                groups = k.shape.groups // (parts // PARTS_BESIDE)
                if finish is None:
                    normalise(k, groups, done)
                else:
                    finish(groups, done)
                b.add(isa.ADD_add_r_ri(outputs, outputs, -1))
            k.release("o_full")
        before = b.r("before")
        b.add(isa.NEZ(before, only_outputs))
        b.add(isa.SUB(only_outputs, only_outputs, before))


def _begin_item(k: Context) -> None:
    with k.b.source("rows and keys of the item"):
        begin_item(k)


def _first_rows(k: Context) -> list[Reg]:
    """Of the first blocks on each ring, counted from the core's own first row; they move on as blocks are taken."""
    before = k.shape.query_blocks[0] * k.shape.keys
    return [k.difference(k.scalar(first, "q_row"), k.low_half(Word.LANE, "lane_row"), "q_row") for first in (0, before)]


def _take(k: Context, rows_of: TakeRows, stream: str, ring: str, row: Reg, blocks: Reg) -> None:
    """So many blocks, at least one; the register counts them down."""
    with k.b.counted_loop(blocks, f"q_blocks_{stream}"):
        k.acquire(f"{stream}_full")
        with k.b.source("Q tiles transposed"):
            rows_of(k, stream, k.registers[ring], row)
            if k.shape.keys < 64:
                k.b.add(isa.ADD_add_r_ri(row, row, k.shape.keys))
            else:
                k.b.add(isa.ADD(row, row, k.scalar(k.shape.keys, "block_rows")))
            k.advance(ring)
        k.release(f"{stream}_empty")
