"""Kernels of other tools with their own sequences, through `npuc run --insts`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from small_design import BLOCKS, WORDS, Design

from npuc.compiler import cli
from npuc.compiler.emit import legacy_sequence, txn
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin

BYTES = 4 * WORDS * BLOCKS


@pytest.fixture
def npuc(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main(["run", *map(str, words)])
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path):
    """k.xclbin with two kernels on one image, a.txn, its text form a.txt, and the input x.npy."""
    design = Design()
    kernels = tuple(KernelEntry(name, "I", 0x901 + i, ("in", "out")) for i, name in enumerate(("first", "second")))
    (tmp_path / "k.xclbin").write_bytes(write_xclbin(Xclbin(kernels, 1, design.pdi())))
    stream = txn.write_txn(design.operations, 1)
    (tmp_path / "a.txn").write_bytes(stream)
    words = [int.from_bytes(stream[i : i + 4], "little") for i in range(0, len(stream), 4)]
    (tmp_path / "a.txt").write_bytes(legacy_sequence.text_of_words(words))
    (tmp_path / "old.txt").write_bytes(legacy_sequence.write_legacy_text(design.operations))
    np.save(tmp_path / "x.npy", design.buffers[0])
    return tmp_path


GIVEN = ("--kernel", "first", "--input", "bo0=x.npy", "--alloc", f"bo1={BYTES}")


@pytest.mark.parametrize("sequence", ["a.txn", "a.txt"])
def test_a_foreign_kernel_runs_with_its_sequence(npuc, files, sequence):
    code, out, err = npuc("k.xclbin", "--insts", sequence, *GIVEN, "--output", "bo1=y.npy", "--json")
    report = json.loads(out)
    assert (code, err) == (0, "") and report["kernel"] == "first" and report["emulated"]
    assert report["outputs"] == {"bo1": {"shape": [BYTES], "dtype": "uint8", "file": "y.npy"}}
    assert report["macs"] is None and report["check"] is None and report["bundles"] > 0
    result = np.load(files / "y.npy")
    assert result.dtype == np.uint8
    assert np.array_equal(result.view(np.uint32), np.load(files / "x.npy") + 1)


def test_the_older_form_runs_on_a_kernel_that_takes_it(npuc, files, monkeypatch):
    from npuc.runtime import foreign

    read = foreign.read_xclbin

    def older(data):
        file = read(data)
        kernels = tuple(replace(k, description=replace(k.description, functional=1)) for k in file.kernels)
        return replace(file, kernels=kernels)

    monkeypatch.setattr(foreign, "read_xclbin", older)
    code, _, err = npuc("k.xclbin", "--insts", "old.txt", *GIVEN, "--output", "bo1=y.npy", "--profile")
    assert (code, err) == (0, "")
    assert np.array_equal(np.load(files / "y.npy").view(np.uint32), np.load(files / "x.npy") + 1)
    code, _, err = npuc("k.xclbin", "--insts", "a.txn", *GIVEN)
    assert code == 3 and "takes the older form" in err


@pytest.mark.parametrize("words, code, says", [
    (("--insts", "a.txn", "--input", "bo0=x.npy"), 2, "2 kernels: first, second"),
    (("--insts", "a.txn", "--kernel", "third"), 2, "no kernel 'third'"),
    (("--insts", "old.txt", *GIVEN), 3, "old.txt: the older form; kernel first takes TXN"),
    (("--insts", "x.npy", *GIVEN), 3, "x.npy: "),
    (("--insts", "none", *GIVEN), 3, "none: cannot read"),
    (("--insts", "a.txn", *GIVEN[:4]), 2, "uses buffer bo1, which nothing gives"),
    (("--insts", "a.txn", *GIVEN, "--alloc", "bo0=4"), 2, "bo0 is given by --input and --alloc"),
    (("--insts", "a.txn", *GIVEN, "--alloc", "bo3=none"), 2, "expected a number of bytes"),
    (("--insts", "a.txn", *GIVEN, "--output", "bo7=y.npy"), 2, "there is no such buffer"),
    (("--insts", "a.txn", *GIVEN, "--output", "out=y.npy"), 2, "buffers are called bo0, bo1"),
    (("--insts", "a.txn", *GIVEN, "--check"), 2, "--check"),
    (("--alloc", "bo0=4"), 2, "--alloc is for --insts"),
])  # fmt: skip
def test_wrong_use_is_one_clear_line(npuc, files, words, code, says):
    got, out, err = npuc("k.xclbin", *words)
    assert got == code and out == ""
    assert err.startswith("error: ") and err.count("\n") == 1 and says in err


def test_a_buffer_that_is_too_small_is_named(npuc, files):
    code, _, err = npuc("k.xclbin", "--insts", "a.txn", *GIVEN[:4], "--alloc", "bo1=64")
    assert code == 4 and "buffer argument 1, which has 64" in err
