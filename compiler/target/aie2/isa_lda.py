# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `lda`: loads A, pointer arithmetic, sub-word stores, stream and cascade reads, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction                    | syntax                                        | operands              | bits                  | itinerary                                                   | implicit
NOPA                             | nopa                                          |                       | 000000000000000000000 | II_NOP()                                                    |
ST_3D_S8                         | st.3d.s8 $mRv, [$ptr], $mod                   | <eR ~eP ~eDS          | bbb0cc0000100aaaaa000 | II_STHB_3D(ptr, mod.dc, mod.dc_hi, mRv, ptr, mod)           |
ST_S8_ag_idx                     | st.s8 $mRv, [$ptr, $dj]                       | <eR <eP <eDJ          | bbbccc1000100aaaaa000 | II_STHB(mRv, ptr, dj)                                       |
ST_3D_S16                        | st.3d.s16 $mRv, [$ptr], $mod                  | <eR ~eP ~eDS          | bbb0cc0001100aaaaa000 | II_STHB_3D(ptr, mod.dc, mod.dc_hi, mRv, ptr, mod)           |
ST_S16_ag_idx                    | st.s16 $mRv, [$ptr, $dj]                      | <eR <eP <eDJ          | bbbccc1001100aaaaa000 | II_STHB(mRv, ptr, dj)                                       |
VLDA_3D_UPS_S32_D16              | vlda.3d.ups.s32.d16 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eDS   | ccc0dd000bb00aaaaa100 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S32_D16_ag_idx          | vlda.ups.s32.d16 $dst, $shft, [$ptr, $dj]     | >mBMs <mSs <eP <eDJ   | cccddd100bb00aaaaa100 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat <crUPSSign
ST_S8_ag_pstm_nrm_imm            | st.s8 $mRv, [$ptr], $imm                      | <eR ~eP <s4           | bbbcccc010100aaaaa000 | II_STHB_POST_1D(ptr, mRv, ptr, imm)                         |
ST_S16_ag_pstm_nrm_imm           | st.s16 $mRv, [$ptr], $imm                     | <eR ~eP <s4           | bbbcccc011100aaaaa000 | II_STHB_POST_1D(ptr, mRv, ptr, imm)                         |
VLDA_UPS_S32_D16_ag_pstm_nrm_imm | vlda.ups.s32.d16 $dst, $shft, [$ptr], $imm    | >mBMs <mSs ~eP <s4x32 | cccdddd01bb00aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat <crUPSSign
ST_S8_ag_pstm_nrm                | st.s8 $mRv, [$ptr], $mod                      | <eR ~eP <eM           | bbbccc0100100aaaaa000 | II_STHB_POST_1D(ptr, mRv, ptr, mod)                         |
ST_2D_S8                         | st.2d.s8 $mRv, [$ptr], $mod                   | <eR ~eP ~eD           | bbbccc1100100aaaaa000 | II_STHB_2D(ptr, mod.dc, mRv, ptr, mod)                      |
ST_S16_ag_pstm_nrm               | st.s16 $mRv, [$ptr], $mod                     | <eR ~eP <eM           | bbbccc0101100aaaaa000 | II_STHB_POST_1D(ptr, mRv, ptr, mod)                         |
ST_2D_S16                        | st.2d.s16 $mRv, [$ptr], $mod                  | <eR ~eP ~eD           | bbbccc1101100aaaaa000 | II_STHB_2D(ptr, mod.dc, mRv, ptr, mod)                      |
VLDA_UPS_S32_D16_ag_pstm_nrm     | vlda.ups.s32.d16 $dst, $shft, [$ptr], $mod    | >mBMs <mSs ~eP <eM    | cccddd010bb00aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat <crUPSSign
VLDA_2D_UPS_S32_D16              | vlda.2d.ups.s32.d16 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eD    | cccddd110bb00aaaaa100 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat <crUPSSign
ST_S8_ag_idx_imm                 | st.s8 $mRv, [$ptr, $imm]                      | <eR <eP <s3           | bbbccc0110100aaaaa000 | II_STHB(mRv, ptr, imm)                                      |
ST_S16_ag_idx_imm                | st.s16 $mRv, [$ptr, $imm]                     | <eR <eP <s3           | bbbccc0111100aaaaa000 | II_STHB(mRv, ptr, imm)                                      |
VLDA_UPS_S32_D16_ag_idx_imm      | vlda.ups.s32.d16 $dst, $shft, [$ptr, $imm]    | >mBMs <mSs <eP <s3x32 | cccddd011bb00aaaaa100 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat <crUPSSign
VMOV_LO                          | vmov.lo $dst, SCD                             | >mCMs                 | 0000001110000aaaa0100 | II_VMOV_CASCADE_READ(dst)                                   | <crSCDEn
VMOV_HI                          | vmov.hi $dst, SCD                             | >mCMs                 | 0000001110000aaaa1100 | II_VMOV_CASCADE_READ(dst)                                   | <crSCDEn
VLDA_3D_UPS_S32_D8               | vlda.3d.ups.s32.d8 $dst, $shft, [$ptr], $mod  | >mCMs <mSs ~eP ~eDS   | ccc0dd000bb01aaaa0000 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S32_D8_ag_idx           | vlda.ups.s32.d8 $dst, $shft, [$ptr, $dj]      | >mCMs <mSs <eP <eDJ   | cccddd100bb01aaaa0000 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat <crUPSSign
VLDA_3D_UPS_S32_S8               | vlda.3d.ups.s32.s8 $dst, $shft, [$ptr], $mod  | >mCMs <mSs ~eP ~eDS   | ccc0dd000bb01aaaa1000 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat
VLDA_UPS_S32_S8_ag_idx           | vlda.ups.s32.s8 $dst, $shft, [$ptr, $dj]      | >mCMs <mSs <eP <eDJ   | cccddd100bb01aaaa1000 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat
VLDA_3D_UPS_S32_S16              | vlda.3d.ups.s32.s16 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eDS   | ccc0dd000bb01aaaaa100 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat
VLDA_UPS_S32_S16_ag_idx          | vlda.ups.s32.s16 $dst, $shft, [$ptr, $dj]     | >mBMs <mSs <eP <eDJ   | cccddd100bb01aaaaa100 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat
VLDA_UPS_S32_D8_ag_pstm_nrm_imm  | vlda.ups.s32.d8 $dst, $shft, [$ptr], $imm     | >mCMs <mSs ~eP <s4x32 | cccdddd01bb01aaaa0000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S32_S8_ag_pstm_nrm_imm  | vlda.ups.s32.s8 $dst, $shft, [$ptr], $imm     | >mCMs <mSs ~eP <s4x32 | cccdddd01bb01aaaa1000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat
VLDA_UPS_S32_S16_ag_pstm_nrm_imm | vlda.ups.s32.s16 $dst, $shft, [$ptr], $imm    | >mBMs <mSs ~eP <s4x32 | cccdddd01bb01aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat
VLDA_UPS_S32_D8_ag_pstm_nrm      | vlda.ups.s32.d8 $dst, $shft, [$ptr], $mod     | >mCMs <mSs ~eP <eM    | cccddd010bb01aaaa0000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat <crUPSSign
VLDA_2D_UPS_S32_D8               | vlda.2d.ups.s32.d8 $dst, $shft, [$ptr], $mod  | >mCMs <mSs ~eP ~eD    | cccddd110bb01aaaa0000 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S32_S8_ag_pstm_nrm      | vlda.ups.s32.s8 $dst, $shft, [$ptr], $mod     | >mCMs <mSs ~eP <eM    | cccddd010bb01aaaa1000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat
VLDA_2D_UPS_S32_S8               | vlda.2d.ups.s32.s8 $dst, $shft, [$ptr], $mod  | >mCMs <mSs ~eP ~eD    | cccddd110bb01aaaa1000 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat
VLDA_UPS_S32_S16_ag_pstm_nrm     | vlda.ups.s32.s16 $dst, $shft, [$ptr], $mod    | >mBMs <mSs ~eP <eM    | cccddd010bb01aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat
VLDA_2D_UPS_S32_S16              | vlda.2d.ups.s32.s16 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eD    | cccddd110bb01aaaaa100 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat
VLDA_UPS_S32_D8_ag_idx_imm       | vlda.ups.s32.d8 $dst, $shft, [$ptr, $imm]     | >mCMs <mSs <eP <s3x32 | cccddd011bb01aaaa0000 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S32_S8_ag_idx_imm       | vlda.ups.s32.s8 $dst, $shft, [$ptr, $imm]     | >mCMs <mSs <eP <s3x32 | cccddd011bb01aaaa1000 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat
VLDA_UPS_S32_S16_ag_idx_imm      | vlda.ups.s32.s16 $dst, $shft, [$ptr, $imm]    | >mBMs <mSs <eP <s3x32 | cccddd011bb01aaaaa100 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat
VLDA_3D_CONV_FP32_BF16           | vlda.3d.conv.fp32.bf16 $dst, [$ptr], $mod     | >mBMs ~eP ~eDS        | bbb0cc0000010aaaaa000 | II_VLDA_3D_CONV(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)      |
VLDA_CONV_FP32_BF16_ag_idx       | vlda.conv.fp32.bf16 $dst, [$ptr, $dj]         | >mBMs <eP <eDJ        | bbbccc1000010aaaaa000 | II_VLDA_CONV(dst, ptr, dj)                                  |
MOV_mv_ss2scl                    | mov $mRa, SS                                  | >eR                   | 0000000000110aaaaa000 | II_MOV_SS(mRa)                                              | >srSS0
MOV_NB_mv_ss2scl                 | mov.nb $mRa, SS                               | >eR                   | 1000000000110aaaaa000 | II_MOV_SS(mRa)                                              | >srSS0
LDA_TM                           | lda.tm $dst, [$ptr]                           | >eR <eP               | bbb0000001110aaaaa000 | II_LDA_TM(dst, ptr)                                         |
VLDA_3D_UPS_S64_D32              | vlda.3d.ups.s64.d32 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eDS   | ccc0dd000bb10aaaaa100 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S64_D32_ag_idx          | vlda.ups.s64.d32 $dst, $shft, [$ptr, $dj]     | >mBMs <mSs <eP <eDJ   | cccddd100bb10aaaaa100 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat <crUPSSign
VLDA_CONV_FP32_BF16_pstm_nrm_imm | vlda.conv.fp32.bf16 $dst, [$ptr], $imm        | >mBMs ~eP <s4x32      | bbbcccc010010aaaaa000 | II_VLDA_POSTINC_CONV(dst, ptr, ptr, imm)                    |
VLDA_UPS_S64_D32_ag_pstm_nrm_imm | vlda.ups.s64.d32 $dst, $shft, [$ptr], $imm    | >mBMs <mSs ~eP <s4x32 | cccdddd01bb10aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat <crUPSSign
VLDA_CONV_FP32_BF16_pstm_nrm     | vlda.conv.fp32.bf16 $dst, [$ptr], $mod        | >mBMs ~eP <eM         | bbbccc0100010aaaaa000 | II_VLDA_POSTINC_CONV(dst, ptr, ptr, mod)                    |
VLDA_2D_CONV_FP32_BF16           | vlda.2d.conv.fp32.bf16 $dst, [$ptr], $mod     | >mBMs ~eP ~eD         | bbbccc1100010aaaaa000 | II_VLDA_2D_CONV(dst, ptr, mod.dc, ptr, mod)                 |
VLDA_UPS_S64_D32_ag_pstm_nrm     | vlda.ups.s64.d32 $dst, $shft, [$ptr], $mod    | >mBMs <mSs ~eP <eM    | cccddd010bb10aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat <crUPSSign
VLDA_2D_UPS_S64_D32              | vlda.2d.ups.s64.d32 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eD    | cccddd110bb10aaaaa100 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat <crUPSSign
VLDA_CONV_FP32_BF16_ag_idx_imm   | vlda.conv.fp32.bf16 $dst, [$ptr, $imm]        | >mBMs <eP <s3x32      | bbbccc0110010aaaaa000 | II_VLDA_CONV(dst, ptr, imm)                                 |
VLDA_UPS_S64_D32_ag_idx_imm      | vlda.ups.s64.d32 $dst, $shft, [$ptr, $imm]    | >mBMs <mSs <eP <s3x32 | cccddd011bb10aaaaa100 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat <crUPSSign
VLDA_3D_UPS_S64_D16              | vlda.3d.ups.s64.d16 $dst, $shft, [$ptr], $mod | >mCMs <mSs ~eP ~eDS   | ccc0dd000bb11aaaa0000 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S64_D16_ag_idx          | vlda.ups.s64.d16 $dst, $shft, [$ptr, $dj]     | >mCMs <mSs <eP <eDJ   | cccddd100bb11aaaa0000 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat <crUPSSign
VLDA_3D_UPS_S64_S16              | vlda.3d.ups.s64.s16 $dst, $shft, [$ptr], $mod | >mCMs <mSs ~eP ~eDS   | ccc0dd000bb11aaaa1000 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat
VLDA_UPS_S64_S16_ag_idx          | vlda.ups.s64.s16 $dst, $shft, [$ptr, $dj]     | >mCMs <mSs <eP <eDJ   | cccddd100bb11aaaa1000 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat
VLDA_3D_UPS_S64_S32              | vlda.3d.ups.s64.s32 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eDS   | ccc0dd000bb11aaaaa100 | II_VLDA_3D_UPS(dst, ptr, mod.dc, mod.dc_hi, shft, ptr, mod) | >srUPS_of <crSat
VLDA_UPS_S64_S32_ag_idx          | vlda.ups.s64.s32 $dst, $shft, [$ptr, $dj]     | >mBMs <mSs <eP <eDJ   | cccddd100bb11aaaaa100 | II_VLDA_UPS(dst, shft, ptr, dj)                             | >srUPS_of <crSat
VLDA_UPS_S64_D16_ag_pstm_nrm_imm | vlda.ups.s64.d16 $dst, $shft, [$ptr], $imm    | >mCMs <mSs ~eP <s4x32 | cccdddd01bb11aaaa0000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S64_S16_ag_pstm_nrm_imm | vlda.ups.s64.s16 $dst, $shft, [$ptr], $imm    | >mCMs <mSs ~eP <s4x32 | cccdddd01bb11aaaa1000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat
VLDA_UPS_S64_S32_ag_pstm_nrm_imm | vlda.ups.s64.s32 $dst, $shft, [$ptr], $imm    | >mBMs <mSs ~eP <s4x32 | cccdddd01bb11aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, imm)               | >srUPS_of <crSat
VLDA_UPS_S64_D16_ag_pstm_nrm     | vlda.ups.s64.d16 $dst, $shft, [$ptr], $mod    | >mCMs <mSs ~eP <eM    | cccddd010bb11aaaa0000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat <crUPSSign
VLDA_2D_UPS_S64_D16              | vlda.2d.ups.s64.d16 $dst, $shft, [$ptr], $mod | >mCMs <mSs ~eP ~eD    | cccddd110bb11aaaa0000 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S64_S16_ag_pstm_nrm     | vlda.ups.s64.s16 $dst, $shft, [$ptr], $mod    | >mCMs <mSs ~eP <eM    | cccddd010bb11aaaa1000 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat
VLDA_2D_UPS_S64_S16              | vlda.2d.ups.s64.s16 $dst, $shft, [$ptr], $mod | >mCMs <mSs ~eP ~eD    | cccddd110bb11aaaa1000 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat
VLDA_UPS_S64_S32_ag_pstm_nrm     | vlda.ups.s64.s32 $dst, $shft, [$ptr], $mod    | >mBMs <mSs ~eP <eM    | cccddd010bb11aaaaa100 | II_VLDA_POSTINC_UPS(dst, ptr, shft, ptr, mod)               | >srUPS_of <crSat
VLDA_2D_UPS_S64_S32              | vlda.2d.ups.s64.s32 $dst, $shft, [$ptr], $mod | >mBMs <mSs ~eP ~eD    | cccddd110bb11aaaaa100 | II_VLDA_2D_UPS(dst, ptr, mod.dc, shft, ptr, mod)            | >srUPS_of <crSat
VLDA_UPS_S64_D16_ag_idx_imm      | vlda.ups.s64.d16 $dst, $shft, [$ptr, $imm]    | >mCMs <mSs <eP <s3x32 | cccddd011bb11aaaa0000 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat <crUPSSign
VLDA_UPS_S64_S16_ag_idx_imm      | vlda.ups.s64.s16 $dst, $shft, [$ptr, $imm]    | >mCMs <mSs <eP <s3x32 | cccddd011bb11aaaa1000 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat
VLDA_UPS_S64_S32_ag_idx_imm      | vlda.ups.s64.s32 $dst, $shft, [$ptr, $imm]    | >mBMs <mSs <eP <s3x32 | cccddd011bb11aaaaa100 | II_VLDA_UPS(dst, shft, ptr, imm)                            | >srUPS_of <crSat
PADDA_3D                         | padda.3d [$ptr], $mod                         | ~eP ~eDS              | aaa0bb000----11--0110 | II_PADD_3D(ptr, mod.dc, mod.dc_hi, ptr, mod)                |
PADDA_lda_ptr_inc_idx            | padda [$ptr], $mod                            | ~eP <eM               | aaabbb010----11--0110 | II_PADD(ptr, ptr, mod)                                      |
PADDA_2D                         | padda.2d [$ptr], $mod                         | ~eP ~eD               | aaabbb110----11--0110 | II_PADD_2D(ptr, mod.dc, ptr, mod)                           |
PADDA_sp_imm                     | padda [sp], $imm                              | <s13x32               | aaaaaaaaaaaaa11--1010 | II_PADD(imm)                                                | >sp@1 <sp@1
PADDA_lda_ptr_inc_idx_imm        | padda [$ptr], $imm                            | ~eP <s10x4d           | aaabbbbbbbbbb11--1110 | II_PADD(ptr, ptr, imm)                                      |
VMOV_mv_scd                      | vmov $dst, SCD                                | >mMvBMXDst            | 0000000000000aaaaaa10 | II_VMOV_CASCADE_READ(dst)                                   | <crSCDEn
VLDA_3D_dmw_lda_am               | vlda.3d $dst, [$ptr], $mod                    | >mAMm ~eP ~eDS        | bbb0cc0000010aaaaaa10 | II_VLDA_3D_AM(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)        |
VLDA_dmw_lda_am_ag_pstm_nrm      | vlda $dst, [$ptr], $mod                       | >mAMm ~eP <eM         | bbbccc0100010aaaaaa10 | II_VLDA_POSTINC_AM(dst, ptr, ptr, mod)                      |
VLDA_dmw_lda_am_ag_idx           | vlda $dst, [$ptr, $dj]                        | >mAMm <eP <eDJ        | bbbccc1000010aaaaaa10 | II_VLDA_AM(dst, ptr, dj)                                    |
VLDA_2D_dmw_lda_am               | vlda.2d $dst, [$ptr], $mod                    | >mAMm ~eP ~eD         | bbbccc1100010aaaaaa10 | II_VLDA_2D_AM(dst, ptr, mod.dc, ptr, mod)                   |
VLDA_dmw_lda_am_ag_idx_imm       | vlda $dst, [$ptr, $imm]                       | >mAMm <eP <s6x32      | bbbcccccc1010aaaaaa10 | II_VLDA_AM(dst, ptr, imm)                                   |
VLDA_dmw_lda_am_ag_pstm_nrm_imm  | vlda $dst, [$ptr], $imm                       | >mAMm ~eP <s7x32      | bbbccccccc110aaaaaa10 | II_VLDA_POSTINC_AM(dst, ptr, ptr, imm)                      |
VLDA_dmw_lda_am_ag_spill         | vlda $dst, [sp, $imm]                         | >mAMm <n12x32         | bbbbbbbbbbbb1aaaaaa10 | II_VLDA_AM(dst, imm)                                        | <sp@1
LDA_3D_S8_dmhb_lda               | lda.3d.s8 $mRa, [$ptr], $mod                  | >eR ~eP ~eDS          | bbb0cc0000000aaaaa111 | II_LDA_POST_3D_R(mRa, ptr, mod.dc, mod.dc_hi, ptr, mod)     |
VLDA_128                         | vlda.128 $dst, [$ptr]                         | >mWa <eP              | bbb1000000000aaaaa111 | II_VLDA_W(dst, ptr)                                         |
LDA_S8_ag_idx                    | lda.s8 $mRa, [$ptr, $dj]                      | >eR <eP <eDJ          | bbbccc1000000aaaaa111 | II_LDA_R(mRa, ptr, dj)                                      |
LDA_3D_U8_dmhb_lda               | lda.3d.u8 $mRa, [$ptr], $mod                  | >eR ~eP ~eDS          | bbb0cc0000100aaaaa111 | II_LDA_POST_3D_R(mRa, ptr, mod.dc, mod.dc_hi, ptr, mod)     |
LDA_U8_ag_idx                    | lda.u8 $mRa, [$ptr, $dj]                      | >eR <eP <eDJ          | bbbccc1000100aaaaa111 | II_LDA_R(mRa, ptr, dj)                                      |
LDA_3D_S16_dmhb_lda              | lda.3d.s16 $mRa, [$ptr], $mod                 | >eR ~eP ~eDS          | bbb0cc0001000aaaaa111 | II_LDA_POST_3D_R(mRa, ptr, mod.dc, mod.dc_hi, ptr, mod)     |
LDA_S16_ag_idx                   | lda.s16 $mRa, [$ptr, $dj]                     | >eR <eP <eDJ          | bbbccc1001000aaaaa111 | II_LDA_R(mRa, ptr, dj)                                      |
LDA_3D_U16_dmhb_lda              | lda.3d.u16 $mRa, [$ptr], $mod                 | >eR ~eP ~eDS          | bbb0cc0001100aaaaa111 | II_LDA_POST_3D_R(mRa, ptr, mod.dc, mod.dc_hi, ptr, mod)     |
LDA_U16_ag_idx                   | lda.u16 $mRa, [$ptr, $dj]                     | >eR <eP <eDJ          | bbbccc1001100aaaaa111 | II_LDA_R(mRa, ptr, dj)                                      |
LDA_S8_ag_pstm_nrm_imm           | lda.s8 $mRa, [$ptr], $imm                     | >eR ~eP <s4           | bbbcccc010000aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, imm)                        |
LDA_U8_ag_pstm_nrm_imm           | lda.u8 $mRa, [$ptr], $imm                     | >eR ~eP <s4           | bbbcccc010100aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, imm)                        |
LDA_S16_ag_pstm_nrm_imm          | lda.s16 $mRa, [$ptr], $imm                    | >eR ~eP <s4           | bbbcccc011000aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, imm)                        |
LDA_U16_ag_pstm_nrm_imm          | lda.u16 $mRa, [$ptr], $imm                    | >eR ~eP <s4           | bbbcccc011100aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, imm)                        |
LDA_S8_ag_pstm_nrm               | lda.s8 $mRa, [$ptr], $mod                     | >eR ~eP <eM           | bbbccc0100000aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, mod)                        |
LDA_2D_S8_dmhb_lda               | lda.2d.s8 $mRa, [$ptr], $mod                  | >eR ~eP ~eD           | bbbccc1100000aaaaa111 | II_LDA_POST_2D_R(mRa, ptr, mod.dc, ptr, mod)                |
LDA_U8_ag_pstm_nrm               | lda.u8 $mRa, [$ptr], $mod                     | >eR ~eP <eM           | bbbccc0100100aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, mod)                        |
LDA_2D_U8_dmhb_lda               | lda.2d.u8 $mRa, [$ptr], $mod                  | >eR ~eP ~eD           | bbbccc1100100aaaaa111 | II_LDA_POST_2D_R(mRa, ptr, mod.dc, ptr, mod)                |
LDA_S16_ag_pstm_nrm              | lda.s16 $mRa, [$ptr], $mod                    | >eR ~eP <eM           | bbbccc0101000aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, mod)                        |
LDA_2D_S16_dmhb_lda              | lda.2d.s16 $mRa, [$ptr], $mod                 | >eR ~eP ~eD           | bbbccc1101000aaaaa111 | II_LDA_POST_2D_R(mRa, ptr, mod.dc, ptr, mod)                |
LDA_U16_ag_pstm_nrm              | lda.u16 $mRa, [$ptr], $mod                    | >eR ~eP <eM           | bbbccc0101100aaaaa111 | II_LDA_POST_1D_R(mRa, ptr, ptr, mod)                        |
LDA_2D_U16_dmhb_lda              | lda.2d.u16 $mRa, [$ptr], $mod                 | >eR ~eP ~eD           | bbbccc1101100aaaaa111 | II_LDA_POST_2D_R(mRa, ptr, mod.dc, ptr, mod)                |
LDA_S8_ag_idx_imm                | lda.s8 $mRa, [$ptr, $imm]                     | >eR <eP <s3           | bbbccc0110000aaaaa111 | II_LDA_R(mRa, ptr, imm)                                     |
LDA_U8_ag_idx_imm                | lda.u8 $mRa, [$ptr, $imm]                     | >eR <eP <s3           | bbbccc0110100aaaaa111 | II_LDA_R(mRa, ptr, imm)                                     |
LDA_S16_ag_idx_imm               | lda.s16 $mRa, [$ptr, $imm]                    | >eR <eP <s3           | bbbccc0111000aaaaa111 | II_LDA_R(mRa, ptr, imm)                                     |
LDA_U16_ag_idx_imm               | lda.u16 $mRa, [$ptr, $imm]                    | >eR <eP <s3           | bbbccc0111100aaaaa111 | II_LDA_R(mRa, ptr, imm)                                     |
MOVA_lda_cg                      | mova $mLdaCg, $c11s                           | >mLdaCg <s11          | bbbbbbbbbbb00aaaaaaa1 | II_MOVA(mLdaCg, c11s)                                       |
LDA_3D_dmv_lda_q                 | lda.3d $dst, [$ptr], $mod                     | >mQQa ~eP ~eDS        | bbb0cc0000010aa000011 | II_LDA_3D_Q(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)          |
VLDA_3D_dmw_lda_w                | vlda.3d $dst, [$ptr], $mod                    | >mWa ~eP ~eDS         | bbb0cc0000010aaaaa111 | II_VLDA_3D_W(dst, ptr, mod.dc, mod.dc_hi, ptr, mod)         |
LDA_3D_dms_lda                   | lda.3d $mLdaScl, [$ptr], $mod                 | >mLdaScl ~eP ~eDS     | bbb0cc0000010aaaaaaa1 | II_LDA_POST_3D(mLdaScl, ptr, mod.dc, mod.dc_hi, ptr, mod)   |
LDA_dmv_lda_q_ag_pstm_nrm        | lda $dst, [$ptr], $mod                        | >mQQa ~eP <eM         | bbbccc0100010aa000011 | II_LDA_POSTINC_Q(dst, ptr, ptr, mod)                        |
VLDA_dmw_lda_w_ag_pstm_nrm       | vlda $dst, [$ptr], $mod                       | >mWa ~eP <eM          | bbbccc0100010aaaaa111 | II_VLDA_POSTINC_W(dst, ptr, ptr, mod)                       |
LDA_dms_lda_pstm_nrm             | lda $mLdaScl, [$ptr], $mod                    | >mLdaScl ~eP <eM      | bbbccc0100010aaaaaaa1 | II_LDA_POST_1D(mLdaScl, ptr, ptr, mod)                      |
LDA_dmv_lda_q_ag_idx             | lda $dst, [$ptr, $dj]                         | >mQQa <eP <eDJ        | bbbccc1000010aa000011 | II_LDA_Q(dst, ptr, dj)                                      |
VLDA_dmw_lda_w_ag_idx            | vlda $dst, [$ptr, $dj]                        | >mWa <eP <eDJ         | bbbccc1000010aaaaa111 | II_VLDA_W(dst, ptr, dj)                                     |
LDA_dms_lda_idx                  | lda $mLdaScl, [$ptr, $dj]                     | >mLdaScl <eP <eDJ     | bbbccc1000010aaaaaaa1 | II_LDA(mLdaScl, ptr, dj)                                    |
LDA_2D_dmv_lda_q                 | lda.2d $dst, [$ptr], $mod                     | >mQQa ~eP ~eD         | bbbccc1100010aa000011 | II_LDA_2D_Q(dst, ptr, mod.dc, ptr, mod)                     |
VLDA_2D_dmw_lda_w                | vlda.2d $dst, [$ptr], $mod                    | >mWa ~eP ~eD          | bbbccc1100010aaaaa111 | II_VLDA_2D_W(dst, ptr, mod.dc, ptr, mod)                    |
LDA_2D_dms_lda                   | lda.2d $mLdaScl, [$ptr], $mod                 | >mLdaScl ~eP ~eD      | bbbccc1100010aaaaaaa1 | II_LDA_POST_2D(mLdaScl, ptr, mod.dc, ptr, mod)              |
LDA_dmv_lda_q_ag_idx_imm         | lda $dst, [$ptr, $imm]                        | >mQQa <eP <s6x16      | bbbcccccc1010aa000011 | II_LDA_Q(dst, ptr, imm)                                     |
VLDA_dmw_lda_w_ag_idx_imm        | vlda $dst, [$ptr, $imm]                       | >mWa <eP <s6x32       | bbbcccccc1010aaaaa111 | II_VLDA_W(dst, ptr, imm)                                    |
LDA_dms_lda_idx_imm              | lda $mLdaScl, [$ptr, $imm]                    | >mLdaScl <eP <s6x4d   | bbbcccccc1010aaaaaaa1 | II_LDA(mLdaScl, ptr, imm)                                   |
LDA_dmv_lda_q_ag_pstm_nrm_imm    | lda $dst, [$ptr], $imm                        | >mQQa ~eP <s7x16      | bbbccccccc110aa000011 | II_LDA_POSTINC_Q(dst, ptr, ptr, imm)                        |
VLDA_dmw_lda_w_ag_pstm_nrm_imm   | vlda $dst, [$ptr], $imm                       | >mWa ~eP <s7x32       | bbbccccccc110aaaaa111 | II_VLDA_POSTINC_W(dst, ptr, ptr, imm)                       |
LDA_dms_lda_pstm_nrm_imm         | lda $mLdaScl, [$ptr], $imm                    | >mLdaScl ~eP <s7x4d   | bbbccccccc110aaaaaaa1 | II_LDA_POST_1D(mLdaScl, ptr, ptr, imm)                      |
LDA_dmv_lda_q_ag_spill           | lda $dst, [sp, $imm]                          | >mQQa <n12x16         | bbbbbbbbbbbb1aa000011 | II_LDA_Q(dst, imm)                                          | <sp@1
VLDA_dmw_lda_w_ag_spill          | vlda $dst, [sp, $imm]                         | >mWa <n12x32          | bbbbbbbbbbbb1aaaaa111 | II_VLDA_W(dst, imm)                                         | <sp@1
LDA_dms_spill                    | lda $mLdaScl, [sp, $imm]                      | >mLdaScl <s12x4d      | bbbbbbbbbbbb1aaaaaaa1 | II_LDA(mLdaScl, imm)                                        | <sp@1
"""
