"""The npuc command: exit codes, messages, JSON, files."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from fake_pipeline import FakePipeline, small_attention
from kernel_files import npua_of, xclbin_of

from npuc import __version__
from npuc.compiler import cli, frontend
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.arguments import KernelArgument, draw
from npuc.runtime.backends.reference_backend import ReferenceBackend

SMALL = Attention.make(heads=2, query_length=8, head_dim=4)


@pytest.fixture
def pipeline(monkeypatch, tmp_path):
    monkeypatch.setenv("NPUC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mlir").write_text("text")
    FakePipeline().install(monkeypatch)
    return tmp_path


@pytest.fixture
def kernel(tmp_path):
    path = tmp_path / "k.xclbin"
    path.write_bytes(xclbin_of(SMALL))
    return path


def process(*words, **settings):
    return subprocess.run(
        [sys.executable, "-m", "npuc.compiler.cli", *map(str, words)], capture_output=True, timeout=600, **settings
    )


# the command itself


def test_help_names_the_exit_codes():
    done = process("--help")
    assert done.returncode == 0 and b"Exit codes: 0 done" in done.stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from npuc.compiler import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'torch_mlir', 'lief', 'llvmlite', 'rich', 'ml_dtypes'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr


def test_npuc_alone_shows_its_help(npuc):
    code, out, err = npuc()
    assert (code, err) == (0, "") and out == npuc("--help")[1] and "\n  compile " in out


def test_the_package_is_the_command():
    done = subprocess.run([sys.executable, "-m", "npuc", "version"], capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"npuc {__version__}\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_that_asks_npuc(npuc, shell):
    code, out, err = npuc("completion", shell)
    assert (code, err) == (0, "") and f"_NPUC_COMPLETE={shell}_complete" in out


def completions(words: str, monkeypatch, capsys) -> list[tuple[str, str]]:
    """(kind, text) of what a shell is offered behind the words."""
    monkeypatch.setenv("_NPUC_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - (not words.endswith(" "))))
    with pytest.raises(SystemExit) as end:
        cli.main([])
    assert end.value.code == 0
    return [tuple(line.split(",", 1)) for line in capsys.readouterr().out.split()]


def test_commands_options_choices_and_files_are_completed(monkeypatch, capsys):
    assert completions("npuc di", monkeypatch, capsys) == [("plain", "disasm"), ("plain", "diff")][::-1]
    assert ("plain", "--machine") in completions("npuc run --ma", monkeypatch, capsys)
    assert ("plain", "8700g") in completions("npuc run --machine 8", monkeypatch, capsys)
    assert completions("npuc inspect k.", monkeypatch, capsys) == [("file", "k.")]


@pytest.mark.parametrize("words", [["--version"], ["version"]])
def test_the_version_is_printed(npuc, words):
    assert npuc(*words) == (0, f"npuc {__version__}\n", "")


@pytest.mark.parametrize(
    "words",
    [
        ["--frob"],
        ["frobnicate"],
        ["compile"],
        ["compile", "a.mlir", "--columns", "5"],
        ["compile", "a.mlir", "--emit", "nothing"],
        ["compile", "a.mlir", "--option", "novalue"],
        ["compile", "a.mlir", "--emit", "elf", "-o", "-"],
        ["run", "k.xclbin", "--output", "nofile"],
        ["run", "k.xclbin", "--random", "-1"],
        ["run", "k.xclbin", "--backend", "npu"],
    ],
)
def test_wrong_usage_is_exit_2_in_one_line(npuc, words):
    code, out, err = npuc(*words)
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("error: ")


def test_json_stays_valid_when_the_usage_is_wrong(npuc):
    code, out, _ = npuc("run", "--frob", "--json")
    assert code == 2 and json.loads(out)["error"]["exit_code"] == 2


def test_a_fault_of_npuc_is_exit_5_with_a_hint(npuc, monkeypatch, pipeline):
    def boom(*_):
        raise ZeroDivisionError("division by zero\nsecond line")

    monkeypatch.setattr(frontend, "recognise", boom)
    code, out, err = npuc("compile", "a.mlir", "--json")
    assert code == 5 and err.count("\n") == 1 and "ZeroDivisionError: division by zero" in err
    assert json.loads(out)["error"]["exit_code"] == 5 and "NPUC_DEBUG=1" in json.loads(out)["error"]["remedy"]
    monkeypatch.setenv("NPUC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        cli.main(["compile", "a.mlir"])


def test_an_interrupt_is_no_traceback(npuc, monkeypatch, pipeline):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(frontend, "recognise", interrupted)
    assert npuc("compile", "a.mlir")[0] == 130


def test_an_interrupt_that_python_loses_is_delivered_before_anything_is_written(npuc, monkeypatch, pipeline):
    class Finaliser:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def interrupted(*_):
        Finaliser()  # the exception is printed and ignored
        return small_attention("", "", None)

    lost = []
    monkeypatch.setattr(sys, "unraisablehook", lost.append)
    monkeypatch.setattr(frontend, "recognise", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        code, _, err = npuc("compile", "a.mlir")
    finally:
        after = signal.signal(signal.SIGINT, before)
    assert (code, err) == (130, "interrupted\n") and [each.exc_type for each in lost] == [KeyboardInterrupt]
    assert after is signal.default_int_handler
    assert not os.path.exists("a.xclbin")


def test_a_reader_that_leaves_is_no_traceback():
    child = subprocess.Popen(
        [sys.executable, "-m", "npuc.compiler.cli", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    child.stdout.close()
    assert child.stderr.read() == b"" and child.wait(60) == 0
    child.stderr.close()


# bad input


@pytest.mark.parametrize("command", ["compile", "run"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read: No such file"),
        ("folder", "cannot read: Is a directory"),
        (b"", "is empty"),
        (b"\xff\xfe\x00", "is not text"),
        (b"func.func @f(%a: tensor<4xf32>) {\n  %b = oops\n}\n", r".mlir:2:"),
        (b"func.func @f(%a: tensor<4xf32>) -> tensor<4xf32> { return %a : tensor<4xf32> }\n", r".mlir:1:"),
    ],
)
def test_a_source_that_cannot_be_used_is_exit_3_in_one_line(npuc, tmp_path, command, content, says):
    path = tmp_path / "in.mlir"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    code, out, err = npuc(command, path, "--json")
    assert code == 3 and err.count("\n") == 1 and err.startswith(f"error: {path}")
    assert says in err and json.loads(out)["error"]["exit_code"] == 3


@pytest.mark.parametrize("content", [b"", b"xclbin2\0", b"xclbin2\0" + bytes(500), xclbin_of(SMALL)[:-9]])
def test_a_corrupt_xclbin_is_exit_3_in_one_line(npuc, tmp_path, content):
    (tmp_path / "k.xclbin").write_bytes(content)
    code, _, err = npuc("run", tmp_path / "k.xclbin")
    assert code == 3 and err.count("\n") == 1 and str(tmp_path / "k.xclbin") in err


def npy(array) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot read"),
        (b"", "not a .npy file"),
        (b"text", "not a .npy file"),
        (npy(np.zeros((1, 2, 8, 4)))[:-8], "broken .npy file"),
        (npy(np.zeros((1, 2, 8, 3))), "argument q expects shape [1, 2, 8, 4], got [1, 2, 8, 3]"),
        (npy(np.zeros((1, 2, 8, 4), int)), "argument q expects float32"),
        (npy(np.array([{"a": 1}], dtype=object)), "broken .npy file"),
    ],
)
def test_an_input_that_does_not_fit_is_exit_3_in_one_line(npuc, tmp_path, kernel, content, says):
    path = tmp_path / "q.npy"
    if content is not None:
        path.write_bytes(content)
    code, _, err = npuc("run", kernel, "--backend", "reference", "--input", f"q={path}", "--random", "1")
    assert code == 3 and err.count("\n") == 1 and says in err


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.npz", b"PK\3\4broken", "broken .npz"),
        ("x.safetensors", b"\xff" * 40, "broken .safetensors"),
        ("x.safetensors", struct.pack("<Q", 2) + b"[]", "broken .safetensors"),
        ("x.bin", b"1234", "neither .npz nor .safetensors"),
    ],
)
def test_broken_archives_are_exit_3_in_one_line(npuc, tmp_path, kernel, name, content, says):
    (tmp_path / name).write_bytes(content)
    code, _, err = npuc("run", kernel, "--backend", "reference", "--input", tmp_path / name)
    assert code == 3 and err.count("\n") == 1 and says in err


def test_missing_and_unknown_names_are_told(npuc, tmp_path, kernel):
    (tmp_path / "q.npy").write_bytes(npy(np.zeros((1, 2, 8, 4))))
    code, _, err = npuc("run", kernel, "--backend", "reference", "--input", f"q={tmp_path / 'q.npy'}")
    assert code == 3 and "argument k, v of attention is missing" in err
    code, _, err = npuc("run", kernel, "--backend", "reference", "--input", f"w={tmp_path / 'q.npy'}")
    assert code == 3 and "no input 'w'" in err
    code, _, err = npuc("run", kernel, "--backend", "reference", "--output", "w=y.npy")
    assert code == 2 and "there is o" in err
    assert npuc("run", kernel, "--backend", "reference", "--kernel", "other")[0] == 2


def test_a_backend_that_is_not_there_is_exit_4(npuc, kernel):
    code, _, err = npuc("run", kernel, "--backend", "xrt")
    assert code == 4 and err.startswith("error: no NPU: ") and err.count("\n") == 1


# compile


def test_compile_writes_the_xclbin_and_reports_it(npuc, pipeline):
    code, out, err = npuc("compile", "a.mlir")
    assert (code, err) == (0, "") and Path("a.xclbin").read_bytes() == b"xclbin of attention"
    assert out.startswith("a.xclbin: 19 bytes, 2 cores, largest core program 32 bytes")


def test_compile_json_has_the_fields_of_the_contract(npuc, pipeline):
    code, out, _ = npuc("compile", "a.mlir", "-o", "out.npua", "--columns", "3", "--json")
    report = json.loads(out)
    assert code == 0 and set(report) >= {
        "output", "sha256", "bytes", "seconds", "cached", "target", "kernels", "cores", "program_bytes_max", "plan",
    }  # fmt: skip
    assert (report["output"], report["bytes"], report["cached"]) == ("out.npua", 4, False)
    assert report["plan"] == {"columns": 3}
    (described,) = report["kernels"]
    assert described["args"][0] == {"name": "q", "dtype": "bf16", "shape": [1, 2, 64, 64], "direction": "in"}
    assert set(described["attention"]) >= {
        "heads", "kv_heads", "head_dim", "causal", "window", "softcap", "scale", "precision",
    }  # fmt: skip
    assert json.loads(npuc("compile", "a.mlir", "--columns", "3", "--json")[1])["cached"]
    assert not json.loads(npuc("compile", "a.mlir", "--columns", "3", "--json", "--no-cache")[1])["cached"]


@pytest.mark.parametrize(
    ("words", "file", "begins"),
    [
        (["-o", "x.pdi"], "x.pdi", b"pdi"),
        (["-o", "x.txn"], "x.txn", b"txn"),
        (["-o", "x.s"], "x.s", b".exact\n\n.core 0, 2\n"),
        (["-o", "x.json"], "x.json", b"{"),
        (["-o", "x.plan"], "x.plan", b"plan over"),
        (["-o", "x.mlir"], "x.mlir", b"func.func"),
        (["-o", "anything"], "anything", b"xclbin"),
        (["-o", "x.bin", "--emit", "npua"], "x.bin", b"npua"),
        (["--emit", "elf"], "a.elf/core_0_2.elf", b"\x7fELF"),
    ],
)
def test_the_stage_follows_the_option_else_the_suffix(npuc, pipeline, words, file, begins):
    assert npuc("compile", "a.mlir", *words)[0] == 0
    assert Path(file).read_bytes().startswith(begins)


def test_text_goes_to_standard_output_and_nothing_else_does(npuc, pipeline):
    assert npuc("compile", "a.mlir", "--emit", "plan") == (0, "plan over 1 columns\n", "")


def test_a_dash_is_standard_input_and_output(pipeline, monkeypatch, capsysbinary):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    with pytest.raises(SystemExit) as end:
        cli.main(["compile", "-", "-o", "-"])
    assert end.value.code == 0 and capsysbinary.readouterr().out == b"xclbin of attention"


def test_passes_are_printed_on_standard_error(npuc, pipeline):
    code, _, err = npuc("compile", "a.mlir", "--print-ir-after", "all")
    assert code == 0 and "after plan" in err and "the kernel" in err
    assert npuc("compile", "a.mlir", "--print-ir-after", "nothing")[0] == 2


@pytest.mark.parametrize("place", ["nowhere/out.xclbin", "a.mlir/out.xclbin", "."])
def test_an_output_that_cannot_be_written_is_exit_3(npuc, pipeline, place):
    code, _, err = npuc("compile", "a.mlir", "-o", place, "--emit", "xclbin")
    assert code == 3 and f"error: {place}: cannot write" in err and err.count("\n") == 1
    assert not [name for name in os.listdir() if name.endswith(".tmp")]


def test_a_failed_compilation_keeps_the_old_output(npuc, pipeline):
    Path("out.xclbin").write_bytes(b"old")
    Path("bad.mlir").write_bytes(b"\xff")
    assert npuc("compile", "bad.mlir", "-o", "out.xclbin")[0] == 3
    assert Path("out.xclbin").read_bytes() == b"old"


# run


def test_run_json_has_the_fields_of_the_contract(npuc, kernel, tmp_path):
    code, out, err = npuc(
        "run", kernel, "--backend", "reference", "--check", "--json", "--output", f"o={tmp_path / 'o.npy'}"
    )
    report = json.loads(out)
    assert (code, err) == (0, "") and set(report) >= {
        "kernel", "backend", "emulated", "outputs", "cycles", "clock_hz", "seconds", "bundles", "macs", "utilization",
        "cores", "dma", "check", "warnings",
    }  # fmt: skip
    assert report["outputs"] == {"o": {"shape": [1, 2, 8, 4], "dtype": "float32", "file": str(tmp_path / "o.npy")}}
    assert set(report["check"]) >= {"reference", "max_abs", "mean_rel_l1", "outside", "passed"}
    assert (report["macs"], report["emulated"], report["check"]["passed"]) == (2 * 2 * 8 * 8 * 4, False, True)
    assert np.load(tmp_path / "o.npy").dtype == np.float32


def test_without_inputs_they_are_drawn_with_seed_0(npuc, kernel, tmp_path):
    for name, words in {"a": [], "b": ["--random", "0"], "c": ["--random", "1"]}.items():
        assert npuc("run", kernel, "--backend", "reference", *words, "--output", f"o={tmp_path / name}")[0] == 0
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


def test_inputs_come_from_npy_npz_and_safetensors_alike(npuc, kernel, tmp_path):
    arguments = tuple(KernelArgument(n, n, "bf16", "bf16", (1, 2, 8, 4), "in", 0) for n in "qkv")
    drawn = draw(arguments, 3)
    for name, array in drawn.items():
        np.save(tmp_path / f"{name}.npy", array.view(np.uint16))
    np.savez(tmp_path / "all.npz", **{name: array.astype(np.float32) for name, array in drawn.items()}, other=[1])
    header, blob = {"__metadata__": {"format": "np"}}, b""
    for name, array in drawn.items():
        header[name] = {"dtype": "BF16", "shape": [1, 2, 8, 4], "data_offsets": [len(blob), len(blob) + array.nbytes]}
        blob += array.tobytes()
    text = json.dumps(header).encode()
    (tmp_path / "all.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + blob)
    ways = {
        "random": ["--random", "3"],
        "npy": [word for name in "qkv" for word in ("--input", f"{name}={tmp_path / name}.npy")],
        "npz": ["--input", tmp_path / "all.npz"],
        "safetensors": ["--input", tmp_path / "all.safetensors"],
    }
    results = set()
    for name, words in ways.items():
        assert npuc("run", kernel, "--backend", "reference", *words, "--output", f"o={tmp_path / name}")[0] == 0
        results.add((tmp_path / name).read_bytes())
    assert len(results) == 1
    assert zipfile.is_zipfile(tmp_path / "all.npz") and drawn["q"].dtype == ml_dtypes.bfloat16


def test_a_failed_check_is_exit_1_and_json_says_so(npuc, kernel, monkeypatch):
    def wrong(self, arrays, kernel):
        result, report = compute(self, arrays, kernel)
        return np.full_like(result, 9.0), report

    compute = ReferenceBackend.compute
    monkeypatch.setattr(ReferenceBackend, "compute", wrong)
    code, out, err = npuc("run", kernel, "--backend", "reference", "--check", "--json")
    result = json.loads(out)["check"]
    assert (code, result["passed"], result["outside"]) == (1, False, 64) and err.startswith("error: check FAILED")


def test_the_summary_says_kernel_backend_and_check(npuc, tmp_path):
    (tmp_path / "k.npua").write_bytes(npua_of(SMALL))
    code, out, _ = npuc("run", tmp_path / "k.npua", "--backend", "reference", "--check")
    assert code == 0 and "attention: batch 1, 2 heads, 8 queries, 8 keys, head size 4, bf16" in out
    assert "check        passed against the recognised attention in float64" in out


def test_doctor_gives_each_finding_a_remedy(npuc):
    code, out, _ = npuc("doctor", "--json")
    report = json.loads(out)
    assert code == (0 if report["npu_usable"] else 4)
    assert {f["name"] for f in report["findings"]} >= {"system", "pci", "driver", "device", "xrt"}
    assert all(f["ok"] or f["remedy"] for f in report["findings"])
    assert npuc("doctor")[0] == code
