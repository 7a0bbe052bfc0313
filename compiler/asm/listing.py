"""npuc disasm: the assembly text of a file of any kind."""

from __future__ import annotations

import os

from npuc.compiler.asm.disassembler import disassemble
from npuc.compiler.asm.generation import require_npu1
from npuc.compiler.asm.object_listing import disassemble_object
from npuc.compiler.asm.programs import read_programs, select_programs
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.elf import is_object
from npuc.compiler.emit.elf_object import read_object


def list_file(
    data: bytes, file: str, core: tuple[int, int] | None = None, pdi: int | None = None, raw: bool = False
) -> str:
    """The text of all programs of a file, or of those of one core or PDI; raw: the bytes are code.

    Raises InputError naming the file, also for programs of another generation than npu1.
    """
    name = os.path.basename(file)
    try:
        found = read_programs(data, raw)
        if not raw:
            require_npu1(found)
        if not raw and core is None and pdi is None and is_object(data):
            return disassemble_object(read_object(data), name)
        programs = select_programs(found, core, pdi)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=file, remedy=error.remedy) from error
    return disassemble(programs, name)
