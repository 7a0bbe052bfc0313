"""Arguments and results of any layout: read as what the contractions make of their dimensions, or refused."""

from __future__ import annotations

import pytest
from edited_examples import Q4, TORCH, Edit, before, edited, refusal
from laid_out import LAYOUTS, MASKED_LAYOUTS, SIZES, laid_out
from mutants import outcome_of, read
from test_frontend_near_misses import RETURN, SQUARE, SQUARE_SHAPES
from test_frontend_same_meaning_masks import PLUS, masked, of_type
from written_out import PV, QK, contraction, written_out

from npuc.compiler.frontend import load
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

# What no interface of [B, H, S, D] says, or what is no attention.
NEAR: dict[str, tuple[str, str, str, str, str]] = {
    "query head h with key head h mod 3": ("b(gh)sd", "bhtd", "bhtd", "bhgst", "b(gh)sd"),
    "heads of the result in another order": ("b(hg)sd", "bhtd", "bhtd", "bhgst", "b(gh)sd"),
    "heads of V in another order": ("b(hg)sd", "bhtd", "b(hg)td", "bhgst", "b(gh)sd"),
    "V with more heads than K": ("b(hg)sd", "bhtd", "b(hg)td", "bhgst", "b(hg)sd"),
    "V of another width": ("bhsd", "bhtd", "bhtn", "bhst", "bhsn"),
    "K of one batch": ("bhsd", "htd", "bhtd", "bhst", "bhsd"),
    "head sizes of Q in another order": ("b(hg)s(dn)", "bht(nd)", "bhtd", "bhgst", "b(hg)sd"),
}
EDITED: dict[str, tuple[str, list[Edit]]] = {
    "V summed over its depth": (
        TORCH,
        [
            SQUARE,
            SQUARE_SHAPES,
            (
                "%o_heads = linalg.batch_matmul ins",
                "%o_heads = linalg.batch_matmul indexing_maps = [affine_map<(h, i, d, j) -> (h, i, j)>,"
                " affine_map<(h, i, d, j) -> (h, d, j)>, affine_map<(h, i, d, j) -> (h, i, d)>] ins",
            ),
        ],
    ),
    "output transposed": (
        TORCH,
        [
            SQUARE,
            SQUARE_SHAPES,
            (
                "return %o : tensor<1x2x64x64xf32>",
                "%e = tensor.empty() : tensor<1x2x64x64xf32>\n"
                "%t = linalg.transpose ins(%o : tensor<1x2x64x64xf32>) outs(%e : tensor<1x2x64x64xf32>)"
                " permutation = [0, 1, 3, 2]\n    return %t : tensor<1x2x64x64xf32>",
            ),
        ],
    ),
    "output reshaped": (
        TORCH,
        [
            (f"-> {Q4} {{\n    %zero", "-> tensor<2x128x64xf32> {\n    %zero"),
            (RETURN, "return %o_heads : tensor<2x128x64xf32>"),
        ],
    ),
    "K contracted over its length": (
        TORCH,
        [SQUARE, SQUARE_SHAPES, ("permutation = [0, 1, 3, 2]", "permutation = [0, 1, 2, 3]")],
    ),
    "heads swapped with queries": (
        TORCH,
        [
            ("x128x", "x2x"),
            ("x128x", "x2x"),
            ("128]", "2]"),
            (", 128", ", 2"),
            before(
                "%p_heads = ",
                "%v_e = tensor.empty() : tensor<1x2x2x64xf32>",
                "%swapped = linalg.transpose ins(%value : tensor<1x2x2x64xf32>)"
                " outs(%v_e : tensor<1x2x2x64xf32>) permutation = [0, 2, 1, 3]",
            ),
            ("collapse_shape %value", "collapse_shape %swapped"),
        ],
    ),
}
WRITTEN: dict[str, dict[str, str]] = {
    "Q and K meet along their lengths": {
        "qk": contraction("x0", "%q", "%k", "(h, i, j, d) -> (h, d, i); (h, i, j, d) -> (h, d, j);" + QK.split(";")[2])
    },
    "K not transposed": {"qk": contraction("x0", "%q", "%k", QK.replace("(h, j, d);", "(h, d, j);"))},
    "V transposed": {"pv": contraction("o", "%w", "%v", PV.replace("(h, j, d);", "(h, d, j);"))},
    "the result transposed": {"pv": contraction("o", "%w", "%v", PV.replace("(h, i, d)", "(h, d, i)"))},
}

MASKS: dict[str, tuple[dict[str, str], tuple[str, str, tuple[int, ...]]]] = {
    "of keys by queries": (masked(PLUS, map_="(h, i, j) -> (h, j, i)"), ("add", "f32", (2, 64, 64))),
    "along queries only": (masked(PLUS, "tensor<2x64xf32>", "(h, i, j) -> (h, j)"), ("add", "f32", (2, 64))),
    "of five dimensions": (
        masked(PLUS, "tensor<1x1x2x64x64xf32>", "(h, i, j) -> (0, 0, h, i, j)"),
        ("add", "f32", (1, 1, 2, 64, 64)),
    ),
}
UNREADABLE: dict[str, str] = {
    "Q, and turned as V": written_out(**{"pv": contraction("o", "%w", "%q", PV.replace("(h, j, d);", "(h, d, j);"))}),
}


def meaning(text: str) -> Attention:
    """What is recognised in a text, which is what its operations compute."""
    (found,) = load(text, "laid_out.mlir")
    module = read(text)
    with module.context:
        assert outcome_of(module, 5) == ("equal", "")
    return found


