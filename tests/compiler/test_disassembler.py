"""Disassembly: labels and sections where known, nothing lost, and back to the same bytes."""

from __future__ import annotations

import random

import pytest

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import Undecodable, decode_program, decode_sweep, encode_bundle
from npuc.compiler.asm.disassembler import disassemble
from npuc.compiler.asm.listing import list_file
from npuc.compiler.asm.object_listing import disassemble_object
from npuc.compiler.asm.objects import assemble_object
from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import elf
from npuc.compiler.emit.elf_object import ObjectFile, ObjectSymbol, Relocation, Section, read_object, write_object

SOURCE = """
start:  movxm ls, #body
        movxm le, #tail
        mova lc, #8
        movxm p0, #0x70000
        jnz r1, #out
        nop
        nop
        nop
        nop
        nop
body:   add r1, r1, #-1
tail:   nop
out:    j #start
"""


def program(code: bytes, **about: object) -> CoreProgram:
    return CoreProgram(None, None, 0, code, source="raw code", **about)  # type: ignore[arg-type]


def test_targets_of_branches_and_loops_get_labels_and_symbols_keep_their_names() -> None:
    assembly = assemble(SOURCE)
    names = assembly.symbols
    text = disassemble([program(assembly.code, symbols=((0, "start"), (2, "inside")))])
    assert "\nstart:\n00000:  movxm ls, #.L" in text
    for name in ("body", "tail", "out"):
        assert f"\n.L{names[name]:x}:\n0{names[name]:04x}:  " in text
    assert f"movxm le, #.L{names['tail']:x}" in text
    assert f"jnz r1, #.L{names['out']:x}" in text
    assert "j #start" in text
    assert "movxm p0, #0x70000" in text
    assert "\n.set inside, 0x2\n" in text
    again = assemble(text)
    assert again.code == assembly.code
    assert again.symbols["start"] == 0 and again.symbols["inside"] == 2


NAMES = (
    "f(int; char)",
    'say "twice"',
    "back\\slash",
    "\x1b[31mred\x1b[0m",
    "turned\u202egnp.",
    "two\nlines",
    "// none",
    "a\xa0b\t",
)
"""Names that end a quote, a bundle or a line, colour a terminal or turn text around."""


def test_names_stay_readable_come_back_and_cannot_act_on_a_terminal() -> None:
    code = assemble("nop\n" * len(NAMES) + "j #t\nnop\nnop\nnop\nnop\nnop\n.align 16\nt: nop").code
    symbols = tuple(elf.Symbol(2 * at, name, 0, "function") for at, name in enumerate(NAMES))
    target = elf.Symbol(len(code) - 2, 'end; of "it"', 0, "function")
    binary = elf.write_elf(elf.CoreImage(code, 0, (*symbols, target)))
    text = list_file(binary, "a\x1b[2J.elf")
    assert all(line.isprintable() for line in text.split("\n"))
    assert '"f(int; char)":' in text and '"say \\"twice\\"":' in text and '"back\\\\slash":' in text
    assert 'j #"end; of \\"it\\""' in text and "turned\\u202egnp." in text
    again = assemble(text)
    assert again.code == code
    assert {name: again.symbols[name] for name in NAMES} == {s.name: s.address for s in symbols}


def test_names_of_objects_come_back_in_sections_relocations_and_attributes() -> None:
    code = encode_bundle(parse_bundle("movxm p0, #0x0"), 6)
    symbols = [ObjectSymbol(name, 1, 4 * at, 4, "object", "global") for at, name in enumerate(NAMES)]
    outside = ObjectSymbol('else"where;', binding="global", defined=False)
    sections = (
        Section('.text."f;g"', code, True, False, 16, False, (Relocation(0, 44, outside, 4),)),
        Section(".data\u202e", bytes(4 * len(NAMES)), False, True, 4),
    )
    file = ObjectFile(sections, (*symbols, outside))
    text = disassemble_object(read_object(write_object(file)), "names.o")
    assert all(line.isprintable() for line in text.split("\n"))
    again = assemble_object(text)
    assert [s.name for s in again.sections] == [s.name for s in sections]
    assert [(r.type, r.symbol.name, r.addend) for r in again.sections[0].relocations] == [(44, outside.name, 4)]
    assert {(s.name, s.value, s.size) for s in again.symbols if s.defined} == {
        (s.name, s.value, s.size) for s in symbols
    }


