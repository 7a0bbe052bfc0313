"""2^f for f in [-1/2, 1/2], to bf16: what a recipe makes probabilities of (facts/semantics/exp_softmax.md section 2),
where scores are kept in fp32: by recipe accurate, and with a softcap or mask by all (else `fixed_probabilities`).

A class a recipe, made before the loop over the tiles (constants, and registers that hold a finite upper half from the
start), `power` in it.  Errors are those of the fact sheet, relative to the exact power.
"""

from __future__ import annotations

import struct
from typing import ClassVar, Protocol

from npuc.passes.attention.core.context import HALF, Context, bf16_bits, bf16_pair, f32x16
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg, Register


def _fp32(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


class Mantissa(Protocol):
    """Made of (context, how many tiles a pass has).  stages: passes that may overlap, as far as registers reach."""

    stages: ClassVar[int | None]

    def __init__(self, k: Context, tiles: int) -> None: ...

    def power(self, tile: int, f: Reg, result: Register) -> None:
        """result (16 bf16 lanes) = 2^f for the `tile`-th tile of the pass."""


class Quadratic:
    """Recipe B in Horner form: C0 + 2 f q with q = (C1 + f C2) / 2, f and q in one register, so that the register times
    itself with halves swapped gives the sum.  Largest error 5.4e-3, rms 2.05e-3."""

    stages: ClassVar[int | None] = None
    C0, C1, C2 = _fp32(0x3F800E85), _fp32(0x3F340000), _fp32(0x3E740000)

    def __init__(self, k: Context, tiles: int) -> None:
        self.k = k
        self.c2 = k.constant_x(bf16_pair(self.C2 / 2, 0.0), "c2")
        self.c0 = k.constant_bm(f32x16(self.C0), "c0")
        self.c1 = k.constant_bm(f32x16(self.C1 / 2), "c1")
        self.turn = k.scalar(HALF, "swap_halves")
        # [f | q]: the upper half only has to be finite when the lower one is multiplied.
        self.powers = [k.zero_x(f"fq{i}") for i in range(tiles)]

    def power(self, tile: int, f: Reg, result: Register) -> None:
        k, b, power = self.k, self.k.b, self.powers[tile]
        linear, value, swapped = b.bm("linear"), b.bm("value"), b.x("qf")
        k.to_bf16(power.lo, f)
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, linear, self.c1, power, self.c2)
        k.to_bf16(power.hi, linear)
        b.add(isa.VSHIFT(swapped, power, power, self.turn))
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, value, self.c0, power, swapped)  # f q + q f
        k.to_bf16(result, value)


class CubicInParts:
    """Recipe A: 1 + [fh | fl] [h | h] + [fh | f2] [l | q] with q = C2 + fh C3, where f = fh + fl, f2 = fh fh and
    C1 = h + l.  Largest error 3.89e-3, as good as correct rounding; of the fp32 value before it 5.8e-4, rms 1.1e-4."""

    stages: ClassVar[int | None] = 3
    HIGH, LOW, C3 = _fp32(0x3F310000), _fp32(0x3AEB0000), _fp32(0x3D620000)
    C2 = _fp32(0x3E77CED9)

    def __init__(self, k: Context, tiles: int) -> None:
        self.k = k
        self.one = k.constant_bm(f32x16(1.0), "one_fp32")
        self.c2 = k.constant_bm(f32x16(self.C2), "c2")
        self.high = self._word(self.HIGH, "high")
        self.third = k.constant_x(bf16_pair(self.C3, 0.0), "c3")
        self.take_low = k.constant_x(bf16_pair(1.0, 0.0), "take_low")
        # One set for all tiles, as registers are few: [fh | fl], [fh | 0], [l | q].
        self.parts, self.fraction, self.lower = k.zero_x("f_parts"), k.zero_x("f_high"), k.b.x("lq")
        k.b.add(isa.VBCST_32(self.lower, self._word(self.LOW, "low")))

    def _word(self, value: float, name: str) -> Reg:
        return self.k.scalar(bf16_bits(value) * 0x10001, name)

    def power(self, tile: int, f: Reg, result: Register) -> None:
        self.k.to_bf16(result, self.value(f))

    def value(self, f: Reg) -> Reg:
        """2^f in fp32."""
        k, b = self.k, self.k.b
        rest, square, slope, value = (b.bm(name) for name in ("f_rest", "f_square", "slope", "value"))
        squares, high = b.x("f_and_square"), b.x("high")
        k.to_bf16(self.fraction.lo, f)
        k.multiply(isa.VMSC_F_vmac_bm_core_dense, rest, f, self.fraction, self.take_low)
        k.multiply(isa.VMUL_F_vmac_bm_core_dense, square, self.fraction, self.fraction)
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, slope, self.c2, self.fraction, self.third)
        k.to_bf16(self.parts.lo, f)
        k.to_bf16(self.parts.hi, rest)
        k.to_bf16(squares.lo, f)
        k.to_bf16(squares.hi, square)
        k.to_bf16(self.lower.hi, slope)
        b.add(isa.VBCST_32(high, self.high))
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, value, self.one, self.parts, high)
        k.multiply(isa.VMAC_F_vmac_bm_core_dense, value, value, squares, self.lower)
        return value


MANTISSAS: dict[str, type[Mantissa]] = {"fast": Quadratic, "balanced": Quadratic, "accurate": CubicInParts}
