"""Kernels of other tools with their own sequences, through `npuc run --insts`."""

from __future__ import annotations

import json
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
from control_code_files import control_code
from small_design import BLOCKS, WORDS, Design

from npuc.compiler import cli
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo, legacy_sequence, txn
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.foreign import read_sequence

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


# --- buffers that the sequence uses ------------------------------------------------------------------------------
def with_arguments(design: Design, *numbers: int) -> list[txn.Operation]:
    """The sequence with buffer arguments 0, 1, ... called otherwise."""
    return [replace(o, argument=numbers[o.argument]) if isinstance(o, txn.DdrPatch) else o for o in design.operations]


def test_only_the_buffers_that_the_sequence_uses_must_be_given(npuc, files):
    (files / "b.txn").write_bytes(txn.write_txn(with_arguments(Design(), 1, 4), 1))
    given = ("--kernel", "first", "--input", "bo1=x.npy", "--alloc", f"bo4={BYTES}", "--output", "bo4=y.npy")
    code, _, err = npuc("k.xclbin", "--insts", "b.txn", *given)
    assert (code, err) == (0, "")
    assert np.array_equal(np.load(files / "y.npy").view(np.uint32), np.load(files / "x.npy") + 1)
    code, _, err = npuc("k.xclbin", "--insts", "b.txn", *given[:4])
    assert code == 2 and "uses buffer bo4, which nothing gives" in err and "bo0" not in err


def test_a_pdi_runs_with_a_sequence(npuc, files):
    (files / "k.pdi").write_bytes(Design().pdi())
    for sequence in ("a.txn", "old.txt"):
        code, out, err = npuc("k.pdi", "--insts", sequence, *GIVEN[2:], "--output", "bo1=y.npy")
        assert (code, err) == (0, "") and "kernel       k " in out
        assert np.array_equal(np.load(files / "y.npy").view(np.uint32), np.load(files / "x.npy") + 1)
    code, _, err = npuc("k.pdi", "--insts", "a.txn", *GIVEN)
    assert code == 2 and "a PDI names no kernels" in err
    design = Design()
    design.extra.append(cdo.Write(geometry.tile_address(6, 2, 0), 1))
    (files / "wide.pdi").write_bytes(design.pdi())
    code, _, err = npuc("wide.pdi", "--insts", "a.txn", *GIVEN[2:])
    assert code == 3 and "it configures column 6, npu1 has 5 (npu2 has 8)" in err


# --- control code -------------------------------------------------------------------------------------------------
def descriptors(stream: bytes) -> list[int]:
    """Offsets of the first data words of the block writes (facts/platform/txn.md: 16 bytes into the operation)."""
    at, found = 16, []
    while at < len(stream):
        words = struct.unpack_from("<4I", stream, at)
        size = {0: 24, 1: words[3], 0x80: 16, 0x81: 48}[words[0] & 0xFF]
        found += [at + 16] if words[0] == 1 else []
        at += size
    return found


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("keeps_patches", [True, False])
def test_a_control_code_elf_runs_as_its_stream(npuc, files, version, keeps_patches):
    """Relocations name kernel arguments: opcode, instructions, their count, then the buffers."""
    operations = [o for o in Design().operations if keeps_patches or not isinstance(o, txn.DdrPatch)]
    stream = txn.write_txn(operations, 1)
    output, source = descriptors(stream)
    relocations = [(output, "4", 0), (source, "3", 0)]
    (files / "a.elf").write_bytes(control_code(stream, relocations, version=version))
    code, _, err = npuc("k.xclbin", "--insts", "a.elf", *GIVEN, "--output", "bo1=y.npy")
    assert (code, err) == (0, "")
    assert np.array_equal(np.load(files / "y.npy").view(np.uint32), np.load(files / "x.npy") + 1)


