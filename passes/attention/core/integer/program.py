"""The whole int8 program of one core: the items and streams of the bf16 program with K and V on a channel each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.passes.attention.core.context import (
    CORE_MEMORY,
    ELEMENTWISE,
    MATMUL_4X8X4,
    ConstantPool,
    Context,
)
from npuc.passes.attention.core.integer.exponents import BlockExponents
from npuc.passes.attention.core.integer.head import choose_head
from npuc.passes.attention.core.integer.layouts import ONES_BYTES, require_layouts
from npuc.passes.attention.core.integer.normalise import normalise, result_bytes
from npuc.passes.attention.core.integer.probabilities import Power, exponentiate
from npuc.passes.attention.core.integer.query import clear_state, turn_rows
from npuc.passes.attention.core.integer.rebase import clear_output, move_references
from npuc.passes.attention.core.integer.references import look_at_sums, make_room, no_room, take_room
from npuc.passes.attention.core.integer.references import move_references as move_whole_references
from npuc.passes.attention.core.integer.scores import compute_scores
from npuc.passes.attention.core.integer.shape import OUTPUT_TILE, IntegerShape
from npuc.passes.attention.core.integer.unit import UNITS, first_unit, make_units, next_unit, reserve
from npuc.passes.attention.core.integer.values import accumulate_values
from npuc.passes.attention.core.integer.visibility import hide_scores
from npuc.passes.attention.core.integer.whole_values import accumulate_whole_values
from npuc.passes.attention.core.items import classify, first_item, next_block
from npuc.passes.attention.core.parameters import Word
from npuc.passes.attention.core.passed_on import pass_on
from npuc.passes.attention.core.program import CONV_EVEN, KernelProgram
from npuc.passes.attention.core.query_blocks import begin_queries, take_queries, take_queries_between
from npuc.passes.attention.streams import output_pieces, plan_streams
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Builder, Reg

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan

SYMMETRIC_SATURATION = 3  # crSat: a score is never as low as a hidden one


def build(plan: Plan, recipe: str = "balanced") -> KernelProgram:
    """The program of every core of `plan`; recipe: "fast" has probabilities of 8 bits, others of 16."""
    sizes = (plan.query_block, plan.key_block, plan.head_dim, plan.rows_per_item)
    shape = IntegerShape(*sizes, recipe, output=plan.output)
    require_layouts(shape, plan_streams(plan), plan.core_buffers)
    b = Builder("attention")
    buffers = {name: buffer.address for name, buffer in plan.core_buffers.items()}
    pool = ConstantPool(CORE_MEMORY + buffers["constants"], plan.core_buffers["constants"].size)
    k = Context(b, shape, buffers, dict(plan.core_locks), pool)
    reserve(k)
    with b.source("constants and modes"):
        _prepare(k, shape)
    with b.forever("run"):
        with b.source("parameters of the call"):
            k.acquire("start")
            pass_on(k)
            items = first_item(k)
            begin_queries(k, items)
        with b.counted_loop(items, "item"):
            _work_item(k, shape)
    ones = b"\x01" * (ONES_BYTES * (shape.keys // 8))
    data = (
        (buffers["constants"], pool.data()),
        *((buffers[name] + shape.keys * shape.head_dim, ones) for name in ("v0", "v1")),
    )
    return KernelProgram(b.program, data)


def _prepare(k: Context, shape: IntegerShape) -> None:
    """Registers that live through the program, and the modes of the vector units."""
    k.b.constant("crRnd", CONV_EVEN)
    k.b.constant("crSat", SYMMETRIC_SATURATION)
    for name, value in (
        ("one", 1),
        ("minus_one", -1),
        ("zero", 0),
        ("keys", k.address("k0")),
        ("values", k.address("v0")),
        ("flag", 0),
        ("unseen", 0),
        ("beyond", 0),
        ("coarser_units", 0),
    ):
        k.registers[name] = k.scalar(value, name)
    if not shape.wide:  # else where they are needed, as registers are few
        _prepare_sums(k)
    k.sums |= {"keys": k.address("k0") + k.address("k1"), "values": k.address("v0") + k.address("v1")}
    k.registers["pool"] = k.pointer("constants", name="p_constants")
    k.registers["unit"] = k.pointer("constants", name="p_unit")
    clear_output(k, shape.groups * shape.output_tiles * OUTPUT_TILE)


def _prepare_sums(k: Context) -> None:
    """The MAC's configurations for fp32 sums."""
    for name, value in (("matmul", MATMUL_4X8X4), ("elementwise", ELEMENTWISE)):
        k.registers[name] = k.scalar(value, name)


def _work_item(k: Context, shape: IntegerShape) -> None:
    b = k.b
    take_queries(k, turn_rows)
    with b.source("the head's factors, references cleared"):
        choose_head(k)
        make_units(k, shape)
        clear_state(k, shape)
        b.constant(k.registers["unseen"], 1)
        b.constant(k.registers["coarser_units"], UNITS - 1)
        if shape.wide:
            make_room(k, shape)
        not_first, blocks = k.scalar(0, "not_first"), k.word(Word.BLOCKS)
    block = _Block(k)
    with b.counted_loop(blocks, "block"):
        _key_block(k, shape, block, not_first)
    _begin_output(k, shape, not_first)  # where no block was seen

    def finish(count: int, done: Reg) -> None:
        if shape.wide:
            _prepare_sums(k)
        normalise(k, shape, count, done)

    take_queries_between(k, turn_rows, finish)


