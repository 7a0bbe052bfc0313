"""Scores as 16-bit numbers (own form of the "integer" recipe of facts/semantics/exp_softmax.md, steps 1 and 2).

With c = scale * log2(e), places = floor(log2 c) + 9 and unit = c * 2^-places, in [2^-9, 2^-8), a score less its
reference is kept as x = ZERO + round(2^places * (U - reference)), which counts `unit` in base 2: from -112 at most to
16 at least.  The chains of Q K^T start from MAGIC - reference, MAGIC = 1.5 * 2^(19 - places), so that x is what their
bit patterns exceed one near MAGIC's by, over 16.

Patterns count so near MAGIC only.  Sums that are above zero come out saturated; negative ones, which some 2,000 nats
below the reference are, wrap to the largest number, as scores do that outgrow the reference.  The test of probabilities
finds both, and the block is done again from scores in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from npuc.passes.attention.core.adjust import Pair
from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, TILE, Context, bf16_pair, u32x16
from npuc.passes.attention.core.scores import GROUPS, Operands, References, multiply
from npuc.passes.attention.core.state import STATE
from npuc.passes.attention.core.visibility import Limits
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg, Register

LOWEST = -(1 << 15)
FURTHER_PLACES = 4  # bits of a pattern below those of x
ZERO = 24_576  # x of the reference
HIGHEST, LEAST = ZERO + 7168, ZERO - 8192
"""Scores from the first on, or in an item's first block below the second, have the reference moved: 14 and 16 in base 2
at least, more than ordinary scores reach."""


def prepare_fixed(k: Context) -> None:
    """Fills the places of MAGIC, of the pattern that x counts from and of 2^23 * unit, in [2^14, 2^15)."""
    b = k.b
    factor, bits = b.bm("factor"), b.x("factor_bits")
    ones, one = k.constant_x(bf16_pair(1.0, 1.0), "ones"), k.constant_x(bf16_pair(1.0, 0.0), "take_low")
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, factor, call_x(k, "factor_low"), ones)  # the first and the third
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, factor, factor, call_x(k, "factor_middle"), one)
    k.move(bits, factor)
    b.barrier()
    exponent, magic = b.x("factor_exponent"), b.x("magic_bits")
    b.add(isa.VBAND(exponent, bits, k.constant_x(u32x16(0xFF800000), "exponent_bits")))
    b.add(isa.VSUB_32(magic, k.constant_x(u32x16((264 << 23) + (1 << 22)), "magic_sum"), exponent))
    fill_constant(k, "magic", magic)
    pattern = b.x("lowest_pattern")
    b.add(isa.VSUB_32(pattern, magic, k.constant_x(u32x16(ZERO << FURTHER_PLACES), "zero_pattern")))
    fill_constant(k, "pattern", pattern)
    mantissa, whole, wide, shift, narrow = (
        b.x("mantissa"),
        b.x("mantissa_whole"),
        b.cm("mantissa_wide"),
        b.s("shift"),
        b.x("unit"),
    )
    b.add(isa.VBAND(mantissa, bits, k.constant_x(u32x16((1 << 23) - 1), "mantissa_bits")))
    b.add(isa.VBOR(whole, mantissa, k.constant_x(u32x16(1 << 23), "mantissa_one")))
    for half in (wide.lo, wide.hi):
        k.move(half, whole)
    b.constant(shift, 9)
    b.add(isa.VSRS_S16_S32_mv_x_srs(narrow, wide, shift))  # saturates: never 2^15
    fill_constant(k, "unit", narrow)
    b.barrier()


def fill_constant(k: Context, name: str, x: Reg) -> None:
    """The place of that name among the call's constants."""
    offset = k.pool.slot(name)
    for place, half in enumerate((x.lo, x.hi)):
        k.b.add(isa.VST_dmw_sts_w_ag_idx_imm(half, k.registers["pool"], offset + HALF * place), region="constants")


