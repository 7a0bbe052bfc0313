"""The core programs of a file: found in every container, with what is known of them."""

from __future__ import annotations

import hashlib

import pytest

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.asm.programs import read_programs, select_programs
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo, elf, elf_object, npua, pdi, xclbin
from npuc.compiler.emit.control_template import ControlTemplate
from npuc.compiler.target.npu1 import geometry

CODE = b"".join(encode_bundle({}, size) for size in (4, 16, 2))  # 22 bytes: two short of a word
ENTRIES = ((0, "main"), (4, "loop"))


def load(column: int, row: int, code: bytes, at: int = 0) -> cdo.DmaWrite:
    words = (code + bytes(-len(code) % 4),)
    values = tuple(int.from_bytes(words[0][i : i + 4], "little") for i in range(0, len(words[0]), 4))
    return cdo.DmaWrite(geometry.tile_address(column, row, geometry.PROGRAM_MEMORY_OFFSET + at), values)


def commands() -> list[cdo.Command]:
    elsewhere = cdo.DmaWrite(geometry.tile_address(0, 2, 0x400), (1, 2, 3))
    return [load(1, 3, CODE), elsewhere, load(0, 2, CODE)]


def described(image: bytes) -> bytes:
    programs = tuple(npua.ProgramSymbols(c, r, len(CODE), ENTRIES, ((0, "a.mlir:1"),)) for c, r in ((0, 2), (1, 3)))
    control = ControlTemplate(columns=2, operations=())
    return npua.write_npua(npua.Npua({"kernel": "k"}, control, programs, hashlib.sha256(image).digest()))


def test_an_xclbin_gives_every_core_with_names_and_exact_size_from_its_npua() -> None:
    image = pdi.write_pdi(commands())
    kernel = xclbin.KernelEntry("k", "I", 0x901, ("a",), described(image))
    programs = read_programs(xclbin.write_xclbin(xclbin.Xclbin((kernel,), 2, image)))
    assert [p.core for p in programs] == [(0, 2), (1, 3)]
    assert [p.title for p in programs] == ["core 0,2", "core 1,3"]
    for program in programs:
        assert (program.base, program.code, program.symbols) == (0, CODE, ENTRIES)
        assert program.names == {0: "main", 4: "loop"}
        assert program.source == "PDI 0 of kernel k"


@pytest.mark.parametrize("write", [pdi.write_pdi, cdo.write_cdo], ids=["pdi", "cdo"])
def test_pdi_and_cdo_give_whole_words(write) -> None:  # type: ignore[no-untyped-def]
    programs = read_programs(write(commands()))
    assert [(p.core, p.code) for p in programs] == [((0, 2), CODE + bytes(2)), ((1, 3), CODE + bytes(2))]


def test_a_program_loaded_in_pieces_is_one_with_zeros_between() -> None:
    pieces = [load(0, 2, CODE, 0x20), load(0, 2, b"\x01\x02\x03\x04", 0x40), cdo.Write(0x220010, 0x04030201)]
    (program,) = read_programs(cdo.write_cdo(pieces))
    assert program.base == 0x10
    assert program.code == b"\x01\x02\x03\x04" + bytes(12) + CODE + bytes(10) + b"\x01\x02\x03\x04"


def test_a_write_that_leaves_program_memory_counts_up_to_its_end() -> None:
    start = geometry.PROGRAM_MEMORY_SIZE - 8
    (program,) = read_programs(cdo.write_cdo([load(0, 2, bytes(range(32)), start)]))
    assert (program.base, program.code) == (start, bytes(range(8)))


def test_a_standalone_npua_gives_the_programs_of_its_pdi() -> None:
    image = pdi.write_pdi(commands())
    file = npua.read_npua(described(image))
    standalone = npua.write_npua(npua.Npua(file.metadata, file.control, file.programs, file.pdi_sha256, image))
    assert [p.code for p in read_programs(standalone)] == [CODE, CODE]
    with pytest.raises(InputError, match="carries no PDI.*give the xclbin"):
        read_programs(described(image))


def test_an_executable_gives_its_code_symbols_and_data() -> None:
    symbols = (elf.Symbol(0, "main"), elf.Symbol(0x70000, "table", 4, "object"), elf.Symbol(4, "loop", kind="label"))
    image = elf.CoreImage(CODE, 4, symbols, (elf.DataSegment(0x70000, b"abcd"),))
    (program,) = read_programs(elf.write_elf(image))
    assert (program.core, program.code, program.entry) == (None, CODE, 4)
    assert program.symbols == ENTRIES
    assert program.data == image.data


def test_an_executable_for_another_core_gives_its_code_alone() -> None:
    image = elf.CoreImage(CODE, 4, data=(elf.DataSegment(0x70000, b"abcd"),))
    data = bytearray(elf.write_elf(image))
    data[elf.HEADER.offsets["flags"]] = 1
    (program,) = read_programs(bytes(data))
    assert (program.code, program.base, program.entry, program.data) == (CODE, 0, 4, ())
    assert "flags 1" in program.source


def test_an_object_gives_each_code_section_with_its_relocations() -> None:
    table = elf_object.ObjectSymbol("table", binding="global", defined=False)
    start = elf_object.ObjectSymbol("start", 1, 4, 18, "function", "global")
    sections = (
        elf_object.Section(".data", b"data", writable=True),
        elf_object.Section(".text.f", CODE, True, relocations=(elf_object.Relocation(4, 41, table, 8),)),
    )
    (program,) = read_programs(elf_object.write_object(elf_object.ObjectFile(sections, (table, start))))
    assert (program.title, program.code, program.symbols) == ("section .text.f", CODE, ((4, "start"),))
    assert [(r.offset, r.type, r.symbol.name, r.addend) for r in program.relocations] == [(4, 41, "table", 8)]


def test_raw_bytes_are_code_only_when_the_caller_says_so() -> None:
    with pytest.raises(InputError, match="is none of.*--raw"):
        read_programs(CODE)
    (program,) = read_programs(CODE, raw=True)
    assert (program.code, program.title) == (CODE, "program")


def test_a_core_that_is_not_there_is_named_with_those_that_are() -> None:
    programs = read_programs(cdo.write_cdo(commands()))
    assert [p.core for p in select_programs(programs, (1, 3))] == [(1, 3)]
    with pytest.raises(InputError, match="no program of core 2,2.*cores are 0,2 1,3"):
        select_programs(programs, (2, 2))
    assert [p.core for p in select_programs(programs, pdi=0)] == [(0, 2), (1, 3)]
    with pytest.raises(InputError, match="no program of core 0,2 in PDI 1"):
        select_programs(programs, (0, 2), 1)
