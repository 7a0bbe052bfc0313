"""Results = O / row sums times the head's factor, in bf16 or int8, compacted at the start of the O buffer.

Reciprocal and products are those of the bf16 program (`core.normalise`); whole numbers become fp32 numbers (`_Whole`).
Integers are rounded to nearest even and bounded to -128..127.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.passes.attention.core.context import (
    HALF,
    SHUFFLE_EVEN_16,
    SHUFFLE_ODD_16,
    TILE,
    Context,
    bf16_pair,
    f32x16,
)
from npuc.passes.attention.core.integer.head import HeadWord, head_word
from npuc.passes.attention.core.integer.shape import OUTPUT_TILE, IntegerShape
from npuc.passes.attention.core.integer.spread import no_shift, spread_wide
from npuc.passes.attention.core.normalise import not_zero, quotient, reciprocal
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Constructor, Reg

STAGES = 3  # more would be longer ramps: these are few passes
WIDE_STAGES = 5  # of the loop over tiles where sums are whole, whose passes are twice as many
FULL, SYMMETRIC = 1, 3  # crSat: integers down to -128; what the program has otherwise
MAGIC_LOW, MAGIC_HIGH = 0x4B000000, 0x53008000  # fp32 2^23, and 2^39 + 2^31
MAGIC_23, MAGIC_23_BITS = 1.5 * 2.0**23, 0x4B400000  # added to a number: its nearest integer in the low bits


def normalise(k: Context, shape: IntegerShape, count: int, before: Reg) -> None:
    """So many groups of four queries; before: register that says how many were done, which goes on to these.

    O is zero afterwards, but for what results take of it.
    """
    b = k.b
    group_bytes = shape.output_tiles * OUTPUT_TILE
    load, store = k.pointer("o", name="p_o_load"), k.pointer("o", name="p_o_store")
    sums = k.pointer("o", shape.value_tiles * OUTPUT_TILE, name="p_sums")
    for pointers, size in (((load, sums), group_bytes), ((store,), result_bytes(shape) // shape.groups)):
        on, done = b.m("o_done"), b.r("o_done")
        b.add(isa.MUL_mul_r_rr(done, before, k.scalar(size, "o_group")))
        b.add(isa.MOV_mv_scl(on, done))
        for pointer in pointers:
            b.add(isa.PADDA_lda_ptr_inc_idx(pointer, on))
    b.add(isa.ADD_add_r_ri(before, before, count))
    _set_modes(k, crSat=FULL)
    take_low = k.constant_x(bf16_pair(1.0, 0.0), "take_low")
    _invert(k, shape, count, sums, take_low)
    b.barrier()  # both take nearly all vector registers
    _Division(k, shape, load, store, take_low).run(count)
    _set_modes(k, crSat=SYMMETRIC)


def result_bytes(shape: IntegerShape) -> int:
    """Of all results, at the start of O."""
    return shape.queries * shape.head_dim * (1 if shape.output == "i8" else 2)


def _invert(k: Context, shape: IntegerShape, count: int, sums: Reg, take_low: Reg) -> None:
    """The head's factor over the sums of so many groups, to where scores were; the sums are zero afterwards."""
    b, skip, factor = k.b, k.b.m("sums_on"), _factor(k)
    b.constant(skip, shape.output_tiles * OUTPUT_TILE)
    numbers = _numbers_of(k, shape)
    inverses = k.pointer("scores", name="p_inverses")
    zero = k.zero_x("zero")
    with b.hardware_loop(count, "invert", max_stages=STAGES):
        row_sums = numbers.loaded_at(sums)
        for half in range(2):
            k.store_at(zero, sums, TILE * half, "o")
        b.add(isa.PADDA_lda_ptr_inc_idx(sums, skip))
        for row_sum in row_sums:
            for part in _scaled(k, reciprocal(k, not_zero(k, row_sum), take_low), factor, take_low):
                store = isa.VST_dmw_sts_w_ag_pstm_nrm_imm(part.lo, inverses, HALF)
                b.add(store, region="scores", carried=False, bank="scores")


