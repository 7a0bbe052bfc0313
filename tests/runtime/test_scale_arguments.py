"""Kernels whose scale each call gives, and functions that take more than their kernel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import npuc
from npuc.compiler.cli import group
from npuc.compiler.diagnostics import InputError, UsageError

CUBE = "tensor<1x64x64xf32>"
TEXT = f"""func.func @scaled(%q: {CUBE}, %ids: tensor<2xi64>, %scale: f32, %k: {CUBE}, %v: {CUBE}) -> {CUBE} {{
  %s = linalg.generic {{indexing_maps = [affine_map<(h, i, d) -> (h, i, d)>, affine_map<(h, i, d) -> ()>,
      affine_map<(h, i, d) -> (h, i, d)>], iterator_types = ["parallel", "parallel", "parallel"]}}
      ins(%q, %scale : {CUBE}, f32) outs(%q : {CUBE}) {{
    ^bb0(%a: f32, %b: f32, %c: f32):
      %n = arith.mulf %a, %b : f32
      linalg.yield %n : f32
  }} -> {CUBE}
  %o = "attn.sdpa"(%s, %k, %v) {{scale = 1.0 : f64, causal = true}} : ({CUBE}, {CUBE}, {CUBE}) -> {CUBE}
  return %o : {CUBE}
}}
"""
IDS = np.array([7, 1])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scaled") / "scaled.mlir"
    path.write_text(TEXT)
    return path


def wanted(scale: float, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    scores = np.where(np.tri(64, dtype=bool), scale * (q @ k.swapaxes(1, 2)), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


def drawn() -> list[np.ndarray]:
    random = np.random.default_rng(5)
    return [random.standard_normal((1, 64, 64)).astype(np.float32) for _ in range(3)]


def test_one_kernel_serves_every_scale(source: Path, tmp_path: Path) -> None:
    """Its array image is the one of a kernel whose scale is a constant; calls differ by their sequences."""
    q, k, v = drawn()
    kernel = npuc.compile(source)
    kernel.save(tmp_path / "scaled.xclbin")
    with npuc.load(tmp_path / "scaled.xclbin", backend="emulator", fallback=()) as executable:
        assert [a.name for a in executable.kernel.inputs] == ["q", "unused1", "scale", "k", "v"]
        for scale in (0.125, -0.5):
            apart = np.abs(executable(q, IDS, scale, k, v) - wanted(scale, q, k, v)).mean()
            assert apart < 1e-2 * np.abs(v).mean()
    result = CliRunner().invoke(group, ["sequence", str(tmp_path / "scaled.xclbin"), "-o", str(tmp_path / "s.bin")])
    assert isinstance(result.exception, UsageError) and "--scale" in str(result.exception)
    streams = []
    for scale in ("0.125", "-0.5"):
        words = ["sequence", str(tmp_path / "scaled.xclbin"), "--scale", scale, "-o", str(tmp_path / "s.bin")]
        assert CliRunner().invoke(group, words).exit_code == 0
        streams.append((tmp_path / "s.bin").read_bytes())
    assert streams[0] != streams[1] and len(streams[0]) == len(streams[1])


def test_a_run_checks_against_the_source(source: Path) -> None:
    result = CliRunner().invoke(group, ["run", str(source), "--backend", "reference", "--check", "--random", "3"])
    assert result.exit_code == 0 and "passed against the source" in result.output, result.output


def test_the_reference_takes_it_by_position_and_by_name(source: Path) -> None:
    q, k, v = drawn()
    with npuc.load(source, backend="reference") as executable:
        by_name = executable(q=q, k=k, v=v, scale=np.float32(0.25), unused1=IDS)
        np.testing.assert_array_equal(by_name, executable(q, IDS, 0.25, k, v))
    np.testing.assert_allclose(by_name, wanted(0.25, q, k, v), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("scale", "reason"),
    [(np.nan, "is nan, which is no scale"), (np.ones(2), r"expects shape \[\], got \[2\]"), (1, "expects float32")],
)
def test_what_is_no_scale_is_an_error(source: Path, scale: object, reason: str) -> None:
    q, k, v = drawn()
    with npuc.load(source, backend="reference") as executable, pytest.raises(InputError, match=reason):
        executable(q, IDS, scale, k, v)


def test_the_scale_must_be_given(source: Path) -> None:
    q, k, v = drawn()
    with npuc.load(source, backend="reference") as executable, pytest.raises(InputError, match="argument scale"):
        executable(q=q, k=k, v=v, unused1=IDS)
