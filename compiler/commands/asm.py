"""npuc asm."""

from __future__ import annotations

import os

import click

from npuc.compiler.commands.core_option import CoreNumber
from npuc.compiler.diagnostics import InputError, UsageError

FORMATS = ("o", "bin", "elf")


@click.command("asm")
@click.argument("source", metavar="IN.s")
@click.option("-o", "--output", metavar="OUT", help="Where to (default: IN with the suffix .o, in this folder).")
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    help="o: relocatable object; bin: bare code; elf: executable of one core (default: by OUT's suffix).",
)
@click.option("--core", type=CoreNumber(), metavar="COL,ROW", help="This core's program only, of several.")
@click.option("--pdi", type=click.IntRange(0), metavar="N", help="Programs of this PDI only.")
def command(source: str, output: str | None, kind: str | None, core: tuple[int, int] | None, pdi: int | None) -> None:
    """Assemble IN.s, hand-written or as `npuc disasm` prints it.

    Bare code of several programs is their code one after the other, in the order of the text. The language is
    described in compiler/asm/README.md.
    """
    from npuc.compiler.asm.products import assemble_to
    from npuc.compiler.files import read_bytes, write_bytes
    from npuc.compiler.outputs import check_outputs

    if kind is None:
        kind = "o" if output is None else os.path.splitext(output)[1].removeprefix(".")
        if kind not in FORMATS:
            raise UsageError(f"{output}: the suffix says no format", remedy="OUT.o, OUT.bin, OUT.elf, or --format")
    if output is None:
        output = f"{'a' if source == '-' else os.path.splitext(os.path.basename(source))[0]}.{kind}"
    check_outputs([source], {"-o": output})
    file = "<stdin>" if source == "-" else source
    try:
        text = read_bytes(source).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError("is not text", place=file, remedy="assembly text is expected") from error
    write_bytes(output, assemble_to(kind, text, file, core, pdi))
