"""Stages stop: what needs recognition only takes all that is recognised, a plan takes no code generation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npuc
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.frontend import Attention, load, to_attn_module
from npuc.passes import pipeline
from npuc.runtime import reference

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "attention.mlir"
UNSUPPORTED = Attention.make(
    heads=4, kv_heads=2, query_length=3, key_length=5, head_dim=24, causal=True, align="bottom-right", window=4,
    softcap=20.0, scale=-1e-30, mask="add", batch=2, function="f",
)  # fmt: skip


@pytest.fixture(name="source")
def _source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "f.mlir").write_text(to_attn_module(UNSUPPORTED))
    return str(tmp_path / "f.mlir")


def test_the_attn_stage_takes_what_no_kernel_computes(npuc, source: str) -> None:
    code, out, err = npuc("compile", source, "--emit", "attn")
    assert (code, err) == (0, "") and out == to_attn_module(UNSUPPORTED)
    code, out, err = npuc("compile", source, "--emit", "attn")  # from the cache
    assert (code, err) == (0, "") and out == to_attn_module(UNSUPPORTED)
    code, out, err = npuc("compile", source)
    assert code == 3 and err.startswith(f"error: {source}:2:") and "is not supported" in err


def test_options_count_for_the_attn_stage_too(npuc, source: str) -> None:
    code, out, _ = npuc("compile", source, "--emit", "attn", "--precision", "int8")
    assert code == 0 and 'precision = "int8"' in out
    code, _, err = npuc("compile", source, "--emit", "attn", "--option", "nothing=1")
    assert code == 2 and "option 'nothing' is unknown" in err


def test_the_reference_takes_what_no_kernel_computes(npuc, source: str) -> None:
    code, out, err = npuc("run", source, "--backend", "reference", "--check", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "") and report["check"]["passed"] and report["backend"] == "reference"


def test_the_reference_of_a_recognised_file_is_that_of_its_rules(source: str) -> None:
    generator = np.random.default_rng(5)
    q, k, v = (generator.standard_normal(UNSUPPORTED.closed_shape(role)) for role in ("q", "k", "v"))
    mask = generator.standard_normal((2, 1, 3, 5))
    with npuc.load(source, backend="reference", fallback=()) as executable:
        out = executable(q, k, v, mask)
    rounded = [x.astype(np.float32).astype(npuc_bf16()).astype(np.float64) for x in (q, k, v, mask)]
    wanted = reference.attention(
        *rounded, scale=-1e-30, causal=True, window=4, softcap=20.0, align="bottom-right"
    )  # fmt: skip
    assert np.abs(out - wanted).max() < 2e-2


def npuc_bf16() -> np.dtype:
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def test_a_plan_takes_no_code(npuc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))

    def generate(*_: object) -> None:
        raise AssertionError("code was generated")

    monkeypatch.setattr(pipeline.codegen, "generate", generate)
    monkeypatch.setattr(pipeline.attention_kernel, "build", generate)
    code, out, err = npuc("compile", str(EXAMPLE), "--emit", "plan")
    assert (code, err) == (0, "") and "256 queries, 256 keys" in out
    code, out, err = npuc("compile", str(EXAMPLE), "--emit", "plan", "-o", str(tmp_path / "p.json"), "--json")
    report = json.loads(out)
    assert (code, err) == (0, "") and report["plan"] == json.loads((tmp_path / "p.json").read_text())
    assert report["cores"] is None and report["kernels"][0]["attention"]["heads"] == 4


def test_stages_do_not_share_what_is_cached(npuc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    out = tmp_path / "k.xclbin"
    assert npuc("compile", str(EXAMPLE), "--emit", "attn")[0] == 0
    assert npuc("compile", str(EXAMPLE), "--emit", "plan")[0] == 0
    assert npuc("compile", str(EXAMPLE), "-o", str(out))[0] == 0
    assert out.read_bytes().startswith(b"xclbin2")


def test_passes_of_the_front_end_are_printed_as_the_others(npuc, tmp_path: Path) -> None:
    code, _, err = npuc("compile", str(EXAMPLE), "--emit", "plan", "-o", str(tmp_path / "p"), "--print-ir-after", "all")
    assert code == 0
    assert [line for line in err.splitlines() if "-----" in line] == [
        f"// ----- after {name} -----" for name in ("legalise", "raise", "supported", "plan")
    ]


OPEN = """func.func @f(%q: tensor<2x?x16xf32>, %k: tensor<2x?x16xf32>, %v: tensor<2x?x16xf32>) -> tensor<2x?x16xf32> {
  %o = "attn.sdpa"(%q, %k, %v) : (tensor<2x?x16xf32>, tensor<2x?x16xf32>, tensor<2x?x16xf32>) -> tensor<2x?x16xf32>
  return %o : tensor<2x?x16xf32>
}
"""


def test_open_lengths_are_given_for_a_run(npuc, tmp_path: Path) -> None:
    source = tmp_path / "open.mlir"
    source.write_text(OPEN)
    code, out, _ = npuc("run", str(source), "--backend", "reference", "--dim", "S=3", "--dim", "Skv=7", "--json")
    assert code == 0 and json.loads(out)["outputs"]["o"]["shape"] == [2, 3, 16]
    code, _, err = npuc("run", str(source), "--backend", "reference")
    assert code == 3 and "S, Skv is open (give it with --dim" in err and f"{source}:2:8" in err
    code, _, err = npuc("run", str(source), "--backend", "reference", "--dim", "B=3")
    assert code == 2 and "leaves no B open (open: S, Skv)" in err
    for wrong in ("S", "S=", "S=0", "S=-1", "S=x"):
        code, _, err = npuc("run", str(source), "--backend", "reference", "--dim", wrong)
        assert code == 2 and f"--dim {wrong}: expected" in err


def _with_rank(attention: Attention, rank: int, mask: tuple[int, ...] | None = None) -> Attention:
    """The same with leading dimensions of one element left out, and a mask of another shape."""
    shapes = {a.name: mask if a.role == "mask" else a.shape[4 - rank :] for a in attention.arguments}
    return replace(attention, arguments=tuple(replace(a, shape=shapes[a.name]) for a in attention.arguments))


MADE: dict[str, Any] = dict(query_length=20, key_length=30, head_dim=16, dtype="f32")
RECOGNISED = {
    "rank 2": _with_rank(Attention.make(heads=1, **MADE, causal=True, align="bottom-right"), 2),
    "rank 2, a mask of keys": _with_rank(Attention.make(heads=1, **MADE, mask="add"), 2, (30,)),
    "rank 3, groups, a window": _with_rank(Attention.make(heads=4, kv_heads=2, **MADE, window=5), 3),
    "a mask of rows": _with_rank(Attention.make(heads=4, **MADE, mask="keep"), 4, (4, 20, 1)),
    "scale 0": Attention.make(heads=2, **MADE, scale=0.0),
    "a scale below zero, capped": Attention.make(heads=2, **MADE, scale=-1.5, softcap=3.0),
    "integers": Attention.make(heads=2, **{**MADE, "dtype": "i8"}, precision="int8", o_scale=(0.02,)),
    "open": Attention.make(heads=2, **{**MADE, "query_length": None}, batch=None, mask="add"),
}


@pytest.mark.parametrize("name", RECOGNISED)
def test_whatever_is_recognised_runs_on_the_reference_and_passes_the_check(npuc, tmp_path: Path, name: str) -> None:
    attention = RECOGNISED[name]
    source = tmp_path / "f.mlir"
    source.write_text(to_attn_module(attention))
    sizes = [word for dimension in attention.open_dimensions for word in ("--dim", f"{dimension}=3")]
    code, _, err = npuc("run", str(source), "--backend", "reference", "--check", *sizes)
    assert (code, err) == (0, "")


FUNCTION = """
func.func @{0}(%q: tensor<2x8x16xf32>, %k: tensor<2x8x16xf32>, %v: tensor<2x8x16xf32>) -> tensor<2x8x16xf32> {{
  %o = "attn.sdpa"(%q, %k, %v) : (tensor<2x8x16xf32>, tensor<2x8x16xf32>, tensor<2x8x16xf32>) -> tensor<2x8x16xf32>
  return %o : tensor<2x8x16xf32>
}}
"""


def test_functions_of_nested_modules_are_found() -> None:
    one = f"module @outer {{ module @inner {{ {FUNCTION.format('f')} }} }}"
    (found,) = load(one, "x.mlir")
    assert found.function == "f"
    two = f"module {{ module @a {{ {FUNCTION.format('f')} }} module @b {{ {FUNCTION.format('f')} }} }}"
    with pytest.raises(InputError, match=r"holds 2 functions: @a::@f, @b::@f \(choose with --func\)"):
        load(two, "x.mlir")
    with pytest.raises(InputError, match=r"holds 2 functions: @a::@f, @b::@f"):
        load(two, "x.mlir", "f")
    for name in ("b::f", "@b::@f"):
        assert load(two, "x.mlir", name) == (found,)
    with pytest.raises(UsageError, match=r"holds no function @c::f .*@a::@f, @b::@f"):
        load(two, "x.mlir", "c::f")
