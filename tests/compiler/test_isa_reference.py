"""npuc isa: every instruction can be described, from its line of the tables."""

from __future__ import annotations

import pytest

from npuc.compiler.asm.reference import describe, describe_instruction
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.schedule import itinerary_class


def test_every_instruction_is_described_with_all_its_operands_and_places() -> None:
    for instruction in INSTRUCTIONS.values():
        text = describe_instruction(instruction)
        assert text.startswith(f"{instruction.name}: slot {instruction.slot}, {instruction.mnemonic}")
        assert f"  written    {instruction.syntax}\n" in text
        for letter, operand in zip("abcdefgh", instruction.operands, strict=False):
            assert f"\n  {letter} {operand.name} " in text
        for implicit in instruction.implicit:
            assert f"\n    {implicit.register}" in text
        for rule in itinerary_class(instruction.itinerary).units:
            assert rule.only_if or rule.unit.unit.split(".")[0] in text
        assert ("  memory     " in text) == (instruction.memory is not None)
        assert ("delay slots" in text) == instruction.has_delay_slots


def test_stages_bits_and_relocations_of_one_are_those_of_the_tables() -> None:
    text = describe(("MOVXM_lng_cg", "vmac.f"))
    assert "relocated  R_AIE2_41 R_AIE2_42" in text
    assert "b i        32 bits, -2147483648 to 2147483647" in text
    assert "  a dst      mBMa: bml0 bmh0" in text and "written in E6" in text
    assert "    srFPFlags written in E7, without being named" in text
    assert "  units      R_RV_PORT in E1, CM_WA_PORT in E6" in text


def test_without_words_all_mnemonics_stand_by_slot() -> None:
    text = describe(())
    assert {i.mnemonic for i in INSTRUCTIONS.values()} <= set(text.split())
    assert "vec: 26 bits, 62 instructions, 37 formats" in text


def test_an_unknown_word_is_answered_with_what_is_near() -> None:
    with pytest.raises(UsageError, match="no instruction vshufle .there is vshuffle"):
        describe(("vshufle",))
