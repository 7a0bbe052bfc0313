"""TOSA, StableHLO and torch become linalg on tensors where they are read, and keep their places."""

from __future__ import annotations

import pytest

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load
from npuc.compiler.frontend.lower import dialects
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.place import place_of

LINALG = {"builtin", "func", "linalg", "tensor", "arith", "math"}
TENSOR = "tensor<2x3xf32>"
VTENSOR = "!torch.vtensor<[2,3],f32>"


def function(body: str, type_: str = TENSOR) -> str:
    """A function of one argument %a whose result is %r."""
    return f"func.func @f(%a: {type_}) -> {type_} {{\n{body}\n  return %r : {type_}\n}}"


TEXTS = {
    "tosa": function(f"  %r = tosa.exp %a : ({TENSOR}) -> {TENSOR}"),
    "stablehlo": function(f"  %r = stablehlo.exponential %a : {TENSOR}"),
    "chlo": function(f"  %r = chlo.erf %a : {TENSOR} -> {TENSOR}"),
    "torch": function(f"  %r = torch.aten.exp %a : {VTENSOR} -> {VTENSOR}", VTENSOR),
    "torch after its decompositions": function(f"  %r = torch.aten.silu %a : {VTENSOR} -> {VTENSOR}", VTENSOR),
    "a call": "func.func private @g(%a: tensor<2x3xf32>) -> tensor<2x3xf32> {\n  %r = stablehlo.negate %a"
    f" : {TENSOR}\n  return %r : {TENSOR}\n}}\n" + function(f"  %r = call @g(%a) : ({TENSOR}) -> {TENSOR}"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_it_becomes_linalg_on_tensors(name):
    module = parse(TEXTS[name], "f.mlir")
    assert dialects(module) <= LINALG
    entry = str(module).rpartition("func.func @f")[2]
    assert entry.startswith(f"(%arg0: {TENSOR}) -> {TENSOR}") and "linalg.generic" in entry and "call" not in entry


def test_places_are_kept():
    text = "\n\n" + TEXTS["stablehlo"]
    module = parse(text, "f.mlir")
    body = module.body.operations[0].regions[0].blocks[0].operations
    (operation,) = [inner for inner in body if inner.name == "linalg.generic"]
    assert str(place_of(operation.location, "f.mlir")) == "f.mlir:4:8"


def test_what_holds_none_of_these_stays_as_it_is():
    text = function(f"  %c = arith.constant dense<1.0> : {TENSOR}\n  %d = arith.addf %c, %c : {TENSOR}\n"
                    f"  %r = arith.addf %a, %a : {TENSOR}")  # fmt: skip
    assert str(parse(text, "f.mlir")).count("arith.") == 3


@pytest.mark.parametrize(
    "text, message",
    [
        (
            function(f'  %r = torch.operator "my.op"(%a) : ({VTENSOR}) -> {VTENSOR}', VTENSOR),
            "f.mlir:2:8: lowering torch to linalg: failed to legalize operation 'torch.operator'",
        ),
        (
            function(f'  %r = tosa.custom %a {{operator_name="x", domain_name="y", implementation_attrs=""}}'
                     f" : ({TENSOR}) -> {TENSOR}"),
            "f.mlir:2:8: lowering tosa to linalg: failed to legalize operation 'tosa.custom'",
        ),
        (
            function(f"  %r = stablehlo.custom_call @foo(%a) : ({TENSOR}) -> {TENSOR}"),
            "f.mlir:2:8: stablehlo.custom_call: operations of the dialect stablehlo",
        ),
    ],
)  # fmt: skip
def test_what_has_no_lowering_is_named_with_its_place(text, message):
    with pytest.raises(InputError) as error:
        load(text, "f.mlir")
    assert str(error.value).startswith(message) and len(str(error.value)) < 1000


def test_torch_attention_is_recognised():
    type_ = "!torch.vtensor<[1,2,128,64],f32>"
    (found,) = load(
        f"""func.func @main(%q: {type_}, %k: {type_}, %v: {type_}) -> {type_} {{
          %none = torch.constant.none
          %zero = torch.constant.float 0.0
          %false = torch.constant.bool false
          %o = torch.aten.scaled_dot_product_attention %q, %k, %v, %none, %zero, %false, %none, %false
            : {type_}, {type_}, {type_}, !torch.none, !torch.float, !torch.bool, !torch.none, !torch.bool -> {type_}
          return %o : {type_}
        }}""",
        "f.mlir",
    )
    assert (found.heads, found.query_length, found.head_dim, found.scale, found.causal) == (2, 128, 64, 0.125, False)
    assert [argument.dtype for argument in found.arguments] == ["f32"] * 4


def test_tm_tensor_is_read_in_its_custom_form():
    text = f"""func.func @f(%a: {TENSOR}) -> {TENSOR} {{
      %r = tm_tensor.attention ins(%a, %a, %a : {TENSOR}, {TENSOR}, {TENSOR}) outs(%a : {TENSOR}) -> {TENSOR}
      return %r : {TENSOR}
    }}"""
    (found,) = load(text, "f.mlir")
    assert found.arguments[0].roles == ("q", "k", "v")
