"""Core ELFs: read back, and read alike by pyelftools and lief."""

from __future__ import annotations

import io

import pytest
from elftools.elf.elffile import ELFFile
from format_strategies import NAME
from hypothesis import given
from hypothesis import strategies as st
from small_kernels import compiled

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo, elf, pdi
from npuc.compiler.target.npu1 import geometry

AIE = 264  # e_machine of AIE objects (facts/isa/aie2_relocations.json)
KIND_OF_TYPE = {"STT_FUNC": "function", "STT_OBJECT": "object", "STT_NOTYPE": "label"}


@st.composite
def core_images(draw):
    program = draw(st.binary(max_size=300))
    data, at = [], 0x70000
    for _ in range(draw(st.integers(0, 3))):
        at += draw(st.integers(0, 64))
        contents = draw(st.binary(min_size=1, max_size=40))
        data.append(elf.DataSegment(at, contents))
        at += len(contents)
    places = st.one_of(st.integers(0, len(program)), st.integers(0x70000, at + 9))
    symbol = st.builds(
        elf.Symbol, places, NAME, st.integers(0, 0xFFFF), st.sampled_from(("function", "object", "label"))
    )
    return elf.CoreImage(program, draw(st.integers(0, 0x3FF0)), tuple(draw(st.lists(symbol, max_size=5))), tuple(data))


@given(core_images())
def test_what_is_written_is_read_back(image):
    data = elf.write_elf(image)
    assert elf.read_elf(data) == image and elf.write_elf(elf.read_elf(data)) == data


@given(core_images())
def test_pyelftools_sees_the_same_image(image):
    file = ELFFile(io.BytesIO(elf.write_elf(image)))
    header = file.header
    assert (file.elfclass, file.little_endian, header["e_type"]) == (32, True, "ET_EXEC")
    assert (header["e_machine"], header["e_entry"], header["e_flags"]) == (AIE, image.entry, 2)
    segments = [(s["p_paddr"], s["p_vaddr"], s.data()) for s in file.iter_segments()]
    want = [(0, image.program), *((s.address, s.data) for s in image.data)]
    assert segments == [(address, address, data) for address, data in want]
    assert all(s["p_filesz"] == s["p_memsz"] and s["p_type"] == "PT_LOAD" for s in file.iter_segments())
    contents = {s["sh_addr"]: s.data() for s in file.iter_sections() if s["sh_type"] == "SHT_PROGBITS"}
    assert contents == dict(want)
    symbols = [
        (s["st_value"], s.name, s["st_size"], KIND_OF_TYPE[s["st_info"]["type"]])
        for s in file.get_section_by_name(".symtab").iter_symbols()
    ]
    assert symbols[1:] == [(s.address, s.name, s.size, s.kind) for s in image.symbols]
    for symbol in list(file.get_section_by_name(".symtab").iter_symbols())[1:]:
        if isinstance(symbol["st_shndx"], int):
            section = file.get_section(symbol["st_shndx"])
            assert section["sh_addr"] <= symbol["st_value"] <= section["sh_addr"] + section["sh_size"]


def test_lief_reads_a_compiled_core_program():
    lief = pytest.importorskip("lief")
    for data in compiled().elfs().values():
        binary = lief.ELF.parse(io.BytesIO(data))
        image = elf.read_elf(data)
        assert binary.entrypoint == image.entry
        assert [bytes(s.content) for s in binary.segments] == [image.program, *(s.data for s in image.data)]
        assert [s.name for s in binary.symbols][1:] == [s.name for s in image.symbols]


def test_the_elfs_of_a_kernel_hold_what_its_pdi_loads():
    kernel = compiled()
    memory: dict[int, int] = {}
    for command in pdi.read_pdi(kernel.stage("pdi")).commands:
        if isinstance(command, cdo.DmaWrite):
            memory.update(zip(range(command.address, 1 << 32, 4), command.words, strict=False))
    assert len(kernel.elfs()) == kernel.summary["cores"]
    for name, data in kernel.elfs().items():
        column, row = map(int, name.removesuffix(".elf").split("_")[1:])
        image = elf.read_elf(data)
        parts = [(geometry.PROGRAM_MEMORY_OFFSET, image.program)]
        parts += [(s.address - geometry.CORE_VIEW_OWN, s.data) for s in image.data]
        for offset, contents in parts:
            first = geometry.tile_address(column, row, offset)
            words = b"".join(memory[first + i].to_bytes(4, "little") for i in range(0, len(contents), 4))
            assert words[: len(contents)] == contents and not any(words[len(contents) :])
        assert image.symbols and all(s.address < len(image.program) for s in image.symbols if s.kind == "function")


GOOD = elf.write_elf(elf.CoreImage(bytes(range(32)), 0, (elf.Symbol(0, "main"),), (elf.DataSegment(0x70000, b"x"),)))


def changed(at: int, value: int, size: int = 4) -> bytes:
    return GOOD[:at] + value.to_bytes(size, "little") + GOOD[at + size :]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "header"),
        (GOOD[:40], "header"),
        (changed(4, 2, 1), "32-bit little-endian"),
        (changed(18, 62, 2), "machine 62"),
        (changed(16, 3, 2), "file type 3"),
        (changed(42, 56, 2), "headers of 56 bytes"),
        (changed(44, 60000, 2), "60000 program headers"),
        (changed(28, 1 << 30), "program header array"),
        (changed(52 + 12, 0x30000), "in no core memory"),
        (changed(52 + 12, 0xFFFFFFF0), "in no core memory"),
        (changed(52 + 20, 0xFFFFFFFF), "in no core memory"),
        (changed(52 + 16, 1 << 20), "beyond memory size"),
        (changed(52 + 4, 1 << 30), "ELF segment"),
        (GOOD[:-1], "section header array"),
    ],
)
def test_what_is_no_core_elf_is_refused_with_its_offset(data, says):
    with pytest.raises(InputError, match=says) as error:
        elf.read_elf(data)
    assert "offset 0x" in str(error.value)
