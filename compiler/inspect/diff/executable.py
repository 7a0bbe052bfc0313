"""Differences of ELF files: executables of one core and relocatable objects."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from npuc.compiler.asm.programs import CoreProgram, read_programs
from npuc.compiler.emit import elf, elf_object
from npuc.compiler.inspect.diff.code import CodeChange, compare_code
from npuc.compiler.inspect.diff.report import Difference, Section, only_in
from npuc.compiler.inspect.diff.symbols import compare_symbols
from npuc.compiler.inspect.diff.values import compare_bytes, compare_trees, with_other_bytes

_NOTHING = elf_object.Section("", b"")


def compare_elfs(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Two ELF files.  Raises InputError when one of them cannot be read."""
    kinds = ["object" if elf.is_object(data) else "executable" for data in (a, b)]
    if kinds[0] != kinds[1]:
        difference = Difference("file type", before=kinds[0], after=kinds[1])
        return (Section("ELF header", (difference,)), Section("bytes", tuple(compare_bytes(a, b))))
    return with_other_bytes(_objects(a, b) if kinds[0] == "object" else _executables(a, b), a, b)


def _executables(a: bytes, b: bytes) -> tuple[Section, ...]:
    (first,), (second,) = read_programs(a), read_programs(b)
    change = compare_code(first, second)
    images = elf.read_elf(a), elf.read_elf(b)
    data_a, data_b = ({segment.address: segment.data for segment in image.data} for image in images)
    addresses_a, addresses_b = ({s.name: s.address for s in image.symbols} for image in images)
    others_a, others_b = ({s.name: {"size": s.size, "kind": s.kind} for s in image.symbols} for image in images)
    both = addresses_a.keys() & addresses_b.keys()
    symbols = [
        *compare_symbols(addresses_a, addresses_b, change.moved_to),
        *compare_trees(_only(others_a, both), _only(others_b, both), "symbol"),
    ]
    return (
        Section("program", _placed(change, "program"), note=change.note),
        Section("data", tuple(_data(data_a, data_b))),
        Section("symbols", tuple(symbols)),
    )


def _only(symbols: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in symbols.items() if name in names}


def _placed(change: CodeChange, name: str) -> tuple[Difference, ...]:
    return tuple(replace(difference, place=f"{name} {difference.place}") for difference in change.differences)


def _data(a: Mapping[int, bytes], b: Mapping[int, bytes]) -> Iterator[Difference]:
    for address in sorted(a.keys() | b.keys()):
        if address not in b:
            yield only_in(True, f"data {address:#x}", f"{len(a[address])} bytes")
        elif address not in a:
            yield only_in(False, f"data {address:#x}", f"{len(b[address])} bytes")
        else:
            yield from compare_bytes(a[address], b[address], "data", address)


def _objects(a: bytes, b: bytes) -> tuple[Section, ...]:
    files = elf_object.read_object(a), elf_object.read_object(b)
    programs = [{program.section: program for program in read_programs(data)} for data in (a, b)]
    sections = []
    contents: list[dict[str, elf_object.Section]] = [{s.name: s for s in file.sections} for file in files]
    for name in {**contents[0], **contents[1]}:
        before, after = contents[0].get(name), contents[1].get(name)
        if before is None or after is None:
            alone = only_in(before is not None, name, f"{len((before or after or _NOTHING).data)} bytes")
            sections.append(Section(f"section {name}", (alone,), alone.change))
        elif name in programs[0] and name in programs[1]:
            sections.append(Section(f"section {name}", _code_section(programs[0][name], programs[1][name], name)))
        else:
            sections.append(Section(f"section {name}", tuple(compare_bytes(before.data, after.data, name))))
    before_table, after_table = ({s.name: asdict(s) for s in file.symbols if s.name} for file in files)
    return (*sections, Section("symbols", tuple(compare_trees(before_table, after_table, "symbol"))))


def _code_section(a: CoreProgram, b: CoreProgram, name: str) -> tuple[Difference, ...]:
    change = compare_code(a, b)
    moved = [(change.moved_to.get(r.offset, r.offset), _relocation(r)) for r in a.relocations]
    there = [(r.offset, _relocation(r)) for r in b.relocations]
    return (*_placed(change, name), *_relocations(moved, there, name))


def _relocation(relocation: elf_object.Relocation) -> str:
    return f"type {relocation.type} {relocation.symbol.name} + {relocation.addend}"


def _relocations(a: Sequence[tuple[int, str]], b: Sequence[tuple[int, str]], name: str) -> Iterator[Difference]:
    before, after = ({f"{offset:#x}": text for offset, text in side} for side in (a, b))
    yield from compare_trees(before, after, f"{name} relocation")
