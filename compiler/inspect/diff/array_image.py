"""Differences of array images: PDI and CDO, with the core programs, registers and memories they configure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from npuc.compiler.asm.programs import CoreProgram, read_programs, with_symbols
from npuc.compiler.emit import cdo, pdi
from npuc.compiler.emit.npua import ProgramSymbols
from npuc.compiler.inspect.diff.code import CodeChange, compare_code
from npuc.compiler.inspect.diff.layouts import compare_layout
from npuc.compiler.inspect.diff.registers import (
    compare_blocks,
    compare_memories,
    compare_order,
    compare_registers,
    read_configuration,
)
from npuc.compiler.inspect.diff.report import ADDED, REMOVED, Difference, Section, only_in
from npuc.compiler.inspect.diff.tiles import tiles_name
from npuc.compiler.inspect.diff.values import with_other_bytes

Core = tuple[int, int]


@dataclass(frozen=True)
class ImageChange:
    """Sections of an array image, and by core where the bundles of the first file stand in the second."""

    sections: tuple[Section, ...]
    moved_to: Mapping[Core, Mapping[int, int]] = field(default_factory=dict)


def compare_pdis(
    a: bytes, b: bytes, symbols: Sequence[Iterable[ProgramSymbols]] = ((), ()), prefix: str = ""
) -> ImageChange:
    """Two PDIs.  symbols: what the files say of the cores' programs; prefix: put before the names of sections.

    Raises InputError when one of them cannot be read.
    """
    first, second = pdi.read_pdi(a), pdi.read_pdi(b)
    change = _compare_commands((first.commands, second.commands), (a, b), symbols, prefix)
    header = list(_pdi_headers(a, b))
    for name in ("transformed", "missing"):
        before, after = getattr(first, name), getattr(second, name)
        if before != after:
            header.append(Difference(name, before=before, after=after))
    sections = (Section(f"{prefix}PDI header", tuple(header)), *change.sections)
    return replace(change, sections=with_other_bytes(sections, a, b))


def compare_cdos(a: bytes, b: bytes) -> ImageChange:
    """Two CDOs.  Raises InputError when one of them cannot be read."""
    change = _compare_commands((cdo.read_cdo(a), cdo.read_cdo(b)), (a, b), ((), ()), "")
    header = tuple(compare_layout(cdo.HEADER, a, b, follows=("length", "checksum")))
    sections = (Section("CDO header", header), *change.sections)
    return replace(change, sections=with_other_bytes(sections, a, b))


def _pdi_headers(a: bytes, b: bytes) -> Iterator[Difference]:
    lengths = ("encrypted_words", "words", "total_words", "checksum", "command_zone")
    for layout, offset in (
        (pdi.SYNC, 0),
        (pdi.IMAGE_HEADER_TABLE, pdi.IMAGE_HEADER_TABLE_OFFSET),
        (pdi.IMAGE_HEADER, pdi.IMAGE_HEADER_OFFSET),
        (pdi.PARTITION_HEADER, pdi.PARTITION_HEADER_OFFSET),
        (cdo.HEADER, pdi.CDO_OFFSET),
    ):
        yield from compare_layout(layout, a, b, offset, follows=(*lengths, "length"))


# --- commands -----------------------------------------------------------------------------------------------------
def _compare_commands(
    commands: tuple[Sequence[cdo.Command], Sequence[cdo.Command]],
    files: tuple[bytes, bytes],
    symbols: Sequence[Iterable[ProgramSymbols]],
    prefix: str,
) -> ImageChange:
    if commands[0] == commands[1]:
        return ImageChange(())
    a, b = (read_configuration(side) for side in commands)
    order = tuple(compare_order(a, b))
    sections = [
        Section(f"{prefix}registers", tuple(compare_registers(a, b))),
        Section(f"{prefix}memories", tuple(compare_memories(a, b))),
    ]
    programs_a, programs_b = (_programs(file, known) for file, known in zip(files, symbols, strict=True))
    code, moved_to = compare_program_sets(programs_a, programs_b, prefix)
    sections += code
    if not order and not any(section.count for section in sections):
        order = tuple(compare_blocks(*commands))
    return ImageChange((*sections, Section(f"{prefix}commands", order)), moved_to)


def _programs(file: bytes, symbols: Iterable[ProgramSymbols]) -> dict[Core, CoreProgram]:
    programs = with_symbols(read_programs(file), tuple(symbols))
    return {program.core: program for program in programs if program.core is not None}


def compare_program_sets(
    a: Mapping[Core, CoreProgram], b: Mapping[Core, CoreProgram], prefix: str
) -> tuple[list[Section], dict[Core, Mapping[int, int]]]:
    """A section for each set of cores whose programs change in the same way; and where their bundles went."""
    known: dict[tuple[object, ...], CodeChange] = {}
    alike: dict[tuple[tuple[Difference, ...], str], list[Core]] = defaultdict(list)
    moved_to: dict[Core, Mapping[int, int]] = {}
    alone: dict[tuple[str, int], list[Core]] = defaultdict(list)
    for core in sorted(a.keys() | b.keys()):
        if core not in b:
            alone[REMOVED, len(a[core].code)].append(core)
        elif core not in a:
            alone[ADDED, len(b[core].code)].append(core)
        else:
            key = _identity(a[core]), _identity(b[core])
            if key not in known:
                same = key[0][:-1] == key[1][:-1]
                known[key] = CodeChange((), {}) if same else compare_code(a[core], b[core])
            alike[known[key].differences, known[key].note].append(core)
            if known[key].differences:
                moved_to[core] = known[key].moved_to
    sections = []
    for (change, size), cores in alone.items():
        title = tiles_name("core", cores)
        told = only_in(change == REMOVED, f"program of {title}", f"{size} bytes")
        sections.append(Section(f"{prefix}program {title}", (told,), change))
    for (differences, note), cores in alike.items():
        title = tiles_name("core", cores)
        placed = tuple(replace(difference, place=f"{title} {difference.place}") for difference in differences)
        sections.append(Section(f"{prefix}program {title}", placed, note=note))
    return sections, moved_to


def _identity(program: CoreProgram) -> tuple[object, ...]:
    return program.base, program.entry, program.code, program.symbols
