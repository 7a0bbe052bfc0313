# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `alu`: scalar arithmetic, indirect jumps, locks, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction        | syntax                         | operands     | bits                 | itinerary                      | implicit
NOPX                 | nopx                           |              | 00000000000000000000 | II_NOP()                       |
J_jump_ind           | j $mPm                         | <eP          | 0000000000aaa0001000 | II_J_IND(mPm)                  |
DONE                 | done                           |              | 00000000000000010000 | II_DONE()                      |
JNZD                 | jnzd $mRx, $mRx0, $mPm         | >eR <eR <eP  | bbbbbaaaaaccc0011000 | II_JNZD(mRx, mRx0, mPm)        | >srCarry
EVENT                | event $val                     | <u2          | aa000000000000100000 | II_EVENT(val)                  |
JL_IND               | jl $mPm                        | <eP          | 0000000000aaa0101000 | II_JL_IND(mPm)                 | >lr
RET                  | ret lr                         |              | 00000000000000110000 | II_RET()                       | <lr
CLB                  | clb $mRx, $mRx0                | >eR <eR      | bbbbbaaaaa0000111000 | II_CLB(mRx, mRx0)              |
EXTENDs8             | extend.s8 $mRx, $mRx0          | >eR <eR      | bbbbbaaaaa0010111000 | II_EXTENDs8(mRx, mRx0)         |
EXTENDu8             | extend.u8 $mRx, $mRx0          | >eR <eR      | bbbbbaaaaa0100111000 | II_EXTENDu8(mRx, mRx0)         |
EQZ                  | eqz $mRx, $mRx0                | >eR <eR      | bbbbbaaaaa0110111000 | II_EQZ(mRx, mRx0)              |
ABS                  | abs $mRx, $mRx0                | >eR <eR      | bbbbbaaaaa1000111000 | II_ABS(mRx, mRx0)              | >srCarry
MOVX_mvx_scl         | movx $mCRm, $mRx               | >mCRm <eR    | bbbbbaaaa00001000000 | II_MOVX(mCRm, mRx)             |
CLZ                  | clz $mRx, $mRx0                | >eR <eR      | bbbbbaaaaa0001111000 | II_CLZ(mRx, mRx0)              |
EXTENDs16            | extend.s16 $mRx, $mRx0         | >eR <eR      | bbbbbaaaaa0011111000 | II_EXTENDs16(mRx, mRx0)        |
EXTENDu16            | extend.u16 $mRx, $mRx0         | >eR <eR      | bbbbbaaaaa0101111000 | II_EXTENDu16(mRx, mRx0)        |
NEZ                  | nez $mRx, $mRx0                | >eR <eR      | bbbbbaaaaa0111111000 | II_NEZ(mRx, mRx0)              |
ADD                  | add $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc00001 | II_ADD(mRx, mRx0, mRy)         | >srCarry
AND                  | and $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc01001 | II_AND(mRx, mRx0, mRy)         |
NE                   | ne $mRx, $mRx0, $mRy           | >eR <eR <eR  | bbbbbaaaaaccccc10001 | II_NE(mRx, mRx0, mRy)          |
LTU                  | ltu $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc11001 | II_LTU(mRx, mRx0, mRy)         |
MOVX_alu_cg          | movx $dst, $i                  | >mAluCg <s11 | bbbbbaaaaaabbbbbb010 | II_MOVX(dst, i)                |
SUB                  | sub $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc00011 | II_SUB(mRx, mRx0, mRy)         | >srCarry
OR                   | or $mRx, $mRx0, $mRy           | >eR <eR <eR  | bbbbbaaaaaccccc01011 | II_OR(mRx, mRx0, mRy)          |
GE                   | ge $mRx, $mRx0, $mRy           | >eR <eR <eR  | bbbbbaaaaaccccc10011 | II_GE(mRx, mRx0, mRy)          |
LSHL                 | lshl $mRx, $mRx0, $mRy         | >eR <eR <eR  | bbbbbaaaaaccccc11011 | II_LSHL(mRx, mRx0, mRy)        |
REL_mLockId_imm      | rel $id, $mRy                  | <lock <eR    | aaaaaa0000bbbbb00100 | II_REL(id, mRy)                |
ACQ_mLockId_imm      | acq $id, $mRy                  | <lock <eR    | aaaaaa0001bbbbb00100 | II_ACQ(id, mRy)                |
REL_COND_mLockId_imm | rel.cond $id, $mRy, r26        | <lock <eR    | aaaaaa0010bbbbb00100 | II_REL_COND(id, mRy, r26)      |
ACQ_COND_mLockId_imm | acq.cond $id, $mRy, r26        | <lock <eR    | aaaaaa0011bbbbb00100 | II_ACQ_COND(id, mRy, r26)      |
REL_mLockId_reg      | rel $mRx, $mRy                 | <eR <eR      | aaaaa-1000bbbbb00100 | II_REL(mRx, mRy)               |
ACQ_mLockId_reg      | acq $mRx, $mRy                 | <eR <eR      | aaaaa-1001bbbbb00100 | II_ACQ(mRx, mRy)               |
REL_COND_mLockId_reg | rel.cond $mRx, $mRy, r26       | <eR <eR      | aaaaa-1010bbbbb00100 | II_REL_COND(mRx, mRy, r26)     |
ACQ_COND_mLockId_reg | acq.cond $mRx, $mRy, r26       | <eR <eR      | aaaaa-1011bbbbb00100 | II_ACQ_COND(mRx, mRy, r26)     |
SELEQZ               | sel.eqz $mRx, $mRx0, $mRy, r27 | >eR <eR <eR  | bbbbbaaaaaccccc01100 | II_SELEQZ(mRx, mRx0, mRy, r27) |
DIVS                 | divs $d0, r31, $s0, $s1        | >eR <eR <eR  | bbbbbaaaaaccccc10100 | II_DIVS(d0, r31, r31, s0, s1)  |
SELNEZ               | sel.nez $mRx, $mRx0, $mRy, r27 | >eR <eR <eR  | bbbbbaaaaaccccc11100 | II_SELNEZ(mRx, mRx0, mRy, r27) |
ADC                  | adc $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc00101 | II_ADC(mRx, mRx0, mRy)         | >srCarry <srCarry
XOR                  | xor $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc01101 | II_XOR(mRx, mRx0, mRy)         |
LT                   | lt $mRx, $mRx0, $mRy           | >eR <eR <eR  | bbbbbaaaaaccccc10101 | II_LT(mRx, mRx0, mRy)          |
ASHL                 | ashl $mRx, $mRx0, $mRy         | >eR <eR <eR  | bbbbbaaaaaccccc11101 | II_ASHL(mRx, mRx0, mRy)        |
ADD_add_r_ri         | add $mRx, $mRx0, $c7s          | >eR <eR <s7  | bbbbbaaaaaccccccc110 | II_ADD(mRx, mRx0, c7s)         | >srCarry
SBC                  | sbc $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc00111 | II_SBC(mRx, mRx0, mRy)         | >srCarry <srCarry
EQ                   | eq $mRx, $mRx0, $mRy           | >eR <eR <eR  | bbbbbaaaaaccccc01111 | II_EQ(mRx, mRx0, mRy)          |
GEU                  | geu $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc10111 | II_GEU(mRx, mRx0, mRy)         |
MUL_mul_r_rr         | mul $mRx, $mRx0, $mRy          | >eR <eR <eR  | bbbbbaaaaaccccc11111 | II_MUL(mRx, mRx0, mRy)         |
"""
