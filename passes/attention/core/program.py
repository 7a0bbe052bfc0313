"""The whole program of one core.

It waits for `start`, reads the parameters of the call (`parameters`), and works on its items; then it waits again, so
that one loaded kernel serves any number of calls with any lengths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.passes.attention.core.adjust import Threshold, adjust_scores
from npuc.passes.attention.core.call_constants import prepare_call
from npuc.passes.attention.core.capped import cap_again, cap_fixed, exponentiate_capped, prepare_capped
from npuc.passes.attention.core.context import (
    CORE_MEMORY,
    ELEMENTWISE,
    MATMUL_4X8X4,
    SHUFFLE_4X8_TO_8X4,
    TILE,
    ConstantPool,
    Context,
    Shape,
)
from npuc.passes.attention.core.fixed_probabilities import exponentiate_fixed
from npuc.passes.attention.core.fixed_scores import (
    compute_again,
    compute_fixed_scores,
    far_below,
    hide,
    prepare_fixed,
    round_scores,
)
from npuc.passes.attention.core.items import begin_item, classify, first_item, next_block
from npuc.passes.attention.core.layouts import require_layouts
from npuc.passes.attention.core.mask import Mask
from npuc.passes.attention.core.normalise import normalise
from npuc.passes.attention.core.parameters import Word
from npuc.passes.attention.core.passed_on import pass_on
from npuc.passes.attention.core.probabilities import exponentiate
from npuc.passes.attention.core.query import clear_output, clear_state, mark_unseen, transpose_chunk, transpose_queries
from npuc.passes.attention.core.query_blocks import begin_queries, take_queries, take_queries_between
from npuc.passes.attention.core.rebase import rebase
from npuc.passes.attention.core.scores import compute_scores
from npuc.passes.attention.core.softcap import cap_any_scores, cap_scores
from npuc.passes.attention.core.values import accumulate_values
from npuc.passes.attention.core.visibility import Limits
from npuc.passes.attention.streams import output_pieces, plan_streams
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Builder, Program, Reg

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan

CONV_EVEN = 12  # crRnd: round to nearest even; the reset value is floor (facts/semantics/convert.md section 1)
SATURATION = 1  # crSat, where scores are 16-bit numbers; else low bits are wanted
ONE_BF16 = b"\x80\x3f"


@dataclass(frozen=True)
class KernelProgram:
    """One core's program and what its data memory holds at the start: (offset, bytes) pieces."""

    program: Program
    data: tuple[tuple[int, bytes], ...]