def test_source_notes_of_a_program_are_printable_comments() -> None:
    lines = ((0, "a.mlir:1\x1b]0;owned\x07 \u2066turned\n.text"),)
    text = disassemble([program(assemble("nop").code, lines=lines)], "b.xclbin")
    assert "00000:  nop  // a.mlir:1\\x1b]0;owned\\x07 \\u2066turned .text\n" in text


@pytest.mark.parametrize("name", ['"a\\q"', '"a\\x00"', '"a\\ud800"', '"a\\U00110000"', '"a\\x4"'])
def test_an_escape_that_is_none_is_an_error_at_its_place(name: str) -> None:
    for text in (f"nop\n  {name}: nop", f"nop\n  j #{name}", f"nop\n  .global {name}", f"nop\n  {name} = 4"):
        with pytest.raises(InputError, match="no character that a name may have") as error:
            assemble(text)
        assert str(error.value.place).startswith("<asm>:2:")


def test_a_made_label_never_takes_a_symbols_name() -> None:
    code = assemble("j #t\nnop\nnop\nnop\nnop\nnop\nt: nop").code
    text = disassemble([program(code, symbols=((0, ".L10"), (6, "twice"), (8, "twice"), (10, "a b;c")))])
    assert assemble(text).code == code
    assert "\n.L10.1:\n" in text and "\ntwice.1:\n" in text and '\n"a b;c":\n' in text


def test_names_from_a_binary_never_break_a_line() -> None:
    code = encode_bundle(parse_bundle("add r1, r2, r3"))
    odd = CoreProgram(0, 2, 0, code, symbols=((0, "a\nb"),), lines=((0, "x\ny"),), source="PDI of\nnop\n.data")
    assert assemble(disassemble([odd], "k\nnop")).code == code
    symbol = ObjectSymbol("far\nnop", None, 0, 0, "label", "global", False)
    jump = assemble(".exact\nj #0").code
    section = Section(".te\nxt", jump, True, alignment=16, relocations=(Relocation(0, 1, symbol),))
    file = ObjectFile((section,), (symbol,))
    assert [s.data for s in assemble_object(disassemble_object(file, "k\nnop")).sections] == [jump]


def test_what_does_not_decode_stands_as_bytes_with_offset_and_reason() -> None:
    good = encode_bundle(parse_bundle("add r1, r2, r3"))
    code = good + b"\x11\x00" + good + b"\x19"
    text = disassemble([program(code)])
    assert "00004:  .byte 0x11, 0x00  // undecodable: bundle at 0x4: no format of 2 bytes" in text
    assert "0000a:  .byte 0x19  // undecodable: bundle at 0xa is cut off: 1 of 4 bytes" in text
    assert assemble(text).code == code


def test_an_encoding_the_assembler_would_not_choose_is_kept_and_flagged() -> None:
    form = encode_bundle(parse_bundle("rel r1, r2"))
    word = int.from_bytes(form, "little")
    odd = next(
        other
        for bit in range(32)
        if (item := decode_sweep(other := (word ^ 1 << bit).to_bytes(4, "little"))[0])
        and not isinstance(item, Undecodable)
        and not item.canonical
    )
    text = disassemble([program(odd)])
    assert "// not canonical: rel r1, r2" in text
    assert assemble(text).code == odd


def test_every_core_has_its_own_part_and_all_come_back() -> None:
    code = assemble(SOURCE).code
    programs = [
        CoreProgram(0, 2, 0, code, symbols=((0, "start"),), source="PDI 0", pdi=0),
        CoreProgram(0, 3, 0, code, source="PDI 0", pdi=0, lines=((0, "a.mlir:3"),)),
        CoreProgram(0, 2, 0x20, code[:12], 0x26, source="PDI 1", pdi=1),
    ]
    text = disassemble(programs, "k.xclbin")
    assert ".core 0, 2, 0  // PDI 0" in text and "\n00000:  movxm ls, #.L30  // a.mlir:3\n" in text
    found = assemble(text).programs
    assert [(p.core, p.pdi, p.base, p.entry, p.code) for p in found] == [
        ((0, 2), 0, 0, 0, code), ((0, 3), 0, 0, 0, code), ((0, 2), 1, 0x20, 0x26, code[:12])
    ]  # fmt: skip


