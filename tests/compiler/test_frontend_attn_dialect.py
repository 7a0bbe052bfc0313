"""attn.sdpa: attributes arrive, malformed operations are refused at their place, printing and loading agree."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.frontend import Attention, load, to_attn_module

Q = "tensor<1x4x64x64xbf16>"
I8 = "tensor<1x4x64x64xi8>"


def sdpa(
    q: str = Q, k: str = Q, v: str = Q, mask: str | None = None, out: str | None = None, attributes: str = ""
) -> str:
    types = [q, k, v] + ([mask] if mask else [])
    names = [f"%a{i}" for i in range(len(types))]
    out = out or q
    parameters = ", ".join(f"{name}: {type_}" for name, type_ in zip(names, types, strict=True))
    return (
        f"func.func @f({parameters}) -> {out} {{\n"
        f'  %o = "attn.sdpa"({", ".join(names)}) {{{attributes}}} : ({", ".join(types)}) -> {out}\n'
        f"  return %o : {out}\n}}\n"
    )


def refusal(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        load(text, "x.mlir")
    return caught.value


def test_defaults() -> None:
    (found,) = load(sdpa(), "x.mlir")
    assert found == Attention.make(heads=4, query_length=64, head_dim=64, function="f")
    assert found.scale == 0.125 and found.recipe == "balanced" and found.precision == "bf16"


@pytest.mark.parametrize(
    "attributes, name, value",
    [
        ("causal = true", "causal", True),
        ("causal = false", "causal", False),
        ("scale = 0.3 : f64", "scale", 0.3),
        ("window = 17 : i64", "window", 17),
        ("softcap = 50.0 : f64", "softcap", 50.0),
        ('align = "bottom-right"', "align", "bottom-right"),
        ('precision = "int8"', "precision", "int8"),
        ('recipe = "accurate"', "recipe", "accurate"),
        ("scale = 0.0 : f64", "scale", 0.0),
        ("scale = -1.5 : f64", "scale", -1.5),
        ("scale = 1.0e-200 : f64", "scale", 1e-200),
        ("scale = 1.0e+200 : f64", "scale", 1e200),
        ("window = 9223372036854775807 : i64", "window", 2**63 - 1),
    ],
)
def test_every_attribute_arrives_and_is_printed_back(attributes: str, name: str, value: object) -> None:
    (found,) = load(sdpa(attributes=attributes), "x.mlir")
    assert getattr(found, name) == value
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize(
    "attributes, reason",
    [
        ("sacle = 0.3 : f64", "unknown attribute 'sacle' (known: causal, scale"),
        ("causal = 1 : i64", "attribute causal = 1 : i64 is not true or false"),
        ("scale = 0.3 : f32", "attribute scale = 3.000000e-01 : f32 is not a finite f64"),
        ("scale = 1 : i64", "attribute scale"),
        ("scale = 0x7FF0000000000000 : f64", "attribute scale"),
        ("scale = 0x7FF8000000000000 : f64", "attribute scale"),
        ("window = 0 : i64", "attribute window = 0 : i64 is not a positive i64"),
        ("window = 4 : i32", "attribute window"),
        ("softcap = 0.0 : f64", "attribute softcap"),
        ('align = "left"', 'attribute align = "left" is not one of "top-left", "bottom-right"'),
        ('precision = "fp8"', "attribute precision"),
        ("recipe = 3 : i64", "attribute recipe"),
        ("q_scale = [1.0, true]", "attribute q_scale"),
        ("q_scale = []", "attribute q_scale"),
        ("o_scale = array<f64: -1.0>", "attribute o_scale"),
        ("q_scale = 0x7FF0000000000000 : f64", "attribute q_scale"),
    ],
)
def test_wrong_attributes_are_refused_at_the_operation(attributes: str, reason: str) -> None:
    error = refusal(sdpa(attributes=attributes))
    assert str(error).startswith("x.mlir:2:8: attn.sdpa: ") and reason in str(error)


@pytest.mark.parametrize(
    "text, reason",
    [
        (sdpa(q="tensor<1x1x4x64x64xbf16>"), "q is tensor<1x1x4x64x64xbf16>, not a ranked tensor [B, H, S, D]"),
        (sdpa(q="tensor<64xbf16>"), "q is tensor<64xbf16>, not a ranked tensor [B, H, S, D], [H, S, D] or [S, D]"),
        (sdpa(q="tensor<64x64xbf16>", k="tensor<3x64x64xbf16>", v="tensor<3x64x64xbf16>"), "1 heads of q are not"),
        (sdpa(k="tensor<1x4x128x64xbf16>"), "k [1, 4, 128, 64] and v [1, 4, 64, 64] differ"),
        (sdpa(q="tensor<2x4x64x64xbf16>"), "q [2, 4, 64, 64] and k [1, 4, 64, 64] differ in batch"),
        (sdpa(q="tensor<1x4x64x128xbf16>"), "head size of q is 128, of k 64"),
        (sdpa(v="tensor<1x4x64x128xbf16>"), "head size of v is 128, of q and k 64; they must be equal"),
        (sdpa(q="tensor<1x6x64x64xbf16>"), "6 heads of q are not a multiple of the 4 heads of k and v"),
        (sdpa(k="tensor<1x4x64x64xf32>"), "different element types: bf16, f32, bf16"),
        (sdpa("tensor<1x4x64x64xi32>", "tensor<1x4x64x64xi32>", "tensor<1x4x64x64xi32>"), "i32"),
        (sdpa(out="tensor<1x4x64x32xbf16>"), "must have the shape of q, [1, 4, 64, 64]"),
        (sdpa(out="tensor<1x4x64x64xf16>"), "the result's element type f16 is none of bf16, f32"),
        (sdpa(mask="tensor<1x1x64x32xi1>"), "mask shape [1, 1, 64, 32] does not broadcast"),
        (sdpa(mask="tensor<1x1x64x64xi8>"), "the mask's element type i8"),
        (sdpa(mask="tensor<1x3x64x64xi1>"), "mask shape [1, 3, 64, 64] does not broadcast"),
        (sdpa(mask="tensor<1x1x1x64x64xi1>"), "mask shape [1, 1, 1, 64, 64] does not broadcast"),
        (sdpa(mask="tensor<i1>"), "mask shape [] does not broadcast"),
        (sdpa(mask="tensor<1x1x64x?xi1>"), "mask shape [1, 1, 64, ?] does not broadcast to the scores [1, 4, 64, 64]"),
        (sdpa(q="tensor<1x?x64x64xbf16>"), "heads and head size of q [1, ?, 64, 64] must be numbers"),
        (sdpa(k="tensor<1x4x64x?xbf16>"), "heads and head size of k [1, 4, 64, ?] must be numbers"),
        (sdpa(v="tensor<1x4x64x?xbf16>"), "head size of v is ?, of q and k 64"),
        (sdpa(k="tensor<1x4x?x64xbf16>"), "k [1, 4, ?, 64] and v [1, 4, 64, 64] differ in batch, heads or length"),
        (sdpa(q="tensor<?x4x64x64xbf16>"), "q [?, 4, 64, 64] and k [1, 4, 64, 64] differ in batch"),
        (sdpa(attributes="q_scale = 0.5 : f64"), "q_scale says what integers stand for, and q is of bf16"),
        (sdpa(I8, I8, I8), "o is of i8, but o_scale does not say"),
        (
            sdpa(I8, I8, I8, out=Q, attributes="o_scale = 0.5 : f64"),
            "o_scale says what integers stand for, and o is of",
        ),
        (
            sdpa(I8, I8, I8, out=Q, attributes="q_scale = array<f64: 1.0, 2.0>"),
            "q_scale has 2 factors, neither one nor one for each of 4",
        ),
    ],
)
def test_operands_that_do_not_fit_are_refused(text: str, reason: str) -> None:
    error = refusal(text)
    assert reason in str(error) and error.place is not None and error.place.line in (1, 2)


@pytest.mark.parametrize(
    "operation, reason",
    [
        ('"attn.sdpa"(%q, %q) : (T, T) -> T', "op expects at least 3 operands, but got 2"),
        ('"attn.sdpa"(%q, %q, %q, %q, %q) : (T, T, T, T, T) -> T', "op expects at most 4 operands, but got 5"),
        ('"attn.flash"(%q) : (T) -> T', "unregistered operation 'attn.flash'"),
    ],
)
def test_the_dialect_knows_its_operation(operation: str, reason: str) -> None:
    text = f"func.func @f(%q: {Q}) -> {Q} {{\n  %o = {operation.replace('T', Q)}\n  return %o : {Q}\n}}"
    error = refusal(text)
    assert str(error.place) == "x.mlir:2:8" and reason in str(error) and "\n" not in str(error)


def test_grouped_heads_and_lengths_of_their_own() -> None:
    kv = "tensor<2x2x128x64xbf16>"
    (found,) = load(sdpa("tensor<2x8x64x64xbf16>", kv, kv), "x.mlir")
    assert (found.batch, found.heads, found.kv_heads, found.query_length, found.key_length) == (2, 8, 2, 64, 128)
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize(
    "mask, kind",
    [
        ("tensor<1x1x64x64xi1>", "keep"),
        ("tensor<64x64xf32>", "add"),
        ("tensor<1x4x64x64xbf16>", "add"),
        ("tensor<64xi1>", "keep"),
        ("tensor<1x1x1x64xi1>", "keep"),
        ("tensor<4x64x1xf32>", "add"),
        ("tensor<1x1xbf16>", "add"),
    ],
)
def test_masks(mask: str, kind: str) -> None:
    (found,) = load(sdpa(mask=mask), "x.mlir")
    assert found.mask == kind and found.argument("mask").name == "mask"
    assert load(to_attn_module(found), "printed") == (found,)


OPEN = "tensor<?x4x?x64xbf16>"


@pytest.mark.parametrize(
    "text, open_",
    [
        (sdpa("tensor<1x4x?x64xbf16>", "tensor<1x2x?x64xbf16>", "tensor<1x2x?x64xbf16>"), ("S", "Skv")),
        (sdpa(OPEN, "tensor<?x4x64x64xbf16>", "tensor<?x4x64x64xbf16>"), ("B", "S")),
        (sdpa(OPEN, OPEN, OPEN, mask="tensor<?x1x1x?xi1>"), ("B", "S", "Skv")),
        (sdpa(OPEN, OPEN, OPEN, mask="tensor<1x1x?x?xf32>", attributes="causal = true"), ("B", "S", "Skv")),
        (sdpa("tensor<?x64xf32>", "tensor<?x64xf32>", "tensor<?x64xf32>"), ("S", "Skv")),
        (sdpa("tensor<4x1x64xf16>", "tensor<2x?x64xf16>", "tensor<2x?x64xf16>"), ("Skv",)),
    ],
)
def test_lengths_and_batch_may_be_open(text: str, open_: tuple[str, ...]) -> None:
    (found,) = load(text, "x.mlir")
    assert found.open_dimensions == open_
    assert "?" in to_attn_module(found) and load(to_attn_module(found), "printed") == (found,)
    assert Attention.from_json(found.to_json()) == found
    with pytest.raises(InputError, match=f"{open_[0]}.* is open.*--dim"):
        _ = found.lengths
    given = found.bound({name: 8 for name in open_})
    assert given.open_dimensions == () and "?" not in to_attn_module(given)
    assert load(to_attn_module(given), "printed") == (given,)
    with pytest.raises(UsageError, match="leaves no S open"):
        given.bound({"S": 9})


def test_open_sizes_are_given_one_by_one() -> None:
    made = Attention.make(heads=2, query_length=None, key_length=64, head_dim=32, mask="add")
    closed = made.bound({"S": 100})
    assert closed == Attention.make(heads=2, query_length=100, key_length=64, head_dim=32, mask="add")
    assert closed.lengths == (1, 100, 64) and made.full_shape("q") == (1, 2, None, 32)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_leading_dimensions_of_one_element_may_be_left_out(rank: int) -> None:
    def type_(heads: int, length: int) -> str:
        return "tensor<" + "".join(f"{size}x" for size in (1, heads, length, 64)[4 - rank :]) + "bf16>"

    heads = 1 if rank == 2 else 4
    text = sdpa(type_(heads, 32), type_(heads, 48), type_(heads, 48), attributes="causal = true")
    (found,) = load(text, "x.mlir")
    assert (found.batch, found.heads, found.query_length, found.key_length) == (1, heads, 32, 48)
    assert len(found.argument("k").shape) == rank and found.full_shape("v") == (1, heads, 48, 64)
    assert load(to_attn_module(found), "printed") == (found,)


def test_ranks_may_differ_as_sizes_of_one_do_not_matter() -> None:
    (found,) = load(sdpa("tensor<1x4x64x64xbf16>", "tensor<64x64xbf16>", "tensor<1x64x64xbf16>"), "x.mlir")
    assert (found.heads, found.kv_heads) == (4, 1)
    assert load(to_attn_module(found), "printed") == (found,)


def test_a_mask_may_be_given_transposed() -> None:
    mask = "tensor<1x1x64x64xf32>"
    turned = (
        f"  %e = tensor.empty() : {mask}\n"
        f"  %t = linalg.transpose ins(%a3 : {mask}) outs(%e : {mask}) permutation = [0, 1, 3, 2]\n"
    )
    text = sdpa(mask=mask).replace("{\n", "{\n" + turned, 1).replace("%a3) {}", "%t) {}")
    (found,) = load(text, "turned.mlir")
    assert found.argument("mask").layout == ((), (), (("D", 64),), (("S", 64),))
    assert load(to_attn_module(found), "printed.mlir") == (found,)


def test_int8_arguments_mean_int8_precision() -> None:
    (found,) = load(sdpa(I8, I8, I8, out=Q, attributes="q_scale = 0.1 : f64"), "x.mlir")
    assert found.precision == "int8" and found.argument("q").dtype == "i8" and found.k_scale is None
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize(
    "attribute, name, value",
    [
        ("q_scale = 0.5 : f64", "q_scale", (0.5,)),
        ("k_scale = [0.5, 0.25, 1.0, 2.0]", "k_scale", (0.5, 0.25, 1.0, 2.0)),
        ("v_scale = array<f64: 1.0, 2.0, 3.0, 4.0>", "v_scale", (1.0, 2.0, 3.0, 4.0)),
        ("o_scale = [0.5, 0.25, 1.0, 2.0]", "o_scale", (0.5, 0.25, 1.0, 2.0)),
    ],
)
def test_factors_of_integers_arrive_and_are_printed_back(attribute: str, name: str, value: object) -> None:
    attributes = attribute if name == "o_scale" else f"{attribute}, o_scale = 2.0 : f64"
    (found,) = load(sdpa(I8, I8, I8, attributes=attributes), "x.mlir")
    assert getattr(found, name) == value
    assert load(to_attn_module(found), "printed") == (found,)


def test_one_argument_may_be_key_and_value() -> None:
    text = f"""func.func @f(%x: {Q}, %y: {Q}) -> {Q} {{
      %o = "attn.sdpa"(%y, %x, %x) : ({Q}, {Q}, {Q}) -> {Q}
      return %o : {Q}
    }}"""
    (found,) = load(text, "x.mlir")
    assert [a.roles for a in found.arguments] == [("k", "v"), ("q",), ("out",)]
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize(
    "made", ["%two = arith.addf %a0, %a0", "%c = arith.constant dense<2.0> : {Q}\n  %two = arith.mulf %a0, %c"]
)
def test_operands_that_are_computed_are_made_on_the_host(made: str) -> None:
    text = sdpa().replace('  %o = "attn.sdpa"(%a0', f'  {made.format(Q=Q)} : {Q}\n  %o = "attn.sdpa"(%two')
    (found,) = load(text, "x.mlir")
    (alone,) = load(sdpa(), "x.mlir")
    assert found.within == "f" and set(found.arguments) == set(alone.arguments)
    assert replace(found, function="f", within=None, arguments=alone.arguments) == alone


def test_scales_print_exactly() -> None:
    for scale in (1 / 3, 1e-30, 2.0**100, 0.0771516750, math.pi):
        made = Attention.make(heads=1, query_length=64, head_dim=64, scale=scale, function="any name é")
        assert load(to_attn_module(made), "printed") == (made,)


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"heads": 3, "kv_heads": 2}, "3 query heads are not a multiple of 2"),
        ({"scale": math.inf}, "scale inf"),
        ({"scale": math.nan}, "scale nan"),
        ({"batch": 0}, "batch is 0"),
        ({"dtype": "i8"}, "o_scale does not say"),
        ({"dtype": "i8", "o_scale": (1.0, 2.0, 3.0)}, "o_scale has 3 factors"),
        (
            {"dtype": "i8", "o_scale": (1.0,), "kv_heads": 1, "k_scale": (1.0, 2.0)},
            "k_scale has 2 factors, neither one nor one for each of 1 heads",
        ),
        ({"window": 0}, "window 0"),
        ({"recipe": "slow"}, "recipe 'slow' is unknown"),
        ({"dtype": "f64"}, "element type f64"),
        ({"head_dim": 0}, "head_dim is 0"),
        ({"mask": "keep", "mask_": None}, None),
    ],
)
def test_descriptions_made_in_python_are_checked(changes: dict, reason: str | None) -> None:
    changes.pop("mask_", None)
    arguments = {"heads": 2, "query_length": 64, "head_dim": 64, **changes}
    if reason is None:
        assert Attention.make(**arguments).argument("mask").dtype == "i1"
        return
    with pytest.raises(InputError) as caught:
        Attention.make(**arguments)
    assert reason in str(caught.value)
