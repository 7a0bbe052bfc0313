"""npuc lint."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from npuc.compiler.diagnostics import CheckFailed, InputError, UsageError

if TYPE_CHECKING:
    from npuc.compiler.asm.programs import CoreProgram
    from npuc.compiler.lint.render import Group


@click.command("lint")
@click.argument("file", metavar="FILE")
@click.option("--core", metavar="COL,ROW", help="Only the program of this core.")
@click.option("--notes", is_flag=True, help="Also report timing that code may mean as it is: reads of old values.")
@click.option("--called", is_flag=True, help="The code is called by other code: registers hold arguments on entry.")
@click.option("--raw", is_flag=True, help="FILE is code without a container, loaded at address 0.")
@click.option("--json", "as_json", is_flag=True, help="The findings as JSON.")
def command(file: str, core: str | None, notes: bool, called: bool, raw: bool, as_json: bool) -> None:
    """Report what the exposed pipeline would get wrong in the programs of FILE, by the schedule tables alone.

    FILE: an xclbin, pdi, cdo, npua or elf, told by its content, or assembly text named *.s. Looked at are all paths:
    branches taken or not, their delay slots, hardware loops, calls. Exit code 1 when there are errors.

    JSON: file, errors, warnings, notes, bundles, programs[{title, cores, section, base, bytes, bundles, unreached,
    loops, findings[{kind, severity, address, bundle, other, other_bundle, path, message, remedy}]}].
    """
    from npuc.compiler.lint import render

    groups = _lint(_programs(file, core, raw), notes, called)
    if as_json:
        click.echo(json.dumps(render.describe(file, groups), indent=1))
    else:
        sys.stdout.write(render.text(groups))
    errors = sum(report.errors for report, _ in groups)
    if errors:
        raise CheckFailed(f"{errors} error{'' if errors == 1 else 's'}", place=file)


def _programs(file: str, core: str | None, raw: bool) -> tuple[CoreProgram, ...]:
    from npuc.compiler.asm.assembler import assemble
    from npuc.compiler.asm.programs import read_programs, select_core
    from npuc.compiler.files import read_bytes

    data = read_bytes(file)
    try:
        if file.endswith((".s", ".S")):
            assembled = assemble(_text(data), file).programs
            programs = tuple(program.core_program(file) for program in assembled)
        else:
            programs = read_programs(data, raw)
        return programs if core is None else select_core(programs, *_core(core))
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=file, remedy=error.remedy) from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"is no text: {error.reason} at byte {error.start}") from None


def _core(text: str) -> tuple[int, int]:
    try:
        column, row = (int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(f"--core {text}: must be COL,ROW", remedy="as --core 0,2") from None
    return column, row


def _lint(programs: tuple[CoreProgram, ...], notes: bool, called: bool) -> list[Group]:
    """A report for every distinct program, in the order of the file."""
    from npuc.compiler.lint.lint import lint_program

    alike: dict[object, list[CoreProgram]] = {}
    for program in programs:
        key = (program.base, program.code, program.entry, program.section, program.symbols)
        alike.setdefault(key, []).append(program)
    return [(lint_program(same[0], notes, called), tuple(same)) for same in alike.values()]
