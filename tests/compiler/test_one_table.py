"""There is one list of instructions: what is renamed in its table is renamed in every tool."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS

EXAMPLE = Path(__file__).parents[2] / "examples" / "attention.mlir"

RENAME = """
import importlib, re, sys
from npuc.compiler.target.aie2 import isa_{table}

before = isa_{table}.TABLE
isa_{table}.TABLE = re.sub(r"^{line}$", r"{renamed}", before, flags=re.M)
assert isa_{table}.TABLE != before
"""


def run(script: str) -> str:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def renaming(table: str, line: str, renamed: str) -> str:
    """Script text that renames lines of a table before anything has read it."""
    return RENAME.format(table=table, line=line, renamed=renamed)


MNEMONIC = renaming("mv", r"(VSHUFFLE\w* *\| )vshuffle( .*)", r"\1vturn\2")


def test_a_renamed_mnemonic_is_what_is_printed_and_read() -> None:
    out = run(
        MNEMONIC
        + """
from npuc.compiler.asm.assembler import assemble
from npuc.compiler.asm.codec import decode_program
from npuc.compiler.asm.listing import list_file
from npuc.compiler.diagnostics import InputError
from npuc.compiler.lint.lint import lint_program

code = assemble("vturn x0, x1, x2, r0").code
print(list_file(code, "k", raw=True))
text = "vturn x0, x1, x2, r0\\n" * 2 + "vshift x0, x0, x0, r0\\ndone\\nend: j #end" + "\\nnop" * 5
(program,) = assemble(text).programs
for finding in lint_program(program.core_program("k.s"), notes=True).findings:
    print("lint", finding.message)
try:
    assemble("vshuffle x0, x1, x2, r0")
except InputError as error:
    print(error)
try:
    assemble("vturn x0, x1, x2, r99")
except InputError as error:
    print(error)
"""
    )
    assert "vturn x0, x1, x2, r0" in out
    assert "no instruction vshuffle" in out
    assert "vturn: operand" in out
    assert any(line.startswith("lint") and "vturn" in line for line in out.split("\n"))
    assert "vshuffle x0" not in out


def test_a_renamed_mnemonic_is_what_the_compiler_writes() -> None:
    out = run(
        MNEMONIC
        + f"""
from npuc.compiler import driver
compiled = driver.compile_file({str(EXAMPLE)!r}, driver.Settings(use_cache=False))
print(compiled.stage("asm").decode())
"""
    )
    assert out.count("vturn x") > 16 and "vshuffle" not in out


def test_the_emulator_misses_a_renamed_instruction_by_its_new_name() -> None:
    script = """
from npuc.runtime.emulator.semantics import registry
import npuc.runtime.emulator.core
print(*registry.missing())
"""
    unchanged, changed = run(script).split(), run(
        renaming("mv", r"VSHUFFLE(\w* *\| )vshuffle( .*)", r"VTURN\1vturn\2") + script
    ).split()  # fmt: skip
    assert set(unchanged) < set(changed)
    assert all(name.startswith("VTURN") for name in set(changed) - set(unchanged))


PRINTED = EXAMPLE.parents[1] / "passes/machine/instructions.py"
"""Constructors that are printed from the table, and held to it by a test of their own."""


def test_no_module_lists_instructions_beside_the_table() -> None:
    """Modules may name instructions they use; none names as many as a list would."""
    names = set(INSTRUCTIONS)
    root = EXAMPLE.parents[1]
    found = {}
    for folder in ("compiler", "passes", "runtime"):
        for path in (root / folder).rglob("*.py"):
            if not path.name.startswith("isa_") and path != PRINTED:
                found[path.name] = len(names & set(re.findall(r"\w+", path.read_text())))
    most = max(found, key=lambda file: found[file])
    assert found[most] < len(names) // 6, (most, found[most])
