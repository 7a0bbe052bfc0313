"""npuc asm: what assembly text becomes, by format."""

from __future__ import annotations

from dataclasses import replace

from npuc.compiler.asm.assembler import assemble_source
from npuc.compiler.asm.directives import read_source
from npuc.compiler.asm.objects import object_of
from npuc.compiler.asm.programs import select_programs
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.elf import write_elf
from npuc.compiler.emit.elf_object import write_object


def assemble_to(kind: str, text: str, file: str, core: tuple[int, int] | None = None, pdi: int | None = None) -> bytes:
    """The bytes of an object ('o'), of bare code ('bin') or of an executable ('elf').

    core, pdi: the programs of these only.  Raises AssemblyError naming the place, InputError when a core is not there
    or an executable is asked for of several programs.
    """
    source = read_source(text, file)
    try:
        source = replace(source, programs=select_programs(source.programs, core, pdi))
        if kind == "o":
            return write_object(object_of(source))
        programs = assemble_source(source).programs
        if kind == "bin":
            return b"".join(program.code for program in programs)
        if len(programs) != 1:
            remedy = "choose one with --core" + (" and --pdi" if programs[0].pdi is not None else "")
            raise InputError(f"{len(programs)} programs, an executable holds one", remedy=remedy)
        return write_elf(programs[0].image)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=file, remedy=error.remedy) from error
