"""Files of real front ends, from text to the checked output of the emulated device."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npuc.compiler import cli

ROOT = Path(__file__).resolve().parent.parent
INPUTS = Path(os.environ.get("NPUC_FACTS", ROOT.parent / "shared" / "facts")).parent / "inputs"

RUN = (
    "sdpa_b1h8s256d64_bf16",
    "manual_b1h4s256d64_bf16",
    "sdpa_b1h1s256d64_bf16",
    "sdpa_b1h1s256d128_f32",
    "sdpa_b1h8s256d64_f32",
    "sdpa_cross_b1h4s128sk256d64_f32",
    "sdpa_b1h4s256d64_bf16.stablehlo",
    "sdpa_b1h2s128d64_f32.tosa",
    "jax_dpa_b1s128h8d64_bf16.stablehlo_jax",
    "sdpa_gqa_b1h8hk2s128d64_bf16",
)
LAYERS = ("hf_llama_attention_sdpa_mask_s128_f32", "hf_gemma_attention_eager_nomask_s128_f32")
COMPILE = ("sdpa_b1h8s1024d64_bf16", "sdpa_b1h8s1024d64_f16", "sdpa_nodecomp_b1h8s256d128_bf16")


def report_of(capsys: pytest.CaptureFixture[str], *words: str) -> dict:
    with pytest.raises(SystemExit) as end:
        cli.main([*words, "--json"])
    captured = capsys.readouterr()
    assert end.value.code == 0, captured.err
    return json.loads(captured.out)


def file(name: str) -> str:
    path = INPUTS / f"{name}.mlir"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of front ends' files beside the fact sheets (NPUC_FACTS)")
    return str(path)


@pytest.mark.parametrize("name", RUN)
def test_a_front_end_file_runs_within_tolerance(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = report_of(capsys, "run", file(name), "--backend", "emulator", "--check")
    assert report["check"]["passed"] and report["check"]["outside"] == 0


@pytest.mark.parametrize("name", COMPILE)
def test_a_front_end_file_compiles(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "kernel.xclbin"
    report = report_of(capsys, "compile", file(name), "-o", str(out))
    assert out.stat().st_size == report["bytes"] and report["cores"] >= 4
    dtype = "f16" if "f16" in name and "bf16" not in name else "bf16"
    assert {argument["dtype"] for argument in report["kernels"][0]["args"]} == {dtype}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_runs_as_a_whole(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = INPUTS / f"{name}.mlir.gz"
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder of front ends' files beside the fact sheets (NPUC_FACTS)")
    report = report_of(capsys, "run", str(path), "--backend", "reference", "--check")
    assert report["check"]["passed"] and report["outputs"]["result0"]["shape"] == [1, 128, 256]


def test_open_lengths_are_given_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    words = ("run", file("sdpa_dynamic_b1h4d64_f32"), "--backend", "reference", "--check", "--dim", "S=48")
    report = report_of(capsys, *words)
    assert report["check"]["passed"] and report["outputs"]["o"]["shape"] == [1, 4, 48, 64]
