"""Relocatable objects: what is written reads back, as an independent reader sees it too."""

from __future__ import annotations

import io
import random

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.elf_object import ObjectFile, ObjectSymbol, Relocation, Section, read_object, write_object

OUTSIDE = ObjectSymbol("outside", binding="global", defined=False)
TABLE = ObjectSymbol("table", 1, 4, 4, "object", "global")
LOCAL = ObjectSymbol("loop", 0, 8)
LIMIT = ObjectSymbol("limit", None, 77, binding="weak")
RELOCATIONS = (Relocation(0, 41, OUTSIDE), Relocation(16, 0, LOCAL, 4))
FILE = ObjectFile(
    (
        Section(".text", bytes(range(32)), True, False, 16, False, RELOCATIONS),
        Section(".data", b"datadata", False, True, 32, False, (Relocation(4, 50, TABLE, -1),)),
        Section(".bss", bytes(64), False, True, 32, True),
    ),
    (LOCAL, OUTSIDE, TABLE, LIMIT),
)  # fmt: skip


def test_an_object_reads_back_as_it_was_written() -> None:
    again = read_object(write_object(FILE))
    assert again.sections == FILE.sections
    assert [s for s in again.symbols if s.name] == sorted(FILE.symbols, key=lambda s: s.binding != "local")
    assert write_object(ObjectFile(again.sections, tuple(s for s in again.symbols if s.name))) == write_object(FILE)


def test_an_independent_reader_sees_the_same() -> None:
    seen = ELFFile(io.BytesIO(write_object(FILE)))
    assert (seen["e_type"], seen["e_machine"], seen["e_flags"]) == ("ET_REL", 264, 2)
    for section in FILE.sections:
        found = seen.get_section_by_name(section.name)
        assert (found["sh_size"], found["sh_addralign"]) == (len(section.data), section.alignment)
        assert found["sh_offset"] % section.alignment == 0
        assert section.zeros or found.data() == section.data
    table = seen.get_section_by_name(".symtab")
    bindings = [s["st_info"]["bind"] for s in table.iter_symbols()]
    assert bindings == sorted(bindings, key=lambda b: b != "STB_LOCAL")
    assert table["sh_info"] == bindings.count("STB_LOCAL")
    relocations = seen.get_section_by_name(".rela.text")
    assert isinstance(relocations, RelocationSection)
    assert [
        (r["r_offset"], r["r_info_type"], table.get_symbol(r["r_info_sym"]).name, r["r_addend"])
        for r in relocations.iter_relocations()
    ] == [(0, 41, "outside", 0), (16, 0, "loop", 4)]


def test_damaged_objects_end_in_one_error_or_read(seed: int) -> None:
    rng, data = random.Random(seed), write_object(FILE)
    for _ in range(2000):
        damaged = bytearray(data[: rng.randrange(len(data)) if rng.random() < 0.3 else len(data)])
        for _ in range(rng.randrange(1, 5)):
            if damaged:
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_object(bytes(damaged))
        except InputError as error:
            assert "\n" not in str(error)


def test_an_executable_is_no_object() -> None:
    data = bytearray(write_object(FILE))
    data[16] = 2
    with pytest.raises(InputError, match="file type 2, an object expected"):
        read_object(bytes(data))
