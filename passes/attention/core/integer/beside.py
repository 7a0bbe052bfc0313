"""Octets of queries beside each other in a register of 32 lanes: 16-bit numbers of up to four of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuc.passes.attention.core.context import SHUFFLE_HIGH_HALVES, SHUFFLE_LOW_HALVES, Context
from npuc.passes.attention.core.integer.shape import RECORD, IntegerShape
from npuc.passes.machine import instructions as isa
from npuc.passes.machine.ir import Reg

INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH = 12, 13  # vshuffle modes: of 128 bits


def group_size(shape: IntegerShape) -> int:
    """Octets whose numbers lie beside each other."""
    return shape.octets_at_once(4)


class Beside:
    """Octets beside each other in a register, as often as they fit, and each by itself, four times.

    Rows are eight lanes of 16 bits: of an octet by itself those of four keys.
    """

    def __init__(self, k: Context, size: int) -> None:
        self.k, self.size = k, size

    def largest(self, octets: Sequence[Reg]) -> Reg:
        """Of all rows of each: rows of two octets by turns, then of all."""
        modes = self._modes(INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH)
        pairs = [self._larger(a, b, *modes) for a, b in _pairs(octets)]
        return self._larger(pairs[0], pairs[-1], *self._modes(SHUFFLE_LOW_HALVES, SHUFFLE_HIGH_HALVES))

    def together(self, octets: Sequence[Reg]) -> Reg:
        """Of octets whose rows are all alike."""
        rows, halves = self._modes(INTERLEAVE_ROWS_LOW, SHUFFLE_LOW_HALVES)
        pairs = [self._shuffled(a, b, rows) for a, b in _pairs(octets)]
        return self._shuffled(pairs[0], pairs[-1], halves)

    def apart(self, x: Reg) -> Iterator[Reg]:
        """Each octet by itself, in registers that later ones take again."""
        if self.size == 1:
            yield x
            return
        modes = self._modes(INTERLEAVE_ROWS_LOW, INTERLEAVE_ROWS_HIGH)
        pair, octets = self.k.b.x("pair"), [self.k.b.x("octet_apart") for _ in modes]
        for of_pair in modes[: self.size // 2]:
            self.k.b.add(isa.VSHUFFLE(pair, x, x, of_pair))
            for octet, of_octet in zip(octets, modes, strict=True):
                self.k.b.add(isa.VSHUFFLE(octet, pair, pair, of_octet))
                yield octet

    def _modes(self, *modes: int) -> list[Reg]:
        """In registers that are not held longer than a step needs them."""
        return [self.k.scalar(mode, "mode_rows") for mode in modes]

    def _shuffled(self, a: Reg, b: Reg, mode: Reg) -> Reg:
        x = self.k.b.x("octets")
        self.k.b.add(isa.VSHUFFLE(x, a, b, mode))
        return x

    def _larger(self, a: Reg, b: Reg, *modes: Reg) -> Reg:
        larger = self.k.b.x("largest")
        self.k.b.add(isa.VMAX_LT_S16(larger, self.k.b.r("mask"), *(self._shuffled(a, b, mode) for mode in modes)))
        return larger


def _pairs(octets: Sequence[Reg]) -> list[tuple[Reg, Reg]]:
    """Of octets that follow each other; one alone with itself."""
    return list(zip(octets[::2], octets[1::2] or octets, strict=True))


def records_apart(k: Context, shape: IntegerShape, places: Sequence[int]) -> None:
    """Numbers of octets beside each other, at some places of a record, to the octets' own records."""
    b, size = k.b, group_size(shape)
    if size > 1:
        beside, state, on = Beside(k, size), k.pointer("state", name="p_apart"), b.m("record_on")
        b.constant(on, RECORD)
        with b.hardware_loop(shape.octets // size, "records_apart"):
            numbers = []
            for place in places:
                x = b.x("beside")
                k.load_at(x, state, place, "records")
                numbers.append(beside.apart(x))
            for octet in zip(*numbers, strict=True):
                for x, place in zip(octet, places, strict=True):
                    k.store_at(x, state, place, "records")
                b.add(isa.PADDA_lda_ptr_inc_idx(state, on))


def records_together(k: Context, shape: IntegerShape, places: Sequence[int]) -> None:
    """Such numbers out of the octets' own records beside each other, to the first record of each group."""
    b, size = k.b, group_size(shape)
    if size > 1:
        beside, load, store = Beside(k, size), k.pointer("state", name="p_apart"), k.pointer("state", name="p_beside")
        on = b.m("records_on")
        b.constant(on, RECORD)
        with b.hardware_loop(shape.octets // size, "records_together"):
            numbers: list[list[Reg]] = [[] for _ in places]
            for _ in range(size):
                for octets, place in zip(numbers, places, strict=True):
                    octets.append(b.x("octet"))
                    k.load_at(octets[-1], load, place, "records")
                b.add(isa.PADDA_lda_ptr_inc_idx(load, on))
            for octets, place in zip(numbers, places, strict=True):
                k.store_at(beside.together(octets), store, place, "records")
            for _ in range(size):
                b.add(isa.PADDA_lda_ptr_inc_idx(store, on))
