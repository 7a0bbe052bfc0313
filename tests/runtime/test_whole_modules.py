"""Functions with attention inside: the attention on a backend, the rest on the host, checked as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from layered import E, S, layers, product, wanted

import npuc
from npuc.compiler.cli import group
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.frontend import load, nearby


@pytest.mark.parametrize("scales", [(0.25,), (0.25, 0.25), (0.25, 0.125)])
def test_layers_run_with_their_attention_on_a_backend(scales: tuple[float, ...], tmp_path: Path) -> None:
    path = tmp_path / "model.mlir"
    path.write_text(layers(*scales))
    rng = np.random.default_rng(3)
    x = rng.standard_normal((S, E)).astype(np.float32)
    weights = [(rng.standard_normal((E, E)) / np.sqrt(E)).astype(np.float32) for _ in range(3 * len(scales))]
    with npuc.load(path, backend="reference") as model:
        out = model(x, *weights)
    assert out.shape == (S, E)
    assert np.abs(out - wanted(scales, x, *weights)).max() < 1e-4


def test_each_attention_of_a_function_is_a_function_of_its_own() -> None:
    found = load(layers(0.25, 0.125), "model.mlir")
    assert [a.function for a in found] == ["model_attention_0", "model_attention_1"]
    assert [a.scale for a in found] == [0.25, 0.125] and {a.within for a in found} == {"model"}
    assert all(a.source_shape == (S, E) for attention in found for a in attention.arguments)


def test_a_function_of_any_name_is_cut() -> None:
    (found,) = load(layers(0.25).replace("@model", '@"a layer, \\22one\\22"'), "model.mlir")
    assert found.function == 'a layer, "one"_attention' and found.within == 'a layer, "one"'


def test_a_run_checks_the_whole_function(tmp_path: Path) -> None:
    path = tmp_path / "model.mlir"
    path.write_text(layers(0.25))
    result = CliRunner().invoke(group, ["run", str(path), "--backend", "reference", "--check", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["check"]["passed"] and report["check"]["elements"] == S * E
    assert list(report["outputs"]) == ["result0"]


def test_what_is_far_from_an_attention_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(layers(0.25, 0.125), "model.mlir")
    monkeypatch.setattr(nearby, "FEW", 0)
    assert load(layers(0.25, 0.125), "model.mlir") == whole


def test_what_constants_were_reshaped_to_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """K times a number that came as a tensor of one element: K is the projection's result all the same."""
    cube = "tensor<2x16x16xf32>"
    scaled = f"""  %half = arith.constant dense<0.5> : tensor<1xf32>
  %flat = tensor.collapse_shape %half [] : tensor<1xf32> into tensor<f32>
  %ke = tensor.empty() : {cube}
  %halves = linalg.broadcast ins(%flat : tensor<f32>) outs(%ke : {cube}) dimensions = [0, 1, 2]
  %kh = linalg.map ins(%k0, %halves : {cube}, {cube}) outs(%ke : {cube})
    (%in: f32, %by: f32, %init: f32) {{ %m = arith.mulf %in, %by : f32
 linalg.yield %m : f32 }}
  %s0 = """
    text = layers(0.25).replace("  %s0 = ", scaled).replace("ins(%q0, %k0 :", "ins(%q0, %kh :")
    for few in (nearby.FEW, 0):
        monkeypatch.setattr(nearby, "FEW", few)
        (found,) = load(text, "model.mlir")
        assert found.scale == 0.125 and all(a.source_shape == (S, E) for a in found.arguments)


def test_a_long_function_without_attention_is_refused() -> None:
    steps = "".join(f"  %{n + 1} = math.absf %{n} : tensor<4x4xf32>\n" for n in range(2001))
    text = f"func.func @long(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {{\n  %0 = math.absf %x : tensor<4x4xf32>\n{steps}"
    with pytest.raises(InputError, match="more than an attention, and none is in them"):
        load(text + "  return %2001 : tensor<4x4xf32>\n}\n", "long.mlir")


