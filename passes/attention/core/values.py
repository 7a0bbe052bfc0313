"""O += P V for one block of keys; the last tile of V is all ones, so its column of O collects the row sums.

Two groups of four queries together: their probabilities stay in eight registers while the inner loop
walks over the output tiles, each V tile serving both groups.  Probabilities in two parts take two walks.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, SHUFFLE_8X4_TO_4X8, TILE, Context
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg

# At a register's distance, at an immediate one, and moving on.
O_LOADS = (isa.VLDA_dmw_lda_am_ag_idx, isa.VLDA_dmw_lda_am_ag_idx_imm, isa.VLDA_dmw_lda_am_ag_pstm_nrm_imm)
O_STORES = (isa.VST_dmw_sts_am_ag_idx, isa.VST_dmw_sts_am_ag_idx_imm, isa.VST_dmw_sts_am_ag_pstm_nrm_imm)


def accumulate_values(k: Context, values: Reg) -> None:
    """Add the block of values whose address is in `values`."""
    parts = k.shape.probability_parts
    if parts == 1:
        _accumulate(k, values, k.pointer("scores", name="p_p"), HALF)
        return
    first, walks = k.b.r("p_first"), k.scalar(parts, "p_parts")
    k.b.constant(first, k.address("scores"))
    with k.b.counted_loop(walks, "p_parts"):
        _accumulate(k, values, k.pointer_from(first, "p_p"), HALF + (parts - 1) * TILE)
        k.b.add(isa.ADD(first, first, k.scalar(TILE, "p_part")))


def _accumulate(k: Context, values: Reg, probabilities: Reg, step: int) -> None:
    """step: from the upper half of a tile of probabilities to the next tile."""
    b, shape = k.b, k.shape
    steps = shape.keys // 8
    group_bytes = shape.output_tiles * TILE
    unrolled = shape.unrolled_pairs
    mode = k.scalar(SHUFFLE_8X4_TO_4X8, "mode_8x4_to_4x8")
    on = b.m("v_on")
    b.constant(on, steps * TILE - HALF)
    beside = [b.dj("o_beside"), b.dj("o_beside_upper")]
    for register, offset in zip(beside, (0, HALF), strict=True):
        b.constant(register, group_bytes + offset)
    p = [[b.x(f"p{g}{s}") for s in range(steps)] for g in range(2)]
    tiles, load, store = (
        [b.p(f"p_v{s}") for s in range(steps)],
        k.pointer("o", name="p_o_load"),
        k.pointer("o", name="p_o_store"),
    )
    o_on = b.m("o_on")
    b.constant(o_on, group_bytes)
    # The same registers for all pairs of a pass: the ramps of their loops overlap as far as these are free.
    # A register for each link of a chain: none is held longer than from one MAC to the next.
    o = [[b.bm(f"o{g}_{s}") for s in range(steps + 1)] for g in range(2)]
    v = [b.x("v") for s in range(steps)]
    with k.passes(shape.groups // 2 // unrolled, "value_pairs"):
        for pair in range(unrolled):
            for g in range(2):
                for s in range(steps):
                    tile = b.x("p_key_by_query")
                    k.load_x(tile, probabilities, "scores", port="ab"[s % 2], step=step)
                    b.add(isa.VSHUFFLE(p[g][s], tile, tile, mode))
            for s, pointer in enumerate(tiles):
                b.add(isa.MOV_mv_scl(pointer, k.sum(values, TILE * s)))
            with b.hardware_loop(shape.output_tiles, "values"):
                _o(k, O_LOADS, [o[g][0] for g in range(2)], load, beside, pair)
                for s in range(steps):
                    lower = isa.VLDA_dmw_lda_w_ag_pstm_nrm_imm(v[s].lo, tiles[s], HALF)
                    b.add(lower, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm_imm,))
                    upper = isa.VLDA_dmw_lda_w_ag_pstm_nrm(v[s].hi, tiles[s], on)
                    b.add(upper, region="v", bank="v", alternatives=(isa.VLDB_dmw_ldb_ag_pstm_nrm,))
                    for g in range(2):
                        b.add(isa.VMAC_F_vmac_bm_core_dense(o[g][s + 1], o[g][s], p[g][s], v[s], k.registers["matmul"]))
                _o(k, O_STORES, [o[g][steps] for g in range(2)], store, beside, pair)
            # Beyond the second group, in slots that leave the next loop's loads alone.
            b.add(isa.PADDB_ldb_ptr_inc_nospill_nrm(load, o_on))
            b.add(isa.PADDS_st_ptr_inc_idx(store, o_on))


def _o(
    k: Context,
    access: tuple[Constructor, Constructor, Constructor],
    groups: list[Reg],
    pointer: Reg,
    beside: list[Reg],
    pair: int,
) -> None:
    """Loads or stores the tiles of both groups, the second `beside` the first; the pointer moves on by one tile."""
    by_register, by_immediate, moving = access
    operations = [by_register(half, pointer, at) for half, at in zip((groups[1].lo, groups[1].hi), beside, strict=True)]
    operations += [by_immediate(groups[0].hi, pointer, HALF), moving(groups[0].lo, pointer, TILE)]
    for one in operations:
        k.b.add(one, region=f"o{pair}", carried=False, bank="o")  # pairs do not meet
