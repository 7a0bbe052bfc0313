"""The instruction tables say what the encoding facts say, where those are at hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from npuc.compiler.target.aie2.formats import FORMATS, NOPS, SLOTS, bundle_size
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES, REGISTERS, parts, width

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[2] / ".." / "shared" / "facts"))


def load(name: str) -> dict:
    path = FACTS / "isa" / name
    if not path.exists():
        pytest.skip(f"no {path.name} (set NPUC_FACTS)")
    return json.loads(path.read_text())


def spelled(register: str) -> str:
    """Stack and decompression pointer are lower case here, as the assembler prints them."""
    return register.lower() if register in ("SP", "DP") else register


def operand_facts(operand: Operand) -> dict:
    """An operand in the words of the facts."""
    said: dict = {
        "name": operand.name,
        "direction": operand.direction,
        "kind": operand.kind,
        "width": operand.width,
    }
    if operand.kind == "fixed_register":
        return {**said, "register": operand.register}
    said["fields"] = [{"op_lsb": f.operand_lsb, "slot_lsb": f.slot_lsb, "bits": f.bits} for f in operand.fields]
    if operand.kind == "register":
        tied = {"tied_to": operand.tied_to} if operand.tied_to else {}
        return {**said, "class": operand.register_class, **tied}
    said.update(signed=operand.signed, step=operand.step, min=operand.minimum, max=operand.maximum)
    said["asm_style"] = operand.style
    if operand.negative_only:
        said["negative_only"] = True
    meaning = {"address": "program_address", "lock": "lock_id"}.get(operand.immediate_kind or "")
    return {**said, "meaning": meaning} if meaning else said


def instruction_facts(i: Instruction) -> dict:
    digits = (SLOTS[i.slot] + 3) // 4
    return {
        "name": i.name,
        "mnemonic": i.mnemonic,
        "syntax": i.syntax,
        "slot": i.slot,
        "slot_bits": SLOTS[i.slot],
        "mask": f"0x{i.mask:0{digits}x}",
        "value": f"0x{i.value:0{digits}x}",
        "unconstrained_mask": f"0x{i.unconstrained:0{digits}x}",
        "decode_rank": i.rank,
        "operands": [operand_facts(o) for o in i.operands],
        "literal_registers": [{"register": r, "direction": d} for r, d in i.literal_registers],
        "implicit_defs": list(i.implicit_defs),
        "implicit_uses": list(i.implicit_uses),
        "post_modify": i.post_modify,
        "may_load": i.may_load,
        "may_store": i.may_store,
        "sched_class": i.itinerary,
        "has_delay_slots": i.has_delay_slots,
    }


def test_every_instruction_says_what_the_facts_say() -> None:
    facts = load("aie2_instructions.json")["instructions"]
    assert [f["name"] for f in facts] == sorted(INSTRUCTIONS, key=[f["name"] for f in facts].index)
    for fact in facts:
        fact.pop("seen_in_compiled_code")
        fact["implicit_defs"] = [spelled(r) for r in fact["implicit_defs"]]
        fact["implicit_uses"] = [spelled(r) for r in fact["implicit_uses"]]
        for operand in fact["operands"]:
            operand.pop("note", None)
        assert instruction_facts(INSTRUCTIONS[fact["name"]]) == fact


def test_every_format_says_what_the_facts_say() -> None:
    facts = load("aie2_formats.json")
    assert {s: d["bits"] for s, d in facts["slots"].items()} == SLOTS
    assert [f["name"] for f in facts["formats"]] == [f.name for f in FORMATS]
    for fact, form in zip(facts["formats"], FORMATS, strict=True):
        assert (fact["bytes"], int(fact["mask"], 16), int(fact["value"], 16)) == (form.size, form.mask, form.value)
        assert [(s["slot"], s["lsb"], s["bits"]) for s in fact["slots"]] == list(form.places)
    for nibble, size in facts["length_from_low_nibble"]["table"].items():
        assert bundle_size(0xA0 | int(nibble, 2)) == size


def test_every_register_class_says_what_the_facts_say() -> None:
    facts = load("aie2_registers.json")["classes"]
    encoded = {n: c for n, c in facts.items() if c["operand_class"] and c["width"]}
    assert set(encoded) == set(REGISTER_CLASSES)
    for name, fact in encoded.items():
        mine = REGISTER_CLASSES[name]
        assert mine.width == fact["width"], name
        assert mine.encodings == {int(v): r for v, r in fact["encodings"].items()}, name
        assert mine.decode_only == {int(v): r for v, r in fact.get("decode_only_encodings", {}).items()}, name


def test_registers_are_as_wide_and_made_of_the_parts_the_facts_say() -> None:
    facts = {n: f for n, f in load("aie2_registers.json")["registers"].items() if " " not in n}
    assert set(facts) == REGISTERS

    def smallest(register: str) -> set[str]:
        of = facts[register].get("subregs")
        return {p for s in of.values() for p in smallest(s)} if of else {register}

    for name, fact in facts.items():
        assert set(parts(name)) == smallest(name)
        assert fact["bits"] in (width(name), None), name


def test_each_slot_has_its_nop_among_the_instructions() -> None:
    assert {s: INSTRUCTIONS[n].slot for s, n in NOPS.items()} == {s: s for s in SLOTS}