def test_an_executable_comes_back_with_code_data_and_entry() -> None:
    code = assemble(SOURCE).code
    data = (elf.DataSegment(0x70010, bytes(40) + b"\1\2\3"), elf.DataSegment(0x40000, b"\0\0"))
    image = elf.CoreImage(code, 0x10, (elf.Symbol(0, "start"),), data)
    again = assemble(list_file(elf.write_elf(image), "k.elf")).program.image
    assert (again.program, again.entry, again.data) == (code, 0x10, data)
    assert [s.name for s in again.symbols if not s.name.startswith(".L")] == ["start"]


def test_the_symbol_table_of_an_executable_comes_back() -> None:
    code = assemble(SOURCE).code
    symbols = (
        elf.Symbol(0, "start", 0x50), elf.Symbol(16, "middle", 0, "label"), elf.Symbol(0x70004, "table", 4, "object"),
        elf.Symbol(0x70008, "more", 8, "object"),
    )  # fmt: skip
    image = elf.CoreImage(code, 0, symbols, (elf.DataSegment(0x70000, bytes(range(24))),))
    text = list_file(elf.write_elf(image), "k.elf")
    assert "\ntable:\n  .word 0x07060504\nmore:\n" in text
    again = assemble(text).program.image
    assert tuple(s for s in again.symbols if not s.name.startswith(".L")) == symbols
    assert again.data == image.data