def test_a_relocation_adds_to_what_the_descriptor_holds(npuc, files):
    """Half of the input lies behind 256 bytes: 64 in the descriptor's own words, the rest in the relocation."""
    operations = [o for o in Design().operations if not isinstance(o, txn.DdrPatch)]
    source = next(
        i for i, o in enumerate(operations) if isinstance(o, txn.BlockWrite) and o.address & 0xFFFFF == 0x1D000
    )
    words = list(operations[source].words)
    words[1] = 64
    operations[source] = replace(operations[source], words=tuple(words))
    stream = txn.write_txn(operations, 1)
    places = descriptors(stream)
    (files / "a.elf").write_bytes(control_code(stream, [(places[0], "4", 0), (places[1], "3", 192)]))
    data = np.arange(64 + BYTES // 4, dtype=np.uint32)
    np.save(files / "long.npy", data)
    given = ("--kernel", "first", "--input", "bo0=long.npy", "--alloc", f"bo1={BYTES}", "--output", "bo1=y.npy")
    assert npuc("k.xclbin", "--insts", "a.elf", *given)[0] == 0
    assert np.array_equal(np.load(files / "y.npy").view(np.uint32), data[64:] + 1)


@pytest.mark.parametrize("changes, says", [
    ({"abi": 64}, "OS/ABI 64 (Versal AI Edge Gen 2 (AIE2PS"),
    ({"abi": 75}, "AIE4"),
    ({"abi": 1}, "OS/ABI 1 (unknown)"),
    ({"kind": 4}, "is of kind 4"),
    ({"symbol": "scratch-pad-mem"}, "names 'scratch-pad-mem', which is no buffer argument"),
    ({"symbol": "2"}, "names '2', which is no buffer argument"),
    ({"symbol": "5"}, "with bo1 + 0x0, its relocation with bo2 + 0x0"),
    ({"offset": 17}, "lies in no block write"),
    ({"offset": 1 << 20}, "lies in no block write"),
])  # fmt: skip
def test_control_code_that_is_not_modelled_is_refused(npuc, files, changes, says):
    stream = txn.write_txn(Design().operations, 1)
    relocation = (changes.pop("offset", descriptors(stream)[0]), changes.pop("symbol", "4"), 0)
    (files / "a.elf").write_bytes(control_code(stream, [relocation], **changes))
    code, out, err = npuc("k.xclbin", "--insts", "a.elf", *GIVEN)
    assert code == 3 and out == "" and err.startswith("error: a.elf: ") and says in err, err


def test_damaged_control_code_is_an_input_error(npuc, files, seed):
    generator = random.Random(seed)
    whole = control_code(txn.write_txn(Design().operations, 1), [(32, "4", 0)])
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            data[generator.choice((generator.randrange(52), generator.randrange(len(data))))] = generator.randrange(256)
        data = data[: generator.choice((len(data), generator.randrange(len(data))))]
        try:
            read_sequence(bytes(data))
        except InputError:
            pass


def test_writes_of_the_downsizer_bypass_are_ignored_with_a_note(npuc, files):
    """AMD's control code writes shim 0x3300c (facts/platform/device_npu1.md, last section)."""
    bypass = txn.Write(geometry.tile_address(0, 0, 0x3300C), 1)
    (files / "b.txn").write_bytes(txn.write_txn([bypass, *Design().operations], 1))
    code, _, err = npuc("k.xclbin", "--insts", "b.txn", *GIVEN, "--output", "bo1=y.npy")
    assert code == 0 and err == (
        "warning: writes of shim register 0x3300c have no effect: PL downsizer bypass, which only the first generation "
        "has\n"
    )
    assert np.array_equal(np.load(files / "y.npy").view(np.uint32), np.load(files / "x.npy") + 1)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"00000000\n06000100 x\n", "line 2: '06000100 x' is no 32-bit word in hexadecimal"),
        (b"module @kernel {}\n", "line 1: 'module @kernel {}' is no 32-bit word"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "Git LFS"),
        (Design().pdi(), "a PDI is no runtime sequence"),
        (write_xclbin(Xclbin((KernelEntry("k", "I", 1, ("in",)),), 1, Design().pdi())), "an XCLBIN is no runtime"),
    ],
)
def test_a_file_that_is_no_sequence_is_named_as_what_it_is(npuc, files, data, told):
    (files / "s").write_bytes(data)
    code, out, err = npuc("k.xclbin", "--insts", "s", *GIVEN)
    assert (code, out, err.count("\n")) == (3, "", 1) and told in err and "s: " in err