LENGTHS = """
#l = affine_map<(h, i, j, d) -> (h, i, d)>
#r = affine_map<(h, i, j, d) -> (h, j, d)>
#s = affine_map<(h, i, j, d) -> (h, i, j)>
func.func @upto(%q: tensor<2x8x16xf32>, %k: tensor<2x8x16xf32>, %v: tensor<2x8x16xf32>, %n: tensor<1xi32>, %m: i64)
    -> tensor<2x8x16xf32> {
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : tensor<2x8x8xf32>
  %z = linalg.fill ins(%zero : f32) outs(%e : tensor<2x8x8xf32>) -> tensor<2x8x8xf32>
  %x = linalg.batch_matmul indexing_maps = [#l, #r, #s] ins(%q, %k : tensor<2x8x16xf32>, tensor<2x8x16xf32>)
    outs(%z : tensor<2x8x8xf32>) -> tensor<2x8x8xf32>
  %me = tensor.empty() : tensor<8xi1>
  %keep = linalg.generic {indexing_maps = [affine_map<(j) -> (0)>, affine_map<(j) -> (j)>],
      iterator_types = ["parallel"]} ins(%n : tensor<1xi32>) outs(%me : tensor<8xi1>) {
  ^bb0(%a: i32, %o: i1):
    %j = linalg.index 0 : index
    %w = arith.index_cast %j : index to i32
    %t = arith.trunci %m : i64 to i32
    %u = arith.addi %a, %t : i32
    %c = arith.cmpi slt, %w, %u : i32
    linalg.yield %c : i1
  } -> tensor<8xi1>
  %y = linalg.generic {indexing_maps = [affine_map<(h, i, j) -> (h, i, j)>, affine_map<(h, i, j) -> (j)>,
      affine_map<(h, i, j) -> (h, i, j)>], iterator_types = ["parallel", "parallel", "parallel"]}
    ins(%x, %keep : tensor<2x8x8xf32>, tensor<8xi1>) outs(%e : tensor<2x8x8xf32>) {
  ^bb0(%a: f32, %b: i1, %o: f32):
    %low = arith.constant 0xFF800000 : f32
    %p = arith.select %b, %a, %low : f32
    linalg.yield %p : f32
  } -> tensor<2x8x8xf32>
  %p = linalg.softmax dimension(2) ins(%y : tensor<2x8x8xf32>) outs(%e : tensor<2x8x8xf32>) -> tensor<2x8x8xf32>
  %f = tensor.empty() : tensor<2x8x16xf32>
  %g = linalg.fill ins(%zero : f32) outs(%f : tensor<2x8x16xf32>) -> tensor<2x8x16xf32>
  %o = linalg.batch_matmul ins(%p, %v : tensor<2x8x8xf32>, tensor<2x8x16xf32>) outs(%g : tensor<2x8x16xf32>)
    -> tensor<2x8x16xf32>
  return %o : tensor<2x8x16xf32>
}
"""


def test_a_mask_is_made_of_whole_numbers_on_the_host(tmp_path: Path) -> None:
    path = tmp_path / "upto.mlir"
    path.write_text(LENGTHS)
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((2, 8, 16)).astype(np.float32) for _ in "qkv")
    with npuc.load(path, backend="reference") as model:
        out = model(q, k, v, np.array([3]), np.array(2))
        with pytest.raises(InputError, match="argument arg3 holds numbers that i32 does not"):
            model(q, k, v, np.array([1 << 40]), np.array(2))
        with pytest.raises(InputError, match="argument arg4 expects whole numbers, got float64"):
            model(q, k, v, np.array([3]), np.array(2.0))
    scores = np.exp(q.astype(np.float64) @ k.swapaxes(1, 2))[..., :5]
    expected = (scores / scores.sum(-1, keepdims=True)) @ v[:, :5]
    assert np.abs(out - expected).max() < 1e-5
    result = CliRunner().invoke(group, ["run", str(path), "--backend", "reference", "--check", "--random", "3"])
    assert result.exit_code == 0, result.output


