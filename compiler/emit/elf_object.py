"""Relocatable ELF objects of AIE2 code: sections, symbols and relocations (machine 264, flags 2, RELA records).

Relocation types are those of facts/isa/aie2_relocations.json; what they patch is in target/aie2/relocations.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.emit import elf
from npuc.compiler.emit.layout import Layout, malformed, string_at, take

WHAT = "ELF object"
RELOCATION = Layout("ELF relocation", ("offset", "I"), ("info", "I"), ("addend", "i", 0))
_RELA, _NOBITS = 4, 8
_WEAK = 2
_SECTION_SYMBOL, _FILE_SYMBOL = 3, 4
_FIRST_RESERVED = 0xFF00  # section numbers from here are no sections: absolute, common
_ABSOLUTE = 0xFFF1
_LARGEST_ZEROS = 1 << 18  # more than all data memory a core sees
_LARGEST_ALIGNMENT = 1 << 16
MOST_SECTIONS = 4096


@dataclass(frozen=True)
class ObjectSymbol:
    """A name: `section` is the number of its section in `ObjectFile.sections`, None for an absolute or undefined one.

    kind is 'function', 'object', 'label' or 'section'; binding 'local', 'global' or 'weak'.
    """

    name: str
    section: int | None = None
    value: int = 0
    size: int = 0
    kind: str = "label"
    binding: str = "local"
    defined: bool = True

    @property
    def is_code(self) -> bool:
        """Whether it can name a place in code."""
        return self.section is not None and self.kind in ("function", "label")


@dataclass(frozen=True)
class Relocation:
    """The field at `offset` (bytes into the section) of kind `type` is to become symbol + addend."""

    offset: int
    type: int
    symbol: ObjectSymbol
    addend: int = 0


@dataclass(frozen=True)
class Section:
    """Contents loaded to memory; zeros: the file holds only the length."""

    name: str
    data: bytes
    is_code: bool = False
    writable: bool = False
    alignment: int = 1
    zeros: bool = False
    relocations: tuple[Relocation, ...] = ()


@dataclass(frozen=True)
class ObjectFile:
    """The loaded sections of an object in order, and its symbols."""

    sections: tuple[Section, ...]
    symbols: tuple[ObjectSymbol, ...]


# --- reading ------------------------------------------------------------------------------------------------------
def read_object(data: bytes) -> ObjectFile:
    """Parse an object; InputError on anything else, and on anything malformed."""
    header, raw = elf.read_sections(data)
    if header["type"] != elf.RELOCATABLE_FILE:
        raise malformed(WHAT, 16, f"file type {header['type']}, an object expected")
    if len(raw) > MOST_SECTIONS:
        raise malformed(WHAT, 48, f"{len(raw)} sections")
    if not raw or header["section_names"] >= len(raw):
        raise malformed(WHAT, 50, f"section names in section {header['section_names']} of {len(raw)}")
    names = _contents(data, raw[header["section_names"]])
    numbers = [i for i, s in enumerate(raw) if s["type"] in (elf.PROGBITS, _NOBITS) and s["flags"] & elf.ALLOC_FLAG]
    places = {number: place for place, number in enumerate(numbers)}
    sections = [_section(data, raw[number], names) for number in numbers]
    if sum(len(s.data) for s in sections if not s.zeros) > 2 * len(data):
        raise malformed(WHAT, 0, "sections overlap")
    symbols: dict[int, tuple[ObjectSymbol, ...]] = {}
    for i, entry in enumerate(raw):
        if entry["type"] == elf.SYMTAB:
            symbols[i] = _symbols(data, raw, entry, places, [s.name for s in sections])
    for entry in raw:
        if entry["type"] == _RELA and entry["info"] in places:
            at = places[entry["info"]]
            found = _relocations(data, entry, symbols.get(entry["link"], ()), len(sections[at].data))
            sections[at] = replace(sections[at], relocations=sections[at].relocations + found)
    return ObjectFile(tuple(sections), next(iter(symbols.values()), ()))


def _contents(data: bytes, entry: dict[str, Any]) -> bytes:
    return take(data, entry["offset"], entry["size"], "ELF section")


def _section(data: bytes, entry: dict[str, Any], names: bytes) -> Section:
    zeros = entry["type"] == _NOBITS
    if zeros and entry["size"] > _LARGEST_ZEROS:
        raise malformed(WHAT, entry["offset"], f"a section of {entry['size']} zero bytes fits no core")
    alignment = max(1, entry["alignment"])
    if alignment & (alignment - 1) or alignment > _LARGEST_ALIGNMENT:
        raise malformed(WHAT, entry["offset"], f"alignment {alignment} of a section")
    return Section(
        string_at(names, entry["name"], "ELF section names"),
        bytes(entry["size"]) if zeros else _contents(data, entry),
        bool(entry["flags"] & elf.CODE_FLAG),
        bool(entry["flags"] & elf.WRITE_FLAG),
        alignment,
        zeros,
    )


def _symbols(
    data: bytes, raw: Sequence[dict[str, Any]], table: dict[str, Any], places: dict[int, int], names: list[str]
) -> tuple[ObjectSymbol, ...]:
    """All entries of a symbol table, so that relocations can count in it."""
    if table["link"] >= len(raw):
        raise malformed(WHAT, table["offset"], f"names in section {table['link']} of {len(raw)}")
    strings = _contents(data, raw[table["link"]])
    found = []
    for entry in elf.SYMBOL.unpack_array(data, table["offset"], table["size"] // elf.SYMBOL.size):
        number, kind = entry["section"], entry["info"] & 15
        place = places.get(number)
        name = string_at(strings, entry["name"], "ELF string table") if entry["name"] else ""
        if kind == _SECTION_SYMBOL and place is not None:
            name = names[place]
        found.append(
            ObjectSymbol(
                name,
                place,
                entry["value"],
                entry["size"],
                "section" if kind == _SECTION_SYMBOL else elf.SYMBOL_KINDS.get(kind, "other"),
                {0: "local", _WEAK: "weak"}.get(entry["info"] >> 4, "global"),
                number != 0,
            )
        )
    return tuple(found)


def _relocations(
    data: bytes, entry: dict[str, Any], symbols: tuple[ObjectSymbol, ...], size: int
) -> tuple[Relocation, ...]:
    found = []
    for record in RELOCATION.unpack_array(data, entry["offset"], entry["size"] // RELOCATION.size):
        number = record["info"] >> 8
        if number >= len(symbols):
            raise malformed(WHAT, entry["offset"], f"relocation against symbol {number} of {len(symbols)}")
        if record["offset"] >= size:
            raise malformed(WHAT, entry["offset"], f"relocation at {record['offset']:#x} of a section of {size} bytes")
        found.append(Relocation(record["offset"], record["info"] & 0xFF, symbols[number], record["addend"]))
    return tuple(sorted(found, key=lambda r: (r.offset, r.type)))


def joined(files: Sequence[ObjectFile]) -> ObjectFile:
    """Several objects as one: all sections in order; what one leaves undefined is another's where that defines it for
    others.  Local symbols of one name stay apart."""
    sections: list[Section] = []
    symbols: list[ObjectSymbol] = []
    homes: list[dict[ObjectSymbol, ObjectSymbol]] = []
    for file in files:
        first = len(sections)
        moved = {s: s if s.section is None else replace(s, section=first + s.section) for s in file.symbols}
        homes.append(moved)
        symbols += moved.values()
        sections += file.sections
    defined = {s.name: s for s in reversed(symbols) if s.defined and s.binding != "local"}
    at = 0
    for file, moved in zip(files, homes, strict=True):
        for section in file.sections:
            targets = (moved.get(r.symbol, r.symbol) for r in section.relocations)
            found = [t if t.defined else defined.get(t.name, t) for t in targets]
            pairs = zip(section.relocations, found, strict=True)
            sections[at] = replace(section, relocations=tuple(replace(r, symbol=t) for r, t in pairs))
            at += 1
    kept = [s for s in symbols if s.defined or s.name not in defined]
    return ObjectFile(tuple(sections), tuple(dict.fromkeys(kept)))


# --- writing ------------------------------------------------------------------------------------------------------
def write_object(file: ObjectFile) -> bytes:
    """The object's bytes: sections, one symbol table with local symbols first, a RELA section where needed."""
    strings, names = elf.Strings(), elf.Strings()
    symbols = sorted(file.symbols, key=lambda s: s.binding != "local")
    index = {symbol: 1 + i for i, symbol in reversed(list(enumerate(symbols)))}
    body = bytearray(elf.HEADER.size)
    headers = [elf.SECTION_HEADER.pack()]

    def add(name: str, kind: int, data: bytes, alignment: int, **more: int) -> None:
        body.extend(bytes(-len(body) % max(alignment, 1)))
        fields = {"size": len(data), **more}
        headers.append(
            elf.SECTION_HEADER.pack(name=names.add(name), type=kind, offset=len(body), alignment=alignment, **fields)
        )
        body.extend(data)

    for section in file.sections:
        flags = elf.ALLOC_FLAG | elf.CODE_FLAG * section.is_code | elf.WRITE_FLAG * section.writable
        if section.zeros:
            add(section.name, _NOBITS, b"", section.alignment, flags=flags, size=len(section.data))
        else:
            add(section.name, elf.PROGBITS, section.data, section.alignment, flags=flags)
    relocated = [i for i, section in enumerate(file.sections) if section.relocations]
    table = 1 + len(file.sections) + len(relocated)
    for i in relocated:
        section = file.sections[i]
        records = b"".join(
            RELOCATION.pack(offset=r.offset, info=index[r.symbol] << 8 | r.type, addend=r.addend)
            for r in section.relocations
        )
        add(f".rela{section.name}", _RELA, records, 4, link=table, info=1 + i, entry_size=RELOCATION.size)
    local = sum(symbol.binding == "local" for symbol in symbols)
    entries = elf.SYMBOL.pack() + b"".join(_symbol_entry(symbol, strings) for symbol in symbols)
    add(".symtab", elf.SYMTAB, entries, 4, link=table + 1, info=1 + local, entry_size=elf.SYMBOL.size)
    add(".strtab", elf.STRTAB, bytes(strings.data), 1)
    names.add(".shstrtab")
    add(".shstrtab", elf.STRTAB, bytes(names.data), 1)
    body.extend(bytes(-len(body) % 4))
    body[: elf.HEADER.size] = elf.HEADER.pack(
        type=elf.RELOCATABLE_FILE, entry=0, program_headers=0, program_header_size=0, program_header_count=0,
        section_headers=len(body), section_header_count=len(headers), section_names=len(headers) - 1,
    )  # fmt: skip
    return bytes(body) + b"".join(headers)


def _symbol_entry(symbol: ObjectSymbol, strings: elf.Strings) -> bytes:
    kind = _SECTION_SYMBOL if symbol.kind == "section" else elf.SYMBOL_TYPES.get(symbol.kind, 0)
    binding = {"local": 0, "global": 1, "weak": _WEAK}[symbol.binding]
    number = _ABSOLUTE if symbol.section is None else 1 + symbol.section
    return elf.SYMBOL.pack(
        name=0 if symbol.kind == "section" else strings.add(symbol.name),
        value=symbol.value,
        size=symbol.size,
        info=binding << 4 | kind,
        section=number if symbol.defined else 0,
    )
