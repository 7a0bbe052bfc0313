"""The core programs that a file holds, whatever its format: what disassembler, linter and diff work on.

An xclbin or NPUA holds PDIs, a PDI holds a CDO, and the CDO's writes to the program memory of core tiles are the
programs (facts/platform/pdi_cdo.md sections 2 to 4).  An ELF executable is one program; a relocatable object is one a
code section.  Bytes of no known format are code only when the caller says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import archive, cdo, elf, elf_object, npua, pdi, xclbin
from npuc.compiler.emit.buffers import DescriptorBuffer, descriptor_buffers
from npuc.compiler.emit.layout import take
from npuc.compiler.formats import detect, title
from npuc.compiler.target.generations import BY_ELF_FLAGS, Generation
from npuc.compiler.target.npu1 import geometry

ADDRESS_BITS = 32  # of the array; writes beyond reach no tile
MOST_CODE = 1 << 18  # bytes of code taken from an executable for another core
Names = tuple[tuple[int, str], ...]
Buffers = dict[tuple[int, int], tuple[DescriptorBuffer, ...]]


@dataclass(frozen=True)
class CoreProgram:
    """One program.  Equal `code` at an equal `base` is the same program, whichever core runs it.

    column, row: the core, None for a lone ELF or raw code.  base: program address of the first byte.
    symbols: (address, name) in order of address, of code only.  lines: (address, source text), from an NPUA.
    source: where it was found, in words.  pdi: number of the PDI in an xclbin that holds several.
    section: name of the section of an object.  data, table: initial contents of data memory and all symbols of an ELF.
    relocations: of an object, their offsets counted from the start of `code`.  generation: where the file names one.
    buffers: what descriptors of the data memories that the core sees reach, at the core's addresses.
    """

    column: int | None
    row: int | None
    base: int
    code: bytes
    entry: int = 0
    symbols: Names = ()
    lines: Names = ()
    source: str = ""
    pdi: int | None = None
    section: str | None = None
    data: tuple[elf.DataSegment, ...] = ()
    table: tuple[elf.Symbol, ...] = ()
    relocations: tuple[elf_object.Relocation, ...] = ()
    generation: Generation | None = None
    buffers: tuple[DescriptorBuffer, ...] = ()

    @property
    def core(self) -> tuple[int, int] | None:
        """(column, row) where the program's core is known."""
        return None if self.column is None or self.row is None else (self.column, self.row)

    @property
    def names(self) -> dict[int, str]:
        """Address -> the first symbol that stands there."""
        return {address: name for address, name in reversed(self.symbols)}

    @property
    def title(self) -> str:
        """What to call it in a heading or message: `core 0,2`, `core 0,2 (PDI 3)`, `section .text`, `program`."""
        where = "program" if self.section is None else f"section {self.section}"
        if self.core is not None:
            where = f"core {self.column},{self.row}"
        return where if self.pdi is None else f"{where} (PDI {self.pdi})"


def read_programs(data: bytes, raw: bool = False) -> tuple[CoreProgram, ...]:
    """All programs of a file, told by its content: by PDI, then column, then row; of an object by section.

    raw: the bytes are code at address 0.  Raises InputError for a format without programs and for a malformed file.
    """
    if raw:
        return (CoreProgram(None, None, 0, data, source="raw code"),)
    try:
        kind = detect(data)
    except InputError as error:
        raise InputError(error.message, remedy="raw code is read with --raw") from None
    if kind == "xclbin":
        return _of_xclbin(data)
    if kind == "elf":
        return _of_elf(data)
    if kind == "pdi":
        return _of_all_commands(pdi.read_pdi(data).commands, "PDI")
    if kind == "cdo":
        return _of_all_commands(cdo.read_cdo(data), "CDO")
    if kind == "npua":
        return _of_npua(data)
    if kind == "archive":
        return _of_archive(data)
    raise InputError(f"{title(kind)} holds no core programs")


_Program = TypeVar("_Program", bound="_OfCore")


class _OfCore(Protocol):
    """What programs are chosen by."""

    @property
    def core(self) -> tuple[int, int] | None: ...

    @property
    def pdi(self) -> int | None: ...


