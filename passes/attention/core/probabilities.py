"""P = 2^(c U) in bf16, tile by tile as the scores lie (key by query).

Two 4x4 tiles (eight keys, four queries) a pass.  U is split in two bf16 parts, so that the factor
c = scale * log2(e) is applied with about 16 bits and never folded into Q; t = c U is split in an integer, which goes to
the exponent, and a fraction, whose power of two is the mantissa (`mantissas`).  P overwrites the scores: pass n writes
where pass n // 2 has read.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.passes.attention.core.call_constants import call_x
from npuc.passes.attention.core.context import Context, f32x16
from npuc.passes.attention.core.mantissas import MANTISSAS, Mantissa
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg, Register

MAGIC_23 = 1.5 * 2.0**23  # adding it rounds to integers (facts/semantics/exp_softmax.md section 1)
MAGIC_16 = 1.5 * 2.0**16  # adding it leaves seven fraction bits (the same section)
LOWEST_EXPONENT = -127.0
"""2^t with this t is the bf16 pattern of 1, less 127 exponent steps: exactly zero.  Just above it bf16 is subnormal."""


class Powers:
    """2^t in bf16 for pairs of tiles: made before the loop over them (its constants), `of` in it."""

    def __init__(self, k: Context, recipe: type[Mantissa]) -> None:
        self.k = k
        self.lowest = k.constant_x(f32x16(LOWEST_EXPONENT), "lowest")
        self.magic_23 = k.constant_bm(f32x16(MAGIC_23), "magic_23")
        self.magic_16 = k.constant_bm(f32x16(MAGIC_16), "magic_16")
        self.mantissas = recipe(k, 2)
        self.shift = k.b.s("no_shift")
        k.b.constant(self.shift, 0)

    def of(self, ts: Sequence[Reg]) -> Reg:
        """The powers of two tiles of fp32 numbers, as bf16 side by side; exactly zero below LOWEST_EXPONENT.

        t <= 0 but for less than the threshold at which the reference moves.
        """
        b = self.k.b
        mantissa, exponent, steps, p = b.x("mantissa"), b.cm("exponent"), b.x("steps"), b.x("p")
        for i, (half, place) in enumerate(((mantissa.lo, exponent.lo), (mantissa.hi, exponent.hi))):
            self.mantissas.power(i, self._fraction(ts[i], place), half)
        b.add(isa.VSRS_S16_S32_mv_x_srs(steps, exponent, self.shift))
        b.add(isa.VADD_16(p, mantissa, steps))
        return p

    def _fraction(self, t: Reg, exponent: Register) -> Reg:
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


def exponentiate(k: Context) -> None:
    """All scores of the block to probabilities, tile pair by tile pair."""
    b, shape = k.b, k.shape
    split, factor = call_x(k, "split"), call_x(k, "factor_high")
    recipe = MANTISSAS[shape.recipe]
    powers = Powers(k, recipe)
    load, store = k.pointer("scores", name="p_u"), k.pointer("scores", name="p_p")
    with b.hardware_loop(shape.groups * shape.key_tiles // 2, "probabilities", max_stages=recipe.stages):
        ts = []
        for _ in range(2):
            u = b.bm("u")
            k.load_bm(u, load, "scores", carried=False)
            ts.append(k.scale(u, split, factor, "t"))
        k.store_x(powers.of(ts), store, "scores", carried=False)
