func.func @attention(%q: tensor<1x2x64x64xi8>, %k: tensor<1x1x96x64xi8>, %v: tensor<1x1x96x64xi8>) -> tensor<1x2x64x64xi8> {
  %o = "attn.sdpa"(%q, %k, %v) {causal = true, precision = "int8", q_scale = array<f64: 0.03125, 0.0625>, v_scale = 0.03125 : f64,
                                o_scale = array<f64: 0.0078125, 0.015625>}
       : (tensor<1x2x64x64xi8>, tensor<1x1x96x64xi8>, tensor<1x1x96x64xi8>) -> tensor<1x2x64x64xi8>
  return %o : tensor<1x2x64x64xi8>
}
