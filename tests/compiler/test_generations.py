"""Files of other generations are named as that: AIE2P's and AIE1's code by bundle formats, ELF flags, TXN headers."""

from __future__ import annotations

import json
import random
import struct

import pytest
from random_code import bundles

from npuc.compiler import cli
from npuc.compiler.asm.generation import ENOUGH, other_generation, program_generation
from npuc.compiler.asm.programs import read_programs
from npuc.compiler.emit import cdo, elf, pdi, txn
from npuc.compiler.emit.xclbin import KernelEntry, Xclbin, write_xclbin
from npuc.compiler.target import generations
from npuc.compiler.target.npu1 import geometry

# Layouts of AIE2P bundles, most significant bit first, as public tables of its compiler print them: fixed bits and the
# widths of the slots between them.
AIE2P_LAYOUTS = (
    "00000 20 001 1000", "00011 22 1 1000", "26 00 1000", "20 20 00001 100", "17 000 22 110 100", "42 0 00 100",
    "20 20 01011 100", "20 000000000100 26 10 0010", "20 17 20 011 0010", "00000 42 0 26 01 1010",
    "20 0 22 00010 26 00 1010", "20 17 00000 20 22 1 0001011 0110", "20 17 22 00010 26 10 0110",
    "20 17 42 0 26 00 1110", "20 17 20 22 1 20 00000111 1110", "20 17 20 0 42 0 26 1", "20 17 20 0 20 22 1 26 1",
)  # fmt: skip


def is_width(item: str) -> bool:
    return item in {"17", "20", "22", "26", "42"}


