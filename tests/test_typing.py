"""The public API as type checkers see it, and its values as people see them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from document_blocks import blocks
from kernel_files import xclbin_of
from small_kernels import compiled

import npuc
from npuc.compiler.frontend.attention import ALIGNMENTS, PRECISIONS, Attention
from npuc.runtime import choices
from npuc.runtime.backends import BACKENDS, MACHINES
from npuc.runtime.emulator import engines, timing
from npuc.runtime.executor import Kernel

REPOSITORY = Path(__file__).resolve().parent.parent

# Beside the guide's sample: what a checker must refuse, each line with `# wrong`.
WRONG = """
from typing import Any

import numpy as np

import npuc

q = np.zeros((1, 1, 64, 64), np.float32)
npuc.attention(q, q, q, backend="npu")  # wrong
npuc.attention(q, q, q, align="middle")  # wrong
npuc.attention(q, q, q, window=2.5)  # wrong
npuc.attention(q, q, q, fallback="reference")  # wrong
npuc.attention(q, q, q, temperature=1.0)  # wrong
npuc.compile("a.mlir", precision="fp8")  # wrong
npuc.load("k.xclbin", machine="z80")  # wrong
with npuc.load("k.xclbin", fallback=["gpu", "reference"], engine="native", clock=1.6) as exe:
    backend: str = exe.stats.backend
    exe.trace.write("t.json")
    out: np.ndarray[Any, Any] = exe(q, k=q, v=q)
result: np.ndarray[Any, Any] = npuc.attention(q, q, q, attn_mask=None, is_causal=True, scale=1, window=3)
cycles: int = npuc.last_stats().cycles  # wrong
"""


def sample() -> str:
    """Of the guide for Python."""
    return next(b.text for b in blocks(REPOSITORY / "docs" / "guides" / "python.md") if b.title == "sample.py")


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_the_guides_sample_passes_a_strict_checker_and_wrong_calls_do_not(tmp_path: Path) -> None:
    (tmp_path / "sample.py").write_text(sample())
    (tmp_path / "wrong.py").write_text(WRONG)
    assert (Path(npuc.__file__).parent / "py.typed").exists()
    words = ["--strict", "--follow-imports=silent", "--no-error-summary", "--cache-dir", str(tmp_path / "cache")]
    environment = dict(os.environ)
    environment.pop("PYTHONPATH", None)
    place = Path(npuc.__file__).parent.parent
    if place.name != "site-packages":  # mypy finds what is installed by itself, and wants it nowhere else
        environment["MYPYPATH"] = str(place)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, "sample.py", "wrong.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    found = {tuple(line.split(":")[:2]) for line in done.stdout.splitlines() if ": error:" in line}
    expected = {("wrong.py", str(n)) for n, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")}
    assert found == expected, done.stdout + done.stderr


def test_the_guides_sample_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "examples").symlink_to(REPOSITORY / "examples")
    monkeypatch.chdir(tmp_path)
    exec(compile(sample(), "sample.py", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"emulator True \d+ \[\]", out[0]) and out[1].startswith("<npuc.RunReport ")


def test_choices_are_those_that_there_are() -> None:
    assert set(get_args(choices.MachineName)) == set(MACHINES) == set(timing.MACHINES)
    assert set(get_args(choices.EngineName)) == set(engines.ENGINES)
    assert set(get_args(choices.BackendName)) == {"auto", *BACKENDS} >= set(get_args(choices.FallbackName))
    assert get_args(choices.AlignName) == ALIGNMENTS and get_args(choices.PrecisionName) == PRECISIONS


def test_values_print_on_one_short_line() -> None:
    described = Attention.make(heads=2, query_length=8, head_dim=4)
    ones = np.ones((1, 2, 8, 4), np.float32)
    with npuc.load(xclbin_of(described), backend="emulator", fallback=("reference",), trace=True) as exe:
        exe(ones, ones, ones)
        shown = [repr(each) for each in (exe, exe.stats, exe.trace, exe.kernel, Kernel(compiled()), compiled())]
    assert all(len(text) < 200 and "\n" not in text and "\\x" not in text for text in shown), shown
    assert shown[0] == "<npuc.Executable attention on emulator, else reference>"
    assert shown[1].startswith("<npuc.RunReport emulator, emulated, ")
    assert shown[4].startswith("<npuc.Kernel attention: q 1x1x64x64 bf16, k ")


def test_statistics_and_traces_are_there_or_it_is_said_why_not() -> None:
    described = Attention.make(heads=2, query_length=8, head_dim=4)
    with npuc.load(xclbin_of(described), backend="reference") as exe:
        with pytest.raises(npuc.UsageError, match="has not run yet"):
            _ = exe.stats
        exe(*[np.ones((1, 2, 8, 4), np.float32)] * 3)
        with pytest.raises(npuc.UsageError, match="load with trace=True"):
            _ = exe.trace


def test_results_may_be_written() -> None:
    described = Attention.make(heads=2, query_length=8, head_dim=4)
    for backend in ("emulator", "reference"):
        with npuc.load(xclbin_of(described), backend=backend) as exe:
            for dtype in (np.float32, np.float16):
                out = exe(*[np.ones((1, 2, 8, 4), dtype)] * 3)
                out += 1
            raw = exe.run(dict(zip("qkv", [np.ones((1, 2, 8, 4), np.float32)] * 3, strict=True)))["o"]
            raw[...] = 1
