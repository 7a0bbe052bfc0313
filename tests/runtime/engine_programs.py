"""Random core programs and states on which both engines must agree, and the comparison itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from test_instruction_sweep import random_operands

from npuc.compiler.asm.codec import EncodeError, encode_bundle
from npuc.compiler.asm.text import parse_bundle
from npuc.compiler.target.aie2 import registers as target
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS, Instruction
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.register_file import SCALAR_INDEX, VECTOR_BYTES
from npuc.runtime.emulator.semantics import missing
from npuc.runtime.emulator.semantics.multiply import GEOMETRIES
from npuc.runtime.emulator.suspension import Done, Limit, LockRequest

ENGINES = ("interpreter", "native")
_WORDS = {True: ("r20", "r21"), False: ("r22", "r23")}
"""Registers that hold configuration words, for float instructions and for others."""
_KEPT = {
    "r20",
    "r21",
    "r22",
    "r23",
    "sp",
    "lr",
    "lc",
    "ls",
    "le",
    "dp",
    *target.P,
    *target.M,
    *target.DN,
    *target.DJ,
    *target.DC,
    *target.S,
}
NAN, INFINITY = 0x7FC0, 0x7F80
_SPECIAL16 = np.array(
    [0, 0x8000, 1, 0x8001, 0x7F, 0x80, 0x7F7F, 0xFF7F, INFINITY, 0xFF80, NAN, 0xFFC0, 0x7F81, 0x3F80], dtype=np.uint16
)


def _alone(instruction: Instruction) -> bool:
    """Whether random straight-line code may hold it: no control transfer, nothing asked of an array."""
    text = instruction.syntax
    return not (
        instruction.has_delay_slots
        or instruction.mnemonic in ("done", "event")
        or ".tm" in text
        or "acq" in text
        or "rel" in text.split(".")[0]
        or "SCD" in text
        or "MCD" in text
        or "SS" in text
        or " ms" in text
        or instruction.slot == "nop"
    )


NAMES = sorted(name for name in set(INSTRUCTIONS) - set(missing()) if _alone(INSTRUCTIONS[name]))
"""The instructions of random code: all that have semantics, but those named above."""


@dataclass
class Program:
    """Machine code; instructions: how many each bundle of 16 bytes holds."""

    code: bytearray
    instructions: list[int]


def _writes_kept(instruction: Instruction, operands: tuple[Any, ...]) -> bool:
    return any(
        part in _KEPT or part.startswith("cr")
        for operand, value in zip(instruction.operands, operands, strict=True)
        if operand.direction != "in" and operand.name not in ("ptr", "mod") and isinstance(value, str)
        for part in target.parts(value)
    )


def _sensible(random: np.random.Generator, instruction: Instruction, operands: tuple[Any, ...]) -> tuple[Any, ...]:
    """The operands, with a configuration word that has a meaning most of the time."""
    words = _WORDS[".f" in instruction.mnemonic]

    def chosen(operand: Any, value: Any) -> Any:
        if random.random() < 0.01:
            return value
        if operand.name == "c":
            return str(random.choice(words))
        if operand.kind == "immediate" and (instruction.memory is not None or instruction.mnemonic.startswith("padd")):
            steps = [step for step in range(-128, 129, 32) if operand.minimum <= step <= operand.maximum]
            return int(random.choice(steps)) if steps else value
        return value

    return tuple(chosen(operand, value) for operand, value in zip(instruction.operands, operands, strict=True))


_RISKY = ("adc", "sbc", "vldb.4x", "vextract")
"""Mnemonics that refuse most random operands."""


def random_bundle(random: np.random.Generator, most: int = 4) -> dict[str, Any]:
    """Up to `most` random instructions in slots of their own that encode together."""
    slots: dict[str, Any] = {}
    for _ in range(most):
        instruction = INSTRUCTIONS[str(random.choice(NAMES))]
        if instruction.slot in slots:
            continue
        operands = _sensible(random, instruction, random_operands(random, instruction))
        # Code that changes its pointers and modes at random soon ends with an error: that is tried, but seldom.
        risky = _writes_kept(instruction, operands) or instruction.mnemonic.startswith(_RISKY)
        if risky and random.random() < 0.98:
            continue
        try:
            encode_bundle({**slots, instruction.slot: (instruction, operands)}, 16)
        except EncodeError:
            continue
        slots[instruction.slot] = (instruction, operands)
    return slots


def straight_line(random: np.random.Generator, bundles: int) -> Program:
    """Random bundles of 16 bytes, then `done`."""
    code = bytearray.fromhex("0100") * 8192
    chosen = [random_bundle(random) for _ in range(bundles)]
    chosen.append({INSTRUCTIONS["DONE"].slot: (INSTRUCTIONS["DONE"], ())})
    for position, slots in enumerate(chosen):
        code[16 * position : 16 * position + 16] = encode_bundle(slots, 16)
    return Program(code, [len(slots) for slots in chosen])


# control flow


class Flow:
    """Writes random programs with loops, calls, branches and locks as assembly text that ends for certain.

    Counters of software loops are r16 to r19, one a level; the body's instructions leave them, pointers and loop
    registers alone.
    """

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.lines: list[Any] = []  # slots, a label, or (kind, label)
        self.labels = 0

    def label(self) -> str:
        self.labels += 1
        return f"l{self.labels}"

    def body(self, most: int) -> None:
        for _ in range(int(self.random.integers(1, most + 1))):
            slots = random_bundle(self.random, 3)
            self.lines.append({slot: each for slot, each in slots.items() if not _writes_counters(*each)})

    def _set(self, name: str, register: str, value: Any) -> None:
        self.lines.append({INSTRUCTIONS[name].slot: (INSTRUCTIONS[name], (register, value))})

    def _delay_slots(self) -> None:
        for _ in range(5):
            slots = random_bundle(self.random, 2)
            self.lines.append({slot: each for slot, each in slots.items() if not _writes_counters(*each)})

    def _transfer(self, name: str, *operands: Any) -> None:
        self.lines.append({INSTRUCTIONS[name].slot: (INSTRUCTIONS[name], operands)})
        self._delay_slots()

    def hardware_loop(self, depth: int) -> None:
        first, last = self.label(), self.label()
        self._set("MOVXM_lng_cg", "lc", int(self.random.integers(0, 12)))
        self._set("MOVXM_lng_cg", "ls", first)
        self._set("MOVXM_lng_cg", "le", last)
        self.body(8)
        self.lines.append(first)
        self.body(12)
        self.lines.append(last)
        self.body(1)

    def counted_loop(self, depth: int) -> None:
        start, counter = self.label(), f"r{16 + depth}"
        self._set("MOVXM_lng_cg", counter, int(self.random.integers(1, 6)))
        self.lines.append(start)
        self.part(depth + 1)
        if self.random.random() < 0.5:
            self._set("MOVXM_lng_cg", "p7", start)
            self.body(3)
            self._transfer("JNZD", counter, counter, "p7")
        else:
            self.lines.append(parse_bundle(f"add {counter}, {counter}, #-1"))
            self._transfer("JNZ", counter, start)

    def skip(self, depth: int) -> None:
        end, condition = self.label(), f"r{int(self.random.integers(16))}"
        self._transfer(str(self.random.choice(["JZ", "JNZ"])), condition, end)
        self.part(depth + 1)
        self.lines.append(end)

    def call(self, depth: int) -> None:
        function, after = self.label(), self.label()
        self._transfer("JL", function)
        self._transfer("J_jump_imm", after)
        self.lines.append(function)
        self.body(6)
        self._transfer("RET")
        self.lines.append(after)

    def lock(self, depth: int) -> None:
        name = str(self.random.choice(["ACQ_mLockId_imm", "REL_mLockId_imm", "ACQ_COND_mLockId_imm"]))
        self.lines.append(
            {
                INSTRUCTIONS[name].slot: (
                    INSTRUCTIONS[name],
                    (int(self.random.integers(48, 64)), f"r{int(self.random.integers(16))}"),
                )
            }
        )

    def part(self, depth: int) -> None:
        """A few constructs one after the other."""
        kinds = (
            [self.hardware_loop, self.lock]
            + ([self.counted_loop, self.skip] if depth < 2 else [])
            + ([self.call] if depth == 0 else [])
        )
        for _ in range(int(self.random.integers(1, max(4 - depth, 2)))):
            self.body(6)
            kinds[int(self.random.integers(len(kinds)))](depth)
        self.body(4)

    def program(self) -> Program:
        self.part(0)
        self.lines += [{}] * 4 + [{INSTRUCTIONS["DONE"].slot: (INSTRUCTIONS["DONE"], ())}]
        places, count = {}, 0
        for line in self.lines:
            if isinstance(line, str):
                places[line] = 16 * count
            else:
                count += 1
        code = bytearray.fromhex("0100") * 8192
        sizes = []
        for slots in (line for line in self.lines if not isinstance(line, str)):
            known = {
                slot: (each, tuple(places.get(value, value) for value in values))
                for slot, (each, values) in slots.items()
            }
            code[16 * len(sizes) : 16 * len(sizes) + 16] = encode_bundle(known, 16)
            sizes.append(len(slots))
        return Program(code, sizes)


_COUNTERS = {"p7", "r16", "r17", "r18", "r19", "lr", "lc", "ls", "le", "crRnd", "crSat"}


def _writes_counters(instruction: Instruction, operands: tuple[Any, ...]) -> bool:
    return any(
        part in _COUNTERS
        for operand, value in zip(instruction.operands, operands, strict=True)
        if operand.direction != "in" and isinstance(value, str)
        for part in target.parts(value)
    )


# states


def _vector_data(random: np.random.Generator, size: int) -> np.ndarray:
    """Bytes of registers: random, of ordinary size as bf16, or full of special values."""
    kind = random.integers(4)
    data = random.integers(0, 1 << 16, size // 2, dtype=np.uint16)
    if kind == 1:
        data = random.integers(0x3C00, 0x4300, size // 2, dtype=np.uint16)
        data |= random.integers(0, 2, size // 2, dtype=np.uint16) << 15
    elif kind == 2:
        special = random.choice(_SPECIAL16, size // 2)
        data = np.where(random.random(size // 2) < 0.5, special, data).astype(np.uint16)
    elif kind == 3:
        data = random.choice(np.array([0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x80, 0x7F], dtype=np.uint16), size // 2)
    return data.view(np.uint8)


def _word(random: np.random.Generator, floating: bool) -> int:
    """A configuration word: of any dense mode, with the modifiers that are known."""
    modes = [mode for mode in GEOMETRIES if (mode[0] == 2) == floating]
    amode, bmode, variant = modes[random.integers(len(modes))]
    word = amode << 1 | bmode << 3 | variant << 5 | int(random.integers(4)) << 8
    if random.random() < 0.3:
        word |= int(random.integers(2)) | int(random.integers(16)) << 10
    return word


class Undefined:
    """Which bits of registers and memory are undefined when strict cores start: some vectors, data registers, bytes."""

    def __init__(self, random: np.random.Generator) -> None:
        much = float(random.choice([0, 0.1, 0.4]))
        self.vectors = np.repeat(np.where(random.random(VECTOR_BYTES // 4) < much, 0xFF, 0), 4).astype(np.uint8)
        self.vectors &= np.where(random.random(VECTOR_BYTES) < 0.1, random.integers(0, 256, VECTOR_BYTES), 0xFF).astype(
            np.uint8
        )
        kept = {name for names in _WORDS.values() for name in names}
        self.scalars = {
            name: int(random.choice([0xFFFFFFFF, 0xFF, 0xFFFF0000, int(random.integers(1, 1 << 32))]))
            for name in target.R[:16]
            if name not in kept and random.random() < much
        }
        self.memory = random.random(65536) < much / 4

    def load(self, core: Core) -> None:
        file = core.registers
        file.undefined_scalar[:] = [self.scalars.get(name, 0) for name in SCALAR_INDEX]
        for bits in file.undefined:
            bits[:] = self.vectors
        core.data_memory.written[:] = ~self.memory
        core.data_memory.origins.clear()


class State:
    """Registers and memory from which both engines start."""

    def __init__(self, random: np.random.Generator, modes: np.random.Generator) -> None:
        self.vectors = _vector_data(random, VECTOR_BYTES)
        self.memory = _vector_data(random, 65536)
        self.scalars = {
            name: int(random.integers(0, 1 << 32)) & ((1 << target.width(name)) - 1)
            for name in SCALAR_INDEX
            if not name.startswith("sr")
        }
        edges = (0, 1, 0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 31, 32)
        self.scalars |= {name: int(random.choice(edges)) for name in target.R if random.random() < 0.3}
        self.scalars |= {"lc": 0, "ls": 0, "le": 0, "srCarry": int(random.integers(2)), "dp": 0}
        self.scalars |= {name: OWN_MEMORY + 0x4000 + 64 * int(random.integers(0x200)) for name in (*target.P, "sp")}
        self.scalars |= {name: 32 * int(random.integers(-8, 8)) & 0xFFFFF for name in (*target.M, *target.DJ)}
        self.scalars |= {name: int(random.integers(4)) for name in (*target.DN, *target.DC)}
        self.scalars |= {name: int(random.integers(64)) for name in target.S}
        # Modes change less often than data: native code is made for each.
        self.scalars |= {
            "crRnd": int(modes.choice((0, 1, 2, 3, 8, 9, 10, 11, 12, 12, 13))),
            "crSat": int(modes.choice((0, 1, 3))),
        }
        self.scalars |= {name: int(modes.integers(2)) for name in target.CONTROL if name.endswith("Sign")}
        self.scalars |= {name: _word(modes, floating) for floating, names in _WORDS.items() for name in names}
        self.undefined = Undefined(random)

    def load(self, core: Core) -> None:
        core.reset()
        core.data_memory.data[:] = self.memory
        if core.strict:
            self.undefined.load(core)
        for name, value in self.scalars.items():
            core.registers.scalar[SCALAR_INDEX[name]] = value
        core.registers.plain[:] = self.vectors
        core.registers.bypassed[:] = self.vectors


# runs


def core_with(engine: str, code: bytearray, strict: bool = False) -> Core:
    memory = DataMemory()
    if strict:
        memory.written = np.ones(memory.size, dtype=bool)
    return core_class(engine)(code, memory, strict)


def _finding(text: str) -> str:
    """A report without the origin of what was undefined, which native code does not keep."""
    decision = re.search(r"(?:^|: )([^:]*) depends on", text)
    return decision[1] if decision else text


def run(core: Core, limit: int, slices: int = 0) -> list[Any]:
    """Everything that can be seen of a run until `done`, an error or the limit; lock requests are granted.

    slices: stop and go on every so many cycles (0: only at requests).
    """
    seen: list[Any] = []
    cycle = 0
    try:
        while cycle < limit:
            suspension = core.run(cycle, min(limit, cycle + slices) if slices else limit)
            cycle = suspension.cycle
            if isinstance(suspension, Done):
                break
            if not isinstance(suspension, Limit):
                seen.append(suspension)
            if isinstance(suspension, LockRequest):
                cycle += 1 + suspension.number % 3
    except EmulationError as error:
        seen.append(str(error))
    findings: dict[tuple[int, str], int] = {}
    for report in core.reports:
        findings.setdefault((report.address, _finding(report.text)), report.cycle)
    seen += findings.items()
    return [*seen, core.cycle, core.pc, core.bundles, core.mac_bundles, core.stall_memory, core.finished]


def difference(a: Core, b: Core) -> str | None:
    """The first register or memory byte in which two cores differ."""
    for name, index in SCALAR_INDEX.items():
        x, y = (
            (each.registers.scalar[index], each.strict and each.registers.undefined_scalar[index]) for each in (a, b)
        )
        if x != y:
            return f"{name}: {x} and {y}"
    for what, x, y in (
        ("vector registers", a.registers.plain, b.registers.plain),
        ("bypassed registers", a.registers.bypassed, b.registers.bypassed),
        ("memory", a.data_memory.data, b.data_memory.data),
        *(
            (
                ("undefined bits of vector registers", a.registers.undefined[0], b.registers.undefined[0]),
                ("undefined bits of bypassed registers", a.registers.undefined[1], b.registers.undefined[1]),
                ("defined bytes of memory", a.data_memory.written, b.data_memory.written),
            )
            if a.strict
            else ()
        ),
    ):
        if (x != y).any():
            places = np.flatnonzero(x != y)
            return f"{what} from byte {places[0]:#x} on: {bytes(x[places[:16]]).hex()}, {bytes(y[places[:16]]).hex()}"
    return None


class Pair:
    """One program on both engines. executed: bundles; operations: instructions of straight-line code."""

    def __init__(self, program: Program, strict: bool = False) -> None:
        self.program = program
        self.cores = [core_with(engine, program.code, strict) for engine in ENGINES]
        self.executed = self.operations = 0

    def compare(self, state: State, limit: int, slices: int = 0) -> str | None:
        """Runs both from a state; what differs."""
        seen = []
        for core in self.cores:
            state.load(core)
            core.reports.clear()
            core._reported.clear()
            seen.append(run(core, limit, slices))
        bundles = self.cores[0].bundles
        self.executed += bundles
        self.operations += sum(self.program.instructions[:bundles])
        self.last = seen[0]
        return f"{seen[0]} and {seen[1]}" if seen[0] != seen[1] else difference(*self.cores)

    @property
    def translated(self) -> float:
        """The part of the bundles that native code executed."""
        return self.cores[1].native_bundles / max(self.executed, 1)  # type: ignore[attr-defined]