def test_what_is_rounded_before_it_is_attended_is_taken_rounded() -> None:
    """A layer in bf16 whose V is a sum in f32: the three are taken in bf16, as the attention reads them."""
    text = layers(0.25).replace("xf32>", "xbf16>").replace(": f32", ": bf16")
    wide, narrow = f"tensor<{S}x{E}xf32>", f"tensor<{S}x{E}xbf16>"
    summed = product("v0m", "x", "wv0", (S, E, E)).replace(f"tensor<{E}x{E}xf32>", f"tensor<{E}x{E}xbf16>")
    summed = summed.replace(f"%x, %wv0 : {wide}", f"%x, %wv0 : {narrow}").replace("%zero", "%wide")
    rounded = f"  %wide = arith.constant 0.0 : f32\n{summed}  %v0r = arith.truncf %v0m : {wide} to {narrow}\n"
    before = product("v0m", "x", "wv0", (S, E, E)).replace("xf32>", "xbf16>").replace(": f32", ": bf16")
    assert before in text
    text = text.replace(before, rounded).replace("expand_shape %v0m ", "expand_shape %v0r ")
    (found,) = load(text, "model.mlir")
    assert {argument.dtype for argument in found.arguments} == {"bf16"}


def dot(left: str, right: str, types: str, dims: str) -> str:
    return f"stablehlo.dot_general {left}, {right}, {dims} : {types}\n"


def folded_layer() -> str:
    """A layer in StableHLO whose batch and positions are one dimension, and which turns Q as rotary embeddings do."""
    flat, part, cube = "tensor<16x32xf32>", "tensor<2x8x2x16xf32>", "tensor<2x2x8x16xf32>"
    half, square, row = "tensor<2x2x8x8xf32>", "tensor<2x2x8x8xf32>", "tensor<2x2x8xf32>"
    weights = ", ".join(f"%w{n}: tensor<32x32xf32>" for n in "qkv")
    text = f"func.func @main(%x: tensor<2x8x32xf32>, {weights}) -> {flat} {{\n"
    text += f"  %f = stablehlo.reshape %x : (tensor<2x8x32xf32>) -> {flat}\n"
    for n in "qkv":
        text += f"  %{n}m = " + dot(
            "%f", f"%w{n}", f"({flat}, tensor<32x32xf32>) -> {flat}", "contracting_dims = [1] x [0]"
        )
        text += f"  %{n}p = stablehlo.reshape %{n}m : ({flat}) -> {part}\n"
        text += f"  %{n} = stablehlo.transpose %{n}p, dims = [0, 2, 1, 3] : ({part}) -> {cube}\n"
    slices = (("lo", "0:2, 0:2, 0:8, 0:8"), ("hi", "0:2, 0:2, 0:8, 8:16"))
    text += "".join(f"  %{n} = stablehlo.slice %q [{at}] : ({cube}) -> {half}\n" for n, at in slices)
    batch = "batching_dims = [0, 1] x [0, 1], contracting_dims = "
    return text + (
        f"  %neg = stablehlo.negate %hi : {half}\n"
        f"  %t = stablehlo.concatenate %neg, %lo, dim = 3 : ({half}, {half}) -> {cube}\n"
        "  %s = " + dot("%t", "%k", f"({cube}, {cube}) -> {square}", batch + "[3] x [3]") +
        "  %low = stablehlo.constant dense<0xFF800000> : tensor<f32>\n"
        "  %zero = stablehlo.constant dense<0.0> : tensor<f32>\n"
        f"  %m = stablehlo.reduce(%s init: %low) applies stablehlo.maximum across dimensions = [3]"
        f" : ({square}, tensor<f32>) -> {row}\n"
        f"  %mb = stablehlo.broadcast_in_dim %m, dims = [0, 1, 2] : ({row}) -> {square}\n"
        f"  %d = stablehlo.subtract %s, %mb : {square}\n  %e = stablehlo.exponential %d : {square}\n"
        f"  %u = stablehlo.reduce(%e init: %zero) applies stablehlo.add across dimensions = [3]"
        f" : ({square}, tensor<f32>) -> {row}\n"
        f"  %ub = stablehlo.broadcast_in_dim %u, dims = [0, 1, 2] : ({row}) -> {square}\n"
        f"  %p = stablehlo.divide %e, %ub : {square}\n"
        "  %o = " + dot("%p", "%v", f"({square}, {cube}) -> {cube}", batch + "[3] x [2]") +
        f"  %ot = stablehlo.transpose %o, dims = [0, 2, 1, 3] : ({cube}) -> {part}\n"
        f"  %r = stablehlo.reshape %ot : ({part}) -> {flat}\n  return %r : {flat}\n}}\n"
    )  # fmt: skip