def select_programs(
    programs: Sequence[_Program], core: tuple[int, int] | None = None, pdi: int | None = None
) -> tuple[_Program, ...]:
    """The programs of one core, of one PDI, or of both; all without either.

    Raises InputError naming those there are, or that there is none.

    A file with one PDI calls it none: `pdi` 0 means that one.
    """
    if not programs:
        raise InputError("holds no core program")
    chosen = tuple(p for p in programs if core in (None, p.core) and pdi in (None, p.pdi or 0))
    if not chosen:
        wanted = [] if core is None else [f"core {core[0]},{core[1]}"]
        wanted += [] if pdi is None else [f"PDI {pdi}"]
        cores = " ".join(f"{c},{r}" for c, r in sorted({p.core for p in programs if p.core is not None}))
        last = max((p.pdi or 0 for p in programs), default=0)
        remedy = f"cores are {cores or 'none by number'}" + (f"; PDIs 0 to {last}" if last else "")
        raise InputError(f"no program of {' in '.join(wanted)}", remedy=remedy)
    return chosen


# --- one function a format ----------------------------------------------------------------------------------------
def _of_commands(commands: Iterable[cdo.Command], source: str, number: int | None = None) -> tuple[CoreProgram, ...]:
    """What the commands leave in the program memories: the span written, zero where nothing was."""
    commands = tuple(commands)
    images: dict[tuple[int, int], bytearray] = {}
    spans: dict[tuple[int, int], tuple[int, int]] = {}
    for address, words in _program_writes(commands):
        column, row, offset = geometry.split_address(address)
        at = offset - geometry.PROGRAM_MEMORY_OFFSET
        image = images.setdefault((column, row), bytearray(geometry.PROGRAM_MEMORY_SIZE))
        image[at : at + len(words)] = words
        first, last = spans.get((column, row), (at, at))
        spans[column, row] = min(first, at), max(last, at + len(words))
    buffers = descriptor_buffers(commands)
    return tuple(
        CoreProgram(
            *core,
            first,
            bytes(images[core][first:last]),
            first,
            source=source,
            pdi=number,
            buffers=_seen(core, buffers),
        )
        for core, (first, last) in sorted(spans.items())
    )


def _of_all_commands(commands: Sequence[cdo.Command], source: str) -> tuple[CoreProgram, ...]:
    """As `_of_commands`, of a whole file.  Raises InputError where that is one of another device."""
    programs = _of_commands(commands, source)
    beyond = next((command.address for command in _writes(commands) if command.address >> ADDRESS_BITS), None)
    if not programs and beyond is not None:
        raise InputError(f"holds no core program: it writes at {beyond:#x}, where npu1's array has no tile")
    return programs


def _writes(commands: Iterable[cdo.Command]) -> Iterator[cdo.DmaWrite | cdo.Write]:
    return (command for command in commands if isinstance(command, (cdo.DmaWrite, cdo.Write)))


def _seen(core: tuple[int, int], buffers: Buffers) -> tuple[DescriptorBuffer, ...]:
    """The buffers in the data memories that a core sees, at its own addresses."""
    column, row = core
    windows = {
        geometry.CORE_VIEW_SOUTH: (column, row - 1),
        geometry.CORE_VIEW_WEST: (column - 1, row),
        geometry.CORE_VIEW_NORTH: (column, row + 1),
        geometry.CORE_VIEW_OWN: core,
    }
    return tuple(
        buffer._replace(start=window + buffer.start, end=window + buffer.end)
        for window, tile in windows.items()
        for buffer in buffers.get(tile, ())
    )


def _program_writes(commands: Iterable[cdo.Command]) -> Iterable[tuple[int, bytes]]:
    """(array address, bytes) of the writes into program memories, cut where they leave the memory."""
    start, end = geometry.PROGRAM_MEMORY_OFFSET, geometry.PROGRAM_MEMORY_OFFSET + geometry.PROGRAM_MEMORY_SIZE
    for command in _writes(commands):
        words = command.words if isinstance(command, cdo.DmaWrite) else (command.value,)
        _, row, offset = geometry.split_address(command.address)
        in_core = not command.address >> ADDRESS_BITS and row in geometry.CORE_ROWS
        if in_core and offset < end and offset + 4 * len(words) > start:
            skipped = max(0, start - offset)
            contents = b"".join((word & 0xFFFFFFFF).to_bytes(4, "little") for word in words)
            yield command.address + skipped, contents[skipped : end - offset]


def _of_xclbin(data: bytes) -> tuple[CoreProgram, ...]:
    file = xclbin.read_xclbin(data)
    programs: list[CoreProgram] = []
    for number, image in enumerate(file.pdis):
        kernels = [kernel for kernel in file.kernels if kernel.kernel_id in image.kernel_ids]
        names = ", ".join(kernel.name for kernel in kernels)
        source = f"PDI {number}" + (f" of kernel {names}" if names else "")
        found = _of_commands(pdi.read_pdi(image.pdi).commands, source, number if len(file.pdis) > 1 else None)
        described = [kernel.npua for kernel in kernels if kernel.npua]
        if described and not npua.is_version_1(described[0]):
            found = with_symbols(found, npua.read_npua(described[0]).programs)
        programs += found
    beside = next((entry for entry in file.sections if entry.kind == xclbin.PDI), None)
    if not programs and beside is not None:
        raise InputError(
            "holds no core program in its partition; its section PDI is not looked at",
            remedy=f"cut the section's {beside.size} bytes at {beside.offset:#x} into a file of their own",
        )
    return tuple(programs)


