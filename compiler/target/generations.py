"""Other generations of the AI Engine: how files name them, and by what AIE2P's and AIE1's code is known.

Codes of TXN headers are those of the public AIE driver (facts/platform/txn.md has 3 and 4), flags of ELF files those of
the public AIE compiler.  npu2 is what compilers call the device that its driver calls npu4.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Generation:
    """name: of the device; architecture: of its cores; parts: processors that have it."""

    name: str
    architecture: str
    parts: str

    def __str__(self) -> str:
        return f"{self.name} ({self.architecture}: {self.parts})"


VERSAL = Generation("Versal AI Core", "AIE1", "first generation")
VERSAL_EDGE = Generation("Versal AI Edge", "AIE2", "AIE-ML")
NPU1 = Generation("npu1", "AIE2", "Phoenix, Hawk Point")
NPU2 = Generation("npu2", "AIE2P", "Strix, Krackan; npu4 to its driver")
VERSAL_2 = Generation("Versal AI Edge Gen 2", "AIE2PS", "AIE-ML v2")
AIE4 = Generation("a later NPU", "AIE4", "after Strix and Krackan")

BY_TXN_CODE = {1: VERSAL, 2: VERSAL_EDGE, 3: NPU1, 4: NPU2, 5: VERSAL_2, 8: NPU2, 9: NPU2}
"""Third byte of a TXN header -> generation."""
BY_ELF_FLAGS = {1: VERSAL, 2: NPU1, 3: NPU2}
"""e_flags of an ELF for the AIE -> generation; AIE2's is also that of the Versal parts."""
BY_CONTROL_CODE_ABI = {64: VERSAL_2, 70: VERSAL_2, 75: AIE4, 86: AIE4, 105: AIE4}
"""OS/ABI of a control-code ELF that is neither for npu1 nor for npu2 -> generation."""
COLUMNS = {"npu1": 5, "npu2": 8}
"""Physical columns of the array."""

# AIE2P's bundle formats as compiler/target/aie2/formats.py writes AIE2's, x: either bit.  From public compiler tables.
_AIE2P_SLOTS = {"lda": 20, "ldb": 17, "alu": 20, "mv": 22, "lng": 42, "st": 20, "vec": 26, "nop": 1}
_AIE2P_TABLE = """
I16_NOP                    | nop xxxxxxxxxxx0000
I32_LDA                    | 00000 lda 0011000
I32_LDB                    | 00111 ldb 0000011000
I32_ALU                    | 00010 alu 0011000
I32_MV                     | 00011 mv 11000
I32_ST                     | 00001 st 0011000
I32_VEC                    | vec 001000
I48_LDA_LDB                | lda ldb 00000111100
I48_LDA_ST                 | lda st 00001100
I48_LDA_ALU                | lda alu 00101100
I48_LDA_MV                 | lda mv 010100
I48_LDB_ST                 | ldb 000 st 01001100
I48_LDB_ALU                | ldb 000 alu 00011100
I48_LDB_MV                 | ldb 000 mv 110100
I48_LNG                    | lng 000100
I48_ALU_MV                 | alu mv 100100
I48_ST_ALU                 | st alu 01011100
I64_LDA_VEC                | lda 000000000100 vec 100010
I64_LDB_VEC                | 00000 ldb 0000000000 vec 100010
I64_ST_MV                  | st 0000000000 mv 000000000010
I64_ST_VEC                 | st 000000000010 vec 100010
I64_ALU_VEC                | 0000000000 alu 01 vec 100010
I64_MV_VEC                 | 00000 mv 00110 vec 100010
I64_LDA_LDB_ST             | lda ldb st 0110010
I64_LDA_LDB_ALU            | lda ldb alu 0010010
I64_ST_LDB_ALU             | st ldb alu 1010010
I80_LDA_LDB_MV             | lda 0 ldb 00000000 mv 111010111010
I80_LDA_LDB_VEC            | lda 0 ldb 0000011101 vec 001010
I80_LDA_ST_ALU             | lda 0 st 000000000000 alu 1111010
I80_LDA_ST_MV              | lda 0 st 00000 mv 001010111010
I80_LDA_ST_VEC             | lda 0 st 0001001 vec 001010
I80_LDA_LNG                | lda 000000 lng 000010111010
I80_LDA_ALU_MV             | lda 000000 alu mv 100010111010
I80_LDA_ALU_VEC            | lda 000000 alu 00 vec 101010
I80_LDA_MV_VEC             | lda 0 mv 00010 vec 001010
I80_ST_LDB_MV              | st 0 ldb 00000000 mv 011010111010
I80_ST_LDB_VEC             | st 0 ldb 0000000001 vec 001010
I80_LDB_LNG                | 0000 ldb 00000 lng 000000111010
I80_LDB_ALU_MV             | 0000 ldb 00000 alu mv 100000111010
I80_LDB_ALU_VEC            | 0000 ldb 00000 alu 10 vec 101010
I80_LDB_MV_VEC             | 0000 ldb mv 00110 vec 001010
I80_ST_LNG                 | st 000000 lng 000100111010
I80_ST_ALU_MV              | st 000000 alu mv 100100111010
I80_ST_ALU_VEC             | st 000000 alu 01 vec 101010
I80_ST_MV_VEC              | st 0 mv 00100 vec 001010
I80_LNG_VEC                | 00000 lng 0 vec 011010
I80_ALU_MV_VEC             | 00000 alu mv 1 vec 011010
I96_LDA_LDB_ALU_ST         | lda ldb 00000 alu st 00000100110110
I96_LDA_LDB_ST_MV          | lda ldb st 00000 mv 000011110110
I96_LDA_LDB_ST_VEC         | lda ldb 0 st 001110 vec 100110
I96_LDA_LDB_LNG            | lda ldb 00000 lng 000010110110
I96_LDA_LDB_ALU_MV         | lda ldb 00000 alu mv 100010110110
I96_LDA_LDB_ALU_VEC        | lda ldb 00000 alu 11 vec 100110
I96_LDA_LDB_MV_VEC         | lda ldb mv 00010 vec 100110
I96_LDA_ST_LNG             | lda 0 st 0 lng 000001110110
I96_LDA_ST_ALU_MV          | lda 0 st 0 alu mv 100001110110
I96_LDA_ST_ALU_VEC         | lda 0 st 0 alu 00 vec 100110
I96_LDA_LNG_VEC            | lda 0 lng 0 vec 000110
I96_LDA_ALU_MV_VEC         | lda 0 alu mv 1 vec 000110
I96_ST_LDB_LNG             | st ldb 00000 lng 000000110110
I96_ST_LDB_ALU_MV          | st ldb 00000 alu mv 100000110110
I96_ST_LDB_ALU_VEC         | st ldb 00000 alu 01 vec 100110
I96_ST_LDB_MV_VEC          | st ldb mv 00110 vec 100110
I96_LDB_LNG_VEC            | ldb lng 01010 vec 100110
I96_LDB_ALU_MV_VEC         | ldb alu mv 11010 vec 100110
I96_ST_LNG_VEC             | st 0 lng 0 vec 010110
I96_ST_ALU_MV_VEC          | st 0 alu mv 1 vec 010110
I112_LDA_ST_MV_VEC         | lda st 000000000000000001 mv vec 101110
I112_LDA_LDB_LNG_ST        | lda ldb lng 0 st 000001111110
I112_LDA_LDB_ALU_MV_ST     | lda ldb alu mv 1 st 000001111110
I112_LDA_LDB_ALU_ST_VEC    | lda ldb alu 00 st 0 vec 101110
I112_ST_LDB_LNG_VEC        | st ldb lng 0 vec 011110
I112_ST_LDB_ALU_MV_VEC     | st ldb alu mv 1 vec 011110
I112_LDA_LDB_LNG_VEC       | lda ldb lng 0 vec 001110
I112_LDA_LDB_ALU_MV_VEC    | lda ldb alu mv 1 vec 001110
I128_LDA_LDB_ST_LNG_VEC    | lda ldb st 0 lng 0 vec 1
I128_LDA_LDB_ST_ALU_MV_VEC | lda ldb st 0 alu mv 1 vec 1
"""


