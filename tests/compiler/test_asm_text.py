"""Assembly text: what the reference disassembler prints, and reading it back."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npuc.compiler.asm.codec import EncodeError, decode_bundle, decode_program, decode_slot, encode_bundle, encode_slot
from npuc.compiler.asm.text import (
    AssemblyError,
    assemble,
    format_bundle,
    format_instruction,
    format_program,
    parse_bundle,
    parse_instruction,
)

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


def test_a_listing_assembles_to_the_code_it_was_made_from() -> None:
    code = b"".join(
        encode_bundle(parse_bundle(text), size)
        for text, size in [("add r1, r2, r3", None), ("add r1, r2, r3", 16), ("movxm ls, #0x40", 8), ("nop", None)]
    )
    listing = format_program(decode_program(code), {4: "loop"})
    assert "loop:\n" in listing
    assembly = assemble(listing)
    assert assembly.code == code
    assert assembly.labels == {"loop": 4}


def test_labels_stand_for_addresses_before_and_after_them() -> None:
    text = """
    start:            // a comment
        movxm ls, #body
        nop
    body:
        add r1, r1, #-1
        jnz r1, #start
    """
    assembly = assemble(text, base=0x40)
    assert assembly.labels == {"start": 0x40, "body": 0x48}
    assert [line for _, line in assembly.lines] == [3, 4, 6, 7]
    first, _, _, jump = decode_program(assembly.code, 0x40)
    assert first.slots["lng"].operands == ("ls", 0x48)
    assert jump.slots["lng"].operands == ("r1", 0x40)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vshufle x0, x1, x2, r0", "no instruction vshufle.*vshuffle"),
        ("add r1, r2", r"operands do not fit: add r1, r2.*add \$mRx, \$mRx0, \$mRy"),
        ("add r1, r2, r3; sub r1, r2, r3", "add and sub both need slot alu"),
        ("add r1, r2, r3; movxm r0, #1", "cannot issue in one bundle"),
        ("add r1, r2, r3;", "an instruction is missing"),
        ("j #nowhere", "neither a number nor the address of a label"),
        ("a:\na:", "label a stands twice"),
    ],
)
def test_text_that_is_no_code_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(AssemblyError, match=message) as caught:
        assemble(text, "kernel.s")
    assert str(caught.value).startswith("kernel.s:")


def test_an_immediate_out_of_range_says_what_fits() -> None:
    with pytest.raises(EncodeError, match="kernel.s:2: .*c7s = 64 does not fit its 7 bits .-64 to 63"):
        assemble("nop\nadd r1, r2, #64", "kernel.s")