def _begin_output(k: Context, shape: IntegerShape, not_first: Reg) -> None:
    """Before the first block is added to O: what the last item left there is out, and it is cleared."""
    first = k.b.r("first")
    k.b.add(isa.EQZ(first, not_first))
    with k.b.if_nonzero(first):
        k.acquire("o_empty", output_pieces(k.shape.queries))
        with k.b.source("O cleared of results"):  # `normalise` leaves the rest of it zero
            clear_output(k, result_bytes(shape))


class _Block:
    """The block at hand: its first key, and what the rows see of it.  hidden: nothing, partial: not all of it."""

    def __init__(self, k: Context) -> None:
        """The item's first."""
        self.k = k
        self.first_key, self.hidden, self.partial = k.word(Word.FIRST_KEY), k.b.r("hidden"), k.b.r("partial")
        self._look()

    def go_on(self) -> None:
        """To the next one: where code of this one leaves the scalar unit idle, once it has done with its scores."""
        with self.k.b.source("next block"):
            next_block(self.k, self.first_key)
        self._look()

    def _look(self) -> None:
        with self.k.b.source("what the rows see of the block"):
            classify(self.k, self.first_key, self.hidden, self.partial)
            first_unit(self.k)


def _key_block(k: Context, shape: IntegerShape, block: _Block, not_first: Reg) -> None:
    b = k.b
    with b.source("what the rows see of the block"):
        seen = b.r("seen")
        b.add(isa.EQZ(seen, block.hidden))
    with b.if_nonzero(block.hidden), b.source("block that no row sees"):
        for stream, ring in (("k", "keys"), ("v", "values")):
            k.acquire(f"{stream}_full")
            k.release(f"{stream}_empty")
            k.advance(ring)
        block.go_on()
    with b.if_nonzero(seen):
        _seen_block(k, shape, block, not_first)


def _seen_block(k: Context, shape: IntegerShape, block: _Block, not_first: Reg) -> None:
    b, keep = k.b, k.registers
    k.acquire("k_full")
    passes, units_left = k.scalar(1, "score_passes"), b.r("units_left")
    b.add(isa.MOV_mv_scl(units_left, keep["coarser_units"]))
    with b.counted_loop(passes, "score_passes"):
        with b.source("scores: K Q^T in 16 bits"):
            compute_scores(k, keep["keys"], shape)
        with b.source("exponents of the block"):
            exponents = BlockExponents(k, shape)
        with b.if_nonzero(block.partial), b.source("scores of hidden keys"):
            hide_scores(k, block.first_key, shape)
        again, moved = b.r("again"), b.r("must_move")
        with b.source("exponents of the block"):
            exponents.run()
            more = b.r("more_units")
            b.add(isa.NEZ(again, keep["beyond"]))
            b.add(isa.NEZ(more, units_left))
            b.add(isa.AND(again, again, more))
            b.add(isa.OR(moved, keep["flag"], keep["unseen"]))
            b.add(isa.OR(moved, moved, again))
            if shape.wide:
                b.add(isa.OR(moved, moved, no_room(k)))
            b.add(isa.ADD(passes, passes, again))
            b.add(isa.SUB(units_left, units_left, again))
            power = Power(k, shape)
        with b.if_nonzero(moved):
            _move(k, shape, again, not_first)
    k.release("k_empty")
    k.acquire("v_full")  # which is there by now: not between loops whose ramps overlap
    with b.source("probabilities: P = 2^(t - E)"):
        b.constant(not_first, 1)
        if shape.wide:
            take_room(k)
        power.begin()
        k.advance("keys")
        block.go_on()  # which begins in the first unit again
        exponentiate(k, shape, power)
    with b.source("values: O += P V"):
        (accumulate_whole_values if shape.wide else accumulate_values)(k, keep["values"], shape)
        k.advance("values")
    k.release("v_empty")


def _move(k: Context, shape: IntegerShape, again: Reg, not_first: Reg) -> None:
    """What few blocks need: the next unit, in which their scores are computed again, or another reference of O."""
    b, last = k.b, k.b.r("not_again")
    b.add(isa.EQZ(last, again))
    with b.if_nonzero(again):
        next_unit(k)
    with b.if_nonzero(last):
        if shape.wide:
            with b.if_nonzero(no_room(k)), b.source("row sums that come near the range of whole numbers"):
                look_at_sums(k, shape)
            moved = b.r("references_move")
            b.add(isa.OR(moved, k.registers["flag"], k.registers["unseen"]))
            with b.if_nonzero(moved):
                _move_references(k, shape, not_first)
        else:
            _move_references(k, shape, not_first)


def _move_references(k: Context, shape: IntegerShape, not_first: Reg) -> None:
    with k.b.source("rebase: references of O moved, to the block's exponents"):
        (move_whole_references if shape.wide else move_references)(k, shape, not_first)
    _begin_output(k, shape, not_first)
