"""What the kernel backend makes of random programs, to the linter."""

from __future__ import annotations

from kernel_programs import random_loop, random_program

from npuc.compiler.asm.programs import CoreProgram
from npuc.compiler.lint.lint import lint_program
from npuc.passes.machine.codegen import generate

OF_THE_PROGRAM = {"runs-off-end", "undefined-read", "misaligned-access", "outside-memory", "memory-order"}
"""Findings about what the random programs say, not about how it was scheduled: they have no end, and random values."""


def test_scheduled_code_breaks_no_rule(seed: int) -> None:
    for number in range(seed, seed + 8):
        for program in (random_program(number), random_loop(number, 2 + number % 9, 4 + number % 8)):
            report = lint_program(CoreProgram(None, None, 0, generate(program).code))
            assert {finding.kind for finding in report.findings} <= OF_THE_PROGRAM, f"seed {number}: {report.findings}"
            assert report.bundles > 20
