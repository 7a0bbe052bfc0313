# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `mv`: moves, permutes and the vector ALU, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction              | syntax                                  | operands                | bits                   | itinerary                              | implicit
NOPM                       | nopm                                    |                         | 0000000000000000111000 | II_NOP()                               |
MOV_mv_cg                  | mov $dst, $i                            | >mMvSclDstCg <s10       | aaaaaaabbbbbbbbb11b100 | II_MOV(dst, i)                         |
VADD_8                     | vadd.8 $d, $s1, $s2                     | >mXm <mXm <mXn          | aaaa00000000bbbbcccc00 | II_VADD(d, s1, s2)                     |
VSUB_8                     | vsub.8 $d, $s1, $s2                     | >mXm <mXm <mXn          | aaaa00000010bbbbcccc00 | II_VSUB(d, s1, s2)                     |
VSEL_8                     | vsel.8 $d, $s1, $s2, $sel               | >mXm <mXm <mXn <eL      | aaaaddd00100bbbbcccc00 | II_VSEL(d, s1, s2, sel)                |
VADDSUB_8                  | vaddsub.8 $d, $s1, $s2, $sel            | >mXm <mXm <mXn <eL      | aaaaddd00101bbbbcccc00 | II_VADDSUB(d, s1, s2, sel)             |
VABS_GTZ_D8                | vabs_gtz.d8 $d, $cmp, $s1               | >mXm >eL <mXn           | aaaabbb001100000cccc00 | II_VABS_GTZ(d, cmp, s1)                | <crVaddSign
VABS_GTZ_S8                | vabs_gtz.s8 $d, $cmp, $s1               | >mXm >eL <mXn           | aaaabbb001110000cccc00 | II_VABS_GTZ(d, cmp, s1)                |
VMAXDIFF_LT_D8             | vmaxdiff_lt.d8 $d, $cmp, $s1, $s2       | >mXm >eL <mXm <mXn      | aaaabbb01000ccccdddd00 | II_VMAXDIFF_LT(d, cmp, s1, s2)         | <crVaddSign
VMAXDIFF_LT_S8             | vmaxdiff_lt.s8 $d, $cmp, $s1, $s2       | >mXm >eL <mXm <mXn      | aaaabbb01001ccccdddd00 | II_VMAXDIFF_LT(d, cmp, s1, s2)         |
VSUB_LT_D8                 | vsub_lt.d8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb01010ccccdddd00 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_LT_S8                 | vsub_lt.s8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb01011ccccdddd00 | II_VSUB_CMP(d, cmp, s1, s2)            |
VSUB_GE_D8                 | vsub_ge.d8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb01100ccccdddd00 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_GE_S8                 | vsub_ge.s8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb01101ccccdddd00 | II_VSUB_CMP(d, cmp, s1, s2)            |
VBNEG_LTZ_S8               | vbneg_ltz.s8 $d, $cmp, $s1              | >mXm >eL <mXn           | aaaabbb011100000cccc00 | II_VBNEG_LTZ(d, cmp, s1)               |
VEQZ_8                     | veqz.8 $cmp, $s2                        | >eL <mXn                | 0000aaa011110000bbbb00 | II_VEQZ(cmp, s2)                       |
VMIN_GE_D8                 | vmin_ge.d8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb10000ccccdddd00 | II_VMIN_GE(d, cmp, s1, s2)             | <crVaddSign
VMIN_GE_S8                 | vmin_ge.s8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb10001ccccdddd00 | II_VMIN_GE(d, cmp, s1, s2)             |
VMAX_LT_D8                 | vmax_lt.d8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb10100ccccdddd00 | II_VMAX_LT(d, cmp, s1, s2)             | <crVaddSign
VMAX_LT_S8                 | vmax_lt.s8 $d, $cmp, $s1, $s2           | >mXm >eL <mXm <mXn      | aaaabbb10101ccccdddd00 | II_VMAX_LT(d, cmp, s1, s2)             |
VLT_D8                     | vlt.d8 $cmp, $s1, $s2                   | >eL <mXm <mXn           | 0000aaa11000bbbbcccc00 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VLT_S8                     | vlt.s8 $cmp, $s1, $s2                   | >eL <mXm <mXn           | 0000aaa11001bbbbcccc00 | II_VCMP(cmp, s1, s2)                   |
VNEG_GTZ8                  | vneg_gtz8 $d, $cmp, $s1                 | >mXm >eL <mXn           | aaaabbb110110000cccc00 | II_VNEG_GTZ(d, cmp, s1)                |
VGE_D8                     | vge.d8 $cmp, $s1, $s2                   | >eL <mXm <mXn           | 0000aaa11100bbbbcccc00 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VGE_S8                     | vge.s8 $cmp, $s1, $s2                   | >eL <mXm <mXn           | 0000aaa11101bbbbcccc00 | II_VCMP(cmp, s1, s2)                   |
VABS_GTZ_D16               | vabs_gtz.d16 $d, $cmp, $s1              | >mXm >eRS8 <mXn         | aaaabbb001100000cccc01 | II_VABS_GTZ(d, cmp, s1)                | <crVaddSign
VABS_GTZ_S16               | vabs_gtz.s16 $d, $cmp, $s1              | >mXm >eRS8 <mXn         | aaaabbb001110000cccc01 | II_VABS_GTZ(d, cmp, s1)                |
VBNEG_LTZ_S16              | vbneg_ltz.s16 $d, $cmp, $s1             | >mXm >eRS8 <mXn         | aaaabbb011100000cccc01 | II_VBNEG_LTZ(d, cmp, s1)               |
VEQZ_16                    | veqz.16 $cmp, $s2                       | >eRS8 <mXn              | 0000aaa011110000bbbb01 | II_VEQZ(cmp, s2)                       |
VNEG_GTZ16                 | vneg_gtz16 $d, $cmp, $s1                | >mXm >eRS8 <mXn         | aaaabbb110110000cccc01 | II_VNEG_GTZ(d, cmp, s1)                |
VADD_16                    | vadd.16 $d, $s1, $s2                    | >mXm <mXm <mXn          | aaaa00000000bbbbcccc01 | II_VADD(d, s1, s2)                     |
VSUB_16                    | vsub.16 $d, $s1, $s2                    | >mXm <mXm <mXn          | aaaa00000010bbbbcccc01 | II_VSUB(d, s1, s2)                     |
VSEL_16                    | vsel.16 $d, $s1, $s2, $sel              | >mXm <mXm <mXn <eRS8    | aaaaddd00100bbbbcccc01 | II_VSEL(d, s1, s2, sel)                |
VADDSUB_16                 | vaddsub.16 $d, $s1, $s2, $sel           | >mXm <mXm <mXn <eRS8    | aaaaddd00101bbbbcccc01 | II_VADDSUB(d, s1, s2, sel)             |
VMAXDIFF_LT_D16            | vmaxdiff_lt.d16 $d, $cmp, $s1, $s2      | >mXm >eRS8 <mXm <mXn    | aaaabbb01000ccccdddd01 | II_VMAXDIFF_LT(d, cmp, s1, s2)         | <crVaddSign
VMAXDIFF_LT_S16            | vmaxdiff_lt.s16 $d, $cmp, $s1, $s2      | >mXm >eRS8 <mXm <mXn    | aaaabbb01001ccccdddd01 | II_VMAXDIFF_LT(d, cmp, s1, s2)         |
VSUB_LT_D16                | vsub_lt.d16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01010ccccdddd01 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_LT_S16                | vsub_lt.s16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01011ccccdddd01 | II_VSUB_CMP(d, cmp, s1, s2)            |
VSUB_GE_D16                | vsub_ge.d16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01100ccccdddd01 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_GE_S16                | vsub_ge.s16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01101ccccdddd01 | II_VSUB_CMP(d, cmp, s1, s2)            |
VMIN_GE_D16                | vmin_ge.d16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10000ccccdddd01 | II_VMIN_GE(d, cmp, s1, s2)             | <crVaddSign
VMIN_GE_S16                | vmin_ge.s16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10001ccccdddd01 | II_VMIN_GE(d, cmp, s1, s2)             |
VMIN_GE_BF16               | vmin_ge.bf16 $d, $cmp, $s1, $s2         | >mXm >eRS8 <mXm <mXn    | aaaabbb10010ccccdddd01 | II_VMIN_GE(d, cmp, s1, s2)             |
VMAX_LT_D16                | vmax_lt.d16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10100ccccdddd01 | II_VMAX_LT(d, cmp, s1, s2)             | <crVaddSign
VMAX_LT_S16                | vmax_lt.s16 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10101ccccdddd01 | II_VMAX_LT(d, cmp, s1, s2)             |
VMAX_LT_BF16               | vmax_lt.bf16 $d, $cmp, $s1, $s2         | >mXm >eRS8 <mXm <mXn    | aaaabbb10110ccccdddd01 | II_VMAX_LT(d, cmp, s1, s2)             |
VLT_D16                    | vlt.d16 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11000bbbbcccc01 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VLT_S16                    | vlt.s16 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11001bbbbcccc01 | II_VCMP(cmp, s1, s2)                   |
VLT_BF16                   | vlt.bf16 $cmp, $s1, $s2                 | >eRS8 <mXm <mXn         | 0000aaa11010bbbbcccc01 | II_VCMP(cmp, s1, s2)                   |
VGE_D16                    | vge.d16 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11100bbbbcccc01 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VGE_S16                    | vge.s16 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11101bbbbcccc01 | II_VCMP(cmp, s1, s2)                   |
VGE_BF16                   | vge.bf16 $cmp, $s1, $s2                 | >eRS8 <mXm <mXn         | 0000aaa11110bbbbcccc01 | II_VCMP(cmp, s1, s2)                   |
VINSERT_8                  | vinsert.8 $dst, $s1, $idx, $s0          | >mXm <mXm <=r29 <eR     | aaaa000dddddbbbb110001 | II_VINSERT(dst, s1, r29, s0)           |
VINSERT_16                 | vinsert.16 $dst, $s1, $idx, $s0         | >mXm <mXm <=r29 <eR     | aaaa010dddddbbbb110001 | II_VINSERT(dst, s1, r29, s0)           |
VINSERT_32                 | vinsert.32 $dst, $s1, $idx, $s0         | >mXm <mXm <=r29 <eR     | aaaa100dddddbbbb110001 | II_VINSERT(dst, s1, r29, s0)           |
VINSERT_64                 | vinsert.64 $dst, $s1, $idx, $s0         | >mXm <mXm <=r29 <eL     | aaaa110ddd--bbbb110001 | II_VINSERT(dst, s1, r29, s0)           |
VEXTRACT_D8                | vextract.d8 $dst, $s1, $idx             | >mMvSclDst <mXm <eRS4   | aaaaaaa000ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              | <crVaddSign
VEXTRACT_S8                | vextract.s8 $dst, $s1, $idx             | >mMvSclDst <mXm <eRS4   | aaaaaaa001ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              |
VEXTRACT_D16               | vextract.d16 $dst, $s1, $idx            | >mMvSclDst <mXm <eRS4   | aaaaaaa010ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              | <crVaddSign
VEXTRACT_S16               | vextract.s16 $dst, $s1, $idx            | >mMvSclDst <mXm <eRS4   | aaaaaaa011ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              |
VEXTRACT_D32               | vextract.d32 $dst, $s1, $idx            | >mMvSclDst <mXm <eRS4   | aaaaaaa100ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              | <crVaddSign
VEXTRACT_S32               | vextract.s32 $dst, $s1, $idx            | >mMvSclDst <mXm <eRS4   | aaaaaaa101ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              |
VEXTRACT_D64               | vextract.d64 $dst, $s1, $idx            | >eL <mXm <eRS4          | aaa----110ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              | <crVaddSign
VEXTRACT_S64               | vextract.s64 $dst, $s1, $idx            | >eL <mXm <eRS4          | aaa----111ccbbbb110101 | II_VEXTRACT(dst, s1, idx)              |
VEXTBCST_8_mRm             | vextbcst.8 $dst, $src, $idx             | >mXm <mXm <eR           | aaaa000cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_8_mExtractIdxImm  | vextbcst.8 $dst, $src, $idx             | >mXm <mXm <u5           | aaaa001cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_16_mRm            | vextbcst.16 $dst, $src, $idx            | >mXm <mXm <eR           | aaaa010cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_16_mExtractIdxImm | vextbcst.16 $dst, $src, $idx            | >mXm <mXm <u5           | aaaa011cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_32_mRm            | vextbcst.32 $dst, $src, $idx            | >mXm <mXm <eR           | aaaa100cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_32_mExtractIdxImm | vextbcst.32 $dst, $src, $idx            | >mXm <mXm <u5           | aaaa101cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_64_mRm            | vextbcst.64 $dst, $src, $idx            | >mXm <mXm <eR           | aaaa110cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VEXTBCST_64_mExtractIdxImm | vextbcst.64 $dst, $src, $idx            | >mXm <mXm <u5           | aaaa111cccccbbbb111001 | II_VEXTBCST(dst, src, idx)             |
VBCST_8                    | vbcst.8 $dst, $s0                       | >mXm <eR                | aaaa000bbbbb0000111101 | II_VBCST(dst, s0)                      |
VBCSTSHFL_8                | vbcstshfl.8 $dst, $s0, $idx             | >mShflDst <eR <=r29     | aaaa000bbbbba100111101 | II_VBCSTSHFL(dst, s0, r29)             |
VPUSH_HI_8                 | vpush.hi.8 $d, $s1, $s2                 | >mXm <mXm <eR           | aaaa001cccccbbbb111101 | II_VPUSH_HI(d, s1, s2)                 |
VBCST_16                   | vbcst.16 $dst, $s0                      | >mXm <eR                | aaaa010bbbbb0000111101 | II_VBCST(dst, s0)                      |
VBCSTSHFL_16               | vbcstshfl.16 $dst, $s0, $idx            | >mShflDst <eR <=r29     | aaaa010bbbbba100111101 | II_VBCSTSHFL(dst, s0, r29)             |
VPUSH_HI_16                | vpush.hi.16 $d, $s1, $s2                | >mXm <mXm <eR           | aaaa011cccccbbbb111101 | II_VPUSH_HI(d, s1, s2)                 |
VBCST_32                   | vbcst.32 $dst, $s0                      | >mXm <eR                | aaaa100bbbbb0000111101 | II_VBCST(dst, s0)                      |
VBCSTSHFL_32               | vbcstshfl.32 $dst, $s0, $idx            | >mShflDst <eR <=r29     | aaaa100bbbbba100111101 | II_VBCSTSHFL(dst, s0, r29)             |
VPUSH_HI_32                | vpush.hi.32 $d, $s1, $s2                | >mXm <mXm <eR           | aaaa101cccccbbbb111101 | II_VPUSH_HI(d, s1, s2)                 |
VBCST_64                   | vbcst.64 $dst, $s0                      | >mXm <eL                | aaaa110bbb--0000111101 | II_VBCST(dst, s0)                      |
VBCSTSHFL_64               | vbcstshfl.64 $dst, $s0, $idx            | >mShflDst <eL <=r29     | aaaa110bbb--a100111101 | II_VBCSTSHFL(dst, s0, r29)             |
VPUSH_HI_64                | vpush.hi.64 $d, $s1, $s2                | >mXm <mXm <eL           | aaaa111ccc--bbbb111101 | II_VPUSH_HI(d, s1, s2)                 |
MOV_CNTR                   | mov $dst, cntr                          | >eL                     | 0000aaa000000100110010 | II_MOV_CNTR(dst)                       | <tile_cntr
VMOV_mv_cm                 | vmov $dst, $src                         | >mCMm <mCMm             | aaaa001bbbb00000110110 | II_VMOV_CM(dst, src)                   |
VSRSM_D16_S32              | vsrsm.d16.s32 $dst, $src, $shft         | >mWm <mBMm <mSm         | aaaaaccbbbbb0000111010 | II_VSRSM(dst, src, shft)               | >srSRS_of <crSat <crRnd <crSRSSign
VSRSM_S16_S32              | vsrsm.s16.s32 $dst, $src, $shft         | >mWm <mBMm <mSm         | aaaaaccbbbbb0100111010 | II_VSRSM(dst, src, shft)               | >srSRS_of <crSat <crRnd
VSRSM_D32_S64              | vsrsm.d32.s64 $dst, $src, $shft         | >mWm <mBMm <mSm         | aaaaaccbbbbb1000111010 | II_VSRSM(dst, src, shft)               | >srSRS_of <crSat <crRnd <crSRSSign
VSRSM_S32_S64              | vsrsm.s32.s64 $dst, $src, $shft         | >mWm <mBMm <mSm         | aaaaaccbbbbb1100111010 | II_VSRSM(dst, src, shft)               | >srSRS_of <crSat <crRnd
MOV_D1                     | mov.d1 $dst, $src                       | >eR <mMvSclSrc          | aaaaa00bbbbbbb01110010 | II_MOVd1(dst, src)                     |
MOV_D3                     | mov.d3 $dst, $src                       | >eR <mMvSclSrc          | aaaaa01bbbbbbb01110010 | II_MOVd3(dst, src)                     |
MOV_D5                     | mov.d5 $dst, $src                       | >eR <mMvSclSrc          | aaaaa10bbbbbbb01110010 | II_MOVd5(dst, src)                     |
MOV_mv_scl                 | mov $mMvSclDst, $mMvSclSrc              | >mMvSclDst <mMvSclSrc   | aaaaaaabbbbbbb10110010 | II_MOV_SCL(mMvSclDst, mMvSclSrc)       |
MOV_D2                     | mov.d2 $dst, $src                       | >eR <mMvSclSrc          | aaaaa00bbbbbbb11110010 | II_MOVd2(dst, src)                     |
MOV_D4                     | mov.d4 $dst, $src                       | >eR <mMvSclSrc          | aaaaa01bbbbbbb11110010 | II_MOVd4(dst, src)                     |
MOV_D6                     | mov.d6 $dst, $src                       | >eR <mMvSclSrc          | aaaaa10bbbbbbb11110010 | II_MOVd6(dst, src)                     |
VABS_GTZ_D32               | vabs_gtz.d32 $d, $cmp, $s1              | >mXm >eRS8 <mXn         | aaaabbb001100000cccc10 | II_VABS_GTZ(d, cmp, s1)                | <crVaddSign
VABS_GTZ_S32               | vabs_gtz.s32 $d, $cmp, $s1              | >mXm >eRS8 <mXn         | aaaabbb001110000cccc10 | II_VABS_GTZ(d, cmp, s1)                |
VBNEG_LTZ_S32              | vbneg_ltz.s32 $d, $cmp, $s1             | >mXm >eRS8 <mXn         | aaaabbb011100000cccc10 | II_VBNEG_LTZ(d, cmp, s1)               |
VEQZ_32                    | veqz.32 $cmp, $s2                       | >eRS8 <mXn              | 0000aaa011110000bbbb10 | II_VEQZ(cmp, s2)                       |
VNEG_GTZ32                 | vneg_gtz32 $d, $cmp, $s1                | >mXm >eRS8 <mXn         | aaaabbb110110000cccc10 | II_VNEG_GTZ(d, cmp, s1)                |
VMOV_mv_x                  | vmov $dst, $src                         | >mMvBMXDst <mMvBMXSrc   | aaaaaa0bbbbbbbbb110110 | II_VMOV_X(dst, src)                    |
VMOV_mv_w                  | vmov $dst, $src                         | >mMvAMWQDst <mMvAMWQSrc | aaaaaaabbbbbbbbb111010 | II_VMOV_W(dst, src)                    |
VCONV_FP32_BF16            | vconv.fp32.bf16 $dst, $src              | >mBMm <mWm_1            | aaaaa000000bbbbb111110 | II_VCONVfp32bf16(dst, src)             |
VUPS_S32_D16_mv_ups_w2b    | vups.s32.d16 $dst, $src, $shft          | >mBMs <mWm_1 <mSs       | aaaaacc0001bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S32_D16_mv_ups_x2c    | vups.s32.d16 $dst, $src, $shft          | >mCMs <mXa <mSs         | aaaa0cc00100bbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S32_D8_mv_ups_w2c     | vups.s32.d8 $dst, $src, $shft           | >mCMs <mWm_1 <mSs       | aaaa0cc0011bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S32_S16_mv_ups_w2b    | vups.s32.s16 $dst, $src, $shft          | >mBMs <mWm_1 <mSs       | aaaaacc0101bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VUPS_S32_S16_mv_ups_x2c    | vups.s32.s16 $dst, $src, $shft          | >mCMs <mXa <mSs         | aaaa0cc01100bbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VUPS_S32_S8_mv_ups_w2c     | vups.s32.s8 $dst, $src, $shft           | >mCMs <mWm_1 <mSs       | aaaa0cc0111bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VUPS_S64_D32_mv_ups_w2b    | vups.s64.d32 $dst, $src, $shft          | >mBMs <mWm_1 <mSs       | aaaaacc1001bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S64_D32_mv_ups_x2c    | vups.s64.d32 $dst, $src, $shft          | >mCMs <mXa <mSs         | aaaa0cc10100bbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S64_D16_mv_ups_w2c    | vups.s64.d16 $dst, $src, $shft          | >mCMs <mWm_1 <mSs       | aaaa0cc1011bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat <crUPSSign
VUPS_S64_S32_mv_ups_w2b    | vups.s64.s32 $dst, $src, $shft          | >mBMs <mWm_1 <mSs       | aaaaacc1101bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VUPS_S64_S32_mv_ups_x2c    | vups.s64.s32 $dst, $src, $shft          | >mCMs <mXa <mSs         | aaaa0cc11100bbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VUPS_S64_S16_mv_ups_w2c    | vups.s64.s16 $dst, $src, $shft          | >mCMs <mWm_1 <mSs       | aaaa0cc1111bbbbb111110 | II_VUPS(dst, src, shft)                | >srUPS_of <crSat
VADD_32                    | vadd.32 $d, $s1, $s2                    | >mXm <mXm <mXn          | aaaa00000000bbbbcccc10 | II_VADD(d, s1, s2)                     |
VSUB_32                    | vsub.32 $d, $s1, $s2                    | >mXm <mXm <mXn          | aaaa00000010bbbbcccc10 | II_VSUB(d, s1, s2)                     |
VSEL_32                    | vsel.32 $d, $s1, $s2, $sel              | >mXm <mXm <mXn <eRS8    | aaaaddd00100bbbbcccc10 | II_VSEL(d, s1, s2, sel)                |
VADDSUB_32                 | vaddsub.32 $d, $s1, $s2, $sel           | >mXm <mXm <mXn <eRS8    | aaaaddd00101bbbbcccc10 | II_VADDSUB(d, s1, s2, sel)             |
VMAXDIFF_LT_D32            | vmaxdiff_lt.d32 $d, $cmp, $s1, $s2      | >mXm >eRS8 <mXm <mXn    | aaaabbb01000ccccdddd10 | II_VMAXDIFF_LT(d, cmp, s1, s2)         | <crVaddSign
VMAXDIFF_LT_S32            | vmaxdiff_lt.s32 $d, $cmp, $s1, $s2      | >mXm >eRS8 <mXm <mXn    | aaaabbb01001ccccdddd10 | II_VMAXDIFF_LT(d, cmp, s1, s2)         |
VSUB_LT_D32                | vsub_lt.d32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01010ccccdddd10 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_LT_S32                | vsub_lt.s32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01011ccccdddd10 | II_VSUB_CMP(d, cmp, s1, s2)            |
VSUB_GE_D32                | vsub_ge.d32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01100ccccdddd10 | II_VSUB_CMP(d, cmp, s1, s2)            | <crVaddSign
VSUB_GE_S32                | vsub_ge.s32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb01101ccccdddd10 | II_VSUB_CMP(d, cmp, s1, s2)            |
VMIN_GE_D32                | vmin_ge.d32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10000ccccdddd10 | II_VMIN_GE(d, cmp, s1, s2)             | <crVaddSign
VMIN_GE_S32                | vmin_ge.s32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10001ccccdddd10 | II_VMIN_GE(d, cmp, s1, s2)             |
VBAND                      | vband $d, $s1, $s2                      | >mXm <mXm <mXn          | aaaa00010011bbbbcccc10 | II_VBLOG(d, s1, s2)                    |
VMAX_LT_D32                | vmax_lt.d32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10100ccccdddd10 | II_VMAX_LT(d, cmp, s1, s2)             | <crVaddSign
VMAX_LT_S32                | vmax_lt.s32 $d, $cmp, $s1, $s2          | >mXm >eRS8 <mXm <mXn    | aaaabbb10101ccccdddd10 | II_VMAX_LT(d, cmp, s1, s2)             |
VBOR                       | vbor $d, $s1, $s2                       | >mXm <mXm <mXn          | aaaa00010111bbbbcccc10 | II_VBLOG(d, s1, s2)                    |
VLT_D32                    | vlt.d32 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11000bbbbcccc10 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VLT_S32                    | vlt.s32 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11001bbbbcccc10 | II_VCMP(cmp, s1, s2)                   |
VGE_D32                    | vge.d32 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11100bbbbcccc10 | II_VCMP(cmp, s1, s2)                   | <crVaddSign
VGE_S32                    | vge.s32 $cmp, $s1, $s2                  | >eRS8 <mXm <mXn         | 0000aaa11101bbbbcccc10 | II_VCMP(cmp, s1, s2)                   |
ADD_NC                     | add.nc $dst, $s0, $imm                  | >mMvSclDst <eR <s6      | aaaaaaabbbbbcccc11cc11 | II_ADD_NC(dst, s0, imm)                |
VPUSH_LO_8                 | vpush.lo.8 $d, $s1, $s2                 | >mXm <eR <mXn           | aaaa00-bbbbb11--cccc11 | II_VPUSH_LO(d, s1, s2)                 |
VPUSH_LO_16                | vpush.lo.16 $d, $s1, $s2                | >mXm <eR <mXn           | aaaa01-bbbbb11--cccc11 | II_VPUSH_LO(d, s1, s2)                 |
VPUSH_LO_32                | vpush.lo.32 $d, $s1, $s2                | >mXm <eR <mXn           | aaaa10-bbbbb11--cccc11 | II_VPUSH_LO(d, s1, s2)                 |
VPUSH_LO_64                | vpush.lo.64 $d, $s1, $s2                | >mXm <eL <mXn           | aaaa11-bbb--11--cccc11 | II_VPUSH_LO(d, s1, s2)                 |
VSHUFFLE                   | vshuffle $dst, $s1, $s2, $mod           | >mShflDst <mXm <mXn <eR | aaaaa00dddddbbbbcccc11 | II_VSHUFFLE(dst, s1, s2, mod)          |
VSHIFT                     | vshift $d, $s1, $s2, $shift             | >mXm <mXm <mXn <eR      | aaaa010dddddbbbbcccc11 | II_VSHIFT(d, s1, s2, shift)            |
VSHIFT_ALIGN               | vshift.align $d, $s1, $pre, $s2, $shift | >mXm <mXm <mSs <mXn <eR | aaaacc1eeeeebbbbdddd11 | II_VSHIFT_ALIGN(d, s1, pre, s2, shift) |
"""
