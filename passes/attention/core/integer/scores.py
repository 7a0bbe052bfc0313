"""Scores of one block of keys: K Q^T in int32, rounded to 16 bits in the head's unit.

A pass is four tiles of four keys, two of each half of the block, against an octet of queries: all steps along the head,
from the last to the first, so that one loop goes through the block and its ramps are those of a block.  The largest
scores of each query, in this pass and the octet's before it, go where the octet's bias comes, for the exponents.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.passes.array.target import NPU1
from npuc.passes.attention.core.context import HALF, Context
from npuc.passes.attention.core.integer.shape import BIASES, OCTET, QUERY_TILE, SCORE_TILE, IntegerShape
from npuc.passes.attention.core.integer.unit import Factors, Head, Unit
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

KEY_TILES = 4  # a pass
KEY_TILE = 32  # bytes of four keys and eight dimensions
PASS_KEYS = KEY_TILES // 2 * KEY_TILE  # bytes from the keys of a pass to those of the next, in each half of the block


def compute_scores(k: Context, keys: Reg, shape: IntegerShape) -> None:
    """Scores of the block of keys at the address `keys`."""
    work = _Pass(k, keys, shape)
    with k.b.hardware_loop(shape.octets * shape.score_passes, "scores", ordered=True, thorough=True):
        work.run()


def banks(k: Context, rings: Sequence[str], begin: int, end: int) -> tuple[str, ...]:
    """Where bytes of buffers lie that are used by turns with those of K: a bank while K is in k0, and one in k1."""
    found = []
    for turn, buffer in enumerate(rings):
        first, last = (k.buffers[buffer] + offset for offset in (begin, end - 1))
        found += [f"{bank} of k{turn}" for bank in range(first // NPU1.core_bank, last // NPU1.core_bank + 1)]
    return tuple(found)


class _Pass:
    """Registers of the loop, and a pass of it."""

    def __init__(self, k: Context, keys: Reg, shape: IntegerShape) -> None:
        self.k, self.shape, self.keys, b = k, shape, keys, k.b
        factors = Factors(k)
        self.configuration, self.shift = factors.word(Head.MATMUL), factors.shift(Unit.SCORE_SHIFT)
        self.tiles = [b.cm(f"s{i}") for i in range(KEY_TILES)]
        self.rights = [b.x(f"q{turn}") for turn in range(2)]  # by turns: loaded anew while MACs take the other
        self.lefts = [k.zero_x(f"k{i}") for i in range(KEY_TILES)]  # the MAC takes the lower half
        self.along, self.to_upper, self.across = b.m("keys_along"), b.m("keys_upper"), b.m("scores_across")
        half = shape.keys // 2
        self.step_keys = half * OCTET  # bytes of eight dimensions of the keys of a half
        sizes = {"q": shape.queries * shape.head_dim, "scores": 2 * shape.queries * shape.keys}
        sizes["bias"] = shape.octets * BIASES
        self.banks = {name: banks(k, (name, name), 0, size) for name, size in sizes.items()}
        self.to_last = (shape.depth_steps - 1) * self.step_keys  # from the first step, as passes begin with the last
        b.constant(self.along, -self.step_keys - KEY_TILE)
        b.constant(self.to_upper, half * shape.head_dim)
        b.constant(self.across, shape.key_tiles // 2 * SCORE_TILE - (KEY_TILES // 2 * SCORE_TILE - HALF))
        # How far a pass is from the first, in each buffer; for the next one counted from its number times PASS_KEYS.
        self.offsets = [b.m(name) for name in ("at_keys", "at_q", "at_scores", "at_largest")]
        for register in self.offsets:
            b.constant(register, self.to_last if register is self.offsets[0] else 0)
        self.place = k.scalar(PASS_KEYS, "pass_place")
        self.first = k.scalar(-1, "octet_begins")  # whether a pass is the first of its octet, in every bit
        self.largest = k.zero_x("largest")  # of the octet so far

    def run(self) -> None:
        """The first MACs need nothing cleared."""
        b = self.k.b
        low, high, queries, scores, largest = self._pointers()
        first = b.r("first_pass")
        b.add(isa.MOV_mv_scl(first, self.first))
        self._next()
        for step in reversed(range(self.shape.depth_steps)):
            right = self.rights[step % len(self.rights)]
            for half, back in ((right.lo, 0), (right.hi, 2 * QUERY_TILE)):
                self.k.load_half(half, queries, "q", step=HALF - back, carried=False, bank=self.banks["q"])
            for i, (left, into) in enumerate(zip(self.lefts, self.tiles, strict=True)):
                pointer = low if i < KEY_TILES // 2 else high
                begin = (step + i // (KEY_TILES // 2) * self.shape.depth_steps) * self.step_keys
                places = banks(self.k, ("k0", "k1"), begin, begin + self.step_keys)
                on = self.along if i % 2 else KEY_TILE
                self.k.load_half(left.lo, pointer, "k", step=on, carried=False, bank=places)
                if step == self.shape.depth_steps - 1:
                    b.add(isa.VMUL_vmac_cm_core_dense(into, left, right, self.configuration))
                else:
                    b.add(isa.VMAC_vmac_cm_core_dense(into, into, left, right, self.configuration))
        self._store(scores, largest, first)

    def _pointers(self) -> tuple[Reg, Reg, Reg, Reg, Reg]:
        """To the keys of both halves, queries, scores, and where the largest go."""
        k = self.k
        low, high = (k.pointer_from(self.keys, name) for name in ("p_k_low", "p_k_high"))
        queries = k.pointer("q", (self.shape.depth_steps - 1) * QUERY_TILE)
        scores, largest = k.pointer("scores"), k.pointer("bias", name="p_largest")
        at_keys, at_q, at_scores, at_largest = self.offsets
        for pointer, offset in (
            (low, at_keys),
            (high, at_keys),
            (high, self.to_upper),
            (queries, at_q),
            (scores, at_scores),
            (largest, at_largest),
        ):
            k.move_on(pointer, offset)
        return low, high, queries, scores, largest

    def _next(self) -> None:
        """Offsets of the next pass."""
        k, b, shape = self.k, self.k.b, self.shape
        octet = PASS_KEYS * shape.score_passes  # of `place`
        within, before, at_q, at_scores = b.r("in_octet"), b.r("octets_before"), b.r("at_q"), b.r("at_scores")
        b.add(isa.AND(within, self.place, k.scalar(octet - PASS_KEYS, "octet_mask")))
        b.add(isa.SUB(before, self.place, within))
        # Tiles of scores are as far apart in a half as its keys: twice `within` and four times `before`.
        b.add(isa.ADD(at_scores, self.place, before))
        b.add(isa.ADD(at_scores, at_scores, at_scores))
        b.add(isa.ADD(self.place, self.place, k.scalar(PASS_KEYS, "pass_on")))
        b.add(isa.MUL_mul_r_rr(at_q, before, k.scalar(shape.depth_steps, "steps")))
        at_q = k.shifted(at_q, QUERY_TILE.bit_length() - octet.bit_length(), "at_q")
        at_keys = k.sum(within, k.scalar(self.to_last, "to_last"))
        at_largest = k.shifted(before, BIASES.bit_length() - octet.bit_length(), "at_largest")
        for register, offset in zip(self.offsets, (at_keys, at_q, at_scores, at_largest), strict=True):
            b.add(isa.MOV_mv_scl(register, offset))
        b.add(isa.EQZ(self.first, within))
        b.add(isa.SUB(self.first, k.registers["zero"], self.first))

    def _store(self, store: Reg, largest_at: Reg, first: Reg) -> None:
        """The scores, and the largest of each query; first: of the pass."""
        b = self.k.b
        found: list[Reg] = []
        for i, tile in enumerate(self.tiles):
            found.append(b.x("score"))
            b.add(isa.VSRS_S16_S32_mv_x_srs(found[-1], tile, self.shift))
            stores = [isa.VST_dmw_sts_w_ag_pstm_nrm_imm(half, store, HALF) for half in (found[-1].lo, found[-1].hi)]
            if i % 2:  # on to the other half of the octet's scores
                stores[-1] = isa.VST_dmw_sts_w_ag_pstm_nrm(found[-1].hi, store, self.across)
            for one in stores:
                b.add(one, region="scores", carried=False, bank=self.banks["scores"])
        while len(found) > 1:
            larger = b.x("larger")
            b.add(isa.VMAX_LT_S16(larger, b.r("mask"), found.pop(0), found.pop(0)))
            found.append(larger)
        before = b.x("larger_before")
        b.add(isa.VMAX_LT_S16(before, b.r("mask"), self.largest, found[0]))
        b.add(isa.VSEL_16(self.largest, before, found[0], first))
        for half, place in ((self.largest.lo, 0), (self.largest.hi, HALF)):
            b.add(isa.VST_dmw_sts_w_ag_idx_imm(half, largest_at, place), region="bias", bank=self.banks["bias"])
