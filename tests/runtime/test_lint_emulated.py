"""What the linter tells beforehand is what the emulator's strict mode reports when the code runs."""

from __future__ import annotations

from random import Random

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

ROUNDS, BUNDLES = 60, 20


def runs_anywhere(instruction: Instruction) -> bool:
    """Instructions that need no addresses and no configuration: scalar arithmetic, moves, pointers."""
    return instruction.memory is None and instruction.side_effect is None and instruction.mnemonic[0] != "v"


def reads_status(code: bytes) -> bool:
    """Whether status registers are read, whose values are not known after some instructions."""
    return any(set(STATUS) & set(d.operands[1:]) for b in decode_program(code) for d in b.instructions)


def reports(code: bytes) -> dict[str, set[int]] | None:
    """Addresses of what strict mode reports, by its kind; None for code the emulator refuses to guess about."""
    core = Core(bytearray(code.ljust(16384, b"\0")), DataMemory(), strict=True)
    try:
        core.run(0, len(code) // 16 + 10)
    except EmulationError:
        return None
    found: dict[str, set[int]] = {"undefined-read": set(), "double-landing": set()}
    for report in core.reports:
        if report.address < len(code):
            kind = "undefined-read" if "never written" in report.text else "double-landing"
            found[kind].add(report.address)
    return found


def copies(code: bytes) -> set[int]:
    """Addresses of bundles that pass a value on, whatever else they do: to the linter that is no use of it."""
    return {b.address for b in decode_program(code) if any(step.is_copy for step in effects(b).steps)}


def test_strict_mode_reports_what_the_linter_found(seed: int) -> None:
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
