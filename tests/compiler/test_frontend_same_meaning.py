"""Attention in other words is recognised, with the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from edited_examples import AFTER_SCORES, LINALG, Q4, ROW3, S3, S4, TORCH, Edit, before, edited

from npuc.compiler.frontend import Argument, Attention, load

LINALG_MEANS = Attention.make(heads=4, query_length=128, key_length=256, head_dim=64)
TORCH_MEANS = Attention.make(heads=2, query_length=128, head_dim=64, dtype="f32")
WITHOUT_TAIL = ("collapse_shape %safe", "collapse_shape %weights")

SAME_MEANING: dict[str, tuple[str, list[Edit]]] = {
    "without the safe tail": (TORCH, [WITHOUT_TAIL]),
    "with maxnumf": (TORCH, [("arith.maximumf %in, %best", "arith.maxnumf %best, %in")]),
    "power of two with log2 e on the shifted scores": (
        TORCH,
        [
            before("%e = math.exp", "%log2e = arith.constant 1.44269504 : f32", "%x = arith.mulf %in, %log2e : f32"),
            ("math.exp %in", "math.exp2 %x"),
        ],
    ),
    "power of two with log2 e folded into the scale": (
        LINALG,
        [
            ("constant 0.125", f"constant {0.125 * math.log2(math.e)!r}"),
            (
                "%weights = linalg.softmax dimension(2)\n"
                f"      ins(%scaled : {S3}) outs(%scores_storage : {S3}) -> {S3}",
                "%lowest = arith.constant 0xFF800000 : f32\n"
                f"%row_storage = tensor.empty() : {ROW3}\n"
                f"%max_start = linalg.fill ins(%lowest : f32) outs(%row_storage : {ROW3}) -> {ROW3}\n"
                f"%sum_start = linalg.fill ins(%zero : f32) outs(%row_storage : {ROW3}) -> {ROW3}\n"
                f"%max = linalg.reduce {{ arith.maximumf }} ins(%scaled : {S3}) outs(%max_start : tensor<4x128xf32>)"
                " dimensions = [2]\n"
                f"%max_all = linalg.broadcast ins(%max : tensor<4x128xf32>) outs(%scores_storage : {S3})"
                " dimensions = [2]\n"
                f"%shifted = linalg.sub ins(%scaled, %max_all : {S3}, {S3}) outs(%scores_storage : {S3}) -> {S3}\n"
                f"%power = linalg.map {{ math.exp2 }} ins(%shifted : {S3}) outs(%scores_storage : {S3})\n"
                f"%total = linalg.reduce {{ arith.addf }} ins(%power : {S3}) outs(%sum_start : tensor<4x128xf32>)"
                " dimensions = [2]\n"
                f"%total_all = linalg.broadcast ins(%total : tensor<4x128xf32>) outs(%scores_storage : {S3})"
                " dimensions = [2]\n"
                f"%weights = linalg.div ins(%power, %total_all : {S3}, {S3}) outs(%scores_storage : {S3}) -> {S3}",
            ),
        ],
    ),
    "product with the reciprocal of the sum": (
        TORCH,
        [
            before("%share = ", "%one = arith.constant 1.0 : f32", "%part = arith.divf %one, %total : f32"),
            ("arith.divf %in, %total", "arith.mulf %part, %in"),
        ],
    ),
    "subtraction and exponential in one body": (
        TORCH,
        [
            (
                "%less = arith.subf %in, %top : f32\n      linalg.yield %less",
                "%less = arith.subf %in, %top : f32\n      %now = math.exp %less : f32\n      linalg.yield %now",
            ),
            (f"ins(%power : {S4})", f"ins(%shifted : {S4})"),
            ("ins(%power, %sum", "ins(%shifted, %sum"),
        ],
    ),
    "scale twice on Q": (
        TORCH,
        [
            ("0.35355339059327379 : f64", "0.5 : f64"),
            before(
                "%q_storage = ",
                f"%half = arith.constant dense<0.5> : {Q4}",
                f"%smaller = arith.mulf %half, %query : {Q4}",
            ),
            (f"ins(%query : {Q4})", f"ins(%smaller : {Q4})"),
        ],
    ),
    "division by the root of the head size": (
        LINALG,
        [
            (
                "%scale = arith.constant 0.125 : f32",
                "%d = arith.constant 64 : i64\n  %df = arith.sitofp %d : i64 to f32\n  %scale = math.sqrt %df : f32",
            ),
            ("arith.mulf %score, %scale", "arith.divf %score, %scale"),
        ],
    ),
    "scores scaled as a whole tensor": (
        LINALG,
        [
            before(
                "%weights = ", f"%two = arith.constant dense<0.5> : {S3}", f"%less = arith.mulf %two, %scaled : {S3}"
            ),
            ("ins(%scaled :", "ins(%less :"),
            ("constant 0.125", "constant 0.25"),
        ],
    ),
    "dead operations": (TORCH, [before("%p_heads = ", f"%dead = math.tanh %s : {S4}")]),
    "linalg.contract": (
        LINALG,
        [
            (
                "linalg.batch_matmul indexing_maps = [#left, #right, #scores]",
                "linalg.contract indexing_maps = [#left, #right, #scores]",
            )
        ],
    ),
    "K first": (
        LINALG,
        [
            (
                "linalg.batch_matmul indexing_maps = [#left, #right, #scores]\n"
                "      ins(%qh, %kh : tensor<4x128x64xbf16>, tensor<4x256x64xbf16>)",
                "linalg.contract indexing_maps = [#right, #left, #scores]\n      ins(%kh, %qh : tensor<4x256x64xbf16>,"
                " tensor<4x128x64xbf16>)",
            )
        ],
    ),
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_attention_in_other_words_is_recognised(name: str) -> None:
    example, edits = SAME_MEANING[name]
    (found,) = load(edited(example, *edits), "same.mlir")
    assert found == (TORCH_MEANS if example == TORCH else LINALG_MEANS)


def test_scales_on_q_k_and_scores_multiply() -> None:
    (found,) = load(
        edited(
            TORCH,
            ("0.35355339059327379 : f64", "0.3 : f64"),
            before(AFTER_SCORES, f"%two = arith.constant dense<2.0> : {S4}", f"%s2 = arith.mulf %s, %two : {S4}"),
            (f"ins(%s : {S4})", f"ins(%s2 : {S4})"),
            ("ins(%s, %max", "ins(%s2, %max"),
        ),
        "scaled.mlir",
    )
    assert found.scale == 2.0 * float(np.float32(0.3)) ** 2


@pytest.mark.parametrize("scale", [0.0, -0.125, -2.0, 1.0e30])
def test_any_finite_scale_is_a_scale(scale: float) -> None:
    (found,) = load(edited(LINALG, ("constant 0.125", f"constant {scale:.6e}")), "scaled.mlir")
    assert math.isclose(found.scale, scale, rel_tol=2.0**-23)


def test_a_power_of_two_is_an_exponential_of_less() -> None:
    (found,) = load(edited(TORCH, ("math.exp ", "math.exp2 ")), "binary.mlir")
    assert math.isclose(found.scale, 0.125 * math.log(2), rel_tol=1e-6)


def test_scores_transposed_and_back_are_the_same() -> None:
    """K Q^T, softmax over its first axis, V summed over it: roles follow the softmax, not the order of operands."""
    text = edited(
        LINALG,
        ("#scores = affine_map<(head, query, key, depth) -> (head, query, key)>",
         "#scores = affine_map<(head, query, key, depth) -> (head, key, query)>"),
        ("linalg.batch_matmul indexing_maps = [#left, #right, #scores]",
         "linalg.contract indexing_maps = [#left, #right, #scores]"),
        ("tensor<4x128x256x", "tensor<4x256x128x"),
        ("dimension(2)", "dimension(1)"),
        ("%sum = linalg.batch_matmul ins",
         "%sum = linalg.contract indexing_maps = [affine_map<(h, i, d, j) -> (h, j, i)>,"
         " affine_map<(h, i, d, j) -> (h, j, d)>, affine_map<(h, i, d, j) -> (h, i, d)>] ins"),
    )  # fmt: skip
    assert load(text, "turned.mlir") == (LINALG_MEANS,)


THREE = """
func.func @heads(%v: T, %k: T, %q: T) -> T {
  %zero = arith.constant 0.0 : f32
  %kt_storage = tensor.empty() : tensor<3x64x64xf32>
  %kt = linalg.transpose ins(%k : T) outs(%kt_storage : tensor<3x64x64xf32>) permutation = [0, 2, 1]
  %e = tensor.empty() : tensor<3x64x64xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<3x64x64xf32>) -> tensor<3x64x64xf32>
  %s = linalg.batch_matmul ins(%q, %kt : T, T) outs(%z : T) -> T
  %p = linalg.softmax dimension(2) ins(%s : T) outs(%e : T) -> T
  %o = linalg.batch_matmul ins(%p, %v : T, T) outs(%z : T) -> T
  return %o : T
}
"""


def test_three_dimensions_are_heads_and_arguments_keep_their_order() -> None:
    (found,) = load(THREE.replace("T", "tensor<3x64x64xf32>"), "three.mlir")
    assert (found.batch, found.heads, found.query_length, found.key_length, found.head_dim) == (1, 3, 64, 64, 64)
    assert [a.name for a in found.arguments] == ["v", "k", "q", "o"] and found.scale == 1.0
    assert found.argument("q").shape == (3, 64, 64) and found.full_shape("k") == (1, 3, 64, 64)


def test_two_dimensions_are_one_head() -> None:
    two = "tensor<64x64xf32>"
    text = (
        THREE.replace("linalg.batch_matmul", "linalg.matmul")
        .replace("tensor<3x64x64xf32>", two)
        .replace("T", two)
        .replace("permutation = [0, 2, 1]", "permutation = [1, 0]")
        .replace("dimension(2)", "dimension(1)")
    )
    (found,) = load(text, "two.mlir")
    assert found == Attention(
        "heads",
        tuple(Argument(n, "f32", (64, 64), r) for n, r in (("v", "v"), ("k", "k"), ("q", "q"), ("o", "out"))),
        *(1, 1, 1, 64, 64, 64, 1.0),
    )
    four = "tensor<1x1x64x64xf32>"
    head = f"func.func @heads(%v4: {four}, %k4: {four}, %q4: {four}) -> {four} {{\n" + "".join(
        f"  %{x} = tensor.collapse_shape %{x}4 [[0, 1, 2], [3]] : {four} into {two}\n" for x in "vkq"
    )
    text = text.replace(text[text.index("func.func") : text.index("  %zero")], head)
    text = text.replace(
        f"return %o : {two}",
        f"%o4 = tensor.expand_shape %o [[0, 1, 2], [3]] output_shape [1, 1, 64, 64] : {two} into {four}\n"
        f"  return %o4 : {four}",
    )
    (found,) = load(text, "one.mlir")
    assert (found.heads, found.query_length, found.head_dim) == (1, 64, 64)


def test_one_argument_may_play_several_roles() -> None:
    text = (
        THREE.replace("T", "tensor<3x64x64xf32>").replace("%v: tensor<3x64x64xf32>, ", "").replace("%p, %v", "%p, %k")
    )
    (found,) = load(text, "shared.mlir")
    assert [a.roles for a in found.arguments] == [("k", "v"), ("q",), ("out",)]
