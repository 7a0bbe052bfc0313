# ruff: noqa: E501 (one instruction a line)
"""Instructions that no public table has, read from vendor code, by slot.  Assembler, disassembler and emulator do not know
them: what is seen of them is not enough to be sure.  The linter follows code that has them, and says so.

`padds [sp]` makes the frame of a function of the 1x4 overlay of 2023 (amd/xdna-driver 4d93a0d): the word 0x1c9, whose 32
bytes the epilogue gives back by `paddb [sp], #-0x20`.  Its bits are to those of `padda [sp]` as those of the other forms
of `padds` are to those of `padda`.
"""

TABLES = {
    "st": """
# instruction | syntax           | operands | bits                  | itinerary    | implicit
PADDS_sp_imm  | padds [sp], $imm | <s13x32  | aaaaaaaaaaaaa11--1001 | II_PADD(imm) | >sp@1 <sp@1
""",
}
