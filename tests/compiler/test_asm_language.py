"""The description of the assembly language says what the assembler does."""

from __future__ import annotations

import re
from pathlib import Path

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.directives import DIRECTIVES
from npuc.compiler.target.aie2.formats import FORMATS, NOPS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS

README = Path(__file__).parents[2] / "compiler" / "asm" / "README.md"


def test_every_directive_is_described_and_no_other() -> None:
    described = set(re.findall(r"`(\.[a-z0-9]+)[ `]", README.read_text()))
    no_directives = {".bin", ".o", ".core", ".text"}
    assert described - no_directives == set(DIRECTIVES) - no_directives
    assert {".core", ".text"} <= described & set(DIRECTIVES)


def test_slots_bits_and_nops_are_those_of_the_tables() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .* \| `(\w+)` \|$", README.read_text(), flags=re.M)
    assert {slot: (int(bits), nop) for slot, bits, nop in rows} == {
        slot: (bits, INSTRUCTIONS[NOPS[slot]].mnemonic) for slot, bits in SLOTS.items()
    }
    assert f"{len(FORMATS)} formats" in README.read_text()


def test_the_example_assembles() -> None:
    example = README.read_text().split("```")[3]
    assert assemble(example + "\ntable = 0x400").symbols["end"] > 0
