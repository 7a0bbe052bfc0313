// Attention in named linalg operations: 4 heads, 128 queries, 256 keys, head size 64. Q K^T reads K as it lies, through
// an indexing map; products accumulate in f32, and the scores are scaled by 1/8 before the softmax.
#left = affine_map<(head, query, key, depth) -> (head, query, depth)>
#right = affine_map<(head, query, key, depth) -> (head, key, depth)>
#scores = affine_map<(head, query, key, depth) -> (head, query, key)>
#each = affine_map<(head, query, key) -> (head, query, key)>

func.func @attention(%q: tensor<1x4x128x64xbf16>, %k: tensor<1x4x256x64xbf16>, %v: tensor<1x4x256x64xbf16>)
    -> tensor<1x4x128x64xbf16> {
  %zero = arith.constant 0.0 : f32
  %scale = arith.constant 0.125 : f32
  %qh = tensor.collapse_shape %q [[0, 1], [2], [3]] : tensor<1x4x128x64xbf16> into tensor<4x128x64xbf16>
  %kh = tensor.collapse_shape %k [[0, 1], [2], [3]] : tensor<1x4x256x64xbf16> into tensor<4x256x64xbf16>
  %vh = tensor.collapse_shape %v [[0, 1], [2], [3]] : tensor<1x4x256x64xbf16> into tensor<4x256x64xbf16>

  %scores_storage = tensor.empty() : tensor<4x128x256xf32>
  %scores_zero = linalg.fill ins(%zero : f32) outs(%scores_storage : tensor<4x128x256xf32>) -> tensor<4x128x256xf32>
  %scores = linalg.batch_matmul indexing_maps = [#left, #right, #scores]
      ins(%qh, %kh : tensor<4x128x64xbf16>, tensor<4x256x64xbf16>)
      outs(%scores_zero : tensor<4x128x256xf32>) -> tensor<4x128x256xf32>
  %scaled = linalg.generic {indexing_maps = [#each, #each], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%scores : tensor<4x128x256xf32>) outs(%scores_storage : tensor<4x128x256xf32>) {
  ^bb0(%score: f32, %out: f32):
    %product = arith.mulf %score, %scale : f32
    linalg.yield %product : f32
  } -> tensor<4x128x256xf32>
  %weights = linalg.softmax dimension(2)
      ins(%scaled : tensor<4x128x256xf32>) outs(%scores_storage : tensor<4x128x256xf32>) -> tensor<4x128x256xf32>

  %weights_storage = tensor.empty() : tensor<4x128x256xbf16>
  %weights_bf16 = linalg.generic {indexing_maps = [#each, #each], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%weights : tensor<4x128x256xf32>) outs(%weights_storage : tensor<4x128x256xbf16>) {
  ^bb0(%weight: f32, %out: bf16):
    %rounded = arith.truncf %weight : f32 to bf16
    linalg.yield %rounded : bf16
  } -> tensor<4x128x256xbf16>
  %sum_storage = tensor.empty() : tensor<4x128x64xf32>
  %sum_zero = linalg.fill ins(%zero : f32) outs(%sum_storage : tensor<4x128x64xf32>) -> tensor<4x128x64xf32>
  %sum = linalg.batch_matmul ins(%weights_bf16, %vh : tensor<4x128x256xbf16>, tensor<4x256x64xbf16>)
      outs(%sum_zero : tensor<4x128x64xf32>) -> tensor<4x128x64xf32>
  %o_storage = tensor.empty() : tensor<4x128x64xbf16>
  %oh = linalg.generic {indexing_maps = [#each, #each], iterator_types = ["parallel", "parallel", "parallel"]}
      ins(%sum : tensor<4x128x64xf32>) outs(%o_storage : tensor<4x128x64xbf16>) {
  ^bb0(%attended: f32, %out: bf16):
    %rounded = arith.truncf %attended : f32 to bf16
    linalg.yield %rounded : bf16
  } -> tensor<4x128x64xbf16>
  %o = tensor.expand_shape %oh [[0, 1], [2], [3]] output_shape [1, 4, 128, 64]
      : tensor<4x128x64xbf16> into tensor<1x4x128x64xbf16>
  return %o : tensor<1x4x128x64xbf16>
}
