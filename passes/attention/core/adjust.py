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

STAGES = 4  # passes of a walk that overlap, as far as registers reach


@dataclass
class Pair:
    """Two tiles of scores (fp32 accumulators) of eight keys, and for each the bits of its lanes that are hidden."""

    scores: list[Reg]
    hidden: tuple[list[Reg], list[Reg]] = field(default_factory=lambda: ([], []))


class Adjustment(Protocol):
    """Made before the walk; `adjust` works on a pair.  A walk that goes from group to group calls `begin_group` before
    the tiles of each four queries; one that does not goes through all pairs in the order in which they lie."""

    def begin_group(self) -> None: ...

    def adjust(self, pair: Pair) -> None: ...


class References:
    """The negated references, of the group that each pair in turn belongs to."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.halves = [k.pointer("state", STATE.offset("reference") + half, "p_reference") for half in (0, HALF)]
        self.share = k.scalar(STATE.nbytes // (k.shape.key_tiles // 2), "state_share")  # of a pair in its record
        self.place, self.records = k.scalar(0, "state_place"), k.scalar(-STATE.nbytes, "state_records")
        self.of_group: Reg | None = None

    def begin_group(self) -> None:
        self.of_group = self.k.b.bm("reference")
        self.k.load_bm(self.of_group, self.halves[0], "state", step=STATE.nbytes - HALF)

    def of_next_pair(self) -> Reg:
        if self.of_group is not None:
            return self.of_group
        b = self.k.b
        record, offset, reference = b.r("state_record"), b.dj("state_record"), b.bm("reference")
        b.add(isa.AND(record, self.place, self.records))
        b.add(isa.ADD(self.place, self.place, self.share))
        b.add(isa.MOV_mv_scl(offset, record))
        for half, pointer in zip((reference.lo, reference.hi), self.halves, strict=True):
            b.add(isa.VLDA_dmw_lda_am_ag_idx(half, pointer, offset), region="state")
        return reference


class Reference:
    """What is subtracted from all scores of a query, kept with its sign changed."""

    def __init__(self, k: Context) -> None:
        self.k, self.references = k, References(k)

    def begin_group(self) -> None:
        self.references.begin_group()

    def adjust(self, pair: Pair) -> None:
        reference = self.references.of_next_pair()
        for i, score in enumerate(pair.scores):
            pair.scores[i] = self.k.b.bm("u_moved")
            self.k.add(pair.scores[i], score, reference)


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


def adjust_scores(k: Context, adjustments: Sequence[Adjustment], by_group: Adjustment | None = None) -> None:
    """All scores of the block, in place; by_group: one more, the last, which depends on the queries."""
    b, shape = k.b, k.shape
    walk = _Walk(k, adjustments)
    pairs = shape.key_tiles // 2
    if by_group is None:
        with b.hardware_loop(shape.groups * pairs, "adjusted_tiles", max_stages=STAGES):
            walk.pair()
        return
    groups = k.scalar(shape.groups, "adjusted_groups")
    with b.counted_loop(groups, "adjusted_groups"):
        for adjustment in (*adjustments, by_group):
            adjustment.begin_group()
        with b.hardware_loop(pairs, "adjusted_tiles", max_stages=2):
            walk.pair(by_group)


class _Walk:
    def __init__(self, k: Context, adjustments: Sequence[Adjustment]) -> None:
        self.k, self.adjustments = k, adjustments
        self.load, self.store = k.pointer("scores", name="p_u_load"), k.pointer("scores", name="p_u_store")
        self.hidden = k.b.x("hidden_score")
        k.b.add(isa.VBCST_32(self.hidden, k.scalar(HIDDEN, "hidden_bits")))

    def pair(self, *more: Adjustment) -> None:
        k = self.k
        pair = Pair([k.b.bm("u0"), k.b.bm("u1")])
        for score in pair.scores:
            k.load_bm(score, self.load, "scores", carried=False, bank="scores")
        for adjustment in (*self.adjustments, *more):
            adjustment.adjust(pair)
        for score, bits in zip(pair.scores, pair.hidden, strict=True):
            _store(k, score, bits, self.hidden, self.store)


def _store(k: Context, score: Reg, bits: list[Reg], hidden: Reg, store: Reg) -> None:
    b = k.b
    if not bits:
        k.store_bm(score, store, "scores", carried=False, bank="scores")
        return
    whole = bits[0]
    for more in bits[1:]:
        either = b.r("either")
        b.add(isa.OR(either, whole, more))
        whole = either
    u, kept = b.x("u"), b.x("u_kept")
    k.move(u, score)
    b.add(isa.VSEL_32(kept, u, hidden, whole))
    k.store_x(kept, store, "scores", carried=False, bank="scores")
