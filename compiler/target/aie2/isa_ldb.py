# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `ldb`: loads B and unpacking, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction                  | syntax                                   | operands        | bits             | itinerary                                                | implicit
NOPB                           | nopb                                     |                 | 0000000000000000 | II_NOP()                                                 |
VLDB_COMPR_FILL                | vldb.compr.fill [$ptr]                   | ~eP             | aaa0000100000000 | II_VLDB_COMPR_FILL(ptr, ptr)                             | <dp
VLDB_SPARSE_FILL_4             | vldb.sparse.fill.4 [$ptr]                | ~eP             | aaa0001100000000 | II_VLDB_SPARSE_FILL(ptr, ptr)                            | >srSparse_of <dp
VLDB_SPARSE_FILL_8             | vldb.sparse.fill.8 [$ptr]                | ~eP             | aaa0010100000000 | II_VLDB_SPARSE_FILL(ptr, ptr)                            | >srSparse_of <dp
VLDB_SPARSE_FILL_16            | vldb.sparse.fill.16 [$ptr]               | ~eP             | aaa0011100000000 | II_VLDB_SPARSE_FILL(ptr, ptr)                            | >srSparse_of <dp
VLDB_COMPR_RESET               | vldb.compr.reset [$ptr]                  | ~eP             | aaa1000100000000 | II_VLDB_COMPR_RESET(ptr, ptr)                            | >dp <dp
VLDB_SPARSE_RESET_4            | vldb.sparse.reset.4 [$ptr]               | ~eP             | aaa1001100000000 | II_VLDB_SPARSE_RESET(ptr, ptr)                           | >srSparse_of >dp <dp
VLDB_SPARSE_RESET_8            | vldb.sparse.reset.8 [$ptr]               | ~eP             | aaa1010100000000 | II_VLDB_SPARSE_RESET(ptr, ptr)                           | >srSparse_of >dp <dp
VLDB_SPARSE_RESET_16           | vldb.sparse.reset.16 [$ptr]              | ~eP             | aaa1011100000000 | II_VLDB_SPARSE_RESET(ptr, ptr)                           | >srSparse_of >dp <dp
VLDB_SPARSE_POP_4              | vldb.sparse.pop.4 $dst, [$ptr]           | >mQXHLb ~eP     | bbb01011000aaa00 | II_VLDB_SPARSE_POP(ptr, dst, ptr)                        | >srSparse_of >srCompr_uf >dp <dp
VLDB_SPARSE_POP_8              | vldb.sparse.pop.8 $dst, [$ptr]           | >mQXHLb ~eP     | bbb01101000aaa00 | II_VLDB_SPARSE_POP(ptr, dst, ptr)                        | >srSparse_of >srCompr_uf >dp <dp
VLDB_SPARSE_POP_16             | vldb.sparse.pop.16 $dst, [$ptr]          | >mQXHLb ~eP     | bbb01111000aaa00 | II_VLDB_SPARSE_POP(ptr, dst, ptr)                        | >srSparse_of >srCompr_uf >dp <dp
VLDB_SPARSE_PEEK_4             | vldb.sparse.peek.4 $dst, [$ptr]          | >mQXHLb ~eP     | bbb11011000aaa00 | II_VLDB_SPARSE_PEEK(ptr, dst, ptr)                       | >srSparse_of >srCompr_uf <dp
VLDB_SPARSE_PEEK_8             | vldb.sparse.peek.8 $dst, [$ptr]          | >mQXHLb ~eP     | bbb11101000aaa00 | II_VLDB_SPARSE_PEEK(ptr, dst, ptr)                       | >srSparse_of >srCompr_uf <dp
VLDB_SPARSE_PEEK_16            | vldb.sparse.peek.16 $dst, [$ptr]         | >mQXHLb ~eP     | bbb11111000aaa00 | II_VLDB_SPARSE_PEEK(ptr, dst, ptr)                       | >srSparse_of >srCompr_uf <dp
VLDB_UNPACK_D8_D4_ag_idx       | vldb.unpack.d8.d4 $dst, [$ptr, $dj]      | >mXs <eP <eDJ   | bbbccc001aaaa000 | II_VLDB_UNPACK(dst, ptr, dj)                             | <crUnpackSign
VLDB_UNPACK_D8_D4_pstm_nrm     | vldb.unpack.d8.d4 $dst, [$ptr], $mod     | >mXs ~eP <eM    | bbbccc011aaaa000 | II_VLDB_UNPACK_POSTINC(dst, ptr, ptr, mod)               | <crUnpackSign
VUNPACK_D8_D4                  | vunpack.d8.d4 $dst, $src                 | >mXm <mWs       | bbbbb0100aaaa000 | II_VUNPACK(dst, src)                                     | <crUnpackSign
VLDB_2D_UNPACK_D8_D4           | vldb.2d.unpack.d8.d4 $dst, [$ptr], $mod  | >mXs ~eP ~eD    | bbbccc101aaaa000 | II_VLDB_UNPACK_2D(dst, ptr, mod.dc, ptr, mod)            | <crUnpackSign
VLDB_3D_UNPACK_D8_D4           | vldb.3d.unpack.d8.d4 $dst, [$ptr], $mod  | >mXs ~eP ~eDS   | bbb0cc111aaaa000 | II_VLDB_UNPACK_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod) | <crUnpackSign
VLDB_UNPACK_S8_S4_ag_idx       | vldb.unpack.s8.s4 $dst, [$ptr, $dj]      | >mXs <eP <eDJ   | bbbccc001aaaa100 | II_VLDB_UNPACK(dst, ptr, dj)                             |
VLDB_UNPACK_S8_S4_ag_pstm_nrm  | vldb.unpack.s8.s4 $dst, [$ptr], $mod     | >mXs ~eP <eM    | bbbccc011aaaa100 | II_VLDB_UNPACK_POSTINC(dst, ptr, ptr, mod)               |
VUNPACK_S8_S4                  | vunpack.s8.s4 $dst, $src                 | >mXm <mWs       | bbbbb0100aaaa100 | II_VUNPACK(dst, src)                                     |
VLDB_2D_UNPACK_S8_S4           | vldb.2d.unpack.s8.s4 $dst, [$ptr], $mod  | >mXs ~eP ~eD    | bbbccc101aaaa100 | II_VLDB_UNPACK_2D(dst, ptr, mod.dc, ptr, mod)            |
VLDB_3D_UNPACK_S8_S4           | vldb.3d.unpack.s8.s4 $dst, [$ptr], $mod  | >mXs ~eP ~eDS   | bbb0cc111aaaa100 | II_VLDB_UNPACK_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod) |
PADDB_sp_imm                   | paddb [sp], $imm                         | <s12x32         | aaaaaaaaa11aaa00 | II_PADD(imm)                                             | >sp@1 <sp@1
VLDB_COMPR_POP                 | vldb.compr.pop $dst, [$ptr]              | >mWb ~eP        | bbb010010aaaaa00 | II_VLDB_COMPR_POP(ptr, dst, ptr)                         | >srCompr_uf >dp <dp
VLDB_COMPR_PEEK                | vldb.compr.peek $dst, [$ptr]             | >mWb ~eP        | bbb110010aaaaa00 | II_VLDB_COMPR_PEEK(ptr, dst, ptr)                        | >srCompr_uf <dp
VLDB_3D                        | vldb.3d $dst, [$ptr], $mod               | >mWa ~eP ~eDS   | bbb0cc000aaaaa01 | II_VLDB_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)        |
PADDB_2D                       | paddb.2d [$ptr], $mod                    | ~eP ~eD         | aaabbb10011---01 | II_PADD_2D(ptr, mod.dc, ptr, mod)                        |
VLDB_dmw_ldb_ag_idx            | vldb $dst, [$ptr, $dj]                   | >mWa <eP <eDJ   | bbbccc100aaaaa01 | II_VLDB(dst, ptr, dj)                                    |
VLDB_dmw_ldb_ag_pstm_nrm_imm   | vldb $dst, [$ptr], $imm                  | >mWa ~eP <s4x32 | bbbcccc01aaaaa01 | II_VLDB_POSTINC(dst, ptr, ptr, imm)                      |
PADDB_ldb_ptr_inc_nospill_nrm  | paddb [$ptr], $mod                       | ~eP <eM         | aaabbb01011---01 | II_PADD(ptr, ptr, mod)                                   |
VLDB_dmw_ldb_ag_pstm_nrm       | vldb $dst, [$ptr], $mod                  | >mWa ~eP <eM    | bbbccc010aaaaa01 | II_VLDB_POSTINC(dst, ptr, ptr, mod)                      |
PADDB_3D                       | paddb.3d [$ptr], $mod                    | ~eP ~eDS        | aaa0bb11011---01 | II_PADD_3D(ptr, mod.dc, mod.dc_hi, ptr, mod)             |
VLDB_2D                        | vldb.2d $dst, [$ptr], $mod               | >mWa ~eP ~eD    | bbbccc110aaaaa01 | II_VLDB_2D(dst, ptr, mod.dc, ptr, mod)                   |
VLDB_dmw_ldb_ag_idx_imm        | vldb $dst, [$ptr, $imm]                  | >mWa <eP <s3x32 | bbbccc011aaaaa01 | II_VLDB(dst, ptr, imm)                                   |
VLDB_UNPACK_D16_D8_ag_idx      | vldb.unpack.d16.d8 $dst, [$ptr, $dj]     | >mXs <eP <eDJ   | bbbccc001aaaa010 | II_VLDB_UNPACK(dst, ptr, dj)                             | <crUnpackSign
VLDB_UNPACK_D16_D8_ag_pstm_nrm | vldb.unpack.d16.d8 $dst, [$ptr], $mod    | >mXs ~eP <eM    | bbbccc011aaaa010 | II_VLDB_UNPACK_POSTINC(dst, ptr, ptr, mod)               | <crUnpackSign
VUNPACK_D16_D8                 | vunpack.d16.d8 $dst, $src                | >mXm <mWs       | bbbbb0100aaaa010 | II_VUNPACK(dst, src)                                     | <crUnpackSign
VLDB_2D_UNPACK_D16_D8          | vldb.2d.unpack.d16.d8 $dst, [$ptr], $mod | >mXs ~eP ~eD    | bbbccc101aaaa010 | II_VLDB_UNPACK_2D(dst, ptr, mod.dc, ptr, mod)            | <crUnpackSign
VLDB_3D_UNPACK_D16_D8          | vldb.3d.unpack.d16.d8 $dst, [$ptr], $mod | >mXs ~eP ~eDS   | bbb0cc111aaaa010 | II_VLDB_UNPACK_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod) | <crUnpackSign
VLDB_UNPACK_S16_S8_ag_idx      | vldb.unpack.s16.s8 $dst, [$ptr, $dj]     | >mXs <eP <eDJ   | bbbccc001aaaa110 | II_VLDB_UNPACK(dst, ptr, dj)                             |
VLDB_UNPACK_S16_S8_ag_pstm_nrm | vldb.unpack.s16.s8 $dst, [$ptr], $mod    | >mXs ~eP <eM    | bbbccc011aaaa110 | II_VLDB_UNPACK_POSTINC(dst, ptr, ptr, mod)               |
VUNPACK_S16_S8                 | vunpack.s16.s8 $dst, $src                | >mXm <mWs       | bbbbb0100aaaa110 | II_VUNPACK(dst, src)                                     |
VLDB_2D_UNPACK_S16_S8          | vldb.2d.unpack.s16.s8 $dst, [$ptr], $mod | >mXs ~eP ~eD    | bbbccc101aaaa110 | II_VLDB_UNPACK_2D(dst, ptr, mod.dc, ptr, mod)            |
VLDB_3D_UNPACK_S16_S8          | vldb.3d.unpack.s16.s8 $dst, [$ptr], $mod | >mXs ~eP ~eDS   | bbb0cc111aaaa110 | II_VLDB_UNPACK_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod) |
PADDB_ldb_ptr_inc_nrm_imm      | paddb [$ptr], $imm                       | ~eP <s9x4d      | aaabbbbbb11bbb10 | II_PADD(ptr, ptr, imm)                                   |
VLDB_128_ag_idx                | vldb.128 $dst, [$ptr, $dj]               | >mWa <eP <eDJ   | bbbccc000aaaaa11 | II_VLDB_PTR(dst, ptr, dj)                                |
VLDB_4x16_LO                   | vldb.4x16.lo $dst, $src                  | >mWs <mWb       | bbbbb0001aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_4x16_HI                   | vldb.4x16.hi $dst, $src                  | >mWs <mWb       | bbbbb1001aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_128_ag_pstm_nrm           | vldb.128 $dst, [$ptr], $mod              | >mWa ~eP <eM    | bbbccc010aaaaa11 | II_VLDB_PTR_POSTINC(dst, ptr, ptr, mod)                  |
VLDB_4x32_LO                   | vldb.4x32.lo $dst, $src                  | >mWs <mWb       | bbbbb0011aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_4x32_HI                   | vldb.4x32.hi $dst, $src                  | >mWs <mWb       | bbbbb1011aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_2D_128                    | vldb.2d.128 $dst, [$ptr], $mod           | >mWa ~eP ~eD    | bbbccc100aaaaa11 | II_VLDB_PTR_2D(dst, ptr, mod.dc, ptr, mod)               |
VLDB_4x64_LO                   | vldb.4x64.lo $dst, $src                  | >mWs <mWb       | bbbbb0101aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_4x64_HI                   | vldb.4x64.hi $dst, $src                  | >mWs <mWb       | bbbbb1101aaaaa11 | II_VLDB_4X(dst, src)                                     |
VLDB_3D_128                    | vldb.3d.128 $dst, [$ptr], $mod           | >mWa ~eP ~eDS   | bbb0cc110aaaaa11 | II_VLDB_PTR_3D(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)    |
"""
