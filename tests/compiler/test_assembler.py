"""Hand-written source: addresses, alignment, data, symbols, and errors that point to their place."""

from __future__ import annotations

import struct

import pytest

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import decode_program
from npuc.compiler.asm.expressions import AssemblyError
from npuc.compiler.asm.text import format_bundle
from npuc.compiler.diagnostics import InputError

LOOP = """
        .set COUNT, 4
        .data
table:  .word 1, 2, table+4
        .text
        .global main
main:   movxm p0, #table            // where the data is
        mova lc, #COUNT
        movxm ls, #first
        movxm le, #last
        nop
        nop
        nop
        nop
        nop
        nop
first:  add r1, r1, #1
last:   add r2, r2, r1
        jl #double
        nop
        nop
        nop
        nop
        nop
        done
double: ret lr
"""


def sizes(text: str) -> list[int]:
    return [bundle.size for bundle in decode_program(assemble(text).code)]


def test_targets_returns_and_loop_bounds_come_to_lie_on_lines_by_wider_bundles() -> None:
    assembly = assemble(LOOP)
    bundles = {b.address: b for b in decode_program(assembly.code)}
    symbols = assembly.symbols
    for name in ("main", "first", "last", "double"):
        assert symbols[name] in bundles and symbols[name] % 16 == 0, name
    assert bundles[symbols["last"]].size == 16
    order = sorted(bundles)
    call = next(a for a in order if "jl" in format_bundle(bundles[a]))
    returned_to = order[order.index(call) + 6]
    assert returned_to % 16 == 0 and "done" in format_bundle(bundles[returned_to])
    assert len(bundles) == 20  # one a line of the text: nothing was inserted


def test_what_symbols_stand_for_is_in_the_code_and_the_data() -> None:
    assembly = assemble(LOOP)
    texts = [format_bundle(b) for b in decode_program(assembly.code)]
    assert any(f"movxm ls, #0x{assembly.symbols['first']:x}" in text for text in texts)
    assert any("mova lc, #0x4" in text for text in texts)
    (segment,) = assembly.data
    assert segment.address == 0x70000
    assert struct.unpack("<3I", segment.data) == (1, 2, 0x70004)


def test_every_bundle_knows_its_line() -> None:
    assembly = assemble("\nnop\n\nstart: add r1, r2, r3\n.word 5\nnop\n", base=0x40)
    assert assembly.lines == ((0x40, 2), (0x42, 4), (0x4A, 6))
    assert assembly.symbols == {"start": 0x42}


def test_formats_are_the_shortest_and_nops_among_instructions_fix_them() -> None:
    assert sizes("nop\nadd r1, r2, r3\nadd r1, r2, r3; nopv\nmovxm r0, #1; nop") == [2, 4, 8, 8]
    widened = "add r1, r2, r3\nadd r1, r2, r3; nopv\nend: j #end"
    assert sizes(widened) == [8, 8, 6]


def test_exact_text_keeps_every_size_and_aligns_nothing() -> None:
    assert sizes(".exact\nnop\nloop: add r1, r2, r3\n j #loop") == [2, 4, 6]
    assert sizes(".exact\nnop\n.widen\nnop\nloop: nop\n j #loop") == [2, 14, 2, 6]
    with pytest.raises(AssemblyError, match="no bundle before loop can be widened"):
        assemble(".exact\nnop\n.widen\nloop: nop\n j #loop")


def test_data_of_every_kind() -> None:
    (segment,) = assemble(
        r"""
        .data
        .byte 1, -1, 0xff
        .align 4
        .short 0x1234, end-start
        .quad -2
start:  .ascii "a\n;//", "b"
        .asciz "c"
        .p2align 3, 0xee
end:    .float 1.5, -0.0
        .bfloat16 1.0, 3.14159, nan
        .zero 3, 7
        .space 2
        """
    ).data
    text = b"a\n;//bc\0"
    assert segment.data == (
        b"\x01\xff\xff\0" + struct.pack("<HHq", 0x1234, 8, -2) + text + struct.pack("<2f", 1.5, -0.0)
        + struct.pack("<3H", 0x3F80, 0x4049, 0x7FC0) + b"\7\7\7\0\0"
    )  # fmt: skip


