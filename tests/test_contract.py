"""What users and CI may rely on: options, fields and exit codes of compile, run, inspect and doctor."""

from __future__ import annotations

import importlib
import json
import os
import re
from pathlib import Path

import click
import numpy as np
import pytest
from small_kernels import compiled

from npuc.compiler import driver
from npuc.compiler.cli import group
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module

OPTIONS = {
    "compile": "-o --emit --target --func --columns --precision --option --print-ir-after --dump-dir --no-cache --json",
    "run": "--kernel --input --random --dim --output --backend --machine --max-cycles --insts --alloc --strict --check "
    "--profile --json",
    "inspect": "--json",
    "doctor": "--run --root --capture -o --json",
}
CHOICES = {
    ("compile", "stage"): set("attn plan asm elf txn npua pdi xclbin".split()),
    ("compile", "target"): {"npu1"},
    ("compile", "precision"): {"bf16", "int8"},
    ("run", "backend"): {"auto", "xrt", "amdxdna", "emulator", "reference"},
    ("run", "machine"): {"phoenix", "8945hs", "8700g"},
}


def command(name: str) -> click.Command:
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return found


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_there(name):
    known = {flag for parameter in command(name).params for flag in parameter.opts}
    assert set(OPTIONS[name].split()) <= known


@pytest.mark.parametrize(("name", "parameter"), CHOICES)
def test_every_choice_is_there(name, parameter):
    (option,) = [p for p in command(name).params if p.name == parameter]
    assert isinstance(option.type, click.Choice) and set(option.type.choices) >= CHOICES[name, parameter]


