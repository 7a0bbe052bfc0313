"""Functions with attention inside: the attention on a backend, the rest on the host, checked as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import npuc
from npuc.compiler.cli import group
from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load, nearby

S, E, H, D = 16, 32, 2, 16


def product(name: str, left: str, right: str, shape: tuple[int, int, int]) -> str:
    """%name [m, n] = %left [m, k] x %right [k, n], shape (m, n, k)."""
    m, n, k = shape
    t = f"tensor<{m}x{n}xf32>"
    return (
        f"  %{name}_e = tensor.empty() : {t}\n"
        f"  %{name}_z = linalg.fill ins(%zero : f32) outs(%{name}_e : {t}) -> {t}\n"
        f"  %{name} = linalg.matmul ins(%{left}, %{right} : tensor<{m}x{k}xf32>, tensor<{k}x{n}xf32>)"
        f" outs(%{name}_z : {t}) -> {t}\n"
    )


def heads(name: str, of: str) -> str:
    """%name [H, S, D] of %of [S, H*D]."""
    return (
        f"  %{name}_p = tensor.expand_shape %{of} [[0], [1, 2]] output_shape [{S}, {H}, {D}]"
        f" : tensor<{S}x{E}xf32> into tensor<{S}x{H}x{D}xf32>\n"
        f"  %{name}_s = tensor.empty() : tensor<{H}x{S}x{D}xf32>\n"
        f"  %{name} = linalg.transpose ins(%{name}_p : tensor<{S}x{H}x{D}xf32>)"
        f" outs(%{name}_s : tensor<{H}x{S}x{D}xf32>) permutation = [1, 0, 2]\n"
    )


def attention(number: int, of: str, scale: float) -> str:
    """One self-attention with residual: %out<number> [S, E]."""
    n, cube, full = number, f"tensor<{H}x{S}x{D}xf32>", f"tensor<{H}x{S}x{S}xf32>"
    text = "".join(product(f"{x}{n}m", of, f"w{x}{n}", (S, E, E)) + heads(f"{x}{n}", f"{x}{n}m") for x in "qkv")
    return text + (
        f"  %c{n} = arith.constant {scale} : f32\n"
        f"  %s{n}e = tensor.empty() : {full}\n"
        f"  %s{n}z = linalg.fill ins(%zero : f32) outs(%s{n}e : {full}) -> {full}\n"
        f"  %s{n} = linalg.batch_matmul indexing_maps = [#l, #r, #s] ins(%q{n}, %k{n} : {cube}, {cube})"
        f" outs(%s{n}z : {full}) -> {full}\n"
        f"  %t{n} = linalg.map ins(%s{n} : {full}) outs(%s{n}e : {full})\n"
        f"    (%in: f32, %init: f32) {{ %m = arith.mulf %in, %c{n} : f32\n linalg.yield %m : f32 }}\n"
        f"  %p{n} = linalg.softmax dimension(2) ins(%t{n} : {full}) outs(%s{n}e : {full}) -> {full}\n"
        f"  %o{n}e = tensor.empty() : {cube}\n"
        f"  %o{n}z = linalg.fill ins(%zero : f32) outs(%o{n}e : {cube}) -> {cube}\n"
        f"  %o{n} = linalg.batch_matmul ins(%p{n}, %v{n} : {full}, {cube}) outs(%o{n}z : {cube}) -> {cube}\n"
        f"  %b{n}e = tensor.empty() : tensor<{S}x{H}x{D}xf32>\n"
        f"  %b{n} = linalg.transpose ins(%o{n} : {cube}) outs(%b{n}e : tensor<{S}x{H}x{D}xf32>)"
        f" permutation = [1, 0, 2]\n"
        f"  %y{n} = tensor.collapse_shape %b{n} [[0], [1, 2]] : tensor<{S}x{H}x{D}xf32> into tensor<{S}x{E}xf32>\n"
        f"  %out{n} = arith.addf %y{n}, %{of} : tensor<{S}x{E}xf32>\n"
    )


def layers(*scales: float) -> str:
    """A function of x and of three weights a layer."""
    weights = ", ".join(f"%w{x}{n}: tensor<{E}x{E}xf32>" for n in range(len(scales)) for x in "qkv")
    text = (
        "#l = affine_map<(h, i, j, d) -> (h, i, d)>\n#r = affine_map<(h, i, j, d) -> (h, j, d)>\n"
        "#s = affine_map<(h, i, j, d) -> (h, i, j)>\n"
        f"func.func @model(%x: tensor<{S}x{E}xf32>, {weights}) -> tensor<{S}x{E}xf32> {{\n"
        "  %zero = arith.constant 0.0 : f32\n"
    )
    last = "x"
    for n, scale in enumerate(scales):
        text += attention(n, last, scale)
        last = f"out{n}"
    return text + f"  return %{last} : tensor<{S}x{E}xf32>\n}}\n"


def wanted(scales: tuple[float, ...], x: np.ndarray, *weights: np.ndarray) -> np.ndarray:
    x, weights = x.astype(np.float64), tuple(w.astype(np.float64) for w in weights)
    for n, scale in enumerate(scales):
        q, k, v = ((x @ w).reshape(S, H, D).swapaxes(0, 1) for w in weights[3 * n : 3 * n + 3])
        scores = np.exp(scale * (q @ k.swapaxes(1, 2)))
        x = x + ((scores / scores.sum(-1, keepdims=True)) @ v).swapaxes(0, 1).reshape(S, E)
    return x


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


def test_two_kinds_of_attention_are_not_one_kernel() -> None:
    with pytest.raises(InputError, match="2 attentions of 2 kinds: @model_attention_0, @model_attention_1"):
        npuc.compile(layers(0.25, 0.125))


def test_what_is_far_from_an_attention_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(layers(0.25, 0.125), "model.mlir")
    monkeypatch.setattr(nearby, "FEW", 0)
    assert load(layers(0.25, 0.125), "model.mlir") == whole


def test_a_long_function_without_attention_is_refused() -> None:
    steps = "".join(f"  %{n + 1} = math.absf %{n} : tensor<4x4xf32>\n" for n in range(2001))
    text = f"func.func @long(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {{\n  %0 = math.absf %x : tensor<4x4xf32>\n{steps}"
    with pytest.raises(InputError, match="more than an attention, and none is in them"):
        load(text + "  return %2001 : tensor<4x4xf32>\n}\n", "long.mlir")