def test_batch_and_positions_may_be_one_dimension(tmp_path: Path) -> None:
    path = tmp_path / "layer.mlir"
    path.write_text(folded_layer())
    (found,) = load(folded_layer(), "layer.mlir")
    assert (found.batch, found.heads, found.query_length, found.head_dim) == (2, 2, 8, 16)
    result = CliRunner().invoke(group, ["run", str(path), "--backend", "reference", "--check"])
    assert result.exit_code == 0, result.output


OPEN = """
func.func @open(%x: tensor<2x?x16xf32>, %b: tensor<?x16xf32>) -> (tensor<2x?x16xf32>, tensor<?x16xf32>) {
  %one = arith.constant 1 : index
  %n = tensor.dim %x, %one : tensor<2x?x16xf32>
  %e = tensor.empty(%n) : tensor<2x?x16xf32>
  %y = linalg.generic {indexing_maps = [affine_map<(h, i, d) -> (h, i, d)>, affine_map<(h, i, d) -> (i, d)>,
      affine_map<(h, i, d) -> (h, i, d)>], iterator_types = ["parallel", "parallel", "parallel"]}
    ins(%x, %b : tensor<2x?x16xf32>, tensor<?x16xf32>) outs(%e : tensor<2x?x16xf32>) {
  ^bb0(%a: f32, %c: f32, %o: f32):
    %s = arith.addf %a, %c : f32
    linalg.yield %s : f32
  } -> tensor<2x?x16xf32>
  %o = "attn.sdpa"(%y, %y, %x) {causal = true} : (tensor<2x?x16xf32>, tensor<2x?x16xf32>, tensor<2x?x16xf32>)
    -> tensor<2x?x16xf32>
  %r = arith.addf %o, %x : tensor<2x?x16xf32>
  return %r, %b : tensor<2x?x16xf32>, tensor<?x16xf32>
}
"""


@pytest.mark.parametrize("length", [5, 12])
def test_a_call_gives_the_lengths_that_a_function_leaves_open(length: int, tmp_path: Path) -> None:
    path = tmp_path / "open.mlir"
    path.write_text(OPEN)
    rng = np.random.default_rng(7)
    x, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((2, length, 16), (length, 16)))
    with npuc.load(path, backend="reference") as model:
        out, same = model(x, b)
    y = (x + b).astype(np.float64)
    scores = np.where(np.tri(length, dtype=bool), y @ y.swapaxes(1, 2) / 4, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    assert np.abs(weights / weights.sum(-1, keepdims=True) @ x + x - out).max() < 1e-4
    np.testing.assert_array_equal(same, b)


def test_open_lengths_of_a_function_are_named_by_argument_and_dimension(tmp_path: Path) -> None:
    path = tmp_path / "open.mlir"
    path.write_text(OPEN)

    def run(*dims: str) -> Result:
        given = [part for dim in dims for part in ("--dim", dim)]
        return CliRunner().invoke(group, ["run", str(path), "--backend", "reference", "--check", "--json", *given])

    report = json.loads(run("arg0.1=9", "arg1.0=9").stdout)
    assert report["check"]["passed"] and report["outputs"]["result0"]["shape"] == [2, 9, 16]
    assert "arg0.1, arg1.0 is open (give it by the arrays or as --dim arg0.1=N)" in str(run().exception)
    refused = run("S=9").exception
    assert isinstance(refused, UsageError) and "leaves no S open (open: arg0.1, arg1.0)" in str(refused)
