"""Checks of functions with attention inside: against the source as it was given, whatever recognition made of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npuc
from npuc.compiler.frontend import combine_masks
from npuc.runtime.judgement import CheckResult
from npuc.runtime.whole_check import check_whole
from npuc.runtime.whole_modules import WholeExecutable

CUBE, SCORES = "tensor<2x8x16xf32>", "tensor<2x8x8xf32>"
# Two masks are added to the scores, which become one; the result's fourth power grows what it is off by.
TEXT = f"""
#l = affine_map<(h, i, j, d) -> (h, i, d)>
#r = affine_map<(h, i, j, d) -> (h, j, d)>
#s = affine_map<(h, i, j, d) -> (h, i, j)>
func.func @main(%q: {CUBE}, %k: {CUBE}, %v: {CUBE}, %a: {SCORES}, %b: {SCORES}) -> {CUBE} {{
  %zero = arith.constant 0.0 : f32
  %e = tensor.empty() : {SCORES}
  %z = linalg.fill ins(%zero : f32) outs(%e : {SCORES}) -> {SCORES}
  %x = linalg.batch_matmul indexing_maps = [#l, #r, #s] ins(%q, %k : {CUBE}, {CUBE}) outs(%z : {SCORES}) -> {SCORES}
  %y0 = linalg.add ins(%x, %a : {SCORES}, {SCORES}) outs(%e : {SCORES}) -> {SCORES}
  %y = linalg.add ins(%y0, %b : {SCORES}, {SCORES}) outs(%e : {SCORES}) -> {SCORES}
  %p = linalg.softmax dimension(2) ins(%y : {SCORES}) outs(%e : {SCORES}) -> {SCORES}
  %f = tensor.empty() : {CUBE}
  %g = linalg.fill ins(%zero : f32) outs(%f : {CUBE}) -> {CUBE}
  %o = linalg.batch_matmul ins(%p, %v : {SCORES}, {CUBE}) outs(%g : {CUBE}) -> {CUBE}
  %oo = arith.mulf %o, %o : {CUBE}
  %r = arith.mulf %oo, %oo : {CUBE}
  return %r : {CUBE}
}}
"""


Repeated = Callable[[Any, Any, Any], Any]


def drawn() -> list[np.ndarray]:
    rng = np.random.default_rng(9)
    cubes = [rng.standard_normal((2, 8, 16)).astype(np.float32) for _ in "qkv"]
    return [*cubes, *(rng.standard_normal((2, 8, 8)).astype(np.float32) for _ in "ab")]


def checked(path: Path, arrays: list[np.ndarray], off: float = 1.0) -> CheckResult:
    """The check of a run whose attention gave `off` times its result."""
    path.write_text(TEXT)
    with npuc.load(path, backend="reference") as model:
        assert isinstance(model, WholeExecutable)
        given = {f"arg{n}": array for n, array in enumerate(arrays)}
        model.serve(given)
        (attended,) = model.attended
        result = off * attended.result
        return check_whole(model.whole, given, {"result0": result**4}, [attended._replace(result=result)])


def test_a_mask_that_was_made_is_followed_step_by_step(tmp_path: Path) -> None:
    found = checked(tmp_path / "m.mlir", drawn(), 1.005)
    assert found.passed and found.reference == "parts" and found.recognition is None
    assert not checked(tmp_path / "m.mlir", drawn(), 1.05).passed


FAULTS: dict[str, Callable[[Repeated], Repeated]] = {
    "no mask": lambda _: lambda chain, start, point: start,
    "the first mask alone": lambda right: (
        lambda chain, start, point: right(replace(chain, steps=chain.steps[:1]), start, point)
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mask_that_is_not_the_sources_is_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combine_masks, "_repeated", FAULTS[name](combine_masks._repeated))
    found = checked(tmp_path / "m.mlir", drawn())
    assert not found.passed and "in float64 they differ by" in str(found.recognition)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_a_mask_that_hides_with_infinity_is_compared_in_silence(tmp_path: Path) -> None:
    arrays = drawn()
    arrays[3][np.random.default_rng(10).random((2, 8, 8)) < 0.3] = -np.inf
    arrays[3][..., 0] = 0.0
    assert checked(tmp_path / "m.mlir", arrays, 1.005).passed
