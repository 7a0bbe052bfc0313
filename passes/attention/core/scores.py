"""U = K Q^T - reference for one block of keys, and whether the reference must move.

Eight queries at a time: two groups against the eight key tiles of the block are sixteen accumulator chains, so every
K tile loaded serves two multiplications and the MAC slot is the limit.  The chains start from the negated reference,
which makes the subtraction free; or from zero, where the scores are adjusted before it is subtracted.  The two halves
of the key tiles come through different load ports.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npuc.passes.attention.core.call_constants import call_x, softcap_limits
from npuc.passes.attention.core.context import TILE, Context, u32x16
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg, Register

GROUPS = 2


def compute_scores(k: Context, keys: Reg) -> None:
    """Scores of the block of keys at `keys`; sets the register `flag` when one exceeds the limit.

    With a softcap the limits are those of the polynomials, and count for magnitudes: the register `large` says then
    whether one exceeds that of the finer.  With a mask there is no other yet.
    """
    b, shape = k.b, k.shape
    scores = k.pointer("scores", name="p_scores")
    limit, magnitudes = None, None
    if shape.softcap:
        magnitudes = k.zero_x("u_magnitudes")
    elif not shape.adjusted:
        limit = call_x(k, "threshold")
        b.constant(k.registers["flag"], 0)
    unrolled = 1 if shape.adjusted else shape.unrolled_pairs  # such programs are long as they are
    pair_bytes = b.m("score_pair")
    b.constant(pair_bytes, GROUPS * shape.key_tiles * TILE)
    operands = Operands(k, keys)
    references = None if shape.adjusted else References(k, b.bm)
    # The same registers for all pairs of a pass: the ramps of their loops overlap as far as these are free.
    tiles = [[b.bm(f"u{g}_{i}") for i in range(shape.key_tiles)] for g in range(GROUPS)]
    with k.passes(shape.groups // GROUPS // unrolled, "score_pairs") as left:
        for pair in range(unrolled):
            if references is None:
                _clear(k, tiles)
            else:
                references.spread(tiles)
            multiply(k, tiles, operands)
            operands.advance()
            if references is not None and pair < unrolled - 1:
                references.on()
            elif references is not None and left is not None:
                references.on_unless_last(left)
            for place, tile in enumerate((*tiles[0], *tiles[1])):  # in whichever order they are done
                k.store_at(tile, scores, TILE * place, "scores")
            b.add(isa.PADDS_st_ptr_inc_idx(scores, pair_bytes))  # loads of the next pair go on beside
            if limit is not None:
                _test(k, tiles, limit)
            if magnitudes is not None:
                _gather_magnitudes(k, tiles, magnitudes)
    if magnitudes is not None:
        narrow, small = softcap_limits(k)
        b.add(isa.VGE_S32(k.registers["flag"], magnitudes, narrow))
        b.add(isa.VGE_S32(k.registers["large"], magnitudes, small))


def _clear(k: Context, tiles: list[list[Reg]]) -> None:
    zero = k.zero_x("no_reference")
    for tile in (*tiles[0], *tiles[1]):
        k.move(tile, zero)


class References:
    """The negated references of a pair of groups, loaded while the pair before it is stored."""

    def __init__(self, k: Context, register: Callable[[str], Reg]) -> None:
        """register: makes one, bm or x."""
        self.k = k
        self.groups = [register(f"reference{g}") for g in range(GROUPS)]
        self.state = k.pointer("state", STATE.offset("reference"), "p_reference")
        self.load()

    def spread(self, tiles: Sequence[Sequence[Register]]) -> None:
        for reference, group in zip(self.groups, tiles, strict=True):
            for tile in group:
                self.k.move(tile, reference)

    def on(self) -> None:
        """To those of the next pair."""
        step = self.k.b.m("state_step")
        self.k.b.constant(step, GROUPS * STATE.nbytes)
        self.k.b.add(isa.PADDA_lda_ptr_inc_idx(self.state, step))
        self.load()

    def on_unless_last(self, left: Reg) -> None:
        """The same, and in the last of the passes `left` the same again."""
        b, step, by = self.k.b, self.k.b.m("state_step"), self.k.b.r("state_step")
        more = self.k.sum(left, -1, "pairs_more")
        b.add(isa.NEZ(more, more))
        b.add(isa.MUL_mul_r_rr(by, more, self.k.scalar(GROUPS * STATE.nbytes, "state_pair")))
        b.add(isa.MOV_mv_scl(step, by))
        b.add(isa.PADDA_lda_ptr_inc_idx(self.state, step))
        self.load()

    def load(self) -> None:
        for place, reference in enumerate(self.groups):
            self.k.load_at(reference, self.state, STATE.nbytes * place, "state")


class Operands:
    """Pointers to the halves of the block of keys, by load port, and to the queries of both groups."""

    def __init__(self, k: Context, keys: Reg) -> None:
        self.k = k
        upper = k.sum(keys, k.registers["half_block"], "keys_upper")
        self.sides = {"a": k.pointer_from(keys, "p_k_lower"), "b": k.pointer_from(upper, "p_k_upper")}
        group_bytes = k.shape.depth_steps * TILE
        self.queries = [k.pointer("q", g * group_bytes, f"p_q{g}") for g in range(GROUPS)]
        self.back, self.on = k.b.m("keys_back"), k.b.m("queries_on")
        k.b.constant(self.back, -k.shape.key_tiles // 2 * group_bytes)
        k.b.constant(self.on, (GROUPS - 1) * group_bytes)

    def advance(self) -> None:
        """To the first key again, and to the next pair of groups."""
        for p in self.sides.values():
            self.k.b.add(isa.PADDA_lda_ptr_inc_idx(p, self.back))
        for p in self.queries:
            self.k.b.add(isa.PADDA_lda_ptr_inc_idx(p, self.on))


def multiply(k: Context, tiles: Sequence[Sequence[Register]], operands: Operands, peeled: int = 0) -> None:
    """K Q^T of a pair of groups, added to their tiles.  peeled: passes before the loop, beside what is before it."""
    b, shape = k.b, k.shape
    half = shape.key_tiles // 2
    with b.hardware_loop(shape.depth_steps, "scores", ordered=True, peeled=peeled):
        query = [b.x(f"q{g}") for g in range(GROUPS)]
        for g in range(GROUPS):
            k.load_x(query[g], operands.queries[g], "q", port="ab"[g], bank="q")
        for i in range(half):
            keys = {i: "a", i + half: "b"}
            key = {tile: b.x("k") for tile in keys}
            for tile, port in keys.items():
                k.load_x(key[tile], operands.sides[port], "k", port=port, bank="k")
            for g in range(GROUPS):  # by turns: time for the next step's queries to come in
                for tile in keys:
                    accumulator = tiles[g][tile]
                    b.add(
                        isa.VMAC_F_vmac_bm_core_dense(
                            accumulator, accumulator, key[tile], query[g], k.registers["matmul"]
                        )
                    )


def _test(k: Context, tiles: list[list[Reg]], limit: Reg) -> None:
    """flag |= whether a score exceeds the limit.

    fp32 patterns are compared as integers, by moves rather than conversions, which share a slot with the stores: wrong
    between negative numbers only, which no limit is.
    """
    b = k.b
    largest = []
    for group in tiles:
        most, bits = b.x("u_max"), b.x("u_bits")
        for number, tile in enumerate(group):
            k.move(bits if number else most, tile)
            if number:
                b.add(isa.VMAX_LT_S32(most, b.r("mask"), most, bits))
        largest.append(most)
    b.add(isa.VMAX_LT_S32(largest[0], b.r("mask"), *largest))
    exceeds = b.r("exceeds")
    b.add(isa.VGE_S32(exceeds, largest[0], limit))
    b.add(isa.OR(k.registers["flag"], k.registers["flag"], exceeds))


def _gather_magnitudes(k: Context, tiles: list[list[Reg]], largest: Reg) -> None:
    """The largest magnitudes so far, as fp32 patterns, which order like integers."""
    b = k.b
    magnitude_bits = k.constant_x(u32x16(0x7FFFFFFF), "magnitude_bits")
    for group in tiles:
        bits = b.x("u_bits")
        for tile in group:
            k.move(bits, tile)
            b.add(isa.VBAND(bits, bits, magnitude_bits))
            b.add(isa.VMAX_LT_S32(largest, b.r("mask"), largest, bits))