def test_random_bytes_come_back_whatever_they_are(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(60):
        code = bytes(rng.randrange(256) for _ in range(rng.randrange(1, 300)))
        assert assemble(list_file(code, "x", raw=True)).code == code


# --- objects ------------------------------------------------------------------------------------------------------
TABLE = ObjectSymbol("table", 1, 0, 8, "object", "global")
OUTSIDE = ObjectSymbol("outside", None, 0, 0, "function", "global", False)
MAIN = ObjectSymbol("main", 0, 0, 32, "function", "global")
LOOP = ObjectSymbol("loop", 0, 16)
WEAK = ObjectSymbol("limit", None, 7, binding="weak")
INSIDE = ObjectSymbol("inside", 0, 2)


def linkable() -> ObjectFile:
    code = assemble(".exact\nmovxm p0, #0; nopv\nmovxm p1, #0\njnz r1, #16; nopv\nmova r0, #0\nj #0").code
    relocations = (
        Relocation(0, 45, TABLE), Relocation(10, 42, OUTSIDE, 8), Relocation(16, 4, LOOP), Relocation(26, 10, OUTSIDE),
        Relocation(30, 1, LOOP)
    )  # fmt: skip
    sections = (
        Section(".text", code, True, alignment=16, relocations=relocations),
        Section(".data", bytes(8) + b"abc", writable=True, alignment=8, relocations=(Relocation(4, 50, MAIN),)),
        Section(".bss", bytes(64), writable=True, alignment=32, zeros=True),
    )
    return ObjectFile(sections, (TABLE, OUTSIDE, MAIN, LOOP, WEAK, INSIDE))


def test_an_object_shows_its_relocations_as_symbols_and_comes_back() -> None:
    file = linkable()
    text = disassemble_object(file, "k.o")
    assert "movxm p0, #table; nopv  // R_AIE2_45 table" in text
    assert "movxm p1, #outside+8  // R_AIE2_42 outside" in text
    assert "jnz r1, #loop; nopv  // R_AIE2_4 loop" in text
    assert "  .reloc 30, R_AIE2_1, loop" in text  # the field holds 0, as other tools leave it, not the label's offset
    assert "  .word main" in text
    again = assemble_object(text)
    assert again.sections == file.sections
    made = {s for s in again.symbols if s.name.startswith(".Lsection")}
    assert set(again.symbols) - made == set(file.symbols)
    assert read_object(write_object(again)).sections == file.sections


def test_words_that_overlap_or_have_a_name_inside_keep_their_places() -> None:
    symbols = (OUTSIDE, ObjectSymbol("inside", 0, 2, 0, "object"), ObjectSymbol("end", 0, 12, 0, "object"))
    relocations = tuple(Relocation(offset, 50, OUTSIDE) for offset in (0, 4, 6))
    file = ObjectFile((Section(".data", bytes(12), writable=True, relocations=relocations),), symbols)
    again = assemble_object(disassemble_object(file))
    assert again.sections == file.sections
    assert set(again.symbols) == set(symbols)


def test_an_object_of_other_symbols_than_its_text_is_left_to_the_linker() -> None:
    file = assemble_object(
        """
        .global main
        .type main, function
        .size main, end-main
main:   movxm p0, #table+4
        j #main
        movxm r0, #end-main
        mova r1, #COUNT
end:
        .data
        .word far, main, 5
COUNT = 3
        """
    )
    code, data = file.sections
    assert [(r.offset, r.type, r.symbol.name, r.addend) for r in code.relocations] == [
        (0, 42, "table", 4), (6, 1, "main", 0)
    ]  # fmt: skip
    assert [(r.offset, r.type, r.symbol.name) for r in data.relocations] == [(0, 50, "far"), (4, 50, "main")]
    symbols = {s.name: s for s in file.symbols}
    assert (symbols["main"].kind, symbols["main"].size, symbols["main"].binding) == ("function", 22, "global")
    assert not symbols["table"].defined and symbols["table"].binding == "global"
    assert symbols["COUNT"] == ObjectSymbol("COUNT", None, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lda r0, [p0, #far]", "1:14: far is known when linking only, and no relocation fits here"),
        (".data\n.short far", "2:8: far is known when linking only"),
        ("j #far-near", "1:3: far-near is not one symbol and a number"),
        ("x = far", "1:5: x stands for far, which is not defined here"),
        ("x = y\ny = x", "is defined by itself"),
        (".size f, far", "1:10: far is no number"),
        ("x = f+99999999999\nf: nop", "1:5: x: offset 99999999999 does not fit"),
        (".size g, 99999999999\ng: nop", "1:10: size 99999999999 does not fit .0 to 4294967295"),
        ("movxm r0, #far+9999999999", "1:11: addend 9999999999 does not fit"),
        ("nop\n.reloc 0, R_AIE2_1, x-9999999999", "2:21: addend -9999999999 does not fit"),
        ("nop\n.reloc 9, R_AIE2_1, x", "2:21: 9 is outside the section"),
    ],
)
def test_what_no_relocation_can_say_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        assemble_object(text + ("\nf: nop" if "size f" in text else ""), "k.s")
    assert str(caught.value).startswith("k.s:")


def test_an_object_assembled_at_fixed_addresses_is_linked() -> None:
    text = disassemble_object(linkable()) + "outside = 0x100\n"
    assembly = assemble(text)
    names = assembly.symbols
    targets = [d.operands[-1] for b in decode_program(assembly.code) for d in b.slots.values() if d.operands]
    assert targets == [names["table"], 0x108, names["loop"], 0x100, names["loop"]]
    assert assembly.data[0].data[4:8] == (names["main"]).to_bytes(4, "little")
    for line, message in [(".reloc 0, R_AIE2_60, t", "60 patches is not known"), (".reloc 0, R_AIE2_0, t", "leaves")]:
        with pytest.raises(InputError, match=message):
            assemble(f"t: nop\n{line}\n")


def test_long_chains_of_equates_end_in_one_error_or_a_number() -> None:
    chain = "\n".join(f"e{i} = e{i + 1}" for i in range(5000)) + "\ne5000 = 7\nmovxm r0, #e0\n"
    for read in (assemble, assemble_object):
        with pytest.raises(InputError, match="too many others"):
            read(chain)  # type: ignore[operator]


def test_programs_of_cores_become_sections_of_an_object() -> None:
    file = assemble_object(".core 0, 2\nt: j #t\n.core 1, 3, 5\nnop\nt: j #t\n")
    assert [s.name for s in file.sections] == [".text.core_0_2", ".text.pdi_5.core_1_3"]
    assert not any(s.relocations for s in file.sections)
    codes = [p.code for p in read_programs(write_object(file))]
    assert codes == [p.code for p in assemble(".core 0, 2\nt: j #t\n.core 1, 3, 5\nnop\nt: j #t\n").programs]