@pytest.mark.parametrize("name", LAYOUTS)
def test_any_layout_is_read_as_what_its_contractions_say(name: str) -> None:
    q, k, v, scores, out = LAYOUTS[name]
    found = meaning(laid_out(q, k, v, scores, out))
    letters = {"s", "t"} & set(scores)
    assert (found.query_length, found.key_length) == (SIZES["s"] if "s" in letters else 1, SIZES["t"])
    assert found.head_dim == SIZES["d"] and found.heads % found.kv_heads == 0
    groups = SIZES["g"] if "g" in scores else 1
    assert found.heads == groups * found.kv_heads
    assert load(to_attn_module(found), "printed.mlir") == (found,)


@pytest.mark.parametrize("name", MASKED_LAYOUTS)
def test_masks_of_any_layout_are_operands(name: str) -> None:
    q, k, v, scores, out, mask = MASKED_LAYOUTS[name]
    found = meaning(laid_out(q, k, v, scores, out, mask=mask))
    assert found.mask == "add"
    assert load(to_attn_module(found), "printed.mlir") == (found,)


@pytest.mark.parametrize("name", NEAR)
def test_what_pairs_dimensions_otherwise_is_refused(name: str) -> None:
    refusal(laid_out(*NEAR[name]))


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_other_ranks_are_read_as_they_lie(name: str) -> None:
    pieces, mask = MASKS[name]
    assert meaning(written_out(of_type(mask), **pieces)).mask == mask[0]


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_lies_in_two_ways_at_once_is_refused(name: str) -> None:
    refusal(UNREADABLE[name])


@pytest.mark.parametrize("name", EDITED)
def test_turned_arguments_and_results_are_read_as_they_lie(name: str) -> None:
    example, edits = EDITED[name]
    meaning(edited(example, *edits))


@pytest.mark.parametrize("name", WRITTEN)
def test_turned_steps_are_read_as_they_lie(name: str) -> None:
    meaning(written_out(**WRITTEN[name]))


def test_layouts_say_which_dimension_is_which() -> None:
    found = meaning(laid_out("bs(hg)d", "bthd", "bt(hd)", "bhgst", "bs(hgd)"))
    b, h, g, s, t, d = (SIZES[x] for x in "bhgstd")
    assert found.argument("q").layout == ((("B", b),), (("S", s),), (("H", h * g),), (("D", d),))
    assert found.argument("v").layout == ((("B", b),), (("S", t),), (("H", h), ("D", d)))
    assert found.argument("out").layout == ((("B", b),), (("S", s),), (("H", h * g), ("D", d)))
    assert found.argument("q").shape == (b, h * g, s, d) and found.argument("q").source_shape == (b, s, h * g, d)
    assert Attention.from_json(found.to_json()) == found


def test_a_mask_of_scores_in_another_order_says_which_are_its_keys() -> None:
    """K Q^T, moved to [B, S, H, Skv], masked by [B, S, Skv]: its axes show first where it meets the scores, and which
    of them is of the keys at the softmax."""
    q, k, m = "tensor<2x6x4x16xf32>", "tensor<2x9x4x16xf32>", "tensor<2x6x9xi1>"
    raw, scores, truths, row = "tensor<2x4x9x6xf32>", "tensor<2x6x4x9xf32>", "tensor<2x6x4x9xi1>", "tensor<2x6x4xf32>"
    text = f"""
func.func @main(%q: {q}, %k: {k}, %v: {k}, %m: {m}) -> {q} {{
  %r = stablehlo.dot_general %k, %q, batching_dims = [0, 2] x [0, 2], contracting_dims = [3] x [3] : ({k}, {q}) -> {raw}
  %x = stablehlo.transpose %r, dims = [0, 3, 1, 2] : ({raw}) -> {scores}
  %low = stablehlo.constant dense<-1.0e30> : {scores}
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %least = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %t = stablehlo.broadcast_in_dim %m, dims = [0, 1, 3] : ({m}) -> {truths}
  %y = stablehlo.select %t, %x, %low : {truths}, {scores}
  %a = stablehlo.reduce(%y init: %least) applies stablehlo.maximum across dimensions = [3]
    : ({scores}, tensor<f32>) -> {row}
  %b = stablehlo.broadcast_in_dim %a, dims = [0, 1, 2] : ({row}) -> {scores}
  %d = stablehlo.subtract %y, %b : {scores}
  %e = stablehlo.exponential %d : {scores}
  %l = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [3]
    : ({scores}, tensor<f32>) -> {row}
  %n = stablehlo.broadcast_in_dim %l, dims = [0, 1, 2] : ({row}) -> {scores}
  %p = stablehlo.divide %e, %n : {scores}
  %w = stablehlo.dot_general %v, %p, batching_dims = [0, 2] x [0, 2], contracting_dims = [1] x [3]
    : ({k}, {scores}) -> tensor<2x4x16x6xf32>
  %o = stablehlo.transpose %w, dims = [0, 3, 1, 2] : (tensor<2x4x16x6xf32>) -> {q}
  return %o : {q}
}}
"""
    (found,) = load(text, "m.mlir")
    assert (found.within, found.mask, found.heads, found.query_length, found.key_length) == (None, "keep", 4, 6, 9)
    mask = found.argument("mask")
    assert mask.shape == (2, 1, 6, 9) and mask.source_shape == (2, 6, 9)
