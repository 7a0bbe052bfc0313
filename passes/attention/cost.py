"""Cycles of a plan, by a small model: enough to compare tile sizes and column counts, not to predict a run.

Bases: peak rates of facts/schedule/peak.md; stream and sequence figures of the machine table in the design page.
"""

from __future__ import annotations

from npuc.passes.attention.plan import CORES_PER_COLUMN, Estimate

MACS_PER_CYCLE = 128  # bf16 vmac.f on one core
SOFTMAX_PER_VECTOR = 14  # cycles for 32 scores beyond what hides behind the MACs (worked out for both head sizes)
BLOCK_OVERHEAD = 60  # lock hand-over, loop ramps
FINISH_PER_VECTOR = 8  # normalise and round 16 outputs
DESCRIPTOR_SWITCH = 2  # two descriptors a block
SHIM_START = 747
SEQUENCE_PER_ITEM = 4 * (203 + 100) + 3 * 100  # four descriptors with their patches, three pushes
SEQUENCE_PER_CORE = 300  # two parameters and the start lock
COMPLETION = 8000  # data to the sequence's knowledge of it


def estimate(head_dim: int, query_block: int, key_block: int, key_blocks: int, items: int, columns: int) -> Estimate:
    """Estimate for `items` work items dealt out evenly to `columns` columns."""
    macs = 2 * query_block * key_block * head_dim
    vectors = query_block * key_block // 32
    compute = macs // MACS_PER_CYCLE + vectors * SOFTMAX_PER_VECTOR + BLOCK_OVERHEAD
    stream = key_block * head_dim + DESCRIPTOR_SWITCH  # K and V, one word a cycle
    finish = query_block * head_dim // 16 * FINISH_PER_VECTOR
    query_words = CORES_PER_COLUMN * query_block * head_dim // 2
    item = key_blocks * max(compute, stream) + finish
    column_items = -(-items // columns)
    sequence = items * SEQUENCE_PER_ITEM + columns * CORES_PER_COLUMN * SEQUENCE_PER_CORE
    start = SHIM_START + min(columns, items) * (SEQUENCE_PER_ITEM + CORES_PER_COLUMN * SEQUENCE_PER_CORE)
    total = start + 2 * query_words + max(column_items * item, sequence) + COMPLETION
    return Estimate(compute, stream, item, sequence, total)