def build(plan: Plan, recipe: str = "balanced", softcap: bool = False) -> KernelProgram:
    """The program of every core of `plan`; recipe: a key of `mantissas.MANTISSAS`; softcap: calls give one."""
    sizes = (plan.query_block, plan.key_block, plan.head_dim, plan.rows_per_item)
    shape = Shape(*sizes, recipe, softcap, plan.mask_parts, plan.split, plan.bounded)
    require_layouts(shape, plan_streams(plan), plan.core_buffers)
    b = Builder("attention")
    buffers = {name: buffer.address for name, buffer in plan.core_buffers.items()}
    pool = ConstantPool(CORE_MEMORY + buffers["constants"], plan.core_buffers["constants"].size)
    k = Context(b, shape, buffers, dict(plan.core_locks), pool)
    with b.source("constants and modes"):
        _prepare(k)
    with b.forever("run"):
        with b.source("parameters of the call"):
            k.acquire("start")
            pass_on(k)
            prepare_call(k)
            if shape.bounded:
                prepare_capped(k)
            elif shape.fixed:
                prepare_fixed(k)
            items = first_item(k)
            if shape.split:
                begin_queries(k, items)
        with b.counted_loop(items, "item"):
            _work_item(k)
    block_bytes = shape.keys * shape.head_dim * 2
    ones = ONE_BF16 * (TILE // 2) * (shape.keys // 8)
    data = (
        (buffers["constants"], pool.data()),
        (buffers["v0"] + block_bytes, ones),
        (buffers["v1"] + block_bytes, ones),
    )
    return KernelProgram(b.program, data)


def _prepare(k: Context) -> None:
    """Registers that live through the program, and the modes of the vector units."""
    k.b.constant("crRnd", CONV_EVEN)
    k.b.constant("crSat", SATURATION if k.shape.fixed else 0)
    for name, value in (
        ("one", 1),
        ("minus_one", -1),
        ("zero", 0),
        ("matmul", MATMUL_4X8X4),
        ("elementwise", ELEMENTWISE),
        ("mode_4x8_to_8x4", SHUFFLE_4X8_TO_8X4),
        ("half_block", k.shape.keys * k.shape.head_dim),
        ("keys", k.address("k0")),
        ("keys_sum", k.address("k0") + k.address("k1")),
        ("values", k.address("v0")),
        ("values_sum", k.address("v0") + k.address("v1")),
        ("flag", 0),
        *([("large", 0)] if k.shape.softcap and not k.shape.bounded else []),
        ("unseen", 0),
    ):
        k.registers[name] = k.scalar(value, name)
    if k.shape.mask_parts:
        k.registers["masks"] = k.scalar(k.address("m0"), "masks")
        k.registers["masks_sum"] = k.scalar(k.address("m0") + k.address("m1"), "masks_sum")
    k.registers["pool"] = k.pointer("constants", name="p_constants")


def _work_item(k: Context) -> None:
    b = k.b
    if k.shape.split:
        take_queries(k)
    else:
        with b.source("rows and keys of the item"):
            begin_item(k)
        _queries(k)
    with b.source("references cleared"):
        if not k.shape.bounded:
            clear_state(k)
        b.constant(k.registers["unseen"], 1)
        not_first, first_key, blocks = k.scalar(0, "not_first"), k.word(Word.FIRST_KEY), k.word(Word.BLOCKS)
        hidden, partial = b.r("hidden"), b.r("partial")
        classify(k, first_key, hidden, partial)
    if k.shape.clears_first:
        _acquire_output(k)
        with b.source("O and sums cleared"):
            clear_output(k)
    with b.counted_loop(blocks, "block"):
        _key_block(k, first_key, hidden, partial, not_first)
        with b.source("next block"):
            for ring in ("keys", "values"):
                k.advance(ring)
    if not (k.shape.split or k.shape.mask_parts):
        k.release("q_empty")
    _begin_output(k, not_first)  # where no block was seen
    if k.shape.split:
        take_queries_between(k)
    else:
        with b.source("normalise: O divided by the sums"):
            normalise(k, k.shape.groups)
        k.release("o_full")


def _begin_output(k: Context, not_first: Reg) -> None:
    """Before the first block is added to O, if that was not done at the item's start: what the last item left there is
    out, and it is cleared."""
    if k.shape.clears_first:
        return
    first = k.b.r("first")
    k.b.add(isa.EQZ(first, not_first))
    with k.b.if_nonzero(first):
        _acquire_output(k)
        with k.b.source("O and sums cleared"):
            clear_output(k)


def _acquire_output(k: Context) -> None:
    """All pieces of the last item's have left."""
    k.acquire("o_empty", output_pieces(k.shape.queries) if k.shape.split else 1)


def _queries(k: Context) -> None:
    """Q: the core's own as a whole, or in chunks of columns on the ring of the mask blocks."""
    if k.shape.mask_parts:
        _query_chunks(k)
    else:
        k.acquire("q_full")
        with k.b.source("Q tiles transposed"):
            transpose_queries(k)


def _query_chunks(k: Context) -> None:
    b, shape = k.b, k.shape
    chunks, place = k.scalar(shape.query_chunks, "q_chunks"), k.scalar(0, "q_place")
    chunk_bytes, last = shape.keys // 8 * TILE, (shape.depth_steps - shape.keys // 8) * TILE
    with b.counted_loop(chunks, "q_chunks"):
        k.acquire("m_full")
        with b.source("Q tiles transposed"):
            transpose_chunk(k, k.registers["masks"], place)
            following = k.minimum(k.sum(place, chunk_bytes), k.scalar(last, "q_last"))
            b.add(isa.MOV_mv_scl(place, following))
            k.advance("masks")
        k.release("m_empty")


def _key_block(k: Context, first_key: Reg, hidden: Reg, partial: Reg, not_first: Reg) -> None:
    b, seen = k.b, k.b.r("seen")
    b.add(isa.EQZ(seen, hidden))
    with b.if_nonzero(hidden), b.source("block that no row sees"):
        for ring in ("k", *"m" * k.shape.mask_parts, "v"):
            k.acquire(f"{ring}_full")
            k.release(f"{ring}_empty")
        if k.shape.mask_parts % 2:
            k.advance("masks")
        _next_block(k, first_key, hidden, partial)
    with b.if_nonzero(seen):
        _seen_block(k, first_key, partial, not_first)
        _next_block(k, first_key, hidden, partial)  # beside the start of the loops that follow
        _add_values(k)


def _next_block(k: Context, first_key: Reg, hidden: Reg, partial: Reg) -> None:
    with k.b.source("next block"):
        next_block(k, first_key)
        classify(k, first_key, hidden, partial)


def _seen_block(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    """Probabilities of a block."""
    b, keep = k.b, k.registers
    k.acquire("k_full")
    if k.shape.bounded:
        _capped_block(k, first_key, partial, not_first)
        return
    if k.shape.fixed:
        _fixed_block(k, first_key, partial, not_first)
        return
    with b.source("scores: U = K Q^T - reference"):
        compute_scores(k, keep["keys"])
    if k.shape.mask_parts:
        _masked_block(k, first_key, partial, not_first)
    else:
        k.release("k_empty")
        _plain_block(k, first_key, partial, not_first)
    with b.source("probabilities: P = 2^(factor U)"):
        b.constant(not_first, 1)
        exponentiate(k)


def _add_values(k: Context) -> None:
    k.acquire("v_full")
    with k.b.source("values: O += P V"):
        accumulate_values(k, k.registers["values"])
    k.release("v_empty")


def _fixed_block(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    """Probabilities by way of 16-bit scores, and again, from scores in fp32, where the reference turns out to have to
    move.

    An item's first block leaves the reference at zero, unless scores are far from it or not all queries see a key.
    """
    b, flag, unseen = k.b, k.registers["flag"], k.registers["unseen"]
    with b.source("scores: U = K Q^T - reference"):
        compute_fixed_scores(k, k.registers["keys"])
    special, again, attempts = b.r("special"), b.r("again"), b.r("attempts")
    b.constant(flag, 0)
    b.constant(attempts, 1)
    b.add(isa.OR(special, partial, unseen))
    b.constant(again, 0)
    with b.if_nonzero(special):
        with b.source("hidden scores, and scores that outgrow the reference"):
            for reason in (far_below(k), partial, not_first):
                b.add(isa.OR(flag, flag, reason))
            b.add(isa.AND(flag, flag, unseen))
            b.add(isa.ADD_add_r_ri(again, flag, 0))
            b.constant(unseen, 0)
            hiding, stays = b.r("hiding"), b.r("stays")
            b.add(isa.EQZ(stays, flag))
            b.add(isa.AND(hiding, partial, stays))
        with b.if_nonzero(hiding), b.source("scores of hidden keys"):
            hide(k, Limits(k, first_key))
        _begin_output(k, not_first)
    with b.counted_loop(attempts, "attempts"):
        with b.if_nonzero(again):
            _scores_again(k, first_key, partial, not_first)
        with b.source("probabilities: P = 2^(factor U)"):
            above, kept = exponentiate_fixed(k), b.r("kept")
            b.add(isa.EQZ(kept, flag))
            b.add(isa.AND(flag, above, kept))
            b.add(isa.ADD_add_r_ri(again, flag, 0))
            b.add(isa.ADD_add_r_ri(attempts, flag, 1))
    b.constant(not_first, 1)
    k.release("k_empty")


def _capped_block(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    """Probabilities by way of capped 16-bit scores, or of scores in fp32 where some are beyond 16 bits."""
    b = k.b
    with b.source("scores: U = K Q^T"):
        compute_fixed_scores(k, k.registers["keys"])
    with b.source("scores capped"):
        above = cap_fixed(k)
    with b.source("probabilities: P = 2^(factor U)"):
        exponentiate_capped(k)
        special = b.r("special")
        b.add(isa.EQZ(special, not_first))
        b.add(isa.OR(special, special, partial))
        b.add(isa.OR(special, special, above))
    with b.if_nonzero(special):
        with b.if_nonzero(above), b.source("scores beyond 16 bits, capped"):
            cap_again(k, k.registers["keys"])
        with b.if_nonzero(partial), b.source("probabilities of hidden keys"):
            hide(k, Limits(k, first_key))
        _begin_output(k, not_first)
    b.constant(not_first, 1)
    k.release("k_empty")


def _scores_again(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    b, flag = k.b, k.registers["flag"]
    with b.source("scores: U = K Q^T - reference"):
        compute_again(k, k.registers["keys"])
    with b.if_nonzero(partial), b.source("scores of hidden keys"):
        adjust_scores(k, [], Limits(k, first_key))
    with b.if_nonzero(flag), b.source("rebase: reference moved where scores outgrow it"):
        first = b.r("first")
        b.add(isa.EQZ(first, not_first))
        with b.if_nonzero(first):
            mark_unseen(k)
        rebase(k, not_first)
    with b.source("scores: U = K Q^T - reference"):
        round_scores(k)


def _plain_block(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    """Scores capped, hidden and less a reference that none of them outgrows."""
    b, keep = k.b, k.registers
    if k.shape.softcap:
        with b.source("scores capped"):
            cap_scores(k)
    moved, special = b.r("must_rebase"), b.r("special")
    with b.source("hidden scores, and scores that outgrow the reference"):
        b.add(isa.OR(moved, keep["flag"], keep["unseen"]))
        b.add(isa.OR(special, moved, partial))
    with b.if_nonzero(special):
        with b.if_nonzero(partial), b.source("scores of hidden keys"):
            adjust_scores(k, [], Limits(k, first_key))
        with b.if_nonzero(moved):
            with b.source("rebase: reference moved where scores outgrow it"):
                rebase(k, not_first)
            _begin_output(k, not_first)  # the first block that is seen moves the reference


def _masked_block(k: Context, first_key: Reg, partial: Reg, not_first: Reg) -> None:
    """The same with a mask.  Where the reference moves, scores are made anew: masks may be so large that a score
    is lost beside them, until the reference has come near."""
    b, keep = k.b, k.registers
    if k.shape.softcap:
        with b.source("scores capped"):
            cap_scores(k)
    parts = []
    for _ in range(k.shape.mask_parts):
        k.acquire("m_full")
        parts.append(k.sum(keep["masks"], 0, "mask"))
        k.advance("masks")
    whole = b.r("whole")
    b.add(isa.EQZ(whole, partial))
    for condition in (whole, partial):
        with b.if_nonzero(condition), b.source("scores less the reference, with mask and limits"):
            adjust_scores(k, [Mask(k, parts), Threshold(k)], Limits(k, first_key) if condition is partial else None)
    moved = b.r("must_rebase")
    b.add(isa.OR(moved, keep["flag"], keep["unseen"]))
    with b.if_nonzero(moved):
        with b.source("rebase: reference moved where scores outgrow it"):
            rebase(k, not_first)
            compute_scores(k, keep["keys"])
            if k.shape.softcap:
                cap_any_scores(k)
            adjust_scores(k, [Mask(k, parts)], Limits(k, first_key))
        _begin_output(k, not_first)
    k.release("k_empty")
    for _ in range(k.shape.mask_parts):
        k.release("m_empty")