@pytest.mark.parametrize("name", group.list_commands(click.Context(group)))
def test_every_command_has_help_and_what_it_says_in_the_list(npuc, name):
    code, out, err = npuc(name, "--help")
    assert (code, err) == (0, "") and out.startswith(f"Usage: npuc {name} ")
    assert importlib.import_module(group.commands_by_name[name][0]).command is command(name)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a source, its kernel and things that are wrong with it, and the process in it."""
    monkeypatch.chdir(tmp_path)
    Path("a.mlir").write_text(to_attn_module(Attention.make(heads=1, query_length=64, head_dim=64)))
    Path("k.xclbin").write_bytes(compiled().xclbin)
    Path("broken.xclbin").write_bytes(compiled().xclbin[:-1])
    Path("broken.mlir").write_text("func.func @f(%a: tensor<4xf32>) {\n  %b = oops\n}\n")
    Path("odd.mlir").write_text(to_attn_module(Attention.make(heads=1, query_length=64, head_dim=264)))
    integers = Attention.make(heads=1, query_length=64, head_dim=64, dtype="i8", o_scale=(0.5,))
    Path("integers.mlir").write_text(to_attn_module(integers))
    for name, array in {"shape": np.zeros((1, 1, 64, 63)), "dtype": np.zeros((1, 1, 64, 64), int)}.items():
        np.save(f"{name}.npy", array)
    Path("file").write_text("")
    return tmp_path


EMULATED = ["--backend", "emulator"]
WRONG = [
    (2, ["compile"]),
    (2, ["compile", "a.mlir", "b.mlir"]),
    (2, ["compile", "a.mlir", "--columns", "0"]),
    (2, ["compile", "a.mlir", "--target", "npu9"]),
    (2, ["compile", "a.mlir", "--option", "=1"]),
    (2, ["compile", "a.mlir", "--option", "nothing=1"]),
    (2, ["compile", "a.mlir", "--func", "other"]),
    (2, ["compile", "a.mlir", "--print-ir-after", "nothing"]),
    (2, ["compile", "a.mlir", "--emit", "elf", "-o", "-"]),
    (3, ["compile", "missing.mlir"]),
    (3, ["compile", "broken.mlir"]),
    (3, ["compile", "odd.mlir"]),
    (3, ["compile", "integers.mlir"]),
    (3, ["compile", "odd.mlir", "--precision", "int8"]),
    (3, ["compile", "k.xclbin", "-o", "other.xclbin"]),
    (3, ["compile", "."]),
    (3, ["compile", "a.mlir", "-o", "missing/k.xclbin"]),
    (3, ["compile", "a.mlir", "--emit", "elf", "-o", "file"]),
    (3, ["compile", "a.mlir", "--dump-dir", "file"]),
    (2, ["run", "k.xclbin", "--max-cycles", "0"]),
    (2, ["run", "k.xclbin", "--max-cycles", "-5"]),
    (2, ["run", "k.xclbin", "--max-cycles", "many"]),
    (2, ["run", "k.xclbin", "--kernel", "other", *EMULATED]),
    (2, ["run", "a.mlir", "--kernel", "other", *EMULATED]),
    (2, ["run", "k.xclbin", "--machine", "other"]),
    (2, ["run", "k.xclbin", "--random", "1.5"]),
    (2, ["run", "k.xclbin", "--input", "q="]),
    (2, ["run", "k.xclbin", "--input", "q=a.npy", "--input", "q=b.npy", *EMULATED]),
    (2, ["run", "k.xclbin", "--output", "o=a.npy", "--output", "o=b.npy"]),
    (2, ["run", "k.xclbin", "--output", "other=a.npy", *EMULATED]),
    (2, ["run", "k.xclbin", "--alloc", "bo0=4"]),
    (3, ["run", "missing.xclbin"]),
    (3, ["run", "broken.xclbin"]),
    (3, ["run", "broken.mlir"]),
    (3, ["run", "file"]),
    (3, ["run", "k.xclbin", "--insts", "missing"]),
    (3, ["run", "k.xclbin", "--input", "q=missing.npy", *EMULATED]),
    (3, ["run", "k.xclbin", "--input", "q=shape.npy", "--random", "0", *EMULATED]),
    (3, ["run", "k.xclbin", "--input", "q=dtype.npy", "--random", "0", *EMULATED]),
    (3, ["run", "k.xclbin", "--input", "other=shape.npy", "--random", "0", *EMULATED]),
    (3, ["run", "k.xclbin", "--input", "missing.npz", *EMULATED]),
    (3, ["run", "k.xclbin", "--output", "o=missing/o.npy", "--backend", "reference"]),
    (4, ["run", "k.xclbin", "--backend", "xrt"]),
    (4, ["run", "k.xclbin", "--backend", "amdxdna"]),
    (4, ["run", "k.xclbin", "--max-cycles", "10", *EMULATED]),
    (2, ["inspect"]),
    (2, ["inspect", "k.xclbin", "--columns", "2"]),
    (3, ["inspect", "missing.xclbin"]),
    (3, ["inspect", "broken.xclbin"]),
    (3, ["inspect", "file"]),
    (2, ["doctor", "extra"]),
]


@pytest.mark.parametrize(
    ("code", "words"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else None
)
def test_every_error_has_its_exit_code_one_line_and_valid_json(npuc, place, code, words):
    before = sorted(os.listdir(place))
    got, out, err = npuc(*words)
    assert (got, out) == (code, ""), err
    assert err.startswith("error: ") and err.count("\n") == 1
    got, out, again = npuc(*words, "--json")
    told = json.loads(out)["error"]
    assert (got, told["exit_code"], again.count("\n")) == (code, code, 1)
    assert set(told) >= {"message", "place", "remedy"} and told["message"] in again
    assert sorted(os.listdir(place)) == before, "nothing half-written"


def test_the_fields_of_a_compilation(npuc, place):
    for stage in driver.STAGES:
        code, out, err = npuc("compile", "a.mlir", "--emit", stage, "-o", f"out.{stage}", "--json")
        report = json.loads(out)
        assert (code, err) == (0, "")
        fields = "output sha256 bytes seconds cached target kernels cores program_bytes_max plan"
        assert set(report) >= set(fields.split()) and report["output"] == f"out.{stage}"
        if stage != "elf":
            assert report["bytes"] == Path(f"out.{stage}").stat().st_size
    (kernel,) = report["kernels"]
    assert [a["direction"] for a in kernel["args"]] == ["in", "in", "in", "out"]
    assert set(kernel["attention"]) >= set("heads kv_heads head_dim causal window softcap scale precision".split())
    assert report["cores"] == len(list(Path("out.elf").iterdir())) and report["target"] == "npu1"


def test_the_fields_of_a_run_on_every_backend(npuc, place):
    fields = "kernel backend emulated outputs cycles clock_hz seconds bundles macs utilization cores dma check warnings"
    for backend in ("emulator", "reference"):
        words = ["--check", "--profile", "--json", "--output", f"o={backend}.npy"]
        code, out, err = npuc("run", "k.xclbin", "--backend", backend, *words)
        report = json.loads(out)
        assert (code, err) == (0, "") and set(report) >= set(fields.split())
        assert (report["backend"], report["emulated"]) == (backend, backend == "emulator")
        assert report["outputs"]["o"] == {"shape": [1, 1, 64, 64], "dtype": "float32", "file": f"{backend}.npy"}
        assert report["check"]["passed"] and np.load(f"{backend}.npy").dtype == np.float32


@pytest.mark.parametrize(
    "words, clock",
    [
        (("--machine", "8700g"), 1_800_000_000),
        (("--machine", "8945hs"), 1_600_000_000),
        (("--clock", "0.8"), 800_000_000),
        (("--machine", "8945hs", "--clock", "1.28"), 1_280_000_000),
    ],
)
def test_the_other_machines_and_clocks_are_those_named(npuc, place, words, clock):
    report = json.loads(npuc("run", "k.xclbin", *EMULATED, *words, "--json")[1])
    assert report["clock_hz"] == clock and report["seconds"] == report["cycles"] / clock


@pytest.mark.parametrize("clock", ["0", "-1", "nan", "inf", "fast"])
def test_a_clock_that_is_none_is_wrong_usage(npuc, place, clock):
    code, out, err = npuc("run", "k.xclbin", *EMULATED, "--clock", clock)
    assert code == 2 and out == "" and "--clock" in err


def test_emulated_figures_say_so(npuc, place):
    code, out, err = npuc("run", "k.xclbin", "--profile")
    assert code == 0 and err.count("\n") == 1 and err.startswith("note: no NPU to run on (")
    for line in out.splitlines():
        if line.startswith(("cycles", "time", "utilization", "backend", "cores", "DMA")):
            assert "(emulated)" in line, line


def test_passes_can_be_printed_and_dumped(npuc, place):
    code, out, err = npuc("compile", "a.mlir", "--print-ir-after", "all", "--dump-dir", "dump", "-o", "b.xclbin")
    assert code == 0 and err.count("// ----- after ") >= 3 and out.startswith("b.xclbin: ")
    assert {"attn.mlir", "plan.json", "kernel.s", "kernel.xclbin", "core_0_2.elf"} <= set(os.listdir("dump"))


@pytest.mark.parametrize("failing", ["replace", "fdopen"])
def test_an_interrupt_while_writing_leaves_the_old_file_alone(npuc, place, monkeypatch, failing):
    Path("b.xclbin").write_bytes(b"old")
    assert npuc("compile", "a.mlir", "-o", "c.xclbin")[0] == 0  # so that the next needs no cache write
    before = sorted(os.listdir(place))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, failing, interrupted)
    assert npuc("compile", "a.mlir", "-o", "b.xclbin")[0] == 130
    monkeypatch.undo()
    os.chdir(place)
    assert Path("b.xclbin").read_bytes() == b"old" and sorted(os.listdir(place)) == before


def test_a_full_disk_leaves_the_old_file_alone(npuc, place, monkeypatch):
    Path("o.npy").write_bytes(b"old")
    before = sorted(os.listdir(place))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    code, out, err = npuc("run", "k.xclbin", "--backend", "reference", "--output", "o=o.npy")
    assert (code, out, err) == (3, "", "error: o.npy: cannot write: No space left on device\n")
    assert Path("o.npy").read_bytes() == b"old" and sorted(os.listdir(place)) == before


def test_what_is_not_supported_names_its_place(npuc, place):
    for name in ("odd", "integers"):
        code, _, err = npuc("compile", f"{name}.mlir")
        assert code == 3 and re.match(rf"error: {name}\.mlir:\d+:\d+: function @attention: ", err)
