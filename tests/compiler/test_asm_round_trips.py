"""Random words and bundles to text and back, every one decoded by the fact sheets' own decoder too.

The ordinary run takes seconds; `pytest -m slow` the whole: 1,000,000 slot words and 200,000 bundles.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import campaigns
import pytest
from facts_tools import FACTS, tool

from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import (
    DecodeError,
    Undecodable,
    choose_format,
    decode_bundle,
    decode_slot,
    decode_sweep,
    encode_bundle,
    encode_slot,
)
from npuc.compiler.asm.disassembler import disassemble
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.asm.text import format_bundle, format_instruction, parse_bundle, parse_instruction
from npuc.compiler.target.aie2.formats import FORMATS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

BY_SLOT = {slot: [i for i in INSTRUCTIONS.values() if i.slot == slot] for slot in SLOTS}


@functools.cache
def isa_facts() -> Any:
    return tool("check_isa_facts").Isa(str(FACTS / "isa"))


@pytest.fixture(scope="module")
def facts() -> Any:
    return isa_facts()


def some_word(slot: str, rng: random.Random) -> int:
    """A word of a random instruction, with its loose bits and further register numbers set at times; or any word."""
    if rng.random() < 0.1:
        return rng.getrandbits(SLOTS[slot])
    instruction = rng.choice(BY_SLOT[slot])
    word = instruction.value
    if rng.random() < 0.1:
        word |= instruction.unconstrained & rng.getrandbits(SLOTS[slot])
    for operand in instruction.operands:
        if operand.kind == "register":
            named = REGISTER_CLASSES[operand.register_class or ""]
            odd = named.decode_only and rng.random() < 0.1
            field = rng.choice(list(named.decode_only if odd else named.encodings))
        else:
            field = rng.getrandbits(operand.width) if rng.random() < 0.8 else rng.choice((0, (1 << operand.width) - 1))
        for piece in operand.fields:
            word = word & ~(((1 << piece.bits) - 1) << piece.slot_lsb) | (
                (field >> piece.operand_lsb & (1 << piece.bits) - 1) << piece.slot_lsb
            )
    return word


def check_slot_word(facts: Any, slot: str, word: int) -> tuple[bool, bool]:
    """Whether the word is an instruction, and whether it is canonical; raises when anything disagrees."""
    theirs = facts.decode_slot(slot, word)
    try:
        found = decode_slot(slot, word)
    except DecodeError:
        assert theirs is None, (slot, hex(word))
        return False, False
    assert theirs is not None, (slot, hex(word))
    entry, operands, strict = theirs
    assert (found.instruction.name, list(found.operands)) == (entry["name"], operands), (slot, hex(word))
    assert found.canonical == (strict and not word & int(entry["unconstrained_mask"], 16)), (slot, hex(word))
    again = encode_slot(found.instruction, found.operands)
    assert again == facts.encode_slot(entry, operands), (slot, hex(word))
    assert (again == word) == found.canonical, (slot, hex(word))
    assert decode_slot(slot, again) == (found.instruction, found.operands, True), (slot, hex(word))
    text = format_instruction(found.instruction, found.operands)
    assert text == facts.text(entry, operands)
    assert parse_instruction(text) == (found.instruction, found.operands), text
    return True, found.canonical


def slot_words(facts: Any, rng: random.Random, until: Iterator[None]) -> tuple[int, int]:
    """(instructions, canonical ones) among the words tried."""
    valid = canonical = 0
    for _ in until:
        for _ in range(100):
            slot = rng.choices(list(SLOTS), [len(BY_SLOT[s]) for s in SLOTS])[0]
            good, exact = check_slot_word(facts, slot, some_word(slot, rng))
            valid, canonical = valid + good, canonical + exact
    return valid, canonical


def for_seconds(seconds: float) -> Iterator[None]:
    end = time.process_time() + seconds
    while time.process_time() < end:
        yield


def test_slot_words_go_to_text_and_back_as_the_facts_decode_them(facts: Any, seed: int) -> None:
    valid, canonical = slot_words(facts, random.Random(seed), for_seconds(1.0))
    print(f"{valid:,} instructions, {canonical:,} canonical")
    assert 0 < canonical < valid


def batch_of_slot_words(batch: tuple[str, int]) -> tuple[int, int]:
    return slot_words(isa_facts(), random.Random(batch[0]), iter([None] * (batch[1] // 100)))


@pytest.mark.slow
def test_a_million_slot_words_go_to_text_and_back(facts: Any, seed: int, processes: dict[str, Any]) -> None:
    found = campaigns.run(batch_of_slot_words, campaigns.batches(seed, 1_100_000, 20_000), processes)
    valid, canonical = (sum(counts) for counts in zip(*found, strict=True))
    print(f"{valid:,} instructions, {canonical:,} canonical, {valid - canonical:,} came back canonical")
    assert valid >= 1_000_000


# --- bundles ------------------------------------------------------------------------------------------------------
def some_bundle(rng: random.Random) -> bytes:
    form = rng.choice(FORMATS)
    word = form.value
    for slot, lsb, _ in form.places:
        word |= some_word(slot, rng) << lsb
    return word.to_bytes(form.size, "little")


def check_bundle(facts: Any, code: bytes) -> tuple[bool, bool]:
    theirs = facts.decode_bundle(code)
    try:
        found = decode_bundle(code)
    except DecodeError:
        assert theirs is None, code.hex()
        return False, False
    assert theirs is not None, code.hex()
    size, form, parts = theirs
    assert (found.size, found.format.name) == (size, form["name"])
    ours = [(slot, d.instruction.name, list(d.operands)) for slot, d in found.slots.items()]
    assert ours == [(slot, entry["name"], operands) for slot, entry, operands, _ in parts], code.hex()
    assert format_bundle(found) == facts.bundle_text(parts)
    again = encode_bundle(found.slots, found.size)
    assert (again == code) == found.canonical, code.hex()
    assert encode_bundle(parse_bundle(format_bundle(found))) == again, code.hex()
    return True, found.canonical


def bundles(facts: Any, rng: random.Random, count: int) -> tuple[int, int]:
    """Random bundles one by one, then as one program to text and back; (those that decode, canonical ones)."""
    codes = [some_bundle(rng) for _ in range(count)]
    results = [check_bundle(facts, code) for code in codes]
    whole = b"".join(codes)
    assert assemble(disassemble([CoreProgram(None, None, 0, whole)])).code == whole
    return sum(good for good, _ in results), sum(exact for _, exact in results)


def test_bundles_go_to_text_and_back_as_the_facts_decode_them(facts: Any, seed: int) -> None:
    rng, valid, canonical = random.Random(seed), 0, 0
    for _ in for_seconds(1.0):
        more, exact = bundles(facts, rng, 100)
        valid, canonical = valid + more, canonical + exact
    print(f"{valid:,} bundles, {canonical:,} canonical")
    assert 0 < canonical < valid


def batch_of_bundles(batch: tuple[str, int]) -> tuple[int, int]:
    return bundles(isa_facts(), random.Random(batch[0]), batch[1])


@pytest.mark.slow
def test_two_hundred_thousand_bundles_go_to_text_and_back(facts: Any, seed: int, processes: dict[str, Any]) -> None:
    found = campaigns.run(batch_of_bundles, campaigns.batches(seed, 250_000, 2000), processes)
    valid, canonical = (sum(counts) for counts in zip(*found, strict=True))
    print(f"{valid:,} bundles, {canonical:,} canonical, {valid - canonical:,} came back canonical")
    assert valid >= 200_000


def test_every_format_is_the_one_its_slots_choose() -> None:
    assert [choose_format(form.slots) for form in FORMATS] == list(FORMATS)


def samples() -> list[dict[str, str]]:
    path = FACTS / "isa" / "encodings_sample.json"
    if not path.exists():
        pytest.skip(f"no {path.name} (NPUC_FACTS)")
    return json.loads(path.read_text())["samples"]


def test_all_samples_of_the_fact_sheet_survive_disassembly_and_assembly() -> None:
    codes, texts = [], []
    for sample in samples():
        if sample["kind"] == "bundle":
            codes.append(bytes.fromhex(sample["bytes"]))
            texts.append(sample["text"])
        else:
            slot, word = sample["slot"], int(sample["word"], 16)
            form = choose_format([slot])
            lsb = next(place.lsb for place in form.places if place.slot == slot)
            assert form.slots == {slot} or slot == "nop"
            codes.append((form.value | word << lsb).to_bytes(form.size, "little"))
            texts.append(sample["text"])
    assert len(codes) == 3003
    for code, text in zip(codes, texts, strict=True):  # one by one: labels then stand for no address
        listing = disassemble([CoreProgram(None, None, 0x1000, code)])
        line = listing.strip().split("\n")[-1]
        assert line.partition(": ")[2].split() == text.split()
        assert assemble(listing).code == code
    whole = b"".join(codes)
    assert assemble(disassemble([CoreProgram(None, None, 0, whole)])).code == whole


# --- bytes of all kinds -------------------------------------------------------------------------------------------
def test_random_bytes_decode_exactly_where_the_facts_decode_them(facts: Any, seed: int) -> None:
    rng = random.Random(seed)
    good = [some_bundle(rng) for _ in range(200)]
    undecodable = 0
    for _ in range(150):
        data = bytearray(rng.choice((rng.randbytes(200), b"".join(rng.sample(good, 20)))))
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        theirs = [(at, decoded is not None) for at, decoded in tool("check_isa_facts").sweep(facts, bytes(data))]
        ours = [(item.address, not isinstance(item, Undecodable)) for item in decode_sweep(data)]
        assert ours == theirs
        undecodable += sum(not good for _, good in ours)
    assert undecodable