def _of_npua(data: bytes) -> tuple[CoreProgram, ...]:
    file = npua.read_npua(data)
    if file.pdi is None:
        raise InputError("the NPUA carries no PDI, so no programs", remedy="give the xclbin it lies in")
    return with_symbols(_of_commands(pdi.read_pdi(file.pdi).commands, "PDI in NPUA"), file.programs)


def with_symbols(
    programs: tuple[CoreProgram, ...], described: tuple[npua.ProgramSymbols, ...]
) -> tuple[CoreProgram, ...]:
    """Programs with the names, lines and exact size that an NPUA states; the PDI holds whole words only."""
    known = {(d.column, d.row): d for d in described}
    found = []
    for program in programs:
        about = known.get((program.column or 0, program.row or 0))
        if about is not None:
            rest = program.code[about.program_bytes :]
            code = program.code[: about.program_bytes] if len(rest) < 4 and not any(rest) else program.code
            program = replace(program, code=code, symbols=tuple(sorted(about.symbols)), lines=about.lines)
        found.append(program)
    return tuple(found)


def _of_elf(data: bytes) -> tuple[CoreProgram, ...]:
    if elf.is_object(data):
        return _of_object(data)
    header, sections = elf.read_sections(data)
    if header["flags"] != elf.HEADER.defaults["flags"]:
        return (_of_other_core(data, header, sections),)
    image = elf.read_elf(data)
    names = {(s.address, s.name) for s in image.symbols if s.kind != "object" and s.address < len(image.program)}
    code, symbols = image.program, tuple(sorted(names))
    return (CoreProgram(None, None, 0, code, image.entry, symbols, (), "ELF", data=image.data, table=image.symbols),)


def _of_other_core(data: bytes, header: dict[str, Any], sections: list[dict[str, Any]]) -> CoreProgram:
    """The code sections of an executable for another generation, whose data memory lies elsewhere: code alone."""
    parts = [s for s in sections if s["type"] == elf.PROGBITS and s["flags"] & elf.CODE_FLAG and s["size"]]
    first = min((s["address"] for s in parts), default=0)
    end = max((s["address"] + s["size"] for s in parts), default=0)
    if end - first > MOST_CODE:
        raise InputError(f"ELF: code from {first:#x} to {end:#x} fits no core")
    code = bytearray(end - first)
    for s in parts:
        at = s["address"] - first
        code[at : at + s["size"]] = take(data, s["offset"], s["size"], "ELF code section")
    generation = BY_ELF_FLAGS.get(header["flags"])
    source = f"ELF with flags {header['flags']}, for {generation or 'an unknown generation'}"
    return CoreProgram(None, None, first, bytes(code), header["entry"], source=source, generation=generation)


def core_members(data: bytes) -> tuple[archive.Member, ...]:
    """The members of an archive that are ELFs of cores."""
    return tuple(member for member in archive.read_archive(data) if elf.is_core_elf(member.data))


def _of_archive(data: bytes) -> tuple[CoreProgram, ...]:
    """The programs of all members; sections are called MEMBER:SECTION."""
    programs: list[CoreProgram] = []
    for member in core_members(data):
        try:
            found = _of_elf(member.data)
        except InputError as error:
            raise InputError(f"{member.name}: {error.message}", remedy=error.remedy) from None
        programs += (
            replace(p, section=f"{member.name}:{p.section or ''}", source=f"{member.name}, {p.source}") for p in found
        )
    return tuple(programs)


def _of_object(data: bytes) -> tuple[CoreProgram, ...]:
    file = elf_object.read_object(data)
    generation = BY_ELF_FLAGS.get(elf.read_sections(data)[0]["flags"])
    return tuple(
        CoreProgram(
            None,
            None,
            0,
            section.data,
            symbols=tuple(sorted((s.value, s.name) for s in file.symbols if s.section == number and s.is_code)),
            source=f"object section {section.name}",
            section=section.name,
            relocations=section.relocations,
            generation=generation,
        )
        for number, section in enumerate(file.sections)
        if section.is_code and section.data
    )
