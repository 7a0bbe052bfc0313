"""A number in all lanes of a vector, and numbers by query in the lanes of O's rows."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import SHUFFLE_4X8_TO_8X4, Context
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH = 18, 19  # vshuffle modes


def spread_16(k: Context, value: int, name: str) -> Reg:
    return Spread(k, k.scalar(value, name)).x()


@dataclass(frozen=True)
class Spread:
    """A scalar that is wanted in all 16-bit lanes, where vector registers are few: spread at each use."""

    k: Context
    value: Reg

    def x(self) -> Reg:
        x = self.k.b.x("spread")
        self.k.b.add(isa.VBCST_16(x, self.value))
        return x


def spread_wide(k: Context, word: Reg, name: str) -> Reg:
    """A word in all lanes of a cm register."""
    x, cm = k.b.x(f"{name}_word"), k.b.cm(name)
    k.b.add(isa.VBCST_32(x, word))
    for half in (cm.lo, cm.hi):
        k.move(half, x)
    return cm


def no_shift(k: Context) -> Reg:
    s = k.b.s("no_shift")
    k.b.constant(s, 0)
    return s


class RowSpread:
    """16-bit numbers by query, in each eight lanes those of all eight, to the layout of O: eight lanes a query."""

    registers = 2

    def __init__(self, k: Context) -> None:
        self.k = k
        self.low, self.high = (k.scalar(mode, "mode_spread") for mode in (INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH))

    def rows(self, x: Reg) -> tuple[Reg, Reg]:
        """Of queries 0 to 3, and 4 to 7."""
        twice = self._doubled(x, self.low)
        four = self._doubled(twice, self.low)
        return self._doubled(four, self.low), self._doubled(four, self.high)

    def _doubled(self, x: Reg, mode: Reg) -> Reg:
        doubled = self.k.b.x("spread")
        self.k.b.add(isa.VSHUFFLE(doubled, x, x, mode))
        return doubled


class Turn:
    """The same numbers to four lanes a query."""

    registers = 1

    def __init__(self, k: Context) -> None:
        self.k, self.mode = k, k.scalar(SHUFFLE_4X8_TO_8X4, "mode_turn")

    def rows(self, x: Reg) -> tuple[Reg]:
        turned = self.k.b.x("turned")
        self.k.b.add(isa.VSHUFFLE(turned, x, x, self.mode))
        return (turned,)
