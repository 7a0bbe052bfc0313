"""From MLIR to checked numbers through the command line, on the emulator."""

from __future__ import annotations

import json

import numpy as np
import pytest

import npuc
from npuc.compiler import cli
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.runtime.judgement import LIMITS, Judge
from npuc.runtime.reference import attention as reference_attention


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "small.mlir"
    path.write_text(to_attn_module(Attention.make(heads=1, query_length=64, key_length=64, head_dim=64)))
    return path


def run(capsys, *words):
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    assert end.value.code == 0, capsys.readouterr().err
    return capsys.readouterr()


def test_mlir_runs_emulated_within_tolerance_and_says_so(source, capsys):
    out, err = run(capsys, "run", source, "--backend", "emulator", "--check", "--strict", "--json")
    report = json.loads(out)
    assert report["emulated"] and report["check"]["passed"] and err == "" and report["warnings"] == []
    assert report["clock_hz"] == 10**9 and report["seconds"] == pytest.approx(report["cycles"] / 1e9)
    assert report["macs"] == 2 * 64 * 64 * 64
    assert report["utilization"] == pytest.approx(report["macs"] / (report["cycles"] * 2048))
    assert report["bundles"] == sum(core["bundles"] for core in report["cores"])
    fields = {"col", "row", "bundles", "mac_bundles", "stall_lock", "stall_memory", "stall_stream", "idle"}
    assert all(set(core) >= fields for core in report["cores"])


def test_the_same_run_gives_the_same_cycles_and_the_same_source_the_same_bytes(source, capsys, tmp_path):
    reports = [json.loads(run(capsys, "run", source, "--backend", "emulator", "--json").out) for _ in range(2)]
    assert reports[0] == reports[1]
    for name in ("a", "b"):
        run(capsys, "compile", source, "--no-cache", "-o", tmp_path / f"{name}.xclbin")
    assert (tmp_path / "a.xclbin").read_bytes() == (tmp_path / "b.xclbin").read_bytes()


def test_npua_and_xclbin_give_the_same_output(source, capsys, tmp_path):
    for suffix in ("xclbin", "npua"):
        run(capsys, "compile", source, "-o", tmp_path / f"k.{suffix}")
        words = ["--backend", "emulator", "--random", "5", "--output", f"o={tmp_path / suffix}.npy"]
        run(capsys, "run", tmp_path / f"k.{suffix}", *words)
    assert (tmp_path / "xclbin.npy").read_bytes() == (tmp_path / "npua.npy").read_bytes()


def test_one_loaded_kernel_serves_call_after_call(source, seed):
    generator = np.random.default_rng(seed)
    with npuc.compile(source).load(backend="emulator", fallback=(), trace=True) as exe:
        for _ in range(2):
            arrays = [generator.standard_normal((1, 1, 64, 64)).astype(np.float32) for _ in range(3)]
            judge = Judge(LIMITS["bf16"])
            judge.add(exe(*arrays), reference_attention(*arrays), float(np.abs(arrays[2]).mean()))
            assert judge.result("attention").passed
            assert sum(span.category == "core" for span in exe.trace.spans) >= 4, "the four cores of a column"


def test_an_emulation_that_takes_too_long_is_exit_4(source, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(["run", str(source), "--backend", "emulator", "--max-cycles", "1000"])
    err = capsys.readouterr().err
    assert end.value.code == 4 and err.startswith("error: ") and "1000 cycles" in err and err.count("\n") == 1
