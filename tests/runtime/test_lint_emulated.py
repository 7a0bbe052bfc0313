"""What the linter tells beforehand is what the emulator's strict mode meets when the code runs."""

from __future__ import annotations

from random import Random
from typing import Any

from random_code import bundles

from npuc.compiler.asm.codec import decode_program
from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.lint.effects import effects
from npuc.compiler.lint.lint import lint_program
from npuc.compiler.target.aie2.instructions import Instruction
from npuc.compiler.target.aie2.registers import STATUS
from npuc.runtime.emulator.core import Core
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.memory import DataMemory
from npuc.runtime.emulator.semantics.definedness import Partial

ROUNDS, BUNDLES = 60, 20


def runs_anywhere(instruction: Instruction) -> bool:
    """Instructions that need no addresses and no configuration: scalar arithmetic, moves, pointers."""
    return instruction.memory is None and instruction.side_effect is None and instruction.mnemonic[0] != "v"


def reads_status(code: bytes) -> bool:
    """Whether status registers are read, whose values are not known after some instructions."""
    return any(set(STATUS) & set(d.operands[1:]) for b in decode_program(code) for d in b.instructions)


class Watched(Core):
    """A strict core that notes where registers are read that were never written; used or not."""

    def scalar(self, index: int, pc: int) -> Any:
        value = self.registers.get(index)
        if isinstance(value, Partial) and value.origin is None:
            self.reads.add(pc)
        return super().scalar(index, pc)


def reports(code: bytes) -> dict[str, set[int]] | None:
    """Addresses of what strict mode meets, by its kind; None for code the emulator refuses to guess about."""
    core = Watched(bytearray(code.ljust(16384, b"\0")), DataMemory(), strict=True)
    core.reads = set()
    try:
        core.run(0, len(code) // 16 + 10)
    except EmulationError:
        return None
    landings = {report.address for report in core.reports if "two writes of" in report.text}
    return {
        "undefined-read": {address for address in core.reads if address < len(code)},
        "double-landing": {address for address in landings if address < len(code)},
    }


def copies(code: bytes) -> set[int]:
    """Addresses of bundles that pass a value on, whatever else they do: to the linter that is no use of it."""
    return {b.address for b in decode_program(code) if any(step.is_copy for step in effects(b).steps)}


def test_strict_mode_meets_what_the_linter_found(seed: int) -> None:
    rng = Random(seed)
    landings = reads = 0
    for _ in range(ROUNDS):
        code = bundles(rng, BUNDLES, runs_anywhere) + bytes.fromhex("0100") * 16
        emulated = None if reads_status(code) else reports(code)
        if emulated is None:
            continue
        ours: dict[str, set[int]] = {}
        for finding in lint_program(CoreProgram(None, None, 0, code)).findings:
            ours.setdefault(finding.kind, set()).add(finding.address)
        assert emulated["double-landing"] == ours.get("double-landing", set())
        assert emulated["undefined-read"] - copies(code) <= ours["undefined-read"]
        landings += len(emulated["double-landing"])
        reads += len(emulated["undefined-read"])
    assert landings > 5 and reads > ROUNDS
