"""Every instruction, with random operands and state, does no more than its declaration allows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuc.compiler.asm.codec import EncodeError, encode_bundle
from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.schedule import STICKY_FLAGS, operand_accesses, operand_registers
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import SCALAR_INDEX, vector_place
from npuc.runtime.emulator.semantics import effect, missing, missing_fact
from npuc.runtime.emulator.suspension import CascadeRead, StreamAnswer, StreamRead, StreamWrite

MISSING = set(missing())
NAMES = sorted(name for name in set(INSTRUCTIONS) - MISSING if INSTRUCTIONS[name].slot != "nop")
LAST_STAGE = 12
_PARTS = {part: vector_place(part) for name in (*target.X, *target.CM, *target.Q) for part in target.parts(name)}


def random_operands(random: np.random.Generator, instruction: Any) -> tuple[Any, ...]:
    """Operand values that encode."""
    for _ in range(200):
        values: list[Any] = []
        for operand in instruction.operands:
            if operand.kind == "fixed_register":
                values.append(operand.register)
            elif operand.kind == "register":
                values.append(
                    str(random.choice(list(target.REGISTER_CLASSES[operand.register_class].encodings.values())))
                )
            else:
                steps = (operand.maximum - operand.minimum) // operand.step
                step = int(random.integers(0, steps + 1))
                value = operand.minimum + operand.step * step
                values.append(0x400 if instruction.has_delay_slots else value & ~31 if instruction.memory else value)
        for i, operand in enumerate(instruction.operands):
            if operand.tied_to:
                values[i] = values[[each.name for each in instruction.operands].index(operand.tied_to)]
        try:
            encode_bundle({instruction.slot: (instruction, tuple(values))}, 16)
        except EncodeError:
            continue
        widths = {target.width(value) for value in values if isinstance(value, str)}
        if STICKY_FLAGS.intersection(values) or (instruction.mnemonic == "vmov" and len(widths) > 1):
            continue  # what these give is not known
        return tuple(values)
    raise AssertionError(f"no operands of {instruction.name} encode")


def random_core(random: np.random.Generator, instruction: Any, operands: tuple[Any, ...], strict: bool = False) -> Core:
    """A core with random registers, modes that are known, and pointers into the middle of its memory."""
    code = bytearray.fromhex("0100") * 8192
    code[:16] = encode_bundle({instruction.slot: (instruction, operands)}, 16)
    memory = DataMemory()
    memory.data[:] = random.integers(0, 256, memory.size, dtype=np.uint8)
    if strict:
        memory.written = np.ones(memory.size, dtype=bool)
    core = Core(code, memory, strict)
    core.bus = _Registers()
    core.neighbours = {"north": DataMemory(), "west": DataMemory()}
    file = core.registers
    for name, index in SCALAR_INDEX.items():
        file.scalar[index] = int(random.integers(0, 1 << 32)) & ((1 << target.width(name)) - 1)
    data = random.integers(0, 256, file.plain.size, dtype=np.uint8)
    file.plain[:] = data
    file.bypassed[:] = data
    pointer = 0x80020 if "tm" in instruction.mnemonic else OWN_MEMORY + 0x8000
    known = {
        "lc": 0,
        "le": 0x3FF0,
        "ls": 0,
        "sp": OWN_MEMORY + 0x8000,
        "r26": 1,
        "r27": 0,
        "r28": 1,
        "r29": 5,
        "crRnd": 12,
        "crSat": 1,
        "crMCDEn": 1,
        "crSCDEn": 1,
        "srCarry": 1,
    }
    known |= {name: int(random.integers(8)) for name in ("r16", "r17", "r18", "r19")}  # lanes of a vextract
    known |= {name: pointer for name in target.P}
    known |= {name: 64 * int(random.integers(8)) for name in (*target.M, *target.DJ)}
    known |= {name: int(random.integers(0, 32)) for name in target.S}
    known |= {name: int(random.integers(0, 2)) for name in target.CONTROL if name.endswith("Sign")}
    for name, value in known.items():
        file.write(name, value)
    for operand, value in zip(instruction.operands, operands, strict=True):
        if operand.name == "c":
            file.write(value, 0x1C if ".f" in instruction.mnemonic else 0x308)
        elif instruction.mnemonic.startswith("vshift.align") and operand.name == "shift":
            file.write(value, 200)
    if "4x" in instruction.mnemonic:
        lanes = OWN_MEMORY + 0x100 + 32 * random.integers(0, 64, file.plain.size // 4)
        file.plain.view(np.uint32)[:] = lanes
        file.bypassed[:] = file.plain
    if instruction.mnemonic in ("j", "jl", "ret", "jz", "jnz", "jnzd"):
        for name in (*target.P, "lr"):
            file.write(name, 0x400)
    return core


class _Registers:
    def read(self, offset: int) -> int:
        return 0x12345678

    def write(self, offset: int, value: int) -> None:
        pass


def run(core: Core, until: int) -> None:
    """Issues that many bundles in all, answering what the core asks."""
    while core.bundles < until:
        suspension = core.run(core.cycle, core.cycle + 1)
        if isinstance(suspension, StreamRead):
            core.answer(StreamAnswer(0xABCD, True, True))
        elif isinstance(suspension, StreamWrite):
            core.answer(True)
        elif isinstance(suspension, CascadeRead):
            core.answer(bytes(64))
        elif core.finished:
            return


def changed(before: tuple[list[Any], np.ndarray], core: Core) -> set[str]:
    """The smallest register parts whose value differs."""
    scalars, vectors = before
    found = {name for name, index in SCALAR_INDEX.items() if core.registers.scalar[index] != scalars[index]}
    return found | {
        part
        for part, (offset, size) in _PARTS.items()
        if (core.registers.plain[offset : offset + size] != vectors[offset : offset + size]).any()
    }


@pytest.mark.parametrize("slot", sorted({INSTRUCTIONS[name].slot for name in NAMES}))
def test_instructions_write_what_their_declaration_names_by_the_stage_it_names(slot: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in NAMES:
        instruction = INSTRUCTIONS[name]
        if instruction.slot != slot:
            continue
        operands = random_operands(random, instruction)
        core = random_core(random, instruction, operands)
        accesses = [
            each for each in operand_accesses(instruction, operand_registers(instruction, operands)) if each.writes
        ]
        allowed = {part for each in accesses for part in each.registers}
        before = list(core.registers.scalar), core.registers.plain.copy()
        run(core, max((each.stage for each in accesses), default=1))
        landed = list(core.registers.scalar), core.registers.plain.copy()
        assert changed(before, core) <= allowed, (name, operands)
        run(core, LAST_STAGE + 4)
        assert not changed(landed, core), (name, operands, "a result lands later than declared")
        assert (core.registers.plain == core.registers.bypassed).all(), (name, operands)


def test_what_an_instruction_declares_as_result_it_writes(seed: int) -> None:
    """Explicit results and post-modified pointers change, given state in which they can hardly stay the same."""
    random = np.random.default_rng(seed)
    for name in NAMES:
        instruction = INSTRUCTIONS[name]
        results = [
            i
            for i, operand in enumerate(instruction.operands)
            if operand.direction == "out" and operand.kind == "register"
        ]
        for attempt in range(20):
            operands = random_operands(random, instruction)
            core = random_core(random, instruction, operands)
            before = list(core.registers.scalar), core.registers.plain.copy()
            run(core, LAST_STAGE + 2)
            now = changed(before, core)
            if all(set(target.parts(operands[i])) & now for i in results):
                break
            assert attempt < 19, (name, operands, now)


def test_every_missing_instruction_names_its_missing_fact() -> None:
    for name in sorted(MISSING):
        fact = missing_fact(name)
        assert fact is not None and fact.startswith("facts/"), name
        with pytest.raises(EmulationError, match="not implemented: facts/semantics"):
            effect(name)
    kept = [name for name in MISSING if "sparse" not in name.lower() and "COMPR" not in name]
    assert sorted(kept) == ["VMOV_HI", "VMOV_LO"]
