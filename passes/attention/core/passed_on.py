"""The call's words from core to core: the runtime sequence tells the lowest core of a column, each tells the one in the
north, whose memory and locks it reaches (facts/platform/device_npu1.md, "Core view of memory").

An operation of the sequence takes longer than this takes a core, and all columns' wait for each other.
"""

from __future__ import annotations

from npuc.compiler.target.npu1 import geometry
from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.parameters import ALIKE, LANES_NORTH, NORTH, NORTHERN, PARAMETER_BYTES, Word
from npuc.passes.machine import instructions as isa

NORTH_MEMORY, NORTH_LOCKS = geometry.CORE_VIEW_NORTH, geometry.CORE_LOCK_NORTH


def pass_on(k: Context) -> None:
    """Behind `start`: if there are cores in the north to be told, the next one gets this one's words with its own lane,
    and starts."""
    b = k.b
    north, flags = b.r("north"), k.word(Word.FLAGS)
    b.add(isa.AND(north, flags, k.scalar(NORTHERN, "northern")))
    with b.if_nonzero(north):
        there = b.p("p_north")
        b.constant(there, NORTH_MEMORY + k.buffers["params"])
        for first in range(0, 4 * ALIKE, HALF):
            words = b.x("words").lo
            b.add(isa.VLDA_dmw_lda_w_ag_idx_imm(words, k.registers["pool"], first - PARAMETER_BYTES), region="params")
            b.add(isa.VST_dmw_sts_w_ag_idx_imm(words, there, first), region="north")
        flags_there = k.sum(flags, -NORTH)
        lanes = [
            (word, k.word(lane, "lane")) for word, lane in zip((Word.LANE, *LANES_NORTH), LANES_NORTH, strict=False)
        ]
        for word, value in ((Word.FLAGS, flags_there), *lanes):
            b.add(isa.ST_dms_sts_idx_imm(value, there, 4 * word), region="north")
        with b.step("release start of the core in the north"):
            b.release(NORTH_LOCKS + k.locks["start"], k.registers["one"])