def test_alignment_in_code_is_filled_with_nops() -> None:
    assembly = assemble("add r1, r2, r3\n.align 16\nnext: add r1, r2, r3")
    assert assembly.symbols == {"next": 16}
    assert [b.size for b in decode_program(assembly.code)] == [4] + [2] * 6 + [4]


def test_sections_lie_where_they_ask_to_and_else_one_after_the_other() -> None:
    assembly = assemble(
        """
        .section .text.far, "ax", 0x100
far:    nop
        .text
        j #far
        .section .tab, "aw", 0x70400
tab:    .word tab
        .bss
b:      .zero 8
        .data
d:      .byte 1
        """
    )
    assert {n: assembly.symbols[n] for n in ("far", "tab", "b", "d")} == {
        "far": 0x100, "tab": 0x70400, "b": 0x70404, "d": 0x7040C
    }  # fmt: skip
    assert len(assembly.code) == 0x110 + 6 - 0x100
    assert assembly.program.base == 0x100


def test_a_text_holds_one_program_a_core_with_names_of_its_own() -> None:
    assembly = assemble(".core 0, 2\nstart: j #start\n.core 1, 3, 4\nnop\nstart: nop\n")
    assert [(p.core, p.pdi, p.symbols) for p in assembly.programs] == [
        ((0, 2), None, {"start": 0}), ((1, 3), 4, {"start": 2})
    ]  # fmt: skip
    with pytest.raises(InputError, match="holds 2 programs, not one"):
        assert assembly.code


def test_an_address_in_front_of_a_line_is_not_looked_at() -> None:
    assert assemble("00050:  nop\n0x52: add r1, r2, r3").code == assemble("nop\nadd r1, r2, r3").code
    assert assemble("add: nop\n").symbols == {"add": 0}


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("nop\n  add r1, r2, #64", "2:15", "c7s = 64 does not fit its 7 bits .-64 to 63"),
        ("  mov r1, #x\nx = 5000", "1:11", "i = 5000 does not fit its 10 bits"),
        ("nop; lda r1, [p0, #y]\n.set y, 2", "1:1", "cannot issue"),
        ("lda r1, [p0, #y]\n.set y, 2", "1:14", "imm = 2 does not fit its 6 bits .-128 to 124 in steps of 4"),
        ("a:\na: nop", "2:1", "a is defined twice .the first is in line 1"),
        ("start: j #strat", "1:10", "strat is not defined .there is start"),
        ("j #nowhere", "1:3", "nowhere is not defined"),
        ("  .word 1, 0x1ffffffff", "1:12", "does not fit 4 bytes"),
        (".data\n.byte a\na = 300", "2:7", "a = 300 does not fit 1 bytes"),
        (".wrod 1", "1:1", r"no directive .wrod .there is .word"),
        ("x = y\ny = x", "1:5", "x is defined by itself"),
        (' .ascii "abc', "1:9", "a quote is not closed"),
        (".data\nnop", "2:1", "section .data holds data"),
        (".bss\n.word 1", "2:1", "holds zeros only"),
        (".align 3", "1:8", "3 is no power of two"),
        ("movxm le, #end\nend: nopx; nopm", "2:6", "last bundle of a hardware loop takes 16 bytes, this one has 8"),
        ("nop; movxm r0, #0\nend: nop\nj #end", "2:1", "no bundle before end can be widened"),
        ("movxm r0, #" + "9" * 5000, "1:12", "a number of 5000 digits"),
        (".word 4, 0x" + "f" * 50000, "1:10", "a number of 50002 digits"),
        (".entry -1", "1:8", "entry -1 does not fit .0 to 1048575"),
        ("f: nop\n.size f, f-1", "2:10", "size -1 does not fit"),
        (".core 0,2\n.core 0,2", "2:7", "core 0,2 has its program already"),
        (".reloc 0, R_AIE2_256, x", "1:11", "no relocation R_AIE2_256 .R_AIE2_0 to R_AIE2_255"),
    ],
)
def test_what_is_wrong_is_told_with_line_and_column(text: str, place: str, message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        assemble(text, "kernel.s")
    assert str(caught.value).startswith(f"kernel.s:{place}: ")
