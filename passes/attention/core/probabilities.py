"""P = 2^(c U), tile by tile as the scores lie (key by query): in bf16, or as a sum of two bf16 numbers.

Two 4x4 tiles (eight keys, four queries) a pass.  U is split in two bf16 parts, so that the factor
c = scale * log2(e) is applied with about 16 bits and never folded into Q; t = c U is split in an integer, which goes to
the exponent, and a fraction, whose power of two is the mantissa (`mantissas`).  P overwrites the scores: pass n writes
where pass n // 2 has read; in two parts, side by side, where it has read itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import Context, bf16_pair, f32x16
from npuc.passes.attention.core.mantissas import MANTISSAS, CubicInParts, Mantissa
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg, Register

MAGIC_23 = 1.5 * 2.0**23  # adding it rounds to integers (facts/semantics/exp_softmax.md section 1)
MAGIC_16 = 1.5 * 2.0**16  # adding it leaves seven fraction bits (the same section)
LOWEST_EXPONENT = -127.0
"""2^t with this t is the bf16 pattern of 1, less 127 exponent steps: exactly zero.  Just above it bf16 is subnormal."""
FP32_FIELD = 16  # places by which what is added to bf16 patterns moves up in those of fp32


class _Exponents:
    """Splits exponents, two tiles at a time: made before the loop over them (its constants)."""

    def __init__(self, k: Context) -> None:
        self.k = k
        self.lowest = k.constant_x(f32x16(LOWEST_EXPONENT), "lowest")
        self.magic_23 = k.constant_bm(f32x16(MAGIC_23), "magic_23")
        self.magic_16 = k.constant_bm(f32x16(MAGIC_16), "magic_16")
        self.shift = k.b.s("no_shift")
        k.b.constant(self.shift, 0)

    def fraction(self, t: Reg, exponent: Register) -> Reg:
        """The fraction of t in [-1/2, 1/2], and in `exponent` its integer as k * 128 in the low 16 bits."""
        k, b = self.k, self.k.b
        # As unsigned numbers larger patterns are more negative.
        raw, clamped, bounded = b.x("t_bits"), b.x("t_clamped"), b.bm("t_bounded")
        k.move(raw, t)
        b.add(isa.VMIN_GE_D32(clamped, b.r("mask"), raw, self.lowest))
        k.move(bounded, clamped)
        shifted, whole, f = b.bm("t_shifted"), b.bm("t_whole"), b.bm("t_fraction")
        k.add(shifted, bounded, self.magic_23)
        k.subtract(whole, shifted, self.magic_23)
        k.subtract(f, bounded, whole)
        k.add(exponent, whole, self.magic_16)
        return f

    def steps(self, exponent: Register) -> Reg:
        """What the integers of two tiles add to the patterns of bf16 numbers."""
        steps = self.k.b.x("steps")
        self.k.b.add(isa.VSRS_S16_S32_mv_x_srs(steps, exponent, self.shift))
        return steps


class Powers(_Exponents):
    """2^t in bf16 for pairs of tiles; exactly zero below LOWEST_EXPONENT.

    t <= 0 but for less than the threshold at which the reference moves.
    """

    def __init__(self, k: Context, recipe: type[Mantissa]) -> None:
        super().__init__(k)
        self.mantissas = recipe(k, 2)

    def of(self, ts: Sequence[Reg]) -> list[Reg]:
        """The powers of two tiles of fp32 numbers, side by side in one x register."""
        b = self.k.b
        mantissa, exponent, p = b.x("mantissa"), b.cm("exponent"), b.x("p")
        for i, (half, place) in enumerate(((mantissa.lo, exponent.lo), (mantissa.hi, exponent.hi))):
            self.mantissas.power(i, self.fraction(ts[i], place), half)
        b.add(isa.VADD_16(p, mantissa, self.steps(exponent)))
        return [p]


class WidePowers(_Exponents):
    """The same in fp32, by CubicInParts (largest error 5.8e-4, rms 1.1e-4)."""

    def __init__(self, k: Context) -> None:
        super().__init__(k)
        self.mantissas = CubicInParts(k, 2)
        self.field = k.b.s("fp32_field")
        k.b.constant(self.field, FP32_FIELD)

    def of(self, ts: Sequence[Reg]) -> list[Reg]:
        """The powers of two tiles of fp32 numbers, an x register each."""
        k, b = self.k, self.k.b
        exponent, fields = b.cm("exponent"), b.cm("exponent_fields")
        values = [
            self.mantissas.value(self.fraction(t, place))
            for t, place in zip(ts, (exponent.lo, exponent.hi), strict=True)
        ]
        b.add(isa.VUPS_S32_S16_mv_ups_x2c(fields, self.steps(exponent), self.field))
        powers = []
        for value, field in zip(values, (fields.lo, fields.hi), strict=True):
            bits, steps, power = b.x("value_bits"), b.x("value_steps"), b.x("power")
            k.move(bits, value)
            k.move(steps, field)
            b.add(isa.VADD_32(power, bits, steps))
            powers.append(power)
        return powers


def exponentiate(k: Context) -> None:
    """All scores of the block to probabilities, tile pair by tile pair."""
    b, shape = k.b, k.shape
    split, factor = call_x(k, "split"), call_x(k, "factor_high")
    recipe, pairs = MANTISSAS[shape.recipe], shape.groups * shape.key_tiles // 2
    powers = WidePowers(k) if shape.probability_parts > 1 else Powers(k, recipe)
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    with b.hardware_loop(pairs, "probabilities", max_stages=recipe.stages):
        ts = []
        for _ in range(2):
            u = b.bm("u")
            k.load_bm(u, load, "scores", carried=False)
            ts.append(k.scale(u, split, factor, "t"))
        for p in powers.of(ts):
            k.store_x(p, store, "scores", carried=False)
    if shape.probability_parts > 1:
        _in_parts(k, pairs)


def _in_parts(k: Context, pairs: int) -> None:
    """Two tiles of fp32 numbers to their bf16 values side by side and, behind them, what these leave."""
    b = k.b
    load, store = k.pointer("scores", name="p_power"), k.pointer("scores", name="p_parts")
    own = [k.constant_x(bf16_pair(*ones), f"own_half{i}") for i, ones in enumerate(((1.0, 0.0), (0.0, 1.0)))]
    with b.hardware_loop(pairs, "probability_parts"):
        powers, high, low = [b.bm("power0"), b.bm("power1")], b.x("p_high"), b.x("p_low")
        for power, half in zip(powers, (high.lo, high.hi), strict=True):
            k.load_bm(power, load, "scores", carried=False)
            k.to_bf16(half, power)
        for power, ones, half in zip(powers, own, (low.lo, low.hi), strict=True):
            rest = b.bm("p_rest")
            k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, power, high, ones)
            k.to_bf16(half, rest)
        for part in (high, low):
            k.store_x(part, store, "scores", carried=False)
