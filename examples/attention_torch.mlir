// Attention decomposed as PyTorch's scaled_dot_product_attention lowers through torch-mlir: 2 heads, 128 queries and
// keys, head size 64, f32. Q and K each carry the square root of the scale; the maximum brings its index along; rows
// in which every score is -inf end up as zeros.
#all = affine_map<(b, h, i, j) -> (b, h, i, j)>
#row = affine_map<(b, h, i, j) -> (b, h, i)>
#column = affine_map<(b, h, i, j) -> (b, h, i, 0)>

module {
  func.func @attention(%query: tensor<1x2x128x64xf32>, %key: tensor<1x2x128x64xf32>, %value: tensor<1x2x128x64xf32>)
      -> tensor<1x2x128x64xf32> {
    %zero = arith.constant 0.0 : f32
    %first = arith.constant 0 : i64
    %lowest = arith.constant 0xFF800000 : f32
    %lowest_f64 = arith.constant 0xFFF0000000000000 : f64
    %yes = arith.constant true
    %zeros = arith.constant dense<0.0> : tensor<1x2x128x128xf32>
    %root = arith.constant 0.35355339059327379 : f64

    %q_storage = tensor.empty() : tensor<1x2x128x64xf32>
    %q = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%query : tensor<1x2x128x64xf32>) outs(%q_storage : tensor<1x2x128x64xf32>) {
    ^bb0(%in: f32, %out: f32):
      %factor = arith.truncf %root : f64 to f32
      %product = arith.mulf %in, %factor : f32
      linalg.yield %product : f32
    } -> tensor<1x2x128x64xf32>
    %kt_storage = tensor.empty() : tensor<1x2x64x128xf32>
    %turned = linalg.transpose ins(%key : tensor<1x2x128x64xf32>) outs(%kt_storage : tensor<1x2x64x128xf32>)
        permutation = [0, 1, 3, 2]
    %kt = linalg.generic {indexing_maps = [#all, #all], iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%turned : tensor<1x2x64x128xf32>) outs(%kt_storage : tensor<1x2x64x128xf32>) {
    ^bb0(%in: f32, %out: f32):
      %factor = arith.truncf %root : f64 to f32
      %product = arith.mulf %in, %factor : f32
      linalg.yield %product : f32
    } -> tensor<1x2x64x128xf32>

    %q_heads = tensor.collapse_shape %q [[0, 1], [2], [3]] : tensor<1x2x128x64xf32> into tensor<2x128x64xf32>
    %kt_heads = tensor.collapse_shape %kt [[0, 1], [2], [3]] : tensor<1x2x64x128xf32> into tensor<2x64x128xf32>
    %s_storage = tensor.empty() : tensor<2x128x128xf32>
    %s_zero = linalg.fill ins(%zero : f32) outs(%s_storage : tensor<2x128x128xf32>) -> tensor<2x128x128xf32>
    %s_heads = linalg.batch_matmul ins(%q_heads, %kt_heads : tensor<2x128x64xf32>, tensor<2x64x128xf32>)
        outs(%s_zero : tensor<2x128x128xf32>) -> tensor<2x128x128xf32>
    %s = tensor.expand_shape %s_heads [[0, 1], [2], [3]] output_shape [1, 2, 128, 128]
        : tensor<2x128x128xf32> into tensor<1x2x128x128xf32>

    %index_storage = tensor.empty() : tensor<1x2x128xi64>
    %index_start = linalg.fill ins(%first : i64) outs(%index_storage : tensor<1x2x128xi64>) -> tensor<1x2x128xi64>
    %max_storage = tensor.empty() : tensor<1x2x128xf32>
    %max_start = linalg.fill ins(%lowest : f32) outs(%max_storage : tensor<1x2x128xf32>) -> tensor<1x2x128xf32>
    %max:2 = linalg.generic {indexing_maps = [#all, #row, #row],
                             iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
        ins(%s : tensor<1x2x128x128xf32>) outs(%max_start, %index_start : tensor<1x2x128xf32>, tensor<1x2x128xi64>) {
    ^bb0(%in: f32, %best: f32, %best_index: i64):
      %position = linalg.index 3 : index
      %here = arith.index_cast %position : index to i64
      %larger = arith.maximumf %in, %best : f32
      %is_larger = arith.cmpf ogt, %in, %best : f32
      %index = arith.select %is_larger, %here, %best_index : i64
      linalg.yield %larger, %index : f32, i64
    } -> (tensor<1x2x128xf32>, tensor<1x2x128xi64>)
    %max_column = tensor.expand_shape %max#0 [[0], [1], [2, 3]] output_shape [1, 2, 128, 1]
        : tensor<1x2x128xf32> into tensor<1x2x128x1xf32>

    %storage = tensor.empty() : tensor<1x2x128x128xf32>
    %shifted = linalg.generic {indexing_maps = [#all, #column, #all],
                               iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%s, %max_column : tensor<1x2x128x128xf32>, tensor<1x2x128x1xf32>) outs(%storage : tensor<1x2x128x128xf32>) {
    ^bb0(%in: f32, %top: f32, %out: f32):
      %less = arith.subf %in, %top : f32
      linalg.yield %less : f32
    } -> tensor<1x2x128x128xf32>
    %power = linalg.generic {indexing_maps = [#all, #all],
                             iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%shifted : tensor<1x2x128x128xf32>) outs(%storage : tensor<1x2x128x128xf32>) {
    ^bb0(%in: f32, %out: f32):
      %e = math.exp %in : f32
      linalg.yield %e : f32
    } -> tensor<1x2x128x128xf32>
    %sum_storage = tensor.empty() : tensor<1x2x128x1xf32>
    %sum_start = linalg.fill ins(%zero : f32) outs(%sum_storage : tensor<1x2x128x1xf32>) -> tensor<1x2x128x1xf32>
    %sum = linalg.generic {indexing_maps = [#all, #column],
                           iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
        ins(%power : tensor<1x2x128x128xf32>) outs(%sum_start : tensor<1x2x128x1xf32>) {
    ^bb0(%in: f32, %total: f32):
      %more = arith.addf %in, %total : f32
      linalg.yield %more : f32
    } -> tensor<1x2x128x1xf32>
    %weights = linalg.generic {indexing_maps = [#all, #column, #all],
                               iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%power, %sum : tensor<1x2x128x128xf32>, tensor<1x2x128x1xf32>) outs(%storage : tensor<1x2x128x128xf32>) {
    ^bb0(%in: f32, %total: f32, %out: f32):
      %share = arith.divf %in, %total : f32
      linalg.yield %share : f32
    } -> tensor<1x2x128x128xf32>

    %bit_storage = tensor.empty() : tensor<1x2x128x128xi1>
    %masked = linalg.generic {indexing_maps = [#all, #all],
                              iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%s : tensor<1x2x128x128xf32>) outs(%bit_storage : tensor<1x2x128x128xi1>) {
    ^bb0(%in: f32, %out: i1):
      %wide = arith.extf %in : f32 to f64
      %is_lowest = arith.cmpf oeq, %wide, %lowest_f64 : f64
      linalg.yield %is_lowest : i1
    } -> tensor<1x2x128x128xi1>
    %row_storage = tensor.empty() : tensor<1x2x128x1xi1>
    %row_start = linalg.fill ins(%yes : i1) outs(%row_storage : tensor<1x2x128x1xi1>) -> tensor<1x2x128x1xi1>
    %row_masked = linalg.generic {indexing_maps = [#all, #column],
                                  iterator_types = ["parallel", "parallel", "parallel", "reduction"]}
        ins(%masked : tensor<1x2x128x128xi1>) outs(%row_start : tensor<1x2x128x1xi1>) {
    ^bb0(%in: i1, %every: i1):
      %both = arith.andi %in, %every : i1
      linalg.yield %both : i1
    } -> tensor<1x2x128x1xi1>
    %safe = linalg.generic {indexing_maps = [#column, #all, #all, #all],
                            iterator_types = ["parallel", "parallel", "parallel", "parallel"]}
        ins(%row_masked, %zeros, %weights : tensor<1x2x128x1xi1>, tensor<1x2x128x128xf32>, tensor<1x2x128x128xf32>)
        outs(%storage : tensor<1x2x128x128xf32>) {
    ^bb0(%none: i1, %nothing: f32, %share: f32, %out: f32):
      %kept = arith.select %none, %nothing, %share : f32
      linalg.yield %kept : f32
    } -> tensor<1x2x128x128xf32>

    %p_heads = tensor.collapse_shape %safe [[0, 1], [2], [3]] : tensor<1x2x128x128xf32> into tensor<2x128x128xf32>
    %v_heads = tensor.collapse_shape %value [[0, 1], [2], [3]] : tensor<1x2x128x64xf32> into tensor<2x128x64xf32>
    %o_storage = tensor.empty() : tensor<2x128x64xf32>
    %o_zero = linalg.fill ins(%zero : f32) outs(%o_storage : tensor<2x128x64xf32>) -> tensor<2x128x64xf32>
    %o_heads = linalg.batch_matmul ins(%p_heads, %v_heads : tensor<2x128x128xf32>, tensor<2x128x64xf32>)
        outs(%o_zero : tensor<2x128x64xf32>) -> tensor<2x128x64xf32>
    %o = tensor.expand_shape %o_heads [[0, 1], [2], [3]] output_shape [1, 2, 128, 64]
        : tensor<2x128x64xf32> into tensor<1x2x128x64xf32>
    return %o : tensor<1x2x128x64xf32>
  }
}
