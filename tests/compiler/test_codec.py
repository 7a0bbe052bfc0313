"""Between words and instructions: what is encoded decodes again, and errors say what would fit."""

from __future__ import annotations

import os
import random
import time

import pytest

from npuc.compiler.asm.codec import (
    DecodeError,
    EncodeError,
    Operands,
    Undecodable,
    bundle_sizes,
    decode_bundle,
    decode_program,
    decode_slot,
    decode_sweep,
    encode_bundle,
    encode_slot,
)
from npuc.compiler.asm.text import format_instruction, parse_instruction
from npuc.compiler.target.aie2.formats import FORMATS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

SECONDS = float(os.environ.get("NPUC_FUZZ_SECONDS", "1"))


def seeded() -> random.Random:
    seed = int(os.environ.get("NPUC_FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    print(f"NPUC_FUZZ_SEED={seed}")
    return random.Random(seed)


def some_operands(instruction: Instruction, rng: random.Random) -> Operands:
    values: dict[str, str | int] = {}
    for o in instruction.operands:
        if o.kind == "fixed_register":
            values[o.name] = o.register or ""
        elif o.tied_to:
            values[o.name] = values[o.tied_to]
        elif o.kind == "register":
            values[o.name] = rng.choice(list(REGISTER_CLASSES[o.register_class or ""].values))
        else:
            extremes = (o.minimum, o.maximum, rng.randrange(o.minimum, o.maximum + 1, o.step))
            values[o.name] = rng.choice(extremes)
    return tuple(values.values())


def instructions_by_slot() -> dict[str, list[Instruction]]:
    return {slot: [i for i in INSTRUCTIONS.values() if i.slot == slot] for slot in SLOTS}


def test_every_instruction_decodes_to_itself_and_reads_back_from_its_text() -> None:
    rng = seeded()
    for instruction in INSTRUCTIONS.values():
        for _ in range(2):
            operands = some_operands(instruction, rng)
            word = encode_slot(instruction, operands)
            assert decode_slot(instruction.slot, word) == (instruction, operands, True)
            text = format_instruction(instruction, operands)
            assert parse_instruction(text) == (instruction, operands), text


def test_random_bundles_survive_a_round_trip() -> None:
    rng, by_slot = seeded(), instructions_by_slot()
    end = time.process_time() + SECONDS / 2
    while time.process_time() < end:
        form = rng.choice(FORMATS)
        slots = {}
        for slot, _, _ in form.places:
            instruction = rng.choice(by_slot[slot])
            slots[slot] = instruction, some_operands(instruction, rng)
        code = encode_bundle(slots, form.size)
        bundle = decode_bundle(code)
        assert (bundle.size, bundle.format) == (form.size, form)
        assert {s: d[:2] for s, d in bundle.slots.items()} == slots
        assert encode_bundle(bundle.slots) == code


def test_random_words_decode_to_what_encodes_to_them_or_not_at_all() -> None:
    rng = seeded()
    end = time.process_time() + SECONDS / 2
    while time.process_time() < end:
        slot = rng.choice(list(SLOTS))
        word = rng.getrandbits(SLOTS[slot])
        try:
            found = decode_slot(slot, word)
        except DecodeError:
            continue
        again = encode_slot(found.instruction, found.operands)
        assert (again == word) == found.canonical
        assert decode_slot(slot, again)[:2] == found[:2]


def test_no_two_instructions_have_one_text() -> None:
    shapes = [
        (i.mnemonic, i.slot, tuple(o.register_class or o.kind for o in i.operands), i.syntax)
        for i in INSTRUCTIONS.values()
    ]
    assert len(set(shapes)) == len(INSTRUCTIONS)


def nop(slot: str) -> tuple[Instruction, Operands]:
    return INSTRUCTIONS[{"vec": "NOPV", "nop": "NOP", "lda": "NOPA"}[slot]], ()


ADD = (INSTRUCTIONS["ADD"], ("r1", "r2", "r3"))
MOVXM = (INSTRUCTIONS["MOVXM_lng_cg"], ("ls", 0x40))


def test_an_empty_bundle_takes_two_bytes_and_widens_to_any_size() -> None:
    assert encode_bundle({}) == b"\x01\x00"
    assert bundle_sizes(()) == (2, 4, 6, 8, 10, 12, 14, 16)
    for size in bundle_sizes(()):
        bundle = decode_bundle(encode_bundle({}, size))
        assert (bundle.size, bundle.instructions) == (size, ())


def test_a_bundle_is_as_short_as_its_slots_allow_and_can_be_widened() -> None:
    assert bundle_sizes(["alu"]) == (4, 6, 8, 10, 12, 14, 16)
    for size in bundle_sizes(["alu"]):
        bundle = decode_bundle(encode_bundle({"alu": ADD}, size))
        assert [d[:2] for d in bundle.instructions] == [ADD]
        assert bundle.size == size
    assert len(encode_bundle({"alu": ADD})) == 4


def test_nops_that_are_given_are_kept() -> None:
    assert len(encode_bundle({"alu": ADD, "vec": nop("vec")})) == 8
    assert len(encode_bundle({"lng": MOVXM})) == 6
    assert len(encode_bundle({"lng": MOVXM, "nop": nop("nop")})) == 8


def test_long_immediates_exclude_scalar_and_move_slots() -> None:
    assert bundle_sizes(["lng", "alu"]) == ()
    assert bundle_sizes(["lng", "mv"]) == ()
    with pytest.raises(EncodeError, match="cannot issue in one bundle"):
        encode_bundle({"lng": MOVXM, "alu": ADD})


def test_a_size_that_does_not_fit_names_those_that_do() -> None:
    with pytest.raises(EncodeError, match="sizes are 4 6 8 10 12 14 16"):
        encode_bundle({"alu": ADD}, 2)


def test_an_instruction_stays_in_its_slot() -> None:
    with pytest.raises(EncodeError, match="issues in slot alu"):
        encode_bundle({"mv": ADD})
    with pytest.raises(EncodeError, match="no slot scalar"):
        encode_bundle({"scalar": ADD})


def test_operands_that_do_not_fit_are_refused_by_name() -> None:
    load = INSTRUCTIONS["VLDA_dmw_lda_w_ag_idx_imm"]
    assert encode_slot(load, ("wl0", "p0", 992)) >= 0
    refused: list[tuple[Operands, str]] = [
        (("wl0", "p0", 1024), "immediate imm = 1024 does not fit its 6 bits.*-1024 to 992 in steps of 32"),
        (("wl0", "p0", 16), "immediate imm = 16"),
        (("wl0", "r0", 0), r"operand ptr \(eP, 3 bits\) cannot be r0.*p0 p1"),
        (("x0", "p0", 0), "operand dst .* cannot be x0"),
        (("wl0", "p0", "m0"), "operand imm is an immediate"),
        (("wl0", 3, 0), "operand ptr .* cannot be 3"),
        (("wl0", "p0"), "2 operands, not 3"),
    ]
    for operands, message in refused:
        with pytest.raises(EncodeError, match=message):
            encode_slot(load, operands)


def test_tied_operands_must_be_the_same_register() -> None:
    add = INSTRUCTIONS["VADDMAC_F_vmac_bm_core_dense"]
    encode_slot(add, ("bml1", "bml1", "bml2", "x0", "x1", "r0"))
    with pytest.raises(EncodeError, match="acc1 and dst must be the same"):
        encode_slot(add, ("bml1", "bmh1", "bml2", "x0", "x1", "r0"))


def test_code_that_does_not_decode_is_refused_with_its_address() -> None:
    with pytest.raises(DecodeError, match="bundle at 0x102 is cut off: 2 of 4 bytes"):
        decode_program(b"\x01\x00" + encode_bundle({"alu": ADD})[:2], 0x100)
    with pytest.raises(DecodeError, match="bundle at 0x0: no format of 2 bytes"):
        decode_bundle(b"\x11\x00")
    with pytest.raises(DecodeError, match="no code at 0x4"):
        decode_bundle(b"\x01\x00", 4)


def test_a_program_decodes_bundle_by_bundle() -> None:
    code = encode_bundle({}) + encode_bundle({"alu": ADD}) + encode_bundle({"lng": MOVXM}, 16)
    assert [(b.address, b.size) for b in decode_program(code, 0x20)] == [(0x20, 2), (0x22, 4), (0x26, 16)]


def test_a_sweep_loses_no_byte_and_marks_what_does_not_decode() -> None:
    good = encode_bundle({"alu": ADD})
    found = decode_sweep(good + b"\x11\x00" + good + b"\x19\x00", 0x40)
    assert [(type(item) is Undecodable, item.address, item.size) for item in found] == [
        (False, 0x40, 4), (True, 0x44, 2), (False, 0x46, 4), (True, 0x4A, 2)
    ]  # fmt: skip
    assert [item.reason for item in found if isinstance(item, Undecodable)] == [
        "bundle at 0x44: no format of 2 bytes has these fixed bits: 0x0011",
        "bundle at 0x4a is cut off: 2 of 4 bytes",
    ]
