"""npuc disasm: the assembly text of a file of any kind."""

from __future__ import annotations

import os

from npuc.compiler.asm.disassembler import disassemble
from npuc.compiler.asm.generation import require_npu1
from npuc.compiler.asm.object_listing import disassemble_object
from npuc.compiler.asm.programs import core_members, read_programs, select_programs
from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.archive import is_archive
from npuc.compiler.emit.elf import is_object
from npuc.compiler.emit.elf_object import joined, read_object


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
        if not raw and core is None and pdi is None:
            if is_object(data):
                return disassemble_object(read_object(data), name)
            if is_archive(data):
                return _archive(data, name)
        programs = select_programs(found, core, pdi)
    except InputError as error:
        if error.place is not None:
            raise
        raise InputError(error.message, place=file, remedy=error.remedy) from error
    return disassemble(programs, name)


def _archive(data: bytes, name: str) -> str:
    """The objects of an archive as one, which assembles to all their sections and symbols."""
    members = core_members(data)
    executables = [member.name for member in members if not is_object(member.data)]
    if executables:
        raise InputError(f"{executables[0]} is an executable", remedy="take it out of the archive")
    if not members:
        raise InputError("holds no object of a core")
    objects = []
    for member in members:
        try:
            objects.append(read_object(member.data))
        except InputError as error:
            raise InputError(f"{member.name}: {error.message}", remedy=error.remedy) from None
    names = ", ".join(member.name for member in members)
    return disassemble_object(joined(objects), f"{name} ({names})")