def _fixed_bits(layout: str) -> tuple[int, int, int]:
    """(bytes, mask, value) of a line's layout."""
    bits = "".join("x" * _AIE2P_SLOTS[item] if item in _AIE2P_SLOTS else item for item in layout.split())
    mask = int("".join("0" if bit == "x" else "1" for bit in bits), 2)
    return len(bits) // 8, mask, int(bits.replace("x", "0"), 2)


AIE2P_FORMATS: dict[int, frozenset[tuple[int, int]]] = {}
"""Bytes of a bundle -> (mask, value) of the formats of that size."""
for _line in _AIE2P_TABLE.strip().splitlines():
    _size, _mask, _value = _fixed_bits(_line.partition("|")[2])
    AIE2P_FORMATS[_size] = AIE2P_FORMATS.get(_size, frozenset()) | {(_mask, _value)}

_AIE2P_SIZES = {0b1000: 4, 0b0100: 6, 0b1100: 6, 0b0010: 8, 0b1010: 10, 0b0110: 12, 0b1110: 14, 0b0000: 2}


def aie2p_bundles(code: bytes, most: int) -> int:
    """How many bundles from the start of the code fit AIE2P's formats one after the other, empty ones not counted.

    At most `most`.
    """
    at = found = 0
    while at < len(code) and found < most:
        size = _AIE2P_SIZES.get(code[at] & 15, 16)
        word = int.from_bytes(code[at : at + size], "little")
        fits = any(word & mask == value for mask, value in AIE2P_FORMATS[size])
        if at + size > len(code) or not fits:
            break
        found += size > 2
        at += size
    return found


AIE1_NOP = b"\x01\x00"
_AIE1_ENOUGH_WORDS, _AIE1_WORDS_BESIDE_NOPS, _AIE1_NOPS = 16, 3, 8


def is_aie1(code: bytes) -> bool:
    """Whether bundles look like AIE1's (public tables of its compiler), in code that is known not to be AIE2's.

    Their sizes are in the lowest bits (0: 16 bytes, 01: 2, 011: 4, 0111: 8, 1111: 12), which any bytes have. What few
    bytes have is that every bundle of 4 is a long move, a vector operation, or has eight zeros below its slot: three of
    four do by chance. So that is asked of 16 of them, or of 3 in code whose bundles of 2 are mostly nops.
    """
    code = code.rstrip(b"\0")
    at = words = short = nops = 0
    while at < len(code):
        low = code[at]
        size = 16 if not low & 1 else 2 if low & 3 == 1 else 4 if low & 7 == 3 else 8 if low & 15 == 7 else 12
        if size == 4:
            slots = int.from_bytes(code[at : at + 4], "little") >> 3
            if not (slots & 1 or slots & 3 == 2 or slots & 0xFF == 0):
                return False
            words += 1
        elif size == 2:
            short += 1
            nops += code[at : at + 2] == AIE1_NOP
        at += size
    idle = nops >= _AIE1_NOPS and 2 * nops >= short
    return words >= (_AIE1_WORDS_BESIDE_NOPS if idle else _AIE1_ENOUGH_WORDS)
