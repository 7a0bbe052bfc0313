"""npuc isa: what the tables say of instructions, for people."""

from __future__ import annotations

import difflib

from npuc.compiler.asm.text import form_text, mnemonics
from npuc.compiler.diagnostics import UsageError
from npuc.compiler.target.aie2.formats import FORMATS, SLOTS
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, TABLES, Instruction, Operand, rows
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES
from npuc.compiler.target.aie2.relocations import relocation_type
from npuc.compiler.target.aie2.schedule import (
    DELAY_SLOTS,
    OperandAccess,
    Timing,
    itinerary_name,
    operand_accesses,
    timing,
)

_MOST_REGISTERS = 12


def describe(words: tuple[str, ...]) -> str:
    """The instructions whose mnemonic or name is one of the words; without words, all mnemonics by slot.

    Raises UsageError for a word that is neither.
    """
    if not words:
        return "".join(_slot_summary(slot) for slot in SLOTS)
    found: dict[str, Instruction] = {}
    for word in words:
        chosen = {n: i for n, i in INSTRUCTIONS.items() if word in (i.mnemonic, n)}
        if not chosen:
            near = difflib.get_close_matches(word, [*mnemonics(), *INSTRUCTIONS], 3)
            raise UsageError(f"no instruction {word}", remedy=f"there is {', '.join(near)}" if near else "npuc isa")
        found |= chosen
    return "\n".join(describe_instruction(instruction) for instruction in found.values())


def _slot_summary(slot: str) -> str:
    members = [i for i in INSTRUCTIONS.values() if i.slot == slot]
    names = sorted({i.mnemonic for i in members})
    formats = sum(slot in form.slots for form in FORMATS)
    return f"{slot}: {SLOTS[slot]} bits, {len(members)} instructions, {formats} formats\n  {' '.join(names)}\n"


def describe_instruction(instruction: Instruction) -> str:
    """Syntax, bits, operands with the stages they are read and written in, units, memory, implicit registers."""
    registers = {
        o.name: next(iter(REGISTER_CLASSES[o.register_class or ""].values))
        for o in instruction.operands
        if o.kind == "register"
    }
    accesses = operand_accesses(instruction, registers)
    lines = [
        f"{instruction.name}: slot {instruction.slot}, {form_text(instruction)}",
        f"  written    {instruction.syntax}",
        f"  bits       {_bits(instruction)}",
    ]
    for letter, operand in zip("abcdefgh", instruction.operands, strict=False):
        lines.append(f"  {letter} {operand.name:8} {_operand(operand)}{_stages(operand.name, accesses)}")
    named = {operand.name for operand in instruction.operands}
    for access in (a for a in accesses if a.operand not in named):
        does = "written" if access.writes else "read"
        lines.append(f"    {access.operand:8} {does} in E{access.stage}, without being named")
    lines += _resources(instruction, timing(instruction, registers))
    lines.append(f"  itinerary  {itinerary_name(instruction, registers)}" + _basis(registers))
    relocations = _relocations(instruction)
    return "\n".join(lines + ([f"  relocated  {relocations}"] if relocations else [])) + "\n"


def _bits(instruction: Instruction) -> str:
    return next(row[3] for row in rows(TABLES[instruction.slot]) if row[0] == instruction.name)


def _operand(operand: Operand) -> str:
    if operand.kind == "fixed_register":
        return f"always {operand.register}"
    if operand.kind == "immediate":
        step = f" in steps of {operand.step}" if operand.step > 1 else ""
        return f"{operand.width} bits, {operand.minimum} to {operand.maximum}{step}"
    names = list(REGISTER_CLASSES[operand.register_class or ""].values)
    more = f" ... ({len(names)})" if len(names) > _MOST_REGISTERS else ""
    tied = f", the same as {operand.tied_to}" if operand.tied_to else ""
    return f"{operand.register_class}: {' '.join(names[:_MOST_REGISTERS])}{more}{tied}"


def _stages(name: str, accesses: tuple[OperandAccess, ...]) -> str:
    said = [
        f"{'written' if a.writes else 'read'} in E{a.stage}" + (f" (bypass {a.bypass})" if a.bypass else "")
        for a in accesses
        if a.operand == name
    ]
    return "; " + ", ".join(said) if said else ""


def _resources(instruction: Instruction, times: Timing) -> list[str]:
    lines = []
    if times.units:
        units = [
            f"{'keeps clear of ' if u.kind == 'avoid' else ''}{u.unit} in E{u.stage}"
            + (f"..E{u.stage + u.length - 1}" if u.length > 1 else "")
            for u in times.units
        ]
        lines.append(f"  units      {', '.join(units)}")
    if times.memory is not None:
        stages = ", ".join(f"E{stage}" for stage in times.memory.stages)
        lines.append(f"  memory     {times.memory.kind} in {stages}" + (" (register bus)" if times.memory.bus else ""))
    if instruction.has_delay_slots:
        lines.append(f"  control    transfers it, after {DELAY_SLOTS} delay slots")
    if instruction.side_effect:
        lines.append(f"  acts on    {instruction.side_effect}")
    return lines


def _basis(registers: dict[str, str]) -> str:
    return f", as with {' '.join(registers.values())}" if registers else ""


def _relocations(instruction: Instruction) -> str:
    found = {}
    for operand in instruction.operands:
        for form in FORMATS if operand.kind == "immediate" else ():
            kind = relocation_type(form, instruction.slot, operand) if instruction.slot in form.slots else None
            if kind is not None and kind.immediate == operand.immediate_kind:
                found[kind.number] = kind.name
    return " ".join(name for _, name in sorted(found.items()))