def compute_fixed_scores(k: Context, keys: Reg) -> None:
    """x of all scores of the block of keys at `keys`, 32 side by side: four queries, eight keys."""
    b, shape = k.b, k.shape
    steps = shape.key_tiles // 2
    group_bytes = steps * TILE
    middle = group_bytes // 2  # what stores reach from there, both ways
    stores = [k.pointer("scores", g * group_bytes + middle, f"p_scores{g}") for g in range(GROUPS)]
    unrolled = shape.unrolled_pairs
    pair_bytes = b.m("score_pair")
    b.constant(pair_bytes, GROUPS * group_bytes)
    operands = Operands(k, keys)
    magic = _pattern(k)
    places = b.s("further_places")
    b.constant(places, FURTHER_PLACES)
    references = _Unmoved(k) if shape.bounded else References(k, k.b.x)
    chains = [[b.cm(f"u{g}_{s}") for s in range(steps)] for g in range(GROUPS)]
    tiles = [[half for chain in group for half in (chain.lo, chain.hi)] for group in chains]
    with k.passes(shape.groups // GROUPS // unrolled, "score_pairs") as left:
        for pair in range(unrolled):
            references.spread(tiles)
            multiply(k, tiles, operands, peeled=min(pair, 1))
            operands.advance()
            if pair < unrolled - 1:
                references.on()
            elif left is not None:
                references.on_unless_last(left)
            for step, g in _finished(steps):
                chain = chains[g][step]
                b.add(isa.VSUB(chain, chain, magic, k.registers["zero"]))
                for half, offset in ((chain.lo, 0), (chain.hi, HALF)):
                    place = TILE * step + offset - middle
                    b.add(isa.VST_SRS_S16_S32_ag_idx_imm(half, places, stores[g], place), region="scores")
            for store in stores:  # loads of the next pair go on beside
                b.add(isa.PADDS_st_ptr_inc_idx(store, pair_bytes))


def _finished(steps: int) -> list[tuple[int, int]]:
    """Pairs of tiles, and their group, in the order in which `multiply` is done with them."""
    return [(step, g) for i in range(steps // 2) for g in range(GROUPS) for step in (i, i + steps // 2)]


class _Unmoved:
    """In place of references where there are none."""

    def __init__(self, k: Context) -> None:
        self.k, self.magic = k, call_x(k, "magic")

    def spread(self, tiles: Sequence[Sequence[Register]]) -> None:
        for group in tiles:
            for tile in group:
                self.k.move(tile, self.magic)

    def on(self) -> None:
        pass

    def on_unless_last(self, left: Reg) -> None:
        pass


def _pattern(k: Context) -> Reg:
    pattern, magic = call_x(k, "magic" if k.shape.bounded else "pattern"), k.b.cm("pattern")
    for half in (magic.lo, magic.hi):
        k.move(half, pattern)
    return magic


def far_below(k: Context) -> Reg:
    """Whether a score of the block is below LEAST."""
    b = k.b
    load, least = k.pointer("scores", name="p_x"), b.x("least")
    b.add(isa.VBCST_16(least, k.scalar(ZERO, "zero_x")))
    with b.hardware_loop(k.shape.groups * k.shape.key_tiles // 2, "least"):
        x = b.x("x")
        k.load_x(x, load, "scores", port="b", carried=False)
        b.add(isa.VMIN_GE_S16(least, b.r("mask"), least, x))
    below = b.r("far_below")
    limit = b.x("lower_limit")
    b.add(isa.VBCST_16(limit, k.scalar(LEAST, "lower_limit")))
    b.add(isa.VLT_S16(below, least, limit))
    b.add(isa.NEZ(below, below))
    return below


def hide(k: Context, limits: Limits) -> None:
    """What queries do not see counts as far below, and has no probability: x, or P of capped scores."""
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_x"), k.pointer("scores", name="p_x_kept")
    lowest, upper = b.x("lowest"), k.scalar(16, "upper_lanes")
    b.add(isa.VBCST_16(lowest, k.scalar(0 if shape.bounded else LOWEST, "lowest")))
    groups = k.scalar(shape.groups, "hidden_groups")
    with b.counted_loop(groups, "hidden_groups"):
        limits.begin_group()
        with b.hardware_loop(shape.key_tiles // 2, "hidden", max_stages=2):
            x, kept, bits, both = b.x("x"), b.x("x_kept"), b.r("hidden_upper"), b.r("hidden")
            k.load_x(x, load, "scores", port="b", carried=False)
            tiles = Pair([])
            limits.adjust(tiles)
            b.add(isa.LSHL(bits, tiles.hidden[1][0], upper))
            b.add(isa.OR(both, bits, tiles.hidden[0][0]))
            b.add(isa.VSEL_16(kept, x, lowest, both))
            k.store_x(kept, store, "scores", carried=False)


def compute_again(k: Context, keys: Reg) -> None:
    """U - reference of all scores in fp32, as `scores.compute_scores` leaves them; seldom, so that code is short."""
    b, shape = k.b, k.shape
    scores = k.pointer("scores", name="p_scores")
    chains_from = _zeros if shape.bounded else _references_again(k)
    pairs = k.scalar(shape.groups // GROUPS, "score_pairs")
    operands = Operands(k, keys)
    tiles = [[b.bm(f"again{g}_{i}") for i in range(shape.key_tiles)] for g in range(GROUPS)]
    with b.counted_loop(pairs, "scores_again"):
        chains_from(k, tiles)
        multiply(k, tiles, operands)
        operands.advance()
        for tile in (*tiles[0], *tiles[1]):
            k.store_bm(tile, scores, "scores")


def _zeros(k: Context, tiles: list[list[Reg]]) -> None:
    zero = k.zero_x("no_reference")
    for tile in (*tiles[0], *tiles[1]):
        k.move(tile, zero)


def _references_again(k: Context) -> Callable[[Context, list[list[Reg]]], None]:
    state = k.pointer("state", STATE.offset("reference"), "p_reference")

    def spread(k: Context, tiles: list[list[Reg]]) -> None:
        magic = k.b.bm("magic")
        k.move(magic, call_x(k, "magic"))
        for group in tiles:
            reference = k.b.bm("reference")
            k.load_bm(reference, state, "state", step=STATE.nbytes - HALF)
            k.subtract(reference, reference, magic)
            for tile in group:
                k.move(tile, reference)

    return spread


def round_scores(k: Context) -> None:
    """U - reference in fp32 to x, which saturate.  Pass n writes where pass n // 2 has read."""
    b = k.b
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_x")
    pattern, magic, places = _pattern(k), b.bm("magic"), b.s("further_places")
    b.constant(places, FURTHER_PLACES)
    bits = call_x(k, "magic")
    k.move(magic, bits)
    # Half of what MAGIC is a power of two above: the sum keeps its exponent, and is below all x.
    quarter, least = b.x("quarter"), b.x("least")
    b.add(isa.VSUB_32(quarter, bits, k.constant_x(u32x16(3 << 22), "quarter_of_magic")))
    b.add(isa.VBOR(least, quarter, k.constant_x(u32x16(1 << 31), "sign_bit")))
    with b.hardware_loop(k.shape.groups * k.shape.key_tiles // 2, "round_scores", max_stages=4):
        wide = b.cm("x_wide")
        for half in (wide.lo, wide.hi):
            u, bounded, tile = b.x("u"), b.x("u_bounded"), b.bm("u_tile")
            k.load_x(u, load, "scores", carried=False)
            b.add(isa.VMIN_GE_D32(bounded, b.r("mask"), u, least))  # as unsigned larger patterns are more negative
            k.move(tile, bounded)
            k.add(half, tile, magic)
        b.add(isa.VSUB(wide, wide, pattern, k.registers["zero"]))
        b.add(isa.VST_SRS_S16_S32_ag_idx_imm(wide.hi, places, store, HALF), region="scores", carried=False)
        b.add(isa.VST_SRS_S16_S32_ag_pstm_nrm_imm(wide.lo, places, store, TILE), region="scores", carried=False)
