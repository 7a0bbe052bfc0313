"""Schedule tables: what they say against the schedule facts, and the distances that follow from them."""

from __future__ import annotations

import functools
import json
import os
import re
from pathlib import Path

import pytest

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand, rows
from npuc.compiler.target.aie2.itineraries import TABLE, VARIANTS
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES, file
from npuc.compiler.target.aie2.schedule import (
    DELAY_SLOTS,
    STICKY_FLAGS,
    memory_distance,
    operand_accesses,
    read_after_write,
    timing,
    write_after_read,
    write_after_write,
)

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[2] / ".." / "shared" / "facts"))


@functools.lru_cache(maxsize=1)
def facts() -> dict:
    path = FACTS / "schedule" / "aie2_itineraries.json"
    if not path.exists():
        pytest.skip(f"no {path.name} (set NPUC_FACTS)")
    return json.loads(path.read_text())


@functools.lru_cache(maxsize=1)
def register_facts() -> dict:
    return json.loads((FACTS / "isa" / "aie2_registers.json").read_text())["registers"]


# ---- an independent reading of the facts


def letters(register: str) -> str:
    if ":" in register:
        return "l"
    match = re.fullmatch(r"([A-Za-z_]+?)(\d+)", register)
    return match[1] if match else register


def spelled(register: str) -> str:
    return register.lower() if register in ("SP", "DP") else register


def fact_parts(register: str) -> list[str]:
    of = register_facts().get(register, {}).get("subregs")
    return [p for s in of.values() for p in fact_parts(s)] if of else [register]


def bound_parts(name: str, binding: dict, register: str) -> list[str]:
    number = re.sub(r"\D", "", register)
    if "part" in binding:
        return [f"dc{int(number) + (4 if binding['part'] == 'dc_hi' else 0)}"]
    found = fact_parts(register)
    if "_3D" in name and re.fullmatch(r"d\d", register):
        found = found + fact_parts(f"d{int(number) + 4}")
    return found


def fact_class(name: str, registers: dict[str, str]) -> dict:
    entry = facts()["instructions"][name]
    for variant in entry.get("variants", []):
        files = facts()["variant_register_files"]
        if all(letters(registers[o]) in files[c] for o, c in variant["when"].items()):
            return facts()["classes"][variant["class"]]
    return facts()["classes"][entry["class"]]


def fact_accesses(name: str, registers: dict[str, str]) -> dict[str, set]:
    entry, places = facts()["instructions"][name], fact_class(name, registers)["operands"]
    found: dict[str, set] = {"use": set(), "def": set()}
    for binding in entry["operands"]:
        register = binding.get("fixed") or registers.get(binding.get("name"))
        if register:
            place = places[binding["index"]]
            for part in bound_parts(name, binding, register):
                found[place["rw"]].add((part, place["cycle"], place.get("bypass")))
    for implicit in entry.get("implicit", []):
        place = places[implicit["index"]] if "index" in implicit else implicit
        found[place["rw"]].add((spelled(implicit["reg"]), place["cycle"], None))
    return found


def fact_units(name: str, registers: dict[str, str]) -> set:
    entry = facts()["instructions"][name]
    bound = {x["index"]: x.get("fixed") or registers.get(x.get("name"), "") for x in entry["operands"]}
    found = set()
    for unit in fact_class(name, registers)["resources"]:
        only = unit.get("observed_only_if")
        if only and letters(bound[only["operand"]]) not in only["files"]:
            continue
        shared: str | None = None
        halves = [""]
        if "observed_per_half" in unit:
            shared = str(bound[unit["observed_per_half"]["operand"]])
            halves = {"bml": [".l"], "aml": [".l"], "bmh": [".h"], "amh": [".h"]}.get(shared[:3], [".l", ".h"])
        found |= {(unit["unit"] + h, unit["cycle"], unit["len"], unit["kind"], shared) for h in halves}
    return found


def one_of_each_file(operand: Operand) -> list[str]:
    """A register of every file the operand takes, the last so that numbers differ."""
    assert operand.register_class is not None
    return list({file(r): r for r in REGISTER_CLASSES[operand.register_class].values}.values())


def register_choices(instruction: Instruction) -> list[dict[str, str]]:
    """Settings that between them hold every register file of every operand, and pairs where variants need them."""
    operands = [o for o in instruction.operands if o.kind == "register"]
    choices: list[dict[str, str]] = [{}]
    for o in operands:
        if o.tied_to:
            choices = [{**c, o.name: c[o.tied_to]} for c in choices]
        else:
            choices = [{**c, o.name: r} for c in choices for r in one_of_each_file(o)]
    return choices


