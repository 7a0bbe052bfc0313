"""Bundle formats: which slots share a bundle of which size, and where they lie (facts/isa/aie2_formats.json).

A bundle is a little-endian integer; a line of `TABLE` reads from its most significant bit to bit 0: slots by name
(their widths are in `SLOTS`) and fixed bits.  The order of slots is also the order in which they are printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

SLOTS: dict[str, int] = {"lda": 21, "ldb": 16, "alu": 20, "mv": 22, "lng": 42, "st": 21, "vec": 26, "nop": 1}
"""Slot -> bits of its word."""

NOPS: dict[str, str] = {
    "lda": "NOPA",
    "ldb": "NOPB",
    "alu": "NOPX",
    "mv": "NOPM",
    "lng": "NOPXM",
    "st": "NOPS",
    "vec": "NOPV",
    "nop": "NOP",
}
"""Slot -> the instruction that fills it when there is nothing to do."""

TABLE = """
I16_NOP                    | nop 000000000000001
I32_VEC                    | vec 001001
I32_LDA                    | 00000 lda 011001
I32_ST                     | 00001 st 011001
I32_ALU                    | 00010 alu 0011001
I32_MV                     | 00011 mv 11001
I32_LDB                    | 00111 ldb 00000011001
I48_LDB_MV                 | 00000 ldb mv 00101
I48_LDB_ST                 | 00001 ldb st 000101
I48_LDB_ALU                | 00010 ldb alu 0000101
I48_LDA_MV                 | lda mv 01101
I48_LNG                    | lng 010101
I48_LDA_ST                 | lda st 110101
I48_LDA_ALU                | lda alu 0011101
I48_ST_ALU                 | st alu 0111101
I48_LDA_LDB                | lda ldb 00001111101
I64_ST_MV                  | st 000000000 mv 000000000011
I64_NOP_LNG                | nop 000000000 lng 000001000011
I64_ALU_MV                 | 0000000000 alu mv 100001000011
I64_LDA_LDB_ALU            | lda ldb alu 0010011
I64_ST_LDB_ALU             | st ldb alu 1010011
I64_LDB_VEC                | 00000 ldb 00000000000 vec 100011
I64_LDA_VEC                | lda 00000000100 vec 100011
I64_ALU_VEC                | 0000000000 alu 01 vec 100011
I64_ST_VEC                 | st 00000000010 vec 100011
I64_MV_VEC                 | 00000 mv 00110 vec 100011
I64_LDA_LDB_ST             | lda ldb st 110011
I80_ST_LDB_VEC             | st ldb 00000000001 vec 001011
I80_LDA_MV_VEC             | lda mv 00010 vec 001011
I80_ST_MV_VEC              | st mv 00100 vec 001011
I80_LDB_MV_VEC             | 00000 ldb mv 00110 vec 001011
I80_LDA_ST_VEC             | lda st 001001 vec 001011
I80_LDA_LDB_VEC            | lda ldb 00000011101 vec 001011
I80_LNG_VEC                | 00000 lng 0 vec 011011
I80_ALU_MV_VEC             | 00000 alu mv 1 vec 011011
I80_LDA_ALU_VEC            | lda 00000 alu 00 vec 101011
I80_ST_ALU_VEC             | st 00000 alu 01 vec 101011
I80_LDB_ALU_VEC            | 00000 ldb 00000 alu 10 vec 101011
I80_LDB_LNG                | 00000 ldb 00000 lng 000000111011
I80_LDA_LNG                | lda 00000 lng 000010111011
I80_ST_LNG                 | st 00000 lng 000100111011
I80_LDA_ST_MV              | lda st 0000 mv 001010111011
I80_ST_LDB_MV              | st ldb 000000000 mv 011010111011
I80_LDB_ALU_MV             | 00000 ldb 00000 alu mv 100000111011
I80_LDA_ALU_MV             | lda 00000 alu mv 100010111011
I80_ST_ALU_MV              | st 00000 alu mv 100100111011
I80_LDA_LDB_MV             | lda ldb 000000000 mv 111010111011
I80_LDA_ST_ALU             | lda st 00000000000 alu 1111011
I96_LDA_LNG_VEC            | lda lng 0 vec 000111
I96_LDA_ALU_MV_VEC         | lda alu mv 1 vec 000111
I96_ST_LNG_VEC             | st lng 0 vec 010111
I96_ST_ALU_MV_VEC          | st alu mv 1 vec 010111
I96_LDA_ST_ALU_VEC         | lda st alu 00 vec 100111
I96_ST_LDB_ALU_VEC         | st ldb 00000 alu 01 vec 100111
I96_LDA_LDB_MV_VEC         | lda ldb mv 00010 vec 100111
I96_ST_LDB_MV_VEC          | st ldb mv 00110 vec 100111
I96_LDB_LNG_VEC            | ldb 0 lng 01010 vec 100111
I96_LDA_LDB_ST_VEC         | lda ldb st 001110 vec 100111
I96_LDB_ALU_MV_VEC         | ldb 0 alu mv 11010 vec 100111
I96_LDA_LDB_ALU_VEC        | lda ldb 00000 alu 11 vec 100111
I96_ST_LDB_LNG             | st ldb 00000 lng 000000110111
I96_LDA_ST_LNG             | lda st lng 000001110111
I96_LDA_LDB_LNG            | lda ldb 00000 lng 000010110111
I96_LDA_LDB_ST_MV          | lda ldb st 0000 mv 000011110111
I96_LDA_LDB_ALU_ST         | lda ldb 00000 alu st 0000100110111
I96_ST_LDB_ALU_MV          | st ldb 00000 alu mv 100000110111
I96_LDA_ST_ALU_MV          | lda st alu mv 100001110111
I96_LDA_LDB_ALU_MV         | lda ldb 00000 alu mv 100010110111
I112_LDA_LDB_LNG_VEC       | lda ldb lng 0 vec 001111
I112_LDA_LDB_ALU_MV_VEC    | lda ldb alu mv 1 vec 001111
I112_ST_LDB_LNG_VEC        | st ldb lng 0 vec 011111
I112_ST_LDB_ALU_MV_VEC     | st ldb alu mv 1 vec 011111
I112_LDA_LDB_ALU_ST_VEC    | lda ldb alu 00 st vec 101111
I112_LDA_ST_MV_VEC         | lda st 0000000000000001 mv vec 101111
I112_LDA_LDB_LNG_ST        | lda ldb lng 0 st 00001111111
I112_LDA_LDB_ALU_MV_ST     | lda ldb alu mv 1 st 00001111111
I128_LDB_LDA_ST_LNG_VEC    | ldb lda st lng 0 vec 0
I128_LDB_LDA_ST_ALU_MV_VEC | ldb lda st alu mv 1 vec 0
"""


class Place(NamedTuple):
    """Where a slot lies in a bundle."""

    slot: str
    lsb: int
    bits: int


@dataclass(frozen=True, eq=False)
class Format:
    """One layout: `size` bytes, fixed bits (`mask`, `value`) and the places of its slots in printing order."""

    name: str
    size: int
    mask: int
    value: int
    places: tuple[Place, ...]
    slots: frozenset[str]


def _format(line: str) -> Format:
    name, layout = (part.strip() for part in line.split("|"))
    places: list[Place] = []
    mask = value = position = 0
    for item in reversed(layout.split()):
        if item in SLOTS:
            places.append(Place(item, position, SLOTS[item]))
            position += SLOTS[item]
        else:
            mask |= ((1 << len(item)) - 1) << position
            value |= int(item, 2) << position
            position += len(item)
    assert position % 16 == 0, name
    return Format(name, position // 8, mask, value, tuple(reversed(places)), frozenset(p.slot for p in places))


FORMATS: tuple[Format, ...] = tuple(_format(line) for line in TABLE.strip().splitlines())
SIZES: tuple[int, ...] = (2, 4, 6, 8, 10, 12, 14, 16)

_SIZE_BY_NIBBLE = {0b0001: 2, 0b1001: 4, 0b0101: 6, 0b1101: 6, 0b0011: 8, 0b1011: 10, 0b0111: 12, 0b1111: 14}


SIZE_BY_BYTE: tuple[int, ...] = tuple(_SIZE_BY_NIBBLE.get(byte & 15, 16) for byte in range(256))
"""First byte of a bundle -> bytes of it: the low nibble tells."""


def bundle_size(first_byte: int) -> int:
    """Bytes of the bundle that begins with this byte."""
    return SIZE_BY_BYTE[first_byte]
