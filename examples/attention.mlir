// Attention in the attn dialect: 4 heads, 256 queries and keys, head size 64. scale defaults to 1/sqrt(64).
func.func @attention(%q: tensor<1x4x256x64xbf16>, %k: tensor<1x4x256x64xbf16>, %v: tensor<1x4x256x64xbf16>)
    -> tensor<1x4x256x64xbf16> {
  %o = "attn.sdpa"(%q, %k, %v)
       : (tensor<1x4x256x64xbf16>, tensor<1x4x256x64xbf16>, tensor<1x4x256x64xbf16>) -> tensor<1x4x256x64xbf16>
  return %o : tensor<1x4x256x64xbf16>
}
