"""Assembly text: what the reference disassembler prints, and reading it back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npuc.compiler.asm.codec import decode_bundle, decode_slot, encode_bundle, encode_slot
from npuc.compiler.asm.expressions import AssemblyError, Expression
from npuc.compiler.asm.text import format_bundle, format_instruction, parse_bundle, parse_instruction

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[2] / ".." / "shared" / "facts"))


def samples(kind: str) -> list[dict]:
    path = FACTS / "isa" / "encodings_sample.json"
    if not path.exists():
        pytest.skip(f"no {path.name} (set NPUC_FACTS)")
    return [s for s in json.loads(path.read_text())["samples"] if s["kind"] == kind]


def test_every_bundle_sample_goes_from_bytes_to_its_text_and_back() -> None:
    for sample in samples("bundle"):
        code = bytes.fromhex(sample["bytes"])
        bundle = decode_bundle(code)
        assert bundle.format.name == sample["format"]
        assert format_bundle(bundle).split() == sample["text"].split()
        assert encode_bundle(parse_bundle(sample["text"])) == code, sample["text"]


def test_every_slot_sample_goes_from_its_word_to_its_text_and_back() -> None:
    for sample in samples("slot"):
        word = int(sample["word"], 16)
        found = decode_slot(sample["slot"], word)
        assert found.instruction.name == sample["instruction"]
        assert format_instruction(*found[:2]).split() == sample["text"].split()
        instruction, operands = parse_instruction(sample["text"])
        assert (instruction.slot, encode_slot(instruction, operands)) == (sample["slot"], word)


def test_immediates_print_as_the_reference_prints_them() -> None:
    for text in ["lda r1, [p0, #-8]", "vlda wl0, [p0, #-0x20]", "movxm r0, #-0x80000000", "vst wl1, [sp, #-0x40]"]:
        assert format_instruction(*parse_instruction(text)) == text


def test_white_space_and_the_order_of_slots_are_free() -> None:
    spaced = parse_bundle("  vlda   wl0 , [ p0,#0x20 ];add r1,r2 , r3 ")
    assert spaced == parse_bundle("add r1, r2, r3; vlda wl0, [p0, #0x20]")


def test_an_immediate_may_be_an_expression_of_symbols() -> None:
    assert parse_instruction("movxm r0, #loop+4")[1] == ("r0", Expression(4, ((1, "loop"),)))
    assert parse_instruction('j #"a b"-start')[1] == (Expression(0, ((1, "a b"), (-1, "start"))),)


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("vshufle x0, x1, x2, r0", 0, "no instruction vshufle.*vshuffle"),
        ("add r1, r2", 10, r"add r1, r2 .it is written add rN, rN, rN or add rN, rN, #-64..63\)"),
        ("add r1, r2, r3; sub r1, r2, r3", 16, "add and sub both need slot alu"),
        ("add r1, r2, r3; movxm r0, #1", 0, "cannot issue in one bundle .slot lng takes the place of alu and mv"),
        ("add r1, r2, r3;", 15, "an instruction is missing"),
        ("add r1, r2, #64", 12, "c7s = 64 does not fit its 7 bits .-64 to 63"),
        ("nopa; vldb wl0, [r0, #0]", 17, r"operand ptr \(eP, 3 bits\) cannot be r0 .it takes p0 p1"),
        ("add r1, r2, #1x", 13, "1x is no number or symbol"),
        ("jnz r1, 5", 8, "numbers are written #5; it is written jnz rN, #0..1048575"),
        ("lda r1, p0", 8, r"operands do not fit.*lda .*, \[pN"),
    ],
)
def test_text_that_is_no_bundle_is_refused_at_the_place_at_fault(text: str, offset: int, message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        parse_bundle(text)
    assert caught.value.offset == offset