class _Division:
    """O times the inverses, tile by tile."""

    def __init__(self, k: Context, shape: IntegerShape, load: Reg, store: Reg, take_low: Reg) -> None:
        self.k, self.shape, self.load, self.store, self.take_low = k, shape, load, store, take_low
        self.clear, self.inverses = k.b.p("p_o_clear"), k.pointer("scores", name="p_inverses")
        k.b.add(isa.MOV_mv_scl(self.clear, load))
        self.unrolled = 2 if shape.value_tiles % 2 == 0 and not shape.wide else 1  # each waits for its own parts only
        self.parts = [k.zero_x(f"o_parts{i}") for i in range(2 * self.unrolled)]
        self.zero, self.low = k.zero_x("zero"), [k.zero_x(f"inverse_low{half}") for half in range(2)]
        self.passes = shape.value_tiles // self.unrolled  # of a group
        self.left = k.scalar(self.passes, "tiles_left")
        self.numbers = _numbers_of(k, shape)
        self.out = _Integers(k) if shape.output == "i8" else None

    def run(self, count: int) -> None:
        """So many groups."""
        k, b = self.k, self.k.b
        with b.hardware_loop(count * self.passes, "divide", max_stages=WIDE_STAGES if self.shape.wide else STAGES):
            to_sums, to_next = self._steps()
            highs = [b.x(f"inverse_high{half}") for half in range(2)]
            for half, (high, low) in enumerate(zip(highs, self.low, strict=True)):
                for part, place in ((high.lo, 0), (high.hi, 0), (low.lo, HALF)):
                    one = isa.VLDB_dmw_ldb_ag_idx_imm(part, self.inverses, TILE * half + place)
                    b.add(one, region="scores", bank="scores")
            b.add(isa.PADDA_lda_ptr_inc_idx(self.inverses, to_next))
            inverses = list(zip(highs, self.low, strict=True))
            tiles = [self.numbers.loaded(self.load) for _ in range(self.unrolled)]  # all before the first store
            for tile in tiles:  # before results, which begin where the first tile was
                for _ in tile:
                    k.store_x(self.zero, self.clear, "o", carried=False, bank="o")
            for number, tile in enumerate(tiles):
                self._tile(tile, self.parts[2 * number : 2 * number + 2], inverses)
            for pointer in (self.load, self.clear):
                b.add(isa.PADDA_lda_ptr_inc_idx(pointer, to_sums))

    def _steps(self) -> tuple[Reg, Reg]:
        """Behind the last tile of a group, over its sums; and to the next group's inverses.  Else nothing."""
        k, b = self.k, self.k.b
        b.add(isa.ADD_add_r_ri(self.left, self.left, -1))
        last, mask, more = b.r("last_tile"), b.r("last_mask"), b.r("tiles_more")
        b.add(isa.EQZ(last, self.left))
        b.add(isa.SUB(mask, k.registers["zero"], last))
        b.add(isa.AND(more, mask, k.scalar(self.passes, "tiles")))
        b.add(isa.ADD(self.left, self.left, more))
        found = []
        for size, name in ((OUTPUT_TILE, "to_sums"), (2 * TILE, "to_next")):
            step, on = b.r(name), b.m(name)
            b.add(isa.AND(step, mask, k.scalar(size, f"{name}_size")))
            b.add(isa.MOV_mv_scl(on, step))
            found.append(on)
        return found[0], found[1]

    def _tile(self, halves: Sequence[Reg], parts: Sequence[Reg], inverses: Sequence[tuple[Reg, Reg]]) -> None:
        k, b = self.k, self.k.b
        quotients = [
            quotient(k, half, part, *inverse, self.take_low)
            for half, part, inverse in zip(halves, parts, inverses, strict=True)
        ]
        if self.out is not None:
            self.out.store(quotients, self.store)
            return
        for one in quotients:
            result = b.x("result")
            k.to_bf16(result.lo, one)
            store = isa.VST_dmw_sts_w_ag_pstm_nrm_imm(result.lo, self.store, HALF)
            b.add(store, region="o", carried=False, bank="o")


def _numbers_of(k: Context, shape: IntegerShape) -> _Numbers:
    return _Whole(k) if shape.wide else _Numbers(k)


def _set_modes(k: Context, **modes: int) -> None:
    k.b.barrier()
    for register, mode in modes.items():
        k.b.constant(register, mode)
    k.b.barrier()


class _Numbers:
    """Halves of tiles of O as fp32 numbers: constants before a loop, loads in it."""

    def __init__(self, k: Context) -> None:
        self.k = k

    def loaded(self, pointer: Reg) -> list[Reg]:
        """Those of the tile at the pointer, which moves on."""
        halves = self._halves()
        for half in halves:
            self._load(half, pointer)
        return self._numbers(halves)

    def loaded_at(self, pointer: Reg) -> list[Reg]:
        """The same without moving on."""
        halves = self._halves()
        for place, half in enumerate(halves):
            self.k.load_at(half, pointer, TILE * place, "o")
        return self._numbers(halves)

    def _halves(self) -> list[Reg]:
        return [self.k.b.bm("o_half") for _ in range(2)]

    def _load(self, half: Reg, pointer: Reg) -> None:
        self.k.load_bm(half, pointer, "o", carried=False, bank="o")

    def _numbers(self, halves: list[Reg]) -> list[Reg]:
        return halves


