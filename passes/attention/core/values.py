"""O += P V for one block of keys; the last tile of V is all ones, so its column of O collects the row sums.

Two groups of four queries together: their probabilities stay in eight registers while the inner loop
walks over the output tiles, each V tile serving both groups.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import HALF, SHUFFLE_8X4_TO_4X8, TILE, Context
from npuc.passes.machine.ir import Reg


def accumulate_values(k: Context, values: Reg) -> None:
    """Add the block of values whose address is in `values`."""
    b, shape = k.b, k.shape
    steps = shape.keys // 8
    group_bytes = shape.output_tiles * TILE
    probabilities = k.pointer("scores", name="p_p")
    outputs = b.r("o_address")
    b.constant(outputs, k.address("o"))
    group_stride = k.scalar(group_bytes, "o_stride")
    pairs = k.scalar(shape.groups // 2, "pairs")
    mode = k.scalar(SHUFFLE_8X4_TO_4X8, "mode_8x4_to_4x8")
    with b.counted_loop(pairs, "value_pairs"):
        p = [[b.x(f"p{g}{s}") for s in range(steps)] for g in range(2)]
        for g in range(2):
            for s in range(steps):
                tile = b.x("p_key_by_query")
                k.load_x(tile, probabilities, "scores", port="ab"[s % 2])
                b.op("VSHUFFLE", p[g][s], tile, tile, mode)
        halves = [k.pointer_from(values, "p_v_lower"), k.pointer_from(k.sum(values, HALF), "p_v_upper")]
        load, store = [], []
        for g in range(2):
            load.append(k.pointer_from(outputs, f"p_o{g}_load"))
            store.append(k.pointer_from(outputs, f"p_o{g}_store"))
            b.op("ADD", outputs, outputs, group_stride)
        with b.hardware_loop(shape.output_tiles, "values"):
            # A register for each link of a chain: none is held longer than from one MAC to the next.
            o = [[b.bm(f"o{g}_{s}") for s in range(steps + 1)] for g in range(2)]
            for g in range(2):
                k.load_bm(o[g][0], load[g], "o", carried=False, bank="o")
            for s in range(steps):
                tile = b.x("v")
                for half, pointer in zip((tile.lo, tile.hi), halves, strict=True):
                    b.op(
                        "VLDA_dmw_lda_w_ag_pstm_nrm_imm",
                        half,
                        pointer,
                        TILE,
                        region="v",
                        bank="v",
                        alternatives=("VLDB_dmw_ldb_ag_pstm_nrm_imm",),
                    )
                for g in range(2):
                    b.op("VMAC_F_vmac_bm_core_dense", o[g][s + 1], o[g][s], p[g][s], tile, k.registers["matmul"])
            for g in range(2):
                k.store_bm(o[g][steps], store[g], "o", carried=False, bank="o")
