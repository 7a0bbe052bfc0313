"""Relocations of AIE2 objects: which bits of a bundle become the value of a symbol (facts/isa/aie2_relocations.json).

A line of `TABLE` reads: number of the type (its name is `R_AIE2_number`), bytes of the bundle, slot and kind of the
immediate it patches, and the bits of the bundle that take the value, its most significant bits first.  The offset of a
relocation record is that of the bundle.  Type 50 patches a word of data memory (public llvm-aie writes it for `.word`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from npuc.compiler.target.aie2.formats import Format
from npuc.compiler.target.aie2.instructions import Operand, rows

TABLE = """
# type | bytes | slot | immediate | bits
   0   |    16 | lng  | address   | 64:45
   1   |     6 | lng  | address   | 42:23
   2   |     8 | lng  | address   | 48:29
   3   |    10 | lng  | address   | 48:29
   4   |    10 | lng  | address   | 69:50
   5   |    12 | lng  | address   | 48:29
   6   |    12 | lng  | address   | 69:50
   7   |    12 | lng  | address   | 73:54
   8   |    14 | lng  | address   | 69:50
   9   |    16 | lda  | s11       | 111:101
  10   |     4 | lda  | s11       | 26:16
  11   |     6 | lda  | s11       | 47:37
  12   |     8 | lda  | s11       | 63:53
  13   |    10 | lda  | s11       | 79:69
  14   |    12 | lda  | s11       | 95:85
  15   |    14 | lda  | s11       | 111:101
  16   |    16 | alu  | s11       | 69:65 58:53
  17   |     4 | alu  | s11       | 26:22 15:10
  18   |     6 | alu  | s11       | 26:22 15:10
  19   |     8 | alu  | s11       | 53:49 42:37
  20   |     8 | alu  | s11       | 26:22 15:10
  21   |    10 | alu  | s11       | 26:22 15:10
  22   |    10 | alu  | s11       | 53:49 42:37
  23   |    10 | alu  | s11       | 74:70 63:58
  24   |    12 | alu  | s11       | 53:49 42:37
  25   |    12 | alu  | s11       | 74:70 63:58
  26   |    12 | alu  | s11       | 78:74 67:62
  27   |    14 | alu  | s11       | 74:70 63:58
  28   |    16 | mv   | s10       | 42:34 31:31
  29   |     4 | mv   | s10       | 19:11 8:8
  30   |     6 | mv   | s10       | 19:11 8:8
  31   |     8 | mv   | s10       | 26:18 15:15
  32   |     8 | mv   | s10       | 51:43 40:40
  33   |    10 | mv   | s10       | 26:18 15:15
  34   |    10 | mv   | s10       | 51:43 40:40
  35   |    10 | mv   | s10       | 47:39 36:36
  36   |    12 | mv   | s10       | 26:18 15:15
  37   |    12 | mv   | s10       | 51:43 40:40
  38   |    12 | mv   | s10       | 47:39 36:36
  39   |    14 | mv   | s10       | 46:38 35:35
  40   |    14 | mv   | s10       | 47:39 36:36
  41   |    16 | lng  | s32       | 69:50 42:31
  42   |     6 | lng  | s32       | 47:28 20:9
  43   |     8 | lng  | s32       | 53:34 26:15
  44   |    10 | lng  | s32       | 53:34 26:15
  45   |    10 | lng  | s32       | 74:55 47:36
  46   |    12 | lng  | s32       | 53:34 26:15
  47   |    12 | lng  | s32       | 74:55 47:36
  48   |    12 | lng  | s32       | 78:59 51:40
  49   |    14 | lng  | s32       | 74:55 47:36
  50   |     4 |      | word      | 31:0
"""


class Piece(NamedTuple):
    """Bits [value_lsb, value_lsb + bits) of the value lie at `lsb` of the bundle or word."""

    value_lsb: int
    lsb: int
    bits: int


@dataclass(frozen=True)
class RelocationType:
    """One type: it patches an immediate of kind `immediate` in bundles of `size` bytes; slot is '' for a data word."""

    number: int
    size: int
    slot: str
    immediate: str
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        return f"R_AIE2_{self.number}"

    @property
    def width(self) -> int:
        """Bits of the value."""
        return sum(piece.bits for piece in self.pieces)

    def read(self, word: int) -> int:
        """The unsigned value in a bundle or word."""
        return sum((word >> lsb & (1 << bits) - 1) << value_lsb for value_lsb, lsb, bits in self.pieces)

    def write(self, word: int, value: int) -> int:
        """The bundle or word with the value's low bits in place of what was there."""
        for value_lsb, lsb, bits in self.pieces:
            ones = (1 << bits) - 1
            word = word & ~(ones << lsb) | (value >> value_lsb & ones) << lsb
        return word


def _relocation(row: list[str]) -> RelocationType:
    number, size, slot, immediate, text = row
    pieces: list[Piece] = []
    for span in reversed(text.split()):
        high, low = map(int, span.split(":"))
        pieces.append(Piece(sum(p.bits for p in pieces), low, high - low + 1))
    return RelocationType(int(number), int(size), slot, immediate, tuple(pieces))


RELOCATIONS: dict[int, RelocationType] = {r.number: r for r in map(_relocation, rows(TABLE))}
"""Number -> type."""

DATA_WORD = RELOCATIONS[50]


@cache
def _by_place() -> dict[tuple[int, frozenset[Piece]], RelocationType]:
    return {(r.size, frozenset(r.pieces)): r for r in RELOCATIONS.values() if r.slot}


@cache
def relocation_type(form: Format, slot: str, operand: Operand) -> RelocationType | None:
    """The type that patches an immediate in a format; None when a symbol cannot stand for it."""
    lsb = next(place.lsb for place in form.places if place.slot == slot)
    pieces = frozenset(Piece(f.operand_lsb, lsb + f.slot_lsb, f.bits) for f in operand.fields)
    return _by_place().get((form.size, pieces))
