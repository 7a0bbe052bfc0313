# ruff: noqa: E501 (one instruction a line)
"""Instructions of slot `vec`: multiply-accumulate and accumulator arithmetic, in decoding order.

Columns are explained in `instructions.py`.
"""

TABLE = """
# instruction                        | syntax                                        | operands                              | bits                       | itinerary                                  | implicit
NOPV                                 | nopv                                          |                                       | 00000000000000000111100000 | II_NOP()                                   |
VMOV_D                               | vmov.d $cdst, $csrc                           | >mCMa <mCMa                           | 00000bbbb011110000aaaa0000 | II_VMOV_D(cdst, csrc)                      |
VMUL_vmac_cm_core_sparse_wide        | vmul $dst, $ys1, $qxs2, $c                    | >eCM <eYs <mQQXw <eR                  | ddddd1111011bb11ccaaaa0000 | II_VMUL(dst, ys1, qxs2, c)                 |
VMUL_vmac_cm_core_sparse_narrow      | vmul $dst, $xs1, $qxs2, $c                    | >eCM <mXv <mQQXw <eR                  | ddddd11110bbbb11ccaaaa0000 | II_VMUL(dst, xs1, qxs2, c)                 |
VMUL_vmac_cm_core_dense              | vmul $dst, $s1, $s2, $c                       | >eCM <mXv <mXw <eR                    | ddddd11110bbbbccccaaaa0000 | II_VMUL(dst, s1, s2, c)                    |
VADD                                 | vadd $dst, $acc1, $acc2, $c                   | >eCM <eCM <eCM <eR                    | dddddbbbb01110ccccaaaa0000 | II_VACC(dst, acc1, acc2, c)                |
VMAC_vmac_cm_core_sparse_wide        | vmac $dst, $acc1, $ys1, $qxs2, $c             | >eCM <eCM <eYs <mQQXw <eR             | eeeeebbbb011cc11ddaaaa0000 | II_VMAC(dst, acc1, ys1, qxs2, c)           |
VMAC_vmac_cm_core_sparse_narrow      | vmac $dst, $acc1, $xs1, $qxs2, $c             | >eCM <eCM <mXv <mQQXw <eR             | eeeeebbbb0cccc11ddaaaa0000 | II_VMAC(dst, acc1, xs1, qxs2, c)           |
VMAC_vmac_cm_core_dense              | vmac $dst, $acc1, $s1, $s2, $c                | >eCM <eCM <mXv <mXw <eR               | eeeeebbbb0ccccddddaaaa0000 | II_VMAC(dst, acc1, s1, s2, c)              |
VADDMAC_vmac_cm_core_sparse_wide     | vaddmac $dst, $acc1, $acc2, $ys1, $qxs2, $c   | >eCM <eCM=dst <eCM <eYs <mQQXw <eR    | fffffaaaa111dd11eecccc0000 | II_VADDMAC(dst, acc1, acc2, ys1, qxs2, c)  |
VADDMAC_vmac_cm_core_sparse_narrow   | vaddmac $dst, $acc1, $acc2, $xs1, $qxs2, $c   | >eCM <eCM=dst <eCM <mXv <mQQXw <eR    | fffffaaaa1dddd11eecccc0000 | II_VADDMAC(dst, acc1, acc2, xs1, qxs2, c)  |
VADDMAC_vmac_bm_core_dense           | vaddmac $dst, $acc1, $acc2, $s1, $s2, $c      | >eCM <eCM=dst <eCM <mXv <mXw <eR      | fffffaaaa1ddddeeeecccc0000 | II_VADDMAC(dst, acc1, acc2, s1, s2, c)     |
VCLR_vclr                            | vclr $dst                                     | >eCM                                  | 000000000011110000aaaa1000 | II_VCLR(dst)                               |
VNEGMUL_vmac_cm_core_sparse_wide     | vnegmul $dst, $ys1, $qxs2, $c                 | >eCM <eYs <mQQXw <eR                  | ddddd1111011bb11ccaaaa1000 | II_VNEGMUL(dst, ys1, qxs2, c)              |
VNEGMUL_vmac_cm_core_sparse_narrow   | vnegmul $dst, $xs1, $qxs2, $c                 | >eCM <mXv <mQQXw <eR                  | ddddd11110bbbb11ccaaaa1000 | II_VNEGMUL(dst, xs1, qxs2, c)              |
VNEGMUL_vmac_cm_core_dense           | vnegmul $dst, $s1, $s2, $c                    | >eCM <mXv <mXw <eR                    | ddddd11110bbbbccccaaaa1000 | II_VNEGMUL(dst, s1, s2, c)                 |
VMSC_vmac_cm_core_sparse_wide        | vmsc $dst, $acc1, $ys1, $qxs2, $c             | >eCM <eCM <eYs <mQQXw <eR             | eeeeebbbb011cc11ddaaaa1000 | II_VMSC(dst, acc1, ys1, qxs2, c)           |
VMSC_vmac_cm_core_sparse_narrow      | vmsc $dst, $acc1, $xs1, $qxs2, $c             | >eCM <eCM <mXv <mQQXw <eR             | eeeeebbbb0cccc11ddaaaa1000 | II_VMSC(dst, acc1, xs1, qxs2, c)           |
VSUB                                 | vsub $dst, $acc1, $acc2, $c                   | >eCM <eCM <eCM <eR                    | dddddbbbb01110ccccaaaa1000 | II_VACC(dst, acc1, acc2, c)                |
VMSC_vmac_cm_core_dense              | vmsc $dst, $acc1, $s1, $s2, $c                | >eCM <eCM <mXv <mXw <eR               | eeeeebbbb0ccccddddaaaa1000 | II_VMSC(dst, acc1, s1, s2, c)              |
VSUBMAC_vmac_cm_core_sparse_wide     | vsubmac $dst, $acc1, $acc2, $ys1, $qxs2, $c   | >eCM <eCM=dst <eCM <eYs <mQQXw <eR    | fffffaaaa111dd11eecccc1000 | II_VADDMAC(dst, acc1, acc2, ys1, qxs2, c)  |
VSUBMAC_vmac_cm_core_sparse_narrow   | vsubmac $dst, $acc1, $acc2, $xs1, $qxs2, $c   | >eCM <eCM=dst <eCM <mXv <mQQXw <eR    | fffffaaaa1dddd11eecccc1000 | II_VADDMAC(dst, acc1, acc2, xs1, qxs2, c)  |
VSUBMAC_vmac_bm_core_dense           | vsubmac $dst, $acc1, $acc2, $s1, $s2, $c      | >eCM <eCM=dst <eCM <mXv <mXw <eR      | fffffaaaa1ddddeeeecccc1000 | II_VADDMAC(dst, acc1, acc2, s1, s2, c)     |
VCLR_vclr_BF                         | vclr $dst                                     | >mBMa                                 | 000001111111110000aaaaa001 | II_VCLRf(dst)                              | >srFPFlags <crFPMask
VNEG_F                               | vneg.f $dst, $acc1, $c                        | >mBMa <mBMa <eR                       | cccccbbbbb11110000aaaaa001 | II_VNEGf(dst, acc1, c)                     | >srFPFlags <crFPMask
VMUL_F_vmac_bm_core_sparse_wide      | vmul.f $dst, $ys1, $qxs2, $c                  | >mBMa <eYs <mQQXw <eR                 | ddddd1111111bb11ccaaaaa001 | II_VMULf(dst, ys1, qxs2, c)                | >srFPFlags <crFPMask
VMAC_F_vmac_bm_core_sparse_wide      | vmac.f $dst, $acc1, $ys1, $qxs2, $c           | >mBMa <mBMa <eYs <mQQXw <eR           | eeeeebbbbb11cc11ddaaaaa001 | II_VMACf(dst, acc1, ys1, qxs2, c)          | >srFPFlags <crFPMask
VMUL_F_vmac_bm_core_sparse_narrow    | vmul.f $dst, $xs1, $qxs2, $c                  | >mBMa <mXv <mQQXw <eR                 | ddddd11111bbbb11ccaaaaa001 | II_VMULf(dst, xs1, qxs2, c)                | >srFPFlags <crFPMask
VMAC_F_vmac_bm_core_sparse_narrow    | vmac.f $dst, $acc1, $xs1, $qxs2, $c           | >mBMa <mBMa <mXv <mQQXw <eR           | eeeeebbbbbcccc11ddaaaaa001 | II_VMACf(dst, acc1, xs1, qxs2, c)          | >srFPFlags <crFPMask
VMUL_F_vmac_bm_core_dense            | vmul.f $dst, $s1, $s2, $c                     | >mBMa <mXv <mXw <eR                   | ddddd11111bbbbccccaaaaa001 | II_VMULf(dst, s1, s2, c)                   | >srFPFlags <crFPMask
VMAC_F_vmac_bm_core_dense            | vmac.f $dst, $acc1, $s1, $s2, $c              | >mBMa <mBMa <mXv <mXw <eR             | eeeeebbbbbccccddddaaaaa001 | II_VMACf(dst, acc1, s1, s2, c)             | >srFPFlags <crFPMask
VADD_F                               | vadd.f $dst, $acc1, $acc2, $c                 | >mBMa <mBMa <mBMa <eR                 | dddddbbbbb000cccccaaaaa010 | II_VACCf(dst, acc1, acc2, c)               | >srFPFlags <crFPMask
VNEGSUB_F                            | vnegsub.f $dst, $acc1, $acc2, $c              | >mBMa <mBMa <mBMa <eR                 | dddddbbbbb100cccccaaaaa010 | II_VACCf(dst, acc1, acc2, c)               | >srFPFlags <crFPMask
VADDMAC_F_vmac_bm_core_sparse_wide   | vaddmac.f $dst, $acc1, $acc2, $ys1, $qxs2, $c | >mBMa <mBMa=dst <mBMa <eYs <mQQXw <eR | fffffaaaaa11dd11eeccccc011 | II_VADDMACf(dst, acc1, acc2, ys1, qxs2, c) | >srFPFlags <crFPMask
VADDMAC_F_vmac_bm_core_sparse_narrow | vaddmac.f $dst, $acc1, $acc2, $xs1, $qxs2, $c | >mBMa <mBMa=dst <mBMa <mXv <mQQXw <eR | fffffaaaaadddd11eeccccc011 | II_VADDMACf(dst, acc1, acc2, xs1, qxs2, c) | >srFPFlags <crFPMask
VADDMAC_F_vmac_bm_core_dense         | vaddmac.f $dst, $acc1, $acc2, $s1, $s2, $c    | >mBMa <mBMa=dst <mBMa <mXv <mXw <eR   | fffffaaaaaddddeeeeccccc011 | II_VADDMACf(dst, acc1, acc2, s1, s2, c)    | >srFPFlags <crFPMask
VNEGMSC_vmac_cm_core_sparse_wide     | vnegmsc $dst, $acc1, $ys1, $qxs2, $c          | >eCM <eCM <eYs <mQQXw <eR             | eeeeebbbb011cc11ddaaaa0100 | II_VNEGMSC(dst, acc1, ys1, qxs2, c)        |
VNEGMSC_vmac_cm_core_sparse_narrow   | vnegmsc $dst, $acc1, $xs1, $qxs2, $c          | >eCM <eCM <mXv <mQQXw <eR             | eeeeebbbb0cccc11ddaaaa0100 | II_VNEGMSC(dst, acc1, xs1, qxs2, c)        |
VNEGSUB                              | vnegsub $dst, $acc1, $acc2, $c                | >eCM <eCM <eCM <eR                    | dddddbbbb01110ccccaaaa0100 | II_VACC(dst, acc1, acc2, c)                |
VNEGMSC_vmac_cm_core_dense           | vnegmsc $dst, $acc1, $s1, $s2, $c             | >eCM <eCM <mXv <mXw <eR               | eeeeebbbb0ccccddddaaaa0100 | II_VNEGMSC(dst, acc1, s1, s2, c)           |
VNEG                                 | vneg $dst, $acc1, $c                          | >mCMa <mCMa <eR                       | cccccbbbb111110000aaaa0100 | II_VNEG(dst, acc1, c)                      |
VADDMSC_vmac_cm_core_sparse_wide     | vaddmsc $dst, $acc1, $acc2, $ys1, $qxs2, $c   | >eCM <eCM=dst <eCM <eYs <mQQXw <eR    | fffffaaaa111dd11eecccc0100 | II_VADDMAC(dst, acc1, acc2, ys1, qxs2, c)  |
VADDMSC_vmac_cm_core_sparse_narrow   | vaddmsc $dst, $acc1, $acc2, $xs1, $qxs2, $c   | >eCM <eCM=dst <eCM <mXv <mQQXw <eR    | fffffaaaa1dddd11eecccc0100 | II_VADDMAC(dst, acc1, acc2, xs1, qxs2, c)  |
VADDMSC_vmac_bm_core_dense           | vaddmsc $dst, $acc1, $acc2, $s1, $s2, $c      | >eCM <eCM=dst <eCM <mXv <mXw <eR      | fffffaaaa1ddddeeeecccc0100 | II_VADDMAC(dst, acc1, acc2, s1, s2, c)     |
VNEGADD                              | vnegadd $dst, $acc1, $acc2, $c                | >eCM <eCM <eCM <eR                    | dddddbbbb01110ccccaaaa1100 | II_VACC(dst, acc1, acc2, c)                |
VNEGMAC_vmac_cm_core_sparse_wide     | vnegmac $dst, $acc1, $ys1, $qxs2, $c          | >eCM <eCM <eYs <mQQXw <eR             | eeeeebbbb011cc11ddaaaa1100 | II_VNEGMAC(dst, acc1, ys1, qxs2, c)        |
VNEGMAC_vmac_cm_core_sparse_narrow   | vnegmac $dst, $acc1, $xs1, $qxs2, $c          | >eCM <eCM <mXv <mQQXw <eR             | eeeeebbbb0cccc11ddaaaa1100 | II_VNEGMAC(dst, acc1, xs1, qxs2, c)        |
VNEGMAC_vmac_cm_core_dense           | vnegmac $dst, $acc1, $s1, $s2, $c             | >eCM <eCM <mXv <mXw <eR               | eeeeebbbb0ccccddddaaaa1100 | II_VNEGMAC(dst, acc1, s1, s2, c)           |
VSUBMSC_vmac_cm_core_sparse_wide     | vsubmsc $dst, $acc1, $acc2, $ys1, $qxs2, $c   | >eCM <eCM=dst <eCM <eYs <mQQXw <eR    | fffffaaaa111dd11eecccc1100 | II_VADDMAC(dst, acc1, acc2, ys1, qxs2, c)  |
VSUBMSC_vmac_cm_core_sparse_narrow   | vsubmsc $dst, $acc1, $acc2, $xs1, $qxs2, $c   | >eCM <eCM=dst <eCM <mXv <mQQXw <eR    | fffffaaaa1dddd11eecccc1100 | II_VADDMAC(dst, acc1, acc2, xs1, qxs2, c)  |
VSUBMSC_vmac_bm_core_dense           | vsubmsc $dst, $acc1, $acc2, $s1, $s2, $c      | >eCM <eCM=dst <eCM <mXv <mXw <eR      | fffffaaaa1ddddeeeecccc1100 | II_VADDMAC(dst, acc1, acc2, s1, s2, c)     |
VNEGMUL_F_vmac_bm_core_sparse_wide   | vnegmul.f $dst, $ys1, $qxs2, $c               | >mBMa <eYs <mQQXw <eR                 | ddddd1111111bb11ccaaaaa101 | II_VNEGMULf(dst, ys1, qxs2, c)             | >srFPFlags <crFPMask
VMSC_F_vmac_bm_core_sparse_wide      | vmsc.f $dst, $acc1, $ys1, $qxs2, $c           | >mBMa <mBMa <eYs <mQQXw <eR           | eeeeebbbbb11cc11ddaaaaa101 | II_VMSCf(dst, acc1, ys1, qxs2, c)          | >srFPFlags <crFPMask
VNEGMUL_F_vmac_bm_core_sparse_narrow | vnegmul.f $dst, $xs1, $qxs2, $c               | >mBMa <mXv <mQQXw <eR                 | ddddd11111bbbb11ccaaaaa101 | II_VNEGMULf(dst, xs1, qxs2, c)             | >srFPFlags <crFPMask
VMSC_F_vmac_bm_core_sparse_narrow    | vmsc.f $dst, $acc1, $xs1, $qxs2, $c           | >mBMa <mBMa <mXv <mQQXw <eR           | eeeeebbbbbcccc11ddaaaaa101 | II_VMSCf(dst, acc1, xs1, qxs2, c)          | >srFPFlags <crFPMask
VNEGMUL_F_vmac_bm_core_dense         | vnegmul.f $dst, $s1, $s2, $c                  | >mBMa <mXv <mXw <eR                   | ddddd11111bbbbccccaaaaa101 | II_VNEGMULf(dst, s1, s2, c)                | >srFPFlags <crFPMask
VMSC_F_vmac_bm_core_dense            | vmsc.f $dst, $acc1, $s1, $s2, $c              | >mBMa <mBMa <mXv <mXw <eR             | eeeeebbbbbccccddddaaaaa101 | II_VMSCf(dst, acc1, s1, s2, c)             | >srFPFlags <crFPMask
VSUB_F                               | vsub.f $dst, $acc1, $acc2, $c                 | >mBMa <mBMa <mBMa <eR                 | dddddbbbbb000cccccaaaaa110 | II_VACCf(dst, acc1, acc2, c)               | >srFPFlags <crFPMask
VNEGADD_F                            | vnegadd.f $dst, $acc1, $acc2, $c              | >mBMa <mBMa <mBMa <eR                 | dddddbbbbb100cccccaaaaa110 | II_VACCf(dst, acc1, acc2, c)               | >srFPFlags <crFPMask
VADDMSC_F_vmac_bm_core_sparse_wide   | vaddmsc.f $dst, $acc1, $acc2, $ys1, $qxs2, $c | >mBMa <mBMa=dst <mBMa <eYs <mQQXw <eR | fffffaaaaa11dd11eeccccc111 | II_VADDMACf(dst, acc1, acc2, ys1, qxs2, c) | >srFPFlags <crFPMask
VADDMSC_F_vmac_bm_core_sparse_narrow | vaddmsc.f $dst, $acc1, $acc2, $xs1, $qxs2, $c | >mBMa <mBMa=dst <mBMa <mXv <mQQXw <eR | fffffaaaaadddd11eeccccc111 | II_VADDMACf(dst, acc1, acc2, xs1, qxs2, c) | >srFPFlags <crFPMask
VADDMSC_F_vmac_bm_core_dense         | vaddmsc.f $dst, $acc1, $acc2, $s1, $s2, $c    | >mBMa <mBMa=dst <mBMa <mXv <mXw <eR   | fffffaaaaaddddeeeeccccc111 | II_VADDMACf(dst, acc1, acc2, s1, s2, c)    | >srFPFlags <crFPMask
"""