class _Whole(_Numbers):
    """The same of whole numbers.

    The lower half of a number, and the upper one 2^15 more, are the last bits of fp32 numbers 2^23 and 2^39 more.
    """

    def __init__(self, k: Context) -> None:
        super().__init__(k)
        self.low, self.high = (spread_wide(k, k.scalar(bits, "magic"), "magic") for bits in (MAGIC_LOW, MAGIC_HIGH))
        self.more = k.constant_bm(f32x16(2.0**39 + 2.0**31 + 2.0**23), "more")
        self.none = no_shift(k)
        self.even, self.odd = (k.scalar(mode, "mode_half") for mode in (SHUFFLE_EVEN_16, SHUFFLE_ODD_16))

    def _halves(self) -> list[Reg]:
        return [self.k.b.x("whole") for _ in range(2)]

    def _load(self, half: Reg, pointer: Reg) -> None:
        self.k.load_x(half, pointer, "o", carried=False, bank="o")

    def _numbers(self, halves: list[Reg]) -> list[Reg]:
        k, numbers = self.k, []
        lower = self._patterns(halves, self.even, isa.VUPS_S32_D16_mv_ups_x2c, self.low)
        upper = self._patterns(halves, self.odd, isa.VUPS_S32_S16_mv_ups_x2c, self.high)
        for low, high in zip((lower.lo, lower.hi), (upper.lo, upper.hi), strict=True):
            rest, number = k.b.bm("number_rest"), k.b.bm("number")
            k.subtract(rest, high, self.more)
            k.add(number, rest, low)
            numbers.append(number)
        return numbers

    def _patterns(self, halves: list[Reg], mode: Reg, spread: Constructor, magic: Reg) -> Reg:
        """Every other 16 bits, spread to 32, added to the magic number's."""
        b = self.k.b
        bits, wide, pattern = b.x("half_bits"), b.cm("half_wide"), b.cm("half_pattern")
        b.add(isa.VSHUFFLE(bits, halves[0], halves[1], mode))
        b.add(spread(wide, bits, self.none))
        b.add(isa.VADD(pattern, wide, magic, self.k.registers["zero"]))
        return pattern


def _factor(k: Context) -> Reg:
    """[high | low] of the head's output factor."""
    x, high, low = k.zero_x("factor"), k.b.x("factor_high"), k.b.x("factor_low")
    word = head_word(k, HeadWord.OUTPUT)
    k.b.add(isa.VBCST_16(high, word))
    k.b.add(isa.VBCST_16(low, k.shifted(word, -16, signed=False)))
    k.b.add(isa.VBAND(high, high, k.constant_x(b"\xff" * HALF + bytes(HALF), "low_half")))
    k.b.add(isa.VBAND(low, low, k.constant_x(bytes(HALF) + b"\xff" * HALF, "high_half")))
    k.b.add(isa.VBOR(x, high, low))
    return x


def _scaled(k: Context, inverse: tuple[Reg, Reg], factor: Reg, take_low: Reg) -> tuple[Reg, Reg]:
    """[rh | rh], [rl | 0] times the factor, in the same form."""
    high, low = inverse
    product, rest = k.b.bm("scaled"), k.b.bm("scaled_rest")
    k.multiply(isa.VMUL_F_vmac_bm_core_dense, product, high, factor)
    k.multiply(isa.VMAC_F_vmac_bm_core_dense, product, product, low, factor)
    above, below = k.b.x("scaled_high"), k.zero_x("scaled_low")
    k.to_bf16(above.lo, product)
    k.to_bf16(above.hi, product)
    k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, product, above, take_low)
    k.to_bf16(below.lo, rest)
    return above, below


class _Integers:
    """Constants before the loop over tiles, `store` in it."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.magic = k.constant_bm(f32x16(MAGIC_23), "magic_23")
        self.bits = spread_wide(k, k.scalar(MAGIC_23_BITS, "magic_bits"), "magic_bits")
        self.none = k.b.s("no_shift")
        k.b.constant(self.none, 0)

    def store(self, quotients: list[Reg], store: Reg) -> None:
        """Two registers of fp32 numbers as 32 integers; the pointer moves on."""
        k, b = self.k, self.k.b
        shown, counted = b.cm("shown"), b.cm("counted")
        for half, one in zip((shown.lo, shown.hi), quotients, strict=True):
            k.add(half, one, self.magic)
        b.add(isa.VSUB(counted, shown, self.bits, k.registers["zero"]))
        b.add(isa.VST_SRS_S8_S32_ag_pstm_nrm_imm(counted, self.none, store, HALF), region="o", carried=False, bank="o")