def aie2p_code(generator: random.Random, count: int) -> bytes:
    """Bundles of AIE2P whose slots hold anything."""
    code = b""
    for _ in range(count):
        bits = ""
        for item in generator.choice(AIE2P_LAYOUTS).split():
            bits += f"{generator.getrandbits(int(item)):0{int(item)}b}" if is_width(item) else item
        code += int(bits, 2).to_bytes(len(bits) // 8, "little")
    return code


# Layouts of AIE1 bundles of 4, 8, 12 and 16 bytes and its 2-byte moves, from public tables of its compiler.
AIE1_LAYOUTS = (
    "14 01", "28 1 011", "25 0010 011", "1 20 00000000 011", "0 19 0 00000000 011", "0 17 1 11 00000000 011",
    "0 18 01 00000000 011", "20 19 0 00000000001111 37 0 1111", "18 19 16 0 37 0 1111", "18 17 20 19 16 0 1 1111",
    "18 17 1 20 0 1 16 0 13 1 37 0 0", "18 17 0 20 00 16 0 7 19 25 1 0",
)  # fmt: skip


def aie1_code(generator: random.Random, count: int, nops: float) -> bytes:
    """Bundles of AIE1 whose slots hold anything; nops: how many are that."""
    code = b""
    for _ in range(count):
        bits = f"{1:016b}"
        if generator.random() >= nops:
            items = [item if set(item) <= set("01") else int(item) for item in generator.choice(AIE1_LAYOUTS).split()]
            bits = "".join(i if isinstance(i, str) else f"{generator.getrandbits(i):0{i}b}" for i in items)
        code += int(bits, 2).to_bytes(len(bits) // 8, "little")
    return code


def image(code: bytes) -> bytes:
    """A PDI that loads core (0,2) with this code."""
    code += bytes(-len(code) % 4)
    words = struct.unpack(f"<{len(code) // 4}I", code)
    place = geometry.tile_address(0, 2, geometry.PROGRAM_MEMORY_OFFSET)
    enable = cdo.MaskWrite(geometry.tile_address(0, 2, geometry.CORE_CONTROL), 1, 1)
    return pdi.write_pdi([cdo.DmaWrite(place, words), enable])


@pytest.fixture
def npuc(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([*map(str, words)])
        return (end.value.code, *capsys.readouterr())

    return run


def test_code_of_aie2p_is_told_from_code_of_aie2_and_from_anything_else(seed):
    generator = random.Random(seed)
    for _ in range(50):
        assert program_generation(aie2p_code(generator, 2 * ENOUGH)) is generations.NPU2
        assert program_generation(aie1_code(generator, 100, 0)) is generations.VERSAL
        assert program_generation(aie1_code(generator, 80, 0.6)) is generations.VERSAL
        assert program_generation(generator.randbytes(4096)) is generations.NPU1
        assert program_generation(bundles(generator, 40)) is generations.NPU1
    assert program_generation(bytes(16384)) is generations.NPU1
    assert program_generation(b"") is generations.NPU1


@pytest.mark.parametrize("name", ["npu2 (AIE2P", "Versal AI Core (AIE1"])
def test_every_command_names_the_generation_of_an_image(npuc, tmp_path, name, seed):
    generator = random.Random(seed)
    code = aie2p_code(generator, 60) if "AIE2P" in name else aie1_code(generator, 100, 0.4)
    (tmp_path / "k.pdi").write_bytes(image(code))
    kernels = (KernelEntry("k", "I", 0x901, ("in",)),)
    (tmp_path / "k.xclbin").write_bytes(write_xclbin(Xclbin(kernels, 1, image(code))))
    (tmp_path / "a.txn").write_bytes(txn.write_txn([txn.Noop()], 1))
    for file in ("k.pdi", "k.xclbin"):
        for words in (("run", file, "--insts", "a.txn"), ("lint", file), ("disasm", file)):
            code_, out, err = npuc(*words)
            assert code_ == 3 and out == "", (words, err)
            assert f"core 0,2 is code for {name}" in err and "npu1 (AIE2" in err and err.count("\n") == 1
        code_, out, err = npuc("inspect", file)
        assert code_ == 0 and f"programs for {name}" in out
    told = json.loads(npuc("inspect", "k.pdi", "--json")[1])
    assert told["generation"].startswith(name)


@pytest.mark.parametrize("flags, name", [(1, "AIE1"), (3, "npu2 (AIE2P")])
def test_every_command_names_the_generation_of_an_elf(npuc, tmp_path, flags, name, seed):
    data = bytearray(elf.write_elf(elf.CoreImage(bundles(random.Random(seed), 20))))
    data[elf.HEADER.offsets["flags"]] = flags
    (tmp_path / "k.elf").write_bytes(data)
    for command in ("lint", "disasm"):
        code, out, err = npuc(command, "k.elf")
        assert code == 3 and out == "" and name in err and "npu1 (AIE2" in err, err
    code, out, _ = npuc("inspect", "k.elf")
    assert code == 0 and name in out
    assert json.loads(npuc("inspect", "k.elf", "--json")[1])["program_bytes"] > 0


@pytest.mark.parametrize(
    "generation, rows, columns, code, says",
    [
        (3, 6, 4, 0, ""),
        (4, 6, 4, 0, "generation 4, npu2 (AIE2P"),
        (4, 6, 8, 3, "8 columns, npu1 has 5 (npu2 has 8)"),
        (4, 7, 4, 3, "7 rows"),
        (1, 6, 4, 3, "Versal AI Core (AIE1"),
        (2, 6, 4, 3, "Versal AI Edge (AIE2"),
        (5, 6, 4, 3, "AIE2PS"),
        (77, 6, 4, 3, "generation 77, which is unknown"),
    ],
)
def test_the_generation_of_a_sequence_is_named(npuc, tmp_path, generation, rows, columns, code, says):
    data = bytearray(txn.write_txn([txn.Noop()], columns))
    data[2], data[3] = generation, rows
    (tmp_path / "a.txn").write_bytes(data)
    (tmp_path / "k.pdi").write_bytes(pdi.write_pdi([cdo.Write(geometry.tile_address(0, 2, 0), 1)]))
    got, out, err = npuc("run", "k.pdi", "--insts", "a.txn")
    assert got == code and says in err, err
    assert ("npu1 (AIE2: Phoenix, Hawk Point) is 3" in err) == (bool(says) and "has 5" not in says and rows == 6)
    code, out, _ = npuc("inspect", "a.txn")
    known = generations.BY_TXN_CODE.get(generation)
    assert code == 0 and f"for {known or 'unknown'}" in out


def test_programs_of_npu1_are_of_no_other_generation():
    from small_kernels import compiled

    assert other_generation(read_programs(compiled().xclbin)) is None
