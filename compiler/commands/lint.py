"""npuc lint."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from npuc.compiler.commands.core_option import CoreNumber
from npuc.compiler.diagnostics import CheckFailed, InputError

if TYPE_CHECKING:
    from npuc.compiler.asm.programs import CoreProgram
    from npuc.compiler.lint.lint import Group


@click.command("lint")
@click.argument("file", metavar="FILE")
@click.option("--core", type=CoreNumber(), metavar="COL,ROW", help="This core only (in every PDI that has it).")
@click.option("--pdi", type=click.IntRange(0), metavar="N", help="This PDI of an xclbin only.")
@click.option("--notes", is_flag=True, help="Also report timing that code may mean as it is: reads of old values.")
@click.option("--called", is_flag=True, help="The code is called by other code: registers hold arguments on entry.")
@click.option("--raw", is_flag=True, help="FILE is bare code from program address 0.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def command(
    file: str, core: tuple[int, int] | None, pdi: int | None, notes: bool, called: bool, raw: bool, as_json: bool
) -> None:
    """Report what the exposed pipeline would get wrong in the programs of FILE, by the schedule tables alone.

    FILE: an xclbin, pdi, cdo, npua or elf, told by its content, or assembly text named *.s. Looked at are all paths:
    branches taken or not, their delay slots, hardware loops, calls. Exit code 1 when there are errors.

    JSON: file, errors, warnings, notes, bundles, programs[{title, cores, section, base, bytes, bundles, unreached,
    loops, findings[{kind, severity, address, bundle, other, other_bundle, path, message, remedy}]}].
    """
    from npuc.compiler.asm.programs import select_programs
    from npuc.compiler.lint import render

    name = "<stdin>" if file == "-" else file
    try:
        held = tuple(program for program in _programs(file, name, raw) if program.code)
        programs = select_programs(held, core, pdi)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=name, remedy=error.remedy) from error
    groups = _lint(programs, notes, called)
    if as_json:
        click.echo(json.dumps(render.describe(name, groups), indent=1))
    else:
        sys.stdout.write(render.text(groups))
    errors = sum(report.errors for report, _ in groups)
    if errors:
        raise CheckFailed(f"{errors} error{'' if errors == 1 else 's'}", place=name)


def _programs(file: str, name: str, raw: bool) -> tuple[CoreProgram, ...]:
    from npuc.compiler.asm.assembler import assemble
    from npuc.compiler.asm.generation import require_npu1
    from npuc.compiler.asm.programs import read_programs
    from npuc.compiler.files import read_bytes

    data = read_bytes(file)
    if raw or not file.endswith((".s", ".S")):
        programs = read_programs(data, raw)
        if not raw:
            require_npu1(programs)
        return programs
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError("is not text", remedy="assembly text is expected") from None
    return tuple(program.core_program(name) for program in assemble(text, name).programs)


def _lint(programs: tuple[CoreProgram, ...], notes: bool, called: bool) -> list[Group]:
    from npuc.compiler.lint.lint import lint_programs
    from npuc.compiler.uncollected import uncollected

    # The graphs have no cycles of references, and passing over them again and again takes 40 % of the time.
    with uncollected():
        return lint_programs(programs, notes, called)
