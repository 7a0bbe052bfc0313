"""Scores of one block of keys: K Q^T in int32, rounded to 16 bits in the head's unit.

Four tiles of four keys, two of each half of the block by a load port of its own, against two octets of queries (or one,
where they are odd) are as many accumulators as there are; the first of the steps along the head needs none of them
cleared.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.head import matmul_word, shift_register
from npuc.passes.attention.core.integer.shape import OCTET, QUERY_TILE, SCORE_TILE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg

KEY_TILES = 4  # a pass
STEPS_BEFORE = 2  # their loop
KEY_TILE = 32  # bytes of four keys and eight dimensions


def compute_scores(k: Context, keys: Reg) -> None:
    """Scores of the block of keys at the address `keys`."""
    b, shape = k.b, k.shape
    octets = shape.queries // OCTET
    together = 2 if octets % 2 == 0 else 1
    half, octet_bytes = shape.keys // 2, shape.depth_steps * QUERY_TILE
    configuration, shift = matmul_word(k), shift_register(k, 0, "score_shift")
    tiles = [[b.cm(f"s{o}_{i}") for i in range(KEY_TILES)] for o in range(together)]
    rights = [b.x(f"q{o}") for o in range(together)]
    key_tiles = [k.zero_x(f"k{i}") for i in range(KEY_TILES)]  # the MAC takes the lower half
    along, score_on = b.m("keys_along"), b.m("scores_on")
    b.constant(along, half * OCTET - KEY_TILE)
    half_scores = shape.key_tiles // 2 * SCORE_TILE
    b.constant(score_on, half_scores + (together - 1) * shape.key_tiles * SCORE_TILE)
    uppers = [b.dj(f"scores_upper{i}") for i in range(KEY_TILES)]
    for i, register in enumerate(uppers):
        b.constant(register, half_scores + HALF * i)
    stores = [k.pointer("scores", o * shape.key_tiles * SCORE_TILE, f"p_scores{o}") for o in range(together)]
    query_start = k.scalar(k.address("q"), "query_start")
    groups = k.scalar(octets // together, "score_octets")
    with b.counted_loop(groups, "score_octets"):
        for quad in range(shape.key_tiles // KEY_TILES):  # without a jump: the ramps of their loops overlap
            place = k.sum(keys, quad * KEY_TILES // 2 * KEY_TILE, "quad_place")
            upper = k.sum(place, half * shape.head_dim, "quad_upper")
            sides = {"a": k.pointer_from(place, "p_k_low"), "b": k.pointer_from(upper, "p_k_high")}
            queries = [k.pointer_from(k.sum(query_start, o * octet_bytes), f"p_q{o}") for o in range(together)]

            def step(first: bool, sides: dict[str, Reg] = sides, queries: list[Reg] = queries) -> None:
                for o, right in enumerate(rights):  # Q may lie in the bank of the upper half of K
                    k.load_x(right, queries[o], "q", port="ab"[o], bank="k_b")
                for i, left in enumerate(key_tiles):
                    _load_keys(k, left, sides["ab"[i // 2]], "ab"[i // 2], KEY_TILE if i % 2 == 0 else along)
                    for o, right in enumerate(rights):
                        into = tiles[o][i]
                        if first:
                            b.add(isa.VMUL_vmac_cm_core_dense(into, left, right, configuration))
                        else:
                            b.add(isa.VMAC_vmac_cm_core_dense(into, into, left, right, configuration))

            # The first ones stand beside the last stores of the quad before.
            before = min(STEPS_BEFORE, shape.depth_steps)
            for number in range(before):
                step(first=number == 0)
            if shape.depth_steps > before:
                with b.hardware_loop(shape.depth_steps - before, "scores"):
                    step(first=False)
            for o in range(together):
                parts = [part for tile in tiles[o] for part in (tile.lo, tile.hi)]
                for part, place in zip(parts[len(parts) // 2 :], uppers, strict=True):
                    b.add(isa.VST_SRS_S16_S32_ag_idx(part, shift, stores[o], place), region="scores")
                for part in parts[: len(parts) // 2]:
                    b.add(isa.VST_SRS_S16_S32_ag_pstm_nrm_imm(part, shift, stores[o], HALF), region="scores")
        for store in stores:
            b.add(isa.PADDA_lda_ptr_inc_idx(store, score_on))
        b.add(isa.ADD(query_start, query_start, k.scalar(together * octet_bytes, "queries_on")))


LOADS: dict[str, tuple[Constructor, Constructor]] = {
    "a": (isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm, isa.VLDA_dmw_lda_w_ag_pstm_nrm),
    "b": (isa.VLDB_dmw_ldb_ag_pstm_nrm_imm, isa.VLDB_dmw_ldb_ag_pstm_nrm),
}


def _load_keys(k: Context, into: Reg, pointer: Reg, port: str, on: Reg | int) -> None:
    by_immediate, by_register = LOADS[port]
    load = by_immediate(into.lo, pointer, on) if isinstance(on, int) else by_register(into.lo, pointer, on)
    k.b.add(load, region="k", bank=f"k_{port}")
