"""Random straight code: any instructions that may stand anywhere, with any operands."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random

from npuc.compiler.asm.codec import Operands, encode_bundle
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction, Operand
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES

LOOP_REGISTERS = ("ls", "le", "lc")
Choice = Callable[[Instruction], bool]


@cache
def instructions(slot: str) -> tuple[Instruction, ...]:
    """What may stand anywhere: no branches, no end of the program."""
    return tuple(
        i
        for i in INSTRUCTIONS.values()
        if i.slot == slot and not i.is_nop and not i.has_delay_slots and i.side_effect != "done"
    )


def operand(rng: Random, operand: Operand, chosen: dict[str, str | int]) -> str | int:
    if operand.kind == "fixed_register":
        assert operand.register is not None
        return operand.register
    if operand.tied_to is not None:
        return chosen[operand.tied_to]
    if operand.kind == "immediate":
        return rng.randrange(operand.minimum, operand.maximum + 1, operand.step)
    registers = REGISTER_CLASSES[operand.register_class or ""].encodings.values()
    return rng.choice([register for register in registers if register not in LOOP_REGISTERS])


def operands(rng: Random, instruction: Instruction) -> Operands:
    """Operand values in the order of `Instruction.operands`; loop registers are left alone."""
    chosen: dict[str, str | int] = {}
    for each in instruction.operands:
        chosen[each.name] = operand(rng, each, chosen)
    return tuple(chosen.values())


def bundle(rng: Random, choice: Choice = lambda instruction: True) -> bytes:
    """One bundle of 16 bytes, of instructions that are chosen."""
    slots = [slot for slot in ("lda", "ldb", "st", "vec") if rng.random() < 0.35]
    slots += rng.choice([[], [], ["lng"], ["alu"], ["mv"], ["alu", "mv"]])
    fitting = {slot: [i for i in instructions(slot) if choice(i)] for slot in slots}
    chosen = {slot: rng.choice(found) for slot, found in fitting.items() if found}
    return encode_bundle({slot: (i, operands(rng, i)) for slot, i in chosen.items()}, 16)


def bundles(rng: Random, count: int, choice: Choice = lambda instruction: True) -> bytes:
    return b"".join(bundle(rng, choice) for _ in range(count))
