"""U = K Q^T - reference for one block of keys, its maximum per query, and whether the reference must move.

One pass of the loop makes the eight 4x4 tiles of four queries against all keys of the block: eight
independent accumulator chains, started from the negated reference so that the subtraction is free.
The lower half of the key tiles is loaded through port A, the upper half through port B.
"""

from __future__ import annotations

import struct

from npuc.passes.kernel.attention.context import HALF, TILE, Context, bf16_bits, bf16_value
from npuc.passes.kernel.attention.query import STATE_BYTES, STATE_MAXIMUM, STATE_REFERENCE
from npuc.passes.kernel.ir import Reg

# The reference moves when a score exceeds it by more than this, in base 2: far below what fp32 and bf16
# exponents can hold, far above what ordinary scores reach, so that rescaling O stays rare.
REBASE_THRESHOLD = 24.0
LARGEST_BF16 = bf16_value(0x7F7F)


def compute_scores(k: Context, keys: Reg) -> None:
    """Scores of the block of keys at `keys`; sets the register `flag` when a score exceeds the limit."""
    b, shape = k.b, k.shape
    half_bytes = shape.keys * shape.head_dim  # bf16: half of the block's tiles
    upper_address = b.r("keys_upper")
    b.op("ADD", upper_address, keys, k.registers["half_block"])
    pointers = {
        "lower": k.pointer_from(keys, "p_k_lower"),
        "upper": k.pointer_from(upper_address, "p_k_upper"),
        "q": k.pointer("q", name="p_q"),
        "scores": k.pointer("scores", name="p_scores"),
        "reference": k.pointer("state", STATE_REFERENCE, name="p_reference"),
        "maximum": k.pointer("state", STATE_MAXIMUM, name="p_maximum"),
    }
    rewind = b.m("rewind")
    b.constant(rewind, HALF - half_bytes)
    limit = min(REBASE_THRESHOLD / shape.factor, LARGEST_BF16)
    threshold = k.constant_x(struct.pack("<H", bf16_bits(limit)) * 32, "threshold")
    b.constant(k.registers["flag"], 0)
    with b.hardware_loop(shape.groups, "scores"):
        tiles = _multiply(k, pointers, rewind)
        _store_and_test(k, tiles, pointers, threshold)


def _multiply(k: Context, pointers: dict[str, Reg], rewind: Reg) -> list[Reg]:
    b, shape = k.b, k.shape
    reference = b.bm("reference")
    k.load_bm(reference, pointers["reference"], "state", step=STATE_BYTES - HALF, carried=False)
    tiles = [b.bm(f"u{i}") for i in range(shape.key_tiles)]
    half = shape.key_tiles // 2
    for step in range(shape.depth_steps):
        query = b.x("q")
        k.load_x(query, pointers["q"], "q", port="ab"[step % 2])
        for i in range(half):
            last = step == shape.depth_steps - 1 and i == half - 1
            for tile, side, port in ((i, "lower", "a"), (i + half, "upper", "b")):
                key = b.x("k")
                k.load_x(key, pointers[side], "k", port=port, step=rewind if last else HALF)
                start = reference if step == 0 else tiles[tile]
                b.op("VMAC_F_vmac_bm_core_dense", tiles[tile], start, key, query, k.registers["matmul"])
    return tiles


def _store_and_test(k: Context, tiles: list[Reg], pointers: dict[str, Reg], threshold: Reg) -> None:
    b = k.b
    for tile in tiles:
        k.store_bm(tile, pointers["scores"], "scores", carried=False)
    level = []
    for low, high in zip(tiles[0::2], tiles[1::2], strict=True):
        pair = b.x("u_bf16")
        k.to_bf16(pair.lo, low)
        k.to_bf16(pair.hi, high)
        level.append(pair)
    while len(level) > 1:
        joined = []
        for first, second in zip(level[0::2], level[1::2], strict=True):
            larger = b.x("u_max")
            b.op("VMAX_LT_BF16", larger, b.r("mask"), first, second)
            joined.append(larger)
        level = joined
    exceeds = b.r("exceeds")
    b.op("VGE_BF16", exceeds, level[0], threshold)
    b.op("OR", k.registers["flag"], k.registers["flag"], exceeds)
    k.store_x(level[0], pointers["maximum"], "maximum", step=STATE_BYTES - TILE + HALF, carried=False)
