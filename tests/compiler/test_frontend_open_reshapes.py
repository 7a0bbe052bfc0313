"""Batch and heads as one dimension where the batch is open: its length is a multiple of an open one."""

from __future__ import annotations

import pytest
from edited_examples import LENGTHS, reason
from mutants import difference, draws

from npuc.compiler.frontend import load
from npuc.compiler.frontend.parse import parse

CUBE, SCORES, FULL = "tensor<?x6x16xf32>", "tensor<?x6x6xf32>", "tensor<?x4x6x16xf32>"


def text(factor: int = 4, rows: int = 6, back: str = "%b, %c4, %c6, %c16", of: str = "%q") -> str:
    cube, scores = f"tensor<?x{rows}x16xf32>", f"tensor<?x{rows}x{rows}xf32>"
    flat = "".join(f"  %{x}f = tensor.reshape %{x}(%shape) : ({FULL}, tensor<3xindex>) -> {cube}\n" for x in "qkv")
    return f"""func.func @main(%q: {FULL}, %k: {FULL}, %v: {FULL}) -> {FULL} {{
  %c0 = arith.constant 0 : index
  %c4 = arith.constant 4 : index
  %c6 = arith.constant 6 : index
  %c16 = arith.constant 16 : index
  %factor = arith.constant {factor} : index
  %rows = arith.constant {rows} : index
  %zero = arith.constant 0.0 : f32
  %b = tensor.dim {of}, %c0 : {FULL}
  %n = arith.muli %b, %factor : index
  %shape = tensor.from_elements %n, %rows, %c16 : tensor<3xindex>
{flat}  %e = tensor.empty(%n) : {scores}
  %z = linalg.fill ins(%zero : f32) outs(%e : {scores}) -> {scores}
  %s = linalg.batch_matmul indexing_maps = [affine_map<(h, i, j, d) -> (h, i, d)>,
      affine_map<(h, i, j, d) -> (h, j, d)>, affine_map<(h, i, j, d) -> (h, i, j)>]
    ins(%qf, %kf : {cube}, {cube}) outs(%z : {scores}) -> {scores}
  %p = linalg.softmax dimension(2) ins(%s : {scores}) outs(%e : {scores}) -> {scores}
  %y = tensor.empty(%n) : {cube}
  %yz = linalg.fill ins(%zero : f32) outs(%y : {cube}) -> {cube}
  %o = linalg.batch_matmul ins(%p, %vf : {scores}, {cube}) outs(%yz : {cube}) -> {cube}
  %back = tensor.from_elements {back} : tensor<4xindex>
  %r = tensor.reshape %o(%back) : ({cube}, tensor<4xindex>) -> {FULL}
  return %r : {FULL}
}}
"""


@pytest.mark.parametrize("of", ["%q", "%k"])
def test_heads_of_an_open_batch_are_followed(of: str) -> None:
    (found,) = load(text(of=of), "m.mlir")
    assert (found.within, found.batch, found.heads, found.query_length, found.head_dim) == (None, None, 4, 6, 16)
    closed = found.bound({"B": LENGTHS["B"]})
    module = parse(text(of=of), "m.mlir")
    with module.context:
        for arrays in draws(closed, 3):
            assert difference(module, closed, arrays) <= 1.0


@pytest.mark.parametrize(
    "other",
    [
        text(factor=2, rows=12),  # half of the heads with the rows
        text(back="%b, %c6, %c4, %c16"),
        text(factor=3, rows=8),
    ],
)
def test_other_products_are_refused(other: str) -> None:
    assert reason(other).place is not None
