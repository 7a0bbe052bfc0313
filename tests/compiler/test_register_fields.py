"""Fields of registers: as the register facts have them, and exact on words."""

from __future__ import annotations

import json
import random

import pytest

from npuc.compiler.target.npu1.geometry import pack_bd, unpack_bd
from npuc.compiler.target.npu1.register_fields import RegisterField, changed_fields, register_fields
from npuc.compiler.target.npu1.registers import register_offset, registers


def named(fields):
    """(name, msb, lsb) of fields that say more than 'one number of a whole word', reserved bits left out."""
    return {(name, msb, lsb) for name, lsb, msb in fields if name != "Reserved" and not (lsb == 0 and msb >= 31)}


def test_every_register_has_exactly_the_fields_of_the_facts(facts_dir):
    facts = json.loads((facts_dir / "platform" / "registers_aie2.json").read_text())["registers"]
    for name, entry in facts.items():
        kind = {"memory": "core"}.get(entry["tile_kind"], entry["tile_kind"])
        have = named((f.name, f.lsb, f.msb) for f in register_fields(kind, entry["offset"]))
        assert have == named(entry["fields"]), name


def test_fields_of_one_register_do_not_overlap():
    for kind in ("core", "memtile", "shim"):
        for _, offset, size in registers(kind):
            if size <= 16:
                fields = register_fields(kind, offset)
                assert sum(f.mask for f in fields) < 1 << 32 and len({f.name for f in fields}) == len(fields)
                assert sum(f.mask.bit_count() for f in fields) == sum(f.mask for f in fields).bit_count()


@pytest.mark.parametrize("kind", ["core", "memtile", "shim"])
def test_descriptor_words_read_as_their_packer_wrote_them(kind, seed):
    rng = random.Random(seed)
    for _ in range(50):
        words = [rng.getrandbits(32) for _ in range(8)]
        expected = unpack_bd(kind, words)
        start = register_offset(kind, "DMA_BD3_0")
        count = len(pack_bd(kind))
        values = [f.value(words[i]) for i in range(count) for f in register_fields(kind, start + 4 * i)]
        assert sorted(values) == sorted(expected.values())


def test_a_changed_field_is_named_with_its_values():
    offset = register_offset("core", "DMA_BD3_5")
    assert changed_fields("core", offset, 1 << 5, 2 << 5) == [("Lock_Acq_Value", 1, 2)]
    assert changed_fields("core", offset, 1 << 5, 0x7F << 5) == [("Lock_Acq_Value", 1, -1)]


def test_bits_of_no_field_and_words_without_fields_are_named_too():
    assert changed_fields("core", register_offset("core", "Core_Control"), 1, 1 | 1 << 9) == [("bit 9", 0, 1)]
    timer = register_offset("core", "Timer_Low")
    assert changed_fields("core", timer, 1, 2) == [("", 1, 2)] and changed_fields("core", timer, 1, 1) == []


def test_a_signed_field_gives_negative_values():
    field = RegisterField("x", 11, 5, signed=True)
    assert [field.value(v << 5) for v in (0, 63, 64, 127)] == [0, 63, -64, -1]
