"""npuc isa."""

from __future__ import annotations

import sys

import click


@click.command("isa")
@click.argument("words", metavar="[MNEMONIC|NAME]...", nargs=-1)
def command(words: tuple[str, ...]) -> None:
    """Say what the tables hold of AIE2 instructions: syntax, bits, operands, stages, units, memory, relocations.

    Stages are counted from E1, the stage of issue. Without arguments: all mnemonics by slot.
    """
    from npuc.compiler.asm.reference import describe

    sys.stdout.write(describe(words))
