"""The memory map of core tiles for int8."""

from __future__ import annotations

from npuc.passes.array.design import ALIGNMENT
from npuc.passes.array.target import NPU1
from npuc.passes.attention.core.integer.head import HEAD_WORDS
from npuc.passes.attention.core.integer.shape import BIASES, OCTET, OUTPUT_TILE, RECORD
from npuc.passes.attention.core.parameters import PARAMETER_BYTES
from npuc.passes.attention.integer_factors import HEADS_LIMIT
from npuc.passes.attention.memory import BANK, CONSTANT_BYTES, aligned, laid_out
from npuc.passes.attention.plan import WORD_BYTES, Buffer
from npuc.passes.attention.streams import integer_streams

# What one bundle accesses lies in different banks: K, and Q and scores; scores, V and O.  Biases have that of scores,
# where accesses to both are apart.  O, at the end of the memory, has a bank for itself and what little it has beyond
# that in the one before, where V ends.  K begins in the bank of scores where it must: with its first dimensions, which
# a pass of scores reads last (`core.integer.scores`).
INTEGER_ORDER = ("scores", "q", "bias", "state", "constants", "heads", "k0", "v0", "k1", "v1", "o")


def core_memory(head_dim: int, query_block: int, key_block: int, output: str) -> dict[str, Buffer]:
    """Raises ResourceError naming the first buffer beyond the 64 KiB.

    q: Q turned.  scores: of 16 bits, then probabilities.  o: sums in 4x8 tiles of 32 bits, one column of tiles for row
    sums; the result is left compacted at its start.  state: a record for each eight rows.  bias: that of their
    probabilities.  heads: factors of each head.
    """
    fifos = integer_streams(head_dim, query_block, key_block, output)
    sizes = {
        "constants": PARAMETER_BYTES + CONSTANT_BYTES,
        "q": query_block * head_dim,
        **{slot.buffer: fifo.core_buffer_bytes for fifo in fifos for slot in fifo.core_slots()},
        "scores": query_block * key_block * 2,
        "o": query_block // 4 * (head_dim // 8 + 1) * OUTPUT_TILE,
        "state": query_block // OCTET * RECORD,
        "bias": query_block // OCTET * BIASES,
        "heads": HEADS_LIMIT * HEAD_WORDS * WORD_BYTES,
    }
    of_what = f"int8: {query_block} queries of head size {head_dim}, blocks of {key_block} keys"
    output_begins = NPU1.core_memory - aligned(sizes["o"], ALIGNMENT)
    keys_begin = min(BANK, output_begins - sum(sizes[name] for name in ("k0", "v0", "k1", "v1")))
    return laid_out(sizes, set(INTEGER_ORDER), of_what, INTEGER_ORDER, [{"k0": keys_begin, "o": output_begins}])
