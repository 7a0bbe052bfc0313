"""Scores of one block of keys: K Q^T in int32, rounded to 16 bits in the head's unit.

A pass is four tiles of four keys, two of each half of the block by a load port of its own, against an octet of queries:
all steps along the head, so that one loop goes through the block and its ramps are those of a block.  The largest of a
pass's scores of each query goes to the octet's record, for the exponents.
"""

from __future__ import annotations

from npuc.passes.attention.core.context import LOADS, Context
from npuc.passes.attention.core.integer.head import matmul_word, shift_register
from npuc.passes.attention.core.integer.shape import LARGEST, OCTET, QUERY_TILE, RECORD, SCORE_TILE, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Part, Reg

KEY_TILES = 4  # a pass
KEY_TILE = 32  # bytes of four keys and eight dimensions
PASS_KEYS = KEY_TILES // 2 * KEY_TILE  # bytes from the keys of a pass to those of the next, in each half of the block


def compute_scores(k: Context, keys: Reg, shape: IntegerShape) -> None:
    """Scores of the block of keys at the address `keys`."""
    work = _Pass(k, keys, shape)
    with k.b.hardware_loop(shape.octets * shape.score_passes, "scores", ordered=True):
        work.run()


class _Pass:
    """Registers of the loop, and a pass of it.

    place: PASS_KEYS times the number of the pass; all addresses come of it, in scalars that live in the pass alone.
    """

    def __init__(self, k: Context, keys: Reg, shape: IntegerShape) -> None:
        self.k, self.shape, self.keys, b = k, shape, keys, k.b
        self.configuration, self.shift = matmul_word(k), shift_register(k, 0, "score_shift")
        self.place = k.scalar(0, "pass_place")
        self.tiles = [b.cm(f"s{i}") for i in range(KEY_TILES)]
        self.rights = [b.x(f"q{i}") for i in range(2)]
        self.lefts = [k.zero_x(f"k{i}") for i in range(KEY_TILES)]  # the MAC takes the lower half
        half = shape.keys // 2
        self.along, self.to_upper = b.m("keys_along"), b.m("keys_upper")
        b.constant(self.along, half * OCTET - KEY_TILE)
        b.constant(self.to_upper, half * shape.head_dim)

    def run(self) -> None:
        k, shape = self.k, self.shape
        low, high, queries, scores, largest = self._pointers()
        for step in range(shape.depth_steps):
            right = self.rights[step % 2]
            for half in (right.lo, right.hi):
                self._load(half, queries, KEY_TILE, "q")
            for i, (left, into) in enumerate(zip(self.lefts, self.tiles, strict=True)):
                pointer, bank = (low, "k_a") if i < KEY_TILES // 2 else (high, "k_b")
                self._load(left.lo, pointer, self.along if i % 2 else KEY_TILE, bank)
                if step == 0:
                    k.b.add(isa.VMUL_vmac_cm_core_dense(into, left, right, self.configuration))
                else:
                    k.b.add(isa.VMAC_vmac_cm_core_dense(into, into, left, right, self.configuration))
        self._store(scores, largest)

    def _pointers(self) -> tuple[Reg, Reg, Reg, tuple[Reg, Reg], Reg]:
        """To the keys of both halves, queries, scores of both halves, and where the largest go."""
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
        at_q = k.shifted(at_q, (QUERY_TILE // PASS_KEYS).bit_length() - shape.score_passes.bit_length(), "at_q")
        at_largest = k.sum(within, k.shifted(before, RECORD.bit_length() - octet.bit_length()), "at_largest")
        low, high = (k.pointer_from(self.keys, name) for name in ("p_k_low", "p_k_high"))
        queries, largest = k.pointer("q"), k.pointer("state", LARGEST, "p_largest")
        lower, upper = (k.pointer("scores", half * shape.key_tiles // 2 * SCORE_TILE) for half in range(2))
        for offset, pointers in (
            (within, (low, high)),
            (at_q, (queries,)),
            (at_scores, (lower, upper)),
            (at_largest, (largest,)),
        ):
            on = b.m("on")
            b.add(isa.MOV_mv_scl(on, offset))
            for pointer in pointers:
                b.add(isa.PADDA_lda_ptr_inc_idx(pointer, on), alternatives=(isa.PADDB_ldb_ptr_inc_nospill_nrm,))
        b.add(isa.PADDA_lda_ptr_inc_idx(high, self.to_upper), alternatives=(isa.PADDB_ldb_ptr_inc_nospill_nrm,))
        return low, high, queries, (lower, upper), largest

    def _load(self, half: Part, pointer: Reg, on: Reg | int, bank: str) -> None:
        by_immediate, by_register = (tuple(LOADS[port][i] for port in "ab") for i in range(2))
        first, other = by_immediate if isinstance(on, int) else by_register
        self.k.b.add(first(half, pointer, on), region=bank[0], carried=False, bank=bank, alternatives=(other,))

    def _store(self, stores: tuple[Reg, Reg], largest_at: Reg) -> None:
        k, b = self.k, self.k.b
        largest: Reg | None = None
        for i, tile in enumerate(self.tiles):
            x, larger = b.x("score"), b.x("largest")
            b.add(isa.VSRS_S16_S32_mv_x_srs(x, tile, self.shift))
            k.store_x(x, stores[i // (KEY_TILES // 2)], "scores", carried=False)
            if largest is None:
                largest = x
            else:
                b.add(isa.VMAX_LT_S16(larger, b.r("mask"), largest, x))
                largest = larger
        assert largest is not None
        k.store_at(largest, largest_at, 0, "records")
