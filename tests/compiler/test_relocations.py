"""The relocation table against the fact sheet, and against the instruction and format tables it speaks of."""

from __future__ import annotations

import json
import random
from pathlib import Path

from npuc.compiler.asm.codec import encode_bundle
from npuc.compiler.target.aie2.formats import FORMATS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.relocations import DATA_WORD, RELOCATIONS, relocation_type


def test_every_type_of_the_fact_sheet_patches_the_same_bits(facts_dir: Path) -> None:
    listed = json.loads((facts_dir / "isa" / "aie2_relocations.json").read_text())["relocations"]
    assert len(listed) == 50
    for fact in listed:
        ours = RELOCATIONS[fact["type"]]
        assert (ours.name, ours.size) == (fact["name"], fact["format_bytes"])
        fields = {(f["value_lsb"], f["bundle_lsb"], f["bits"]) for f in fact["fields"]}
        assert set(ours.pieces) == fields, ours.name
    assert set(RELOCATIONS) == {fact["type"] for fact in listed} | {DATA_WORD.number}


def test_every_type_is_the_place_of_an_immediate_in_the_formats_of_the_fact_sheet(facts_dir: Path) -> None:
    listed = json.loads((facts_dir / "isa" / "aie2_relocations.json").read_text())["relocations"]
    found: dict[int, set[str]] = {}
    for instruction in INSTRUCTIONS.values():
        for operand in instruction.operands:
            for form in FORMATS if operand.kind == "immediate" else ():
                kind = relocation_type(form, instruction.slot, operand) if instruction.slot in form.slots else None
                if kind is not None and (kind.slot, kind.immediate) == (instruction.slot, operand.immediate_kind):
                    found.setdefault(kind.number, set()).add(form.name)
    assert found == {fact["type"]: {n for p in fact["patches"] for n in p["formats"]} for fact in listed}


def test_writing_a_value_is_encoding_the_immediate(seed: int) -> None:
    rng = random.Random(seed)
    for slot, (name, registers) in {"lng": ("MOVXM_lng_cg", ("r3",)), "mv": ("MOV_mv_cg", ("r3",))}.items():
        instruction = INSTRUCTIONS[name]
        operand = instruction.operands[-1]
        for form in (f for f in FORMATS if slot in f.slots):
            kind = relocation_type(form, slot, operand)
            assert kind is not None
            value = rng.randrange(operand.minimum, operand.maximum + 1)
            slots = {s: (nop, ()) for s, _, _ in form.places if (nop := next(
                i for i in INSTRUCTIONS.values() if i.slot == s and i.is_nop))}  # fmt: skip
            zero, wanted = (
                encode_bundle({**slots, slot: (instruction, (*registers, v))}, form.size) for v in (0, value)
            )
            patched = kind.write(int.from_bytes(zero, "little"), value)
            assert patched.to_bytes(form.size, "little") == wanted
            assert kind.read(patched) == value & (1 << kind.width) - 1


def test_no_slot_is_named_that_does_not_exist() -> None:
    assert {kind.slot for kind in RELOCATIONS.values()} <= {*SLOTS, ""}
