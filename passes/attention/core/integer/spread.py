"""A number in all lanes of a vector, and numbers by query in the lanes of O's rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from npuc.passes.attention.core.context import Context
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
    """16-bit numbers by query, of so many octets beside each other, to rows of O: eight lanes a query."""

    def __init__(self, k: Context, size: int = 1) -> None:
        self.k, self.size = k, size
        self.modes = [k.scalar(mode, "mode_spread") for mode in (INTERLEAVE_16_LOW, INTERLEAVE_16_HIGH)]

    def rows(self, x: Reg) -> tuple[Reg, ...]:
        """Of the first octet: queries 0 to 3 and 4 to 7."""
        return next(self.octets(x))

    def octets(self, x: Reg) -> Iterator[tuple[Reg, ...]]:
        """The same of every octet, in registers that later ones take again."""
        b = self.k.b
        pair, octet = b.x("spread_pair"), b.x("spread_octet")
        rows = b.x("rows_low"), b.x("rows_high")
        for of_pair in self.modes[: max(1, self.size // 2)]:
            b.add(isa.VSHUFFLE(pair, x, x, of_pair))
            for of_octet in self.modes[: min(2, self.size)]:
                b.add(isa.VSHUFFLE(octet, pair, pair, of_octet))
                for group, of_group in zip(rows, self.modes, strict=True):
                    b.add(isa.VSHUFFLE(group, octet, octet, of_group))
                yield rows
