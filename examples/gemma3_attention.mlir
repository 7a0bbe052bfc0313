// The two kinds of attention layer of Gemma 3 (27B): 32 query heads on 16 heads of K and V, head size 128. Lengths are
// open: a call gives them (npuc run examples/gemma3_attention.mlir --kernel local --dim S=100 --dim Skv=100).

// Five of six layers: a query sees the last 1,024 keys.
func.func @local(%q: tensor<1x32x?x128xbf16>, %k: tensor<1x16x?x128xbf16>, %v: tensor<1x16x?x128xbf16>)
    -> tensor<1x32x?x128xbf16> {
  %o = "attn.sdpa"(%q, %k, %v) {causal = true, scale = 0.0771516750 : f64, window = 1024 : i64}
       : (tensor<1x32x?x128xbf16>, tensor<1x16x?x128xbf16>, tensor<1x16x?x128xbf16>) -> tensor<1x32x?x128xbf16>
  return %o : tensor<1x32x?x128xbf16>
}

// Every sixth layer: a query sees all keys up to itself.
func.func @global(%q: tensor<1x32x?x128xbf16>, %k: tensor<1x16x?x128xbf16>, %v: tensor<1x16x?x128xbf16>)
    -> tensor<1x32x?x128xbf16> {
  %o = "attn.sdpa"(%q, %k, %v) {causal = true, scale = 0.0771516750 : f64}
       : (tensor<1x32x?x128xbf16>, tensor<1x16x?x128xbf16>, tensor<1x16x?x128xbf16>) -> tensor<1x32x?x128xbf16>
  return %o : tensor<1x32x?x128xbf16>
}
