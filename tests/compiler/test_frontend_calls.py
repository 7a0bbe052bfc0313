"""Attention in the functions that a function calls, in StableHLO's composites, and as ONNX has it."""

from __future__ import annotations

import pytest
from edited_examples import reason
from written_out import CUBE, written_out

from npuc.compiler.frontend import load

WHOLE = written_out()


def called(softmax: str = "") -> str:
    """@main calls @attention, which calls @softmax."""
    inner = WHOLE.replace("func.func @main", "func.func private @attention")
    assert "func.func private @attention" in inner
    call = f"  %o = call @attention(%q, %k, %v) : ({CUBE}, {CUBE}, {CUBE}) -> {CUBE}\n  return %o : {CUBE}\n}}\n"
    return f"{softmax}{inner}\nfunc.func @main(%q: {CUBE}, %k: {CUBE}, %v: {CUBE}) -> {CUBE} {{\n{call}"


def test_a_function_that_calls_an_attention_is_it() -> None:
    (wanted,), (found,) = load(WHOLE, "f.mlir"), load(called(), "f.mlir")
    assert found == wanted and found.within is None


def test_the_function_that_is_called_can_be_asked_for() -> None:
    (found,) = load(called(), "f.mlir", "attention")
    assert found.function == "attention" and found.within is None


def test_calls_in_what_is_called_are_followed() -> None:
    both = called().replace("@main", "@outer") + called().replace("private @attention", "private @other").replace(
        "call @attention", "call @outer"
    ).replace("@other", "@unused")
    (found,) = load(both, "f.mlir", "main")
    assert found.within is None and found.scale == 0.125


def test_a_function_that_calls_itself_is_refused() -> None:
    text = f"func.func @f(%q: {CUBE}) -> {CUBE} {{\n  %o = call @f(%q) : ({CUBE}) -> {CUBE}\n  return %o : {CUBE}\n}}\n"
    assert "func.call: operations of the dialect func are not recognised" in str(reason(text))


def test_a_call_that_changes_something_is_what_differs() -> None:
    doubled = (
        f"func.func private @twice(%x: {CUBE}) -> {CUBE} {{\n  %y = arith.addf %x, %x : {CUBE}\n"
        f"  return %y : {CUBE}\n}}\n"
    )
    text = called(doubled).replace("return %o :", f"%more = call @twice(%o) : ({CUBE}) -> {CUBE}\n  return %more :")
    assert "arith.addf: it changes the attention result" in str(reason(text))


T4, S4, KT4 = "tensor<1x2x8x16xf32>", "tensor<1x2x8x8xf32>", "tensor<1x2x16x8xf32>"
PARTS = f"""func.func private @parts(%q: {T4}, %k: {T4}, %v: {T4}) -> {T4} {{
  %s = stablehlo.dot_general %q, %k, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [3]
    : ({T4}, {T4}) -> {S4}
  %low = stablehlo.constant dense<0xFF800000> : tensor<f32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %m = stablehlo.reduce(%s init: %low) applies stablehlo.maximum across dimensions = [3]
    : ({S4}, tensor<f32>) -> tensor<1x2x8xf32>
  %mb = stablehlo.broadcast_in_dim %m, dims = [0, 1, 2] : (tensor<1x2x8xf32>) -> {S4}
  %d = stablehlo.subtract %s, %mb : {S4}
  %e = stablehlo.exponential %d : {S4}
  %l = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [3]
    : ({S4}, tensor<f32>) -> tensor<1x2x8xf32>
  %lb = stablehlo.broadcast_in_dim %l, dims = [0, 1, 2] : (tensor<1x2x8xf32>) -> {S4}
  %p = stablehlo.divide %e, %lb : {S4}
  %o = stablehlo.dot_general %p, %v, batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2]
    : ({S4}, {T4}) -> {T4}
  return %o : {T4}
}}
"""


def test_a_composite_is_what_it_decomposes_to() -> None:
    text = f"""module {{
  {PARTS}
  func.func public @main(%q: {T4}, %k: {T4}, %v: {T4}) -> {T4} {{
    %o = stablehlo.composite "odml.scaled_dot_product_attention" %q, %k, %v
      {{decomposition = @parts, version = 1 : i32}} : ({T4}, {T4}, {T4}) -> {T4}
    return %o : {T4}
  }}
}}"""
    (found,) = load(text, "f.mlir")
    assert (found.function, found.within, found.scale, found.heads, found.query_length) == ("main", None, 1.0, 2, 8)


def onnx(steps: str) -> str:
    """A graph of Q, K^T's transpose K and V, as torch-mlir imports it; the result is %o."""

    def of(type_: str) -> str:
        return type_.replace("tensor<", "!torch.vtensor<[").replace("xf32>", "],f32>").replace("x", ",")

    q, s, kt, one = (of(t) for t in (T4, S4, KT4, "tensor<xf32>"))
    kinds = {"q": q, "k": q, "v": q, "kt": kt, "c": one, "o": q}
    body = ""
    for step in steps.strip().splitlines():
        name, operation, operands, *attributes = (part.strip() for part in step.split("|"))
        names = operands.split()
        types = ", ".join(kinds.get(n, s) for n in names)
        given = ", ".join(f"%{n}" for n in names)
        says = f" {{{attributes[0]}}}" if attributes else ""
        body += f'  %{name} = torch.operator "onnx.{operation}"({given}){says} : ({types}) -> {kinds.get(name, s)}\n'
    return (
        f"func.func @main_graph(%q: {q}, %k: {q}, %v: {q}) -> {q}"
        " attributes {torch.onnx_meta.ir_version = 8 : si64, torch.onnx_meta.opset_version = 17 : si64} {\n"
        f"{body}  return %o : {q}\n}}\n"
    )


GRAPH = """
kt | Transpose | k      | torch.onnx.perm = [0 : si64, 1 : si64, 3 : si64, 2 : si64]
x  | MatMul    | q kt
c  | Constant  |        | torch.onnx.value = dense<8.0> : tensor<f32>
y  | Div       | x c
p  | Softmax   | y      | torch.onnx.axis = -1 : si64
o  | MatMul    | p v
"""


def test_a_graph_of_onnx_is_recognised() -> None:
    (found,) = load(onnx(GRAPH), "f.mlir")
    assert (found.function, found.within, found.scale, found.heads) == ("main_graph", None, 0.125, 2)


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("-1 : si64", "-2 : si64", "the softmax runs along another axis"),
        ("Div       | x c", "Sub       | x c", "arith.subf"),
    ],
)
def test_another_graph_is_refused(old: str, new: str, message: str) -> None:
    assert old in GRAPH
    assert message in str(reason(onnx(GRAPH.replace(old, new))))
