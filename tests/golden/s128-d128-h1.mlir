func.func @attention(%q: tensor<1x1x128x128xbf16>, %k: tensor<1x1x128x128xbf16>, %v: tensor<1x1x128x128xbf16>) -> tensor<1x1x128x128xbf16> {
  %attended = "attn.sdpa"(%q, %k, %v) {scale = 0.08838834764831843 : f64}
       : (tensor<1x1x128x128xbf16>, tensor<1x1x128x128xbf16>, tensor<1x1x128x128xbf16>) -> tensor<1x1x128x128xbf16>
  return %attended : tensor<1x1x128x128xbf16>
}
