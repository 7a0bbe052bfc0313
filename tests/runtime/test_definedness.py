"""What strict mode calls defined is the same whatever the undefined bits are: all instructions, random fillings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_instruction_sweep import LAST_STAGE, NAMES, random_core, random_operands, run

from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.register_file import SCALAR_INDEX, is_scalar, vector_place

FILLINGS = 2
_DECIDING = ("c", "mode", "shift", "idx", "s0", "s2")


def _undefined_bits(
    random: np.random.Generator, core: Core, instruction: Instruction, operands: tuple[Any, ...]
) -> None:
    """Leaves random bits of the instruction's vector and data operands undefined."""
    file = core.registers
    for operand, value in zip(instruction.operands, operands, strict=True):
        if not isinstance(value, str) or operand.direction == "out" or random.random() < 0.3:
            continue
        if is_scalar(value):
            for part in target.parts(value):
                if (part in target.R and operand.name not in _DECIDING) or random.random() < 0.1:
                    width = (1 << target.width(part)) - 1
                    file.undefined_scalar[SCALAR_INDEX[part]] = _pattern(random, 4) & width
        else:
            offset, size = vector_place(value)
            bits = np.frombuffer(_pattern(random, size).to_bytes(size, "little"), np.uint8)
            for each in file.undefined:
                each[offset : offset + size] = bits
    if instruction.memory is not None:
        assert core.data_memory.written is not None
        core.data_memory.written[random.random(core.data_memory.size) < random.choice([0, 0.02, 0.5])] = False


def _pattern(random: np.random.Generator, size: int) -> int:
    """Undefined bits of that many bytes: some bits, bytes, halves, or all."""
    bits = random.integers(0, 256, size, dtype=np.uint8)
    kind = random.integers(5)
    if kind == 0:
        bits &= random.integers(0, 256, size, dtype=np.uint8) & random.integers(0, 256, size, dtype=np.uint8)
    elif kind == 1:
        bits[:] = np.where(random.random(size) < 0.2, 0xFF, 0)
    elif kind == 2:
        bits[:] = 0
        bits[size // 2 :] = 0xFF
    elif kind == 3:
        bits[:] = np.repeat(np.where(random.random(max(size // 4, 1)) < 0.3, 0xFF, 0), 4)[:size]
    else:
        bits[:] = 0xFF
    return int.from_bytes(bits.tobytes(), "little")


def filled(random: np.random.Generator, tracked: Core, plain: Core) -> None:
    """Gives an ordinary core the state of a strict one, with random undefined bits."""
    source, file = tracked.registers, plain.registers
    for index, undefined in enumerate(source.undefined_scalar):
        value = source.scalar[index]
        file.scalar[index] = (
            (value & ~undefined) | (int(random.integers(0, 1 << 32)) & undefined) if undefined else value
        )
    for mine, his, undefined in (
        (file.plain, source.plain, source.undefined[0]),
        (file.bypassed, source.bypassed, source.undefined[1]),
    ):
        noise = np.random.default_rng(int(random.integers(1 << 30))).integers(0, 256, mine.size, dtype=np.uint8)
        mine[:] = (his & ~undefined) | (noise & undefined)
    file.bypassed[:] = file.plain
    memory = tracked.data_memory
    noise = random.integers(0, 256, memory.size, dtype=np.uint8)
    assert memory.written is not None
    plain.data_memory.data[:] = np.where(memory.written, memory.data, noise)


def differences(tracked: Core, plain: Core) -> list[str]:
    """Where the ordinary core has other bits than the strict one although those are defined."""
    found = []
    for name, index in SCALAR_INDEX.items():
        undefined = tracked.registers.undefined_scalar[index]
        if (tracked.registers.scalar[index] or 0) & ~undefined != (plain.registers.scalar[index] or 0) & ~undefined:
            found.append(name)
    for number, name in enumerate(("plain", "bypassed")):
        differ = (getattr(tracked.registers, name) ^ getattr(plain.registers, name)) & ~tracked.registers.undefined[
            number
        ]
        if differ.any():
            found.append(f"{name} byte {int(np.argmax(differ != 0)):#x}")
    memory = tracked.data_memory
    differ = (memory.data != plain.data_memory.data) & memory.written
    if differ.any():
        found.append(f"memory byte {int(np.argmax(differ)):#x}")
    return found


def strict_core(random: np.random.Generator, instruction: Instruction, operands: tuple[Any, ...]) -> Core:
    """A strict core with random state; what it does not read may be undefined or not."""
    core = random_core(random, instruction, operands, strict=True)
    core.registers.undefined_scalar[:] = [0] * len(core.registers.undefined_scalar)
    for bits in core.registers.undefined:
        bits[:] = 0
    _undefined_bits(random, core, instruction, operands)
    return core


def check(name: str, random: np.random.Generator) -> bool:
    """One instruction, strict and with FILLINGS fillings; whether it was compared (not refused)."""
    instruction = INSTRUCTIONS[name]
    operands = random_operands(random, instruction)
    tracked = strict_core(random, instruction, operands)
    plain = [random_core(random, instruction, operands) for _ in range(FILLINGS)]
    for each in plain:
        filled(random, tracked, each)
    try:
        for each in (tracked, *plain):
            run(each, LAST_STAGE + 4)
    except EmulationError:
        return False
    if tracked.reports:
        return False
    for each in plain:
        assert not differences(tracked, each), (name, operands)
    return True


def test_defined_bits_do_not_depend_on_undefined_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    names = [str(name) for name in random.permutation(NAMES)[: len(NAMES) // 4]]
    assert sum(check(name, random) for name in names) > len(names) // 2


@pytest.mark.slow
def test_defined_bits_of_no_instruction_depend_on_undefined_ones(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert sum(check(name, random) for name in NAMES for _ in range(4)) > 2 * len(NAMES)
