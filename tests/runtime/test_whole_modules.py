"""Functions with attention inside: the attention on a backend, the rest on the host, checked as a whole."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from layered import E, S, layers, wanted

import npuc
from npuc.compiler.cli import group
from npuc.compiler.diagnostics import InputError
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


def test_a_long_function_without_attention_is_refused() -> None:
    steps = "".join(f"  %{n + 1} = math.absf %{n} : tensor<4x4xf32>\n" for n in range(2001))
    text = f"func.func @long(%x: tensor<4x4xf32>) -> tensor<4x4xf32> {{\n  %0 = math.absf %x : tensor<4x4xf32>\n{steps}"
    with pytest.raises(InputError, match="more than an attention, and none is in them"):
        load(text + "  return %2001 : tensor<4x4xf32>\n}\n", "long.mlir")