@pytest.mark.parametrize("slot", ["alu", "lda", "ldb", "lng", "mv", "nop", "st", "vec"])
def test_timing_says_what_the_facts_say_for_every_instruction_and_register_file(slot: str) -> None:
    for name in (i.name for i in INSTRUCTIONS.values() if i.slot == slot):
        instruction = INSTRUCTIONS[name]
        for registers in register_choices(instruction):
            got, want = timing(instruction, registers), fact_accesses(name, registers)
            assert set(got.reads) == want["use"], (name, registers)
            assert set(got.writes) == want["def"], (name, registers)
            assert set(got.units) == fact_units(name, registers), (name, registers)
            assert got.last_effect == fact_class(name, registers)["last_effect_cycle"], name


def test_memory_effects_and_delay_slots_are_those_of_the_facts() -> None:
    assert set(facts()["instructions"]) == set(INSTRUCTIONS)
    for name, entry in facts()["instructions"].items():
        mine = INSTRUCTIONS[name]
        memory: dict | None = None
        if mine.memory:
            memory = {"kind": mine.memory.kind, "cycles": list(mine.memory.stages)}
            memory.update({"space": "register bus"} if mine.memory.bus else {})
        assert memory == entry.get("memory"), name
        assert mine.side_effect == entry.get("side_effect"), name
        assert not entry.get("delay_slots") or mine.has_delay_slots, name
    assert DELAY_SLOTS == facts()["delay_slots"]
    assert set(facts()["sticky_flags"]) == STICKY_FLAGS


# ---- behaviour, without the facts

SOME = {"r": "r3", "p": "p3", "x": "x3", "w": "wl3", "bm": "bml3", "cm": "cm3"}


def registers_of(instruction: Instruction, chosen: dict[str, str]) -> dict[str, str]:
    """`chosen`, and the first register of the class for every other operand."""
    named: dict[str, str] = {}
    for o in instruction.operands:
        if o.kind == "register":
            first = next(iter(REGISTER_CLASSES[o.register_class or ""].values))
            named[o.name] = chosen.get(o.name) or named.get(o.tied_to or "") or first
    return named


def stage(name: str, operand: str, writes: bool, chosen: dict[str, str]) -> tuple[int, str | None]:
    instruction = INSTRUCTIONS[name]
    for access in operand_accesses(instruction, registers_of(instruction, chosen)):
        if access.operand == operand and access.writes == writes:
            return access.stage, access.bypass
    raise KeyError(operand)


LOAD = "LDA_dms_lda_idx_imm"
DISTANCES = [
    ("an addition feeds a multiplication in the next bundle", "ADD_add_r_ri.mRx", "MUL_mul_r_rr.mRx0", 1, {}),
    ("a product is there after two bundles", "MUL_mul_r_rr.mRx", "ADD_add_r_ri.mRx0", 2, {}),
    ("a loaded scalar is there after seven", f"{LOAD}.mLdaScl", "MUL_mul_r_rr.mRx0", 7, {"mLdaScl": "r3"}),
    ("a loaded pointer addresses after seven", f"{LOAD}.mLdaScl", f"{LOAD}.ptr", 7, {"mLdaScl": "p3"}),
    ("a loaded condition decides after seven", f"{LOAD}.mLdaScl", "JNZ.mRx", 7, {"mLdaScl": "r3"}),
    ("a comparison decides in the next bundle", "EQ.mRx", "JNZ.mRx", 1, {}),
    ("integer accumulation is bypassed", "VMAC_vmac_cm_core_dense.dst", "VMAC_vmac_cm_core_dense.acc1", 2, {}),
    ("bf16 accumulation takes four", "VMAC_F_vmac_bm_core_dense.dst", "VMAC_F_vmac_bm_core_dense.acc1", 4, {}),
    ("a product is shifted after five", "VMUL_vmac_cm_core_dense.dst", "VSRS_S8_S32_mv_w_srs.src", 5, {}),
    ("an accumulation is shifted after five", "VMAC_vmac_cm_core_dense.dst", "VSRS_S8_S32_mv_w_srs.src", 5, {}),
    ("a bf16 accumulation is converted after six", "VMAC_F_vmac_bm_core_dense.dst", "VCONV_BF16_FP32.src", 6, {}),
    ("a converted vector multiplies after two", "VCONV_BF16_FP32.dst", "VMAC_F_vmac_bm_core_dense.s1", 2, {}),
    ("shuffles are bypassed", "VSHUFFLE.dst", "VSHUFFLE.s1", 1, {}),
    ("a shuffle feeds a MAC after two", "VSHUFFLE.dst", "VMAC_vmac_cm_core_dense.s1", 2, {}),
    ("load B feeds a MAC after seven", "VLDB_dmw_ldb_ag_idx_imm.dst", "VMAC_vmac_cm_core_dense.s1", 7, {}),
    ("load A feeds a MAC after seven", "VLDA_dmw_lda_w_ag_idx_imm.dst", "VMAC_vmac_cm_core_dense.s2", 7, {}),
    ("a loaded accumulator is read late", "VLDA_dmw_lda_am_ag_idx_imm.dst", "VMAC_vmac_cm_core_dense.acc1", 5, {}),
    ("a shifted result is shuffled after four", "VSRS_S8_S32_mv_w_srs.dst", "VSHUFFLE.s1", 4, {}),
    ("a call's link register is there after four", "JL.lr", "RET.lr", 4, {}),
]


