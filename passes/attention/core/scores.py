"""U = K Q^T - reference for one block of keys, and whether the reference must move.

Eight queries at a time: two groups against the eight key tiles of the block are sixteen accumulator chains, so every
K tile loaded serves two multiplications and the MAC slot is the limit.  The chains start from the negated reference,
which makes the subtraction free; or from zero, where the scores are adjusted before it is subtracted.  The two halves
of the key tiles come through different load ports.
"""

from __future__ import annotations

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, TILE, Context, u32x16
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine.ir import Reg

GROUPS = 2


def compute_scores(k: Context, keys: Reg) -> None:
    """Scores of the block of keys at `keys`; sets the register `flag` when one exceeds the limit.

    With a softcap the limit is that of the polynomial, and counts for magnitudes; with a mask there is none yet.
    """
    b, shape = k.b, k.shape
    upper = b.r("keys_upper")
    b.op("ADD", upper, keys, k.registers["half_block"])
    queries, state = b.r("q_address"), b.r("state_address")
    b.constant(queries, k.address("q"))
    b.constant(state, k.address("state"))
    scores = k.pointer("scores", name="p_scores")
    limit = None
    if shape.softcap or not shape.adjusted:
        limit = call_x(k, "narrow" if shape.softcap else "threshold")
        b.constant(k.registers["flag"], 0)
    pairs = k.scalar(shape.groups // GROUPS, "score_pairs")
    with b.counted_loop(pairs, "score_pairs"):
        tiles = _start(k, state)
        _multiply(k, tiles, keys, upper, queries)
        for group in range(GROUPS):
            for tile in tiles[group]:
                k.store_bm(tile, scores, "scores")
            if limit is not None:
                _test(k, tiles[group], limit)


def _start(k: Context, state: Reg) -> list[list[Reg]]:
    """Accumulators of both groups, each holding its group's negated reference or zero."""
    tiles = [[k.b.bm(f"u{g}_{i}") for i in range(k.shape.key_tiles)] for g in range(GROUPS)]
    if k.shape.adjusted:
        zero = k.zero_x("no_reference")
        for tile in (*tiles[0], *tiles[1]):
            k.move(tile, zero)
        return tiles
    p = k.pointer_from(state, "p_reference")
    k.b.op("PADDA_lda_ptr_inc_idx_imm", p, STATE.offset("reference"))
    for group in tiles:
        k.load_bm(group[0], p, "state", step=STATE.nbytes - HALF)
        for tile in group[1:]:
            k.move(tile, group[0])
    k.b.op("ADD", state, state, k.scalar(GROUPS * STATE.nbytes, "state_bytes"))
    return tiles


def _multiply(k: Context, tiles: list[list[Reg]], keys: Reg, upper: Reg, queries: Reg) -> None:
    b, shape = k.b, k.shape
    half = shape.key_tiles // 2
    sides = {"a": k.pointer_from(keys, "p_k_lower"), "b": k.pointer_from(upper, "p_k_upper")}
    q = [k.pointer_from(queries, "p_q0")]
    group_bytes = k.scalar(shape.depth_steps * TILE, "q_group")
    b.op("ADD", queries, queries, group_bytes)
    q.append(k.pointer_from(queries, "p_q1"))
    b.op("ADD", queries, queries, group_bytes)
    with b.hardware_loop(shape.depth_steps, "scores"):
        query = [b.x(f"q{g}") for g in range(GROUPS)]
        for g in range(GROUPS):
            k.load_x(query[g], q[g], "q", port="ab"[g])
        for i in range(half):
            for tile, port in ((i, "a"), (i + half, "b")):
                key = b.x("k")
                k.load_x(key, sides[port], "k", port=port)
                for g in range(GROUPS):
                    accumulator = tiles[g][tile]
                    b.op("VMAC_F_vmac_bm_core_dense", accumulator, accumulator, key, query[g], k.registers["matmul"])


def _test(k: Context, tiles: list[Reg], limit: Reg) -> None:
    """flag |= whether a score of a group exceeds the limit."""
    b = k.b
    level = []
    magnitude_bits = k.constant_x(u32x16(0x7FFF7FFF), "magnitude_bits") if k.shape.softcap else None
    for low, high in zip(tiles[0::2], tiles[1::2], strict=True):
        pair = b.x("u_bf16")
        k.to_bf16(pair.lo, low)
        k.to_bf16(pair.hi, high)
        if magnitude_bits is not None:
            magnitude = b.x("u_magnitude")
            b.op("VBAND", magnitude, pair, magnitude_bits)
            pair = magnitude
        level.append(pair)
    while len(level) > 1:
        joined = []
        for first, second in zip(level[0::2], level[1::2], strict=True):
            larger = b.x("u_max")
            b.op("VMAX_LT_BF16", larger, b.r("mask"), first, second)
            joined.append(larger)
        level = joined
    exceeds = b.r("exceeds")
    b.op("VGE_BF16", exceeds, level[0], limit)
    b.op("OR", k.registers["flag"], k.registers["flag"], exceeds)
