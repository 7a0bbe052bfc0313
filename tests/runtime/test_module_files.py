"""Modules with attentions inside as files: one xclbin with their kernels, and the rest with calls of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from facts_tools import xclbin_report
from layered import E, S, layers, wanted

import npuc as package
from npuc.compiler import driver, frontend
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.emit.xclbin import read_xclbin
from npuc.compiler.frontend import Attention, load, to_attn_module
from npuc.runtime.arguments import draw
from npuc.runtime.judgement import CheckResult
from npuc.runtime.kernel_file import read_kernel
from npuc.runtime.whole_check import check_whole
from npuc.runtime.whole_modules import Attended, WholeExecutable

SCALES, COUNTS = (0.25, 0.125, 0.5), (2, 1, 2)
NAMES = ["model_attention_0", "model_attention_1"]
TEXT = layers(*SCALES, counts=COUNTS)
LAYER = layers(0.25)

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, npuc: Run) -> Run:
    """Commands in a folder with the module of three attentions of two classes."""
    monkeypatch.chdir(tmp_path)
    Path("model.mlir").write_text(TEXT)
    return npuc


def given() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    weights = [(rng.standard_normal((E, E)) / np.sqrt(E)).astype(np.float32) for _ in range(3 * len(SCALES))]
    return [rng.standard_normal((S, E)).astype(np.float32), *weights]


def test_one_file_holds_a_kernel_for_each_class(run: Run) -> None:
    report = json.loads(run("compile", "model.mlir", "-o", "model.xclbin", "--json")[1])
    assert [kernel["name"] for kernel in report["kernels"]] == NAMES
    assert [kernel["attention"]["heads"] for kernel in report["kernels"]] == [2, 1]
    assert report["cores"] == max(kernel["cores"] for kernel in report["kernels"])
    file = read_xclbin(Path("model.xclbin").read_bytes())
    assert [kernel.name for kernel in file.kernels] == NAMES
    assert [image.kernel_ids for image in file.pdis] == [(0x901,), (0x902,)]
    assert [group.pdi_id for image in file.pdis for group in image.groups] == [1, 2]
    assert file.columns == max(kernel["plan"]["columns"] for kernel in report["kernels"])
    assert {program.pdi for program in read_programs(Path("model.xclbin").read_bytes())} == {0, 1}


def test_the_file_is_one_that_the_independent_checker_takes(run: Run) -> None:
    run("compile", "model.mlir", "-o", "model.xclbin")
    report = xclbin_report(Path("model.xclbin"), "--strict")
    assert (report["violations"], report["warnings"]) == ([], [])
    assert [kernel["id"] for kernel in report["info"]["kernels"]] == [0x901, 0x902]


def test_a_run_of_a_file_with_several_kernels_names_them(run: Run) -> None:
    run("compile", "model.mlir", "-o", "model.xclbin")
    for words in (["run", "model.xclbin"], ["sequence", "model.xclbin", "-o", "s.bin"]):
        code, _, told = run(*words)
        assert code == 2 and f"holds 2 kernels: {', '.join(NAMES)} (choose one with --kernel)" in told
    code, out, _ = run("run", "model.xclbin", "--kernel", NAMES[1], "--check", "--backend", "reference", "--json")
    assert code == 0 and json.loads(out)["check"]["passed"] and json.loads(out)["kernel"] == NAMES[1]


def test_stages_of_one_kernel_are_chosen(run: Run) -> None:
    code, _, told = run("compile", "model.mlir", "--emit", "npua", "-o", "k.npua")
    assert code == 2 and f"2 kernels have a npua each: {', '.join(NAMES)}" in told
    assert run("compile", "model.mlir", "--emit", "npua", "-o", "k.npua", "--kernel", NAMES[1])[0] == 0
    assert read_kernel(Path("k.npua").read_bytes()).name == NAMES[1]
    code, _, told = run("compile", "model.mlir", "--kernel", "other")
    assert code == 2 and f"no kernel 'other' (there is {', '.join(NAMES)})" in told
    _, plans, _ = run("compile", "model.mlir", "--emit", "plan")
    assert [line for line in plans.splitlines() if line in NAMES] == NAMES
    run("compile", "model.mlir", "--emit", "plan", "-o", "p.json")
    assert list(json.loads(Path("p.json").read_text())) == NAMES


def test_the_rest_calls_kernels_and_is_read_again(run: Run) -> None:
    assert run("compile", "model.mlir", "--emit", "host", "-o", "rest.mlir")[0] == 0
    rest = Path("rest.mlir").read_text()
    assert re.findall(r"call @(\w+)\(", rest) == [f"model_attention_{n}" for n in range(3)]
    assert re.findall(r'npuc.kernel = "(\w+)"', rest) == [NAMES[0], NAMES[1], NAMES[0]]
    assert "softmax" not in rest and "math." not in rest
    kinds = [(a.scale, a.heads, a.arguments) for a in load(TEXT, "model.mlir")]
    assert [(a.scale, a.heads, a.arguments) for a in load(rest, "rest.mlir")] == kinds
    assert run("compile", "rest.mlir", "--emit", "host", "-o", "again.mlir")[0] == 0
    assert Path("again.mlir").read_text() == rest


@pytest.mark.parametrize(("file", "backend"), [("model.mlir", "reference"), ("rest.mlir", "emulator")])
def test_the_module_and_its_rest_run(file: str, backend: str, run: Run) -> None:
    run("compile", "model.mlir", "--emit", "host", "-o", "rest.mlir")
    arrays = given()
    with package.load(file, backend=backend, fallback=()) as model:
        out = model(*arrays)
        assert model.stats.backend == backend
    expected = wanted(SCALES, *arrays, counts=COUNTS)
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()


def test_an_attention_alone_is_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = to_attn_module(Attention.make(heads=2, query_length=None, head_dim=64))
    rest = driver.compile_source(text, settings=driver.Settings(stage="host")).stage("host").decode()
    assert "call @attention_attention(" in rest and 'npuc.kernel = "attention"' in rest
    assert load(rest, "rest.mlir") == load(text, "a.mlir")


def test_a_compiled_module_is_not_recognised_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("compile", "model.mlir")

    def never(*_: object) -> None:
        raise AssertionError("it was compiled before")

    monkeypatch.setattr(frontend, "recognise", never)
    with package.load("model.mlir", backend="emulator", fallback=()) as model:
        assert isinstance(model, WholeExecutable) and list(model.whole.kernels) == NAMES


WRONG = {
    "npuc.attention describes no attention": (
        r"npuc.attention = \{.*?\}, npuc.kernel",
        "npuc.attention = 1, npuc.kernel",
    ),
    "heads is 0, not a positive integer": (r" heads = 2 : i64", " heads = 0 : i64"),
    "is declared as": (r'dtype = "f32"', 'dtype = "f16"'),
    "not a description of an attention": (r" heads = 2 : i64,", ""),
    "affine_map": (r" heads = 2 : i64", " heads = affine_map<() -> ()>"),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_declaration_that_is_wrong_is_named(message: str) -> None:
    rest = driver.compile_source(LAYER, settings=driver.Settings(stage="host")).stage("host").decode()
    changed = re.sub(*WRONG[message], rest)
    assert changed != rest
    with pytest.raises(InputError) as raised:
        load(changed, "rest.mlir")
    assert message in str(raised.value) and "model_attention" in str(raised.value)


def test_several_kernels_are_told_and_saved_as_one_file(tmp_path: Path) -> None:
    kernel = package.compile(TEXT)
    assert all(name in repr(kernel) for name in NAMES)
    with pytest.raises(UsageError, match="2 kernels have a npua each"):
        kernel.save(tmp_path / "k.npua")
    with pytest.raises(UsageError, match="holds 2 kernels"):
        kernel.load(backend="emulator")
    with kernel.load(backend="emulator", kernel=NAMES[0]) as one:
        assert one.kernel.attention.heads == 2


def test_steps_are_compared_where_the_whole_says_nothing(run: Run) -> None:
    """As with weights of size 1: scores are in the thousands, and a rounding in one attention grows in the next."""
    with package.load("model.mlir", backend="emulator", fallback=()) as model:
        assert isinstance(model, WholeExecutable)
        arrays = draw(model.kernel.arguments, 0)
        outputs = model.serve(arrays).outputs

        def check(attended: Sequence[Attended], outputs: Mapping[str, np.ndarray] = outputs) -> CheckResult:
            return check_whole(model.whole, arrays, outputs, attended)

        found = check(model.attended)
        assert found.passed and found.reference == "parts"
        for n, attended in enumerate(model.attended):
            broken = list(model.attended)
            broken[n] = attended._replace(result=attended.result * 1.2)
            assert not check(broken).passed
            broken[n] = attended._replace(given=[value * 1.01 for value in attended.given])
            assert not check(broken).passed and "was given another q" in str(check(broken).recognition)
        assert not check(model.attended, {name: value + np.abs(value).max() for name, value in outputs.items()}).passed