@pytest.mark.parametrize(("rule", "writer", "reader", "distance", "chosen"), DISTANCES, ids=[d[0] for d in DISTANCES])
def test_known_distance(rule: str, writer: str, reader: str, distance: int, chosen: dict[str, str]) -> None:
    (first, result), (second, source) = writer.split("."), reader.split(".")
    written, read = stage(first, result, True, chosen), stage(second, source, False, {})
    assert read_after_write(*written, *read) == distance
    assert write_after_read(*read, *written) == 1 - distance


MEMORY_DISTANCES = [
    ("ST_dms_sts_idx_imm", LOAD, 1),
    ("VST_SRS_D16_S32_ag_idx_imm", LOAD, 3),
    ("ST_S8_ag_idx_imm", LOAD, 7),
    (LOAD, "ST_dms_sts_idx_imm", 1),
    ("ST_S8_ag_idx_imm", "ST_S8_ag_idx_imm", 7),
    (LOAD, "VST_SRS_D16_S32_ag_idx_imm", -1),
    (LOAD, LOAD, None),
]


@pytest.mark.parametrize(("first", "second", "distance"), MEMORY_DISTANCES)
def test_accesses_to_one_address_keep_their_distance(first: str, second: str, distance: int | None) -> None:
    before, after = INSTRUCTIONS[first].memory, INSTRUCTIONS[second].memory
    assert before is not None and after is not None
    assert memory_distance(before, after) == distance


def test_a_longer_write_is_overtaken_by_a_later_shorter_one() -> None:
    assert write_after_write(7, 1) == 7
    assert write_after_write(1, 7) == -5


def test_virtual_registers_have_the_timing_of_their_file() -> None:
    mac = INSTRUCTIONS["VMAC_F_vmac_bm_core_dense"]
    virtual = {"dst": "bml117", "acc1": "bml117", "s1": "x99", "s2": "x98", "c": "r77"}
    got = timing(mac, virtual)
    assert {a.register for a in got.writes} == {"amll117", "amlh117", "srFPFlags"}
    assert {a.register for a in got.reads} >= {"wl99", "wh99", "wl98", "wh98", "r77"}
    real = timing(mac, {"dst": "bml1", "acc1": "bml1", "s1": "x1", "s2": "x2", "c": "r0"})
    assert [a[1:] for a in got.reads] == [a[1:] for a in real.reads]


def test_reads_of_different_accumulator_halves_take_different_ports() -> None:
    convert = INSTRUCTIONS["VCONV_BF16_FP32"]

    def ports(source: str) -> set[str]:
        units = timing(convert, {"dst": "wl0", "src": source}).units
        return {u.unit for u in units if u.unit.startswith("CM_RM_PORT") and u.shared_register == source}

    assert ports("bml1") == {"CM_RM_PORT.l"}
    assert ports("bmh1") == {"CM_RM_PORT.h"}


def test_a_write_port_is_taken_for_the_file_that_is_written() -> None:
    move = INSTRUCTIONS["MOV_mv_scl"]
    names = [o.name for o in move.operands]
    for register, port in {"r1": "RS_WM_PORT", "p1": "P_WM_PORT", "m1": "M_WM_PORT", "dc1": "DC_WM_PORT"}.items():
        units = {u.unit for u in timing(move, dict(zip(names, (register, "r2"), strict=True))).units}
        assert units == {port}


def test_three_dimensional_forms_use_both_tuples_and_write_both_counters() -> None:
    padda = timing(INSTRUCTIONS["PADDA_3D"], {"ptr": "p1", "mod": "d2"})
    assert {a.register for a in padda.writes} == {"p1", "dc2", "dc6"}
    assert {a.register for a in padda.reads} >= {"p1", "m2", "dn2", "dj2", "dc2", "m6", "dn6", "dj6", "dc6"}


def test_every_itinerary_class_is_used_and_every_one_used_exists() -> None:
    used = {i.itinerary for i in INSTRUCTIONS.values()} | {row[2] for row in rows(VARIANTS)}
    assert used == {row[0] for row in rows(TABLE)}
