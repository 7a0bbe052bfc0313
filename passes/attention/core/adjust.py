"""One walk over the scores of a block, pair of tiles by pair of tiles, with whatever is to be done to them on it.

What a walk does is a list of adjustments: the reference or a mask that is added (`mask`), hidden keys (`visibility`), a
test of what comes out.  Hidden scores become HIDDEN: their probability is exactly zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.state import STATE
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

HIDDEN = 0xFF000000
"""fp32 -2^127, also a bf16 number: below all scores, and no shift of the reference brings it near them."""


@dataclass
class Pair:
    """Two tiles of scores (fp32 accumulators) of eight keys, and for each the bits of its lanes that are hidden."""

    scores: list[Reg]
    hidden: tuple[list[Reg], list[Reg]] = field(default_factory=lambda: ([], []))


class Adjustment(Protocol):
    """Made before the walk; `begin_group` stands before the tiles of each four queries, `adjust` works on a pair."""

    def begin_group(self) -> None: ...

    def adjust(self, pair: Pair) -> None: ...


class Reference:
    """What is subtracted from all scores of a query, kept with its sign changed."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.state = k.pointer("state", STATE.offset("reference"), "p_reference")

    def begin_group(self) -> None:
        self.reference = self.k.b.bm("reference")
        self.k.load_bm(self.reference, self.state, "state", step=STATE.nbytes - HALF)

    def adjust(self, pair: Pair) -> None:
        for i, score in enumerate(pair.scores):
            pair.scores[i] = self.k.b.bm("u_moved")
            self.k.add(pair.scores[i], score, self.reference)


class Threshold:
    """Sets the register `flag` when a score exceeds the reference by so much that it must move."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.threshold = call_x(k, "threshold")
        k.b.constant(k.registers["flag"], 0)

    def begin_group(self) -> None:
        pass

    def adjust(self, pair: Pair) -> None:
        b, flag = self.k.b, self.k.registers["flag"]
        rounded, exceeds = b.x("rounded"), b.r("exceeds")
        for half, score in zip((rounded.lo, rounded.hi), pair.scores, strict=True):
            self.k.to_bf16(half, score)
        b.add(isa.VGE_BF16(exceeds, rounded, self.threshold))
        b.add(isa.OR(flag, flag, exceeds))


def adjust_scores(k: Context, adjustments: Sequence[Adjustment]) -> None:
    """All scores of the block, in place."""
    b, shape = k.b, k.shape
    load, store = k.pointer("scores", name="p_u_load"), k.pointer("scores", name="p_u_store")
    hidden = b.x("hidden_score")
    b.add(isa.VBCST_32(hidden, k.scalar(HIDDEN, "hidden_bits")))
    groups = k.scalar(shape.groups, "adjusted_groups")
    with b.counted_loop(groups, "adjusted_groups"):
        for adjustment in adjustments:
            adjustment.begin_group()
        with b.hardware_loop(shape.key_tiles // 2, "adjusted_tiles", max_stages=2):  # few registers
            pair = Pair([b.bm("u0"), b.bm("u1")])
            for score in pair.scores:
                k.load_bm(score, load, "scores", carried=False)
            for adjustment in adjustments:
                adjustment.adjust(pair)
            for score, bits in zip(pair.scores, pair.hidden, strict=True):
                _store(k, score, bits, hidden, store)


def _store(k: Context, score: Reg, bits: list[Reg], hidden: Reg, store: Reg) -> None:
    b = k.b
    if not bits:
        k.store_bm(score, store, "scores", carried=False)
        return
    whole = bits[0]
    for more in bits[1:]:
        either = b.r("either")
        b.add(isa.OR(either, whole, more))
        whole = either
    u, kept = b.x("u"), b.x("u_kept")
    k.move(u, score)
    b.add(isa.VSEL_32(kept, u, hidden, whole))
    k.store_x(kept, store, "scores", carried=False)
