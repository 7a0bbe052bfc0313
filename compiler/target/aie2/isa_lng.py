# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `lng`: long immediates and direct jumps, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction | syntax                 | operands          | bits                                       | itinerary              | implicit
NOPXM         | nopxm                  |                   | 000000000000000000000000000000000000000000 | II_NOP()               |
MOVXM_lng_cg  | movxm $mMvSclDstCg, $i | >mMvSclDstCg <s32 | bbbbbbbbbbbbbbbbbbbbaaaaaaabbbbbbbbbbbb001 | II_MOV(mMvSclDstCg, i) |
J_jump_imm    | j $cpmaddr             | <address          | 00000aaaaaaaaaaaaaaaaaaaa00000000000000010 | II_J(cpmaddr)          |
JL            | jl $cpmaddr            | <address          | 00000aaaaaaaaaaaaaaaaaaaa00000000000000100 | II_JL(cpmaddr)         | >lr
JZ            | jz $mRx, $cpmaddr      | <eR <address      | aaaaabbbbbbbbbbbbbbbbbbbb00000000000000110 | II_JZ(mRx, cpmaddr)    |
JNZ           | jnz $mRx, $cpmaddr     | <eR <address      | aaaaabbbbbbbbbbbbbbbbbbbb10000000000000110 | II_JNZ(mRx, cpmaddr)   |
"""
