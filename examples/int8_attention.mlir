// Attention of int8 tensors: an integer of q, k and v counts as much as its head's scale says.
func.func @attention(%q: tensor<1x4x128x64xi8>, %k: tensor<1x2x128x64xi8>, %v: tensor<1x2x128x64xi8>) -> tensor<1x4x128x64xbf16> {
  %o = "attn.sdpa"(%q, %k, %v) {causal = true, precision = "int8",
                                q_scale = array<f64: 0.03, 0.04, 0.02, 0.03>, k_scale = 0.03 : f64, v_scale = array<f64: 0.02, 0.05>}
       : (tensor<1x4x128x64xi8>, tensor<1x2x128x64xi8>, tensor<1x2x128x64xi8>) -> tensor<1x4x128x64xbf16>
  return %o : tensor<1x4x128x64xbf16>
}
