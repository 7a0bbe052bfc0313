"""Core programs as 32-bit little-endian ELF executables for the AIE machine.

Program memory is the segment at physical address 0, data memory the windows at 0x40000 (south), 0x50000 (west),
0x60000 (north) and 0x70000 (the core's own), as facts/platform/pdi_cdo.md section 4 gives for loaders; machine 264 and
flags 2 are those of public AIE2 ELFs (facts/isa/aie2_relocations.json).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npuc.compiler.emit.layout import Layout, malformed, string_at, take
from npuc.compiler.target.npu1.geometry import CORE_VIEW, PROGRAM_MEMORY_SIZE

WHAT = "ELF"
MACHINE = 264
MAGIC = b"\x7fELF\x01\x01\x01"


@dataclass(frozen=True)
class Symbol:
    """A name for an address; kind is 'function', 'object' or 'label' (loop starts and other places in code)."""

    address: int
    name: str
    size: int = 0
    kind: str = "function"


@dataclass(frozen=True)
class DataSegment:
    """Initial contents of data memory at a core address (0x70000 and up is the core's own memory)."""

    address: int
    data: bytes


@dataclass(frozen=True)
class CoreImage:
    """What one core is loaded with; `program` starts at program address 0."""

    program: bytes
    entry: int = 0
    symbols: tuple[Symbol, ...] = ()
    data: tuple[DataSegment, ...] = ()


HEADER = Layout(
    "ELF header",
    ("ident", "16s", MAGIC), ("type", "H", 2), ("machine", "H", MACHINE), ("version", "I", 1), ("entry", "I"),
    ("program_headers", "I"), ("section_headers", "I"), ("flags", "I", 2), ("header_size", "H", 52),
    ("program_header_size", "H", 32), ("program_header_count", "H"), ("section_header_size", "H", 40),
    ("section_header_count", "H"), ("section_names", "H"),
)  # fmt: skip
PROGRAM_HEADER = Layout(
    "ELF program header",
    ("type", "I", 1), ("offset", "I"), ("virtual", "I"), ("physical", "I"), ("file_size", "I"), ("memory_size", "I"),
    ("flags", "I"), ("alignment", "I", 16),
)  # fmt: skip
SECTION_HEADER = Layout(
    "ELF section header",
    ("name", "I", 0), ("type", "I", 0), ("flags", "I", 0), ("address", "I", 0), ("offset", "I", 0), ("size", "I", 0),
    ("link", "I", 0), ("info", "I", 0), ("alignment", "I", 0), ("entry_size", "I", 0),
)  # fmt: skip
SYMBOL = Layout(
    "ELF symbol",
    ("name", "I", 0), ("value", "I", 0), ("size", "I", 0), ("info", "B", 0), ("other", "B", 0), ("section", "H", 0),
)  # fmt: skip
_LOAD, _EXECUTABLE_FILE, RELOCATABLE_FILE = 1, 2, 1
PROGBITS, SYMTAB, STRTAB = 1, 2, 3
WRITE_FLAG, ALLOC_FLAG, CODE_FLAG = 1, 2, 4
_GLOBAL = 1 << 4
SYMBOL_TYPES = {"label": 0, "object": 1, "function": 2}
SYMBOL_KINDS = {code: kind for kind, code in SYMBOL_TYPES.items()}
_MAXIMUM_PROGRAM_HEADERS = 256


class Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.data = bytearray(1)
        self._places: dict[str, int] = {}

    def add(self, string: str) -> int:
        if string not in self._places:
            self._places[string] = len(self.data)
            self.data += string.encode() + b"\0"
        return self._places[string]


def write_elf(image: CoreImage) -> bytes:
    """The executable of one core, with a symbol table and section headers."""
    segments = [(".text", 0, image.program, 5)]
    segments += [(f".data.{i}" if i else ".data", s.address, s.data, 6) for i, s in enumerate(image.data)]
    assert len(image.program) <= PROGRAM_MEMORY_SIZE, f"program of {len(image.program)} bytes"
    names, strings = Strings(), Strings()
    body = bytearray(HEADER.size + PROGRAM_HEADER.size * len(segments))
    programs, sections = b"", [SECTION_HEADER.pack()]
    for name, address, data, access in segments:
        body += bytes((address - len(body)) % 16)
        place = {"offset": len(body), "flags": access}
        programs += PROGRAM_HEADER.pack(
            virtual=address, physical=address, file_size=len(data), memory_size=len(data), **place
        )
        flags = ALLOC_FLAG | (CODE_FLAG if access == 5 else WRITE_FLAG)
        sections.append(
            SECTION_HEADER.pack(
                name=names.add(name), type=PROGBITS, flags=flags, address=address, offset=len(body), size=len(data),
                alignment=16 if address % 16 == 0 else 4,
            )
        )  # fmt: skip
        body += data
    table = SYMBOL.pack() + b"".join(_symbol(symbol, strings, image) for symbol in image.symbols)
    tables = (
        (".symtab", SYMTAB, table, {"link": len(sections) + 1, "info": 1, "entry_size": SYMBOL.size, "alignment": 4}),
        (".strtab", STRTAB, bytes(strings.data), {"alignment": 1}),
    )
    for name, kind, data, extra in tables:
        body += bytes(-len(body) % 4)
        sections.append(SECTION_HEADER.pack(name=names.add(name), type=kind, offset=len(body), size=len(data), **extra))
        body += data
    own_name = names.add(".shstrtab")
    sections.append(
        SECTION_HEADER.pack(name=own_name, type=STRTAB, offset=len(body), size=len(names.data), alignment=1)
    )
    body += names.data
    body += bytes(-len(body) % 4)
    header = HEADER.pack(
        entry=image.entry, program_headers=HEADER.size, program_header_count=len(segments),
        section_headers=len(body), section_header_count=len(sections), section_names=len(sections) - 1,
    )  # fmt: skip
    body[: HEADER.size + len(programs)] = header + programs
    return bytes(body) + b"".join(sections)


def _symbol(symbol: Symbol, strings: Strings, image: CoreImage) -> bytes:
    """The table entry; its section is the one that holds the address, or 'absolute'."""
    section = 0xFFF1
    if symbol.address <= len(image.program):
        section = 1
    for i, segment in enumerate(image.data):
        if segment.address <= symbol.address < segment.address + len(segment.data):
            section = 2 + i
    info = _GLOBAL | SYMBOL_TYPES[symbol.kind]
    return SYMBOL.pack(
        name=strings.add(symbol.name), value=symbol.address, size=symbol.size, info=info, section=section
    )


def is_elf(data: bytes) -> bool:
    """Whether the data starts with the identification of a 32-bit little-endian ELF."""
    return data[: len(MAGIC)] == MAGIC


def is_any_elf(data: bytes) -> bool:
    """Whether the data start as an ELF of any kind does."""
    return data[:4] == MAGIC[:4]


def is_core_elf(data: bytes) -> bool:
    """Whether it is an ELF for AIE cores, or too short to say of which machine it is."""
    return is_elf(data) and data[18:20] in (MACHINE.to_bytes(2, "little"), b"", b"\x08")


def is_object(data: bytes) -> bool:
    """Whether it is a relocatable object, as its header says."""
    return is_elf(data) and data[16:18] == RELOCATABLE_FILE.to_bytes(2, "little")


def read_sections(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and section headers of an executable or object for the AIE; InputError on anything else."""
    header = HEADER.unpack(data)
    if not is_elf(data):
        raise malformed(WHAT, 0, "not a 32-bit little-endian ELF")
    if header["machine"] != MACHINE:
        raise malformed(WHAT, 18, f"machine {header['machine']}, {MACHINE} (AIE) expected")
    if header["type"] not in (_EXECUTABLE_FILE, RELOCATABLE_FILE):
        raise malformed(WHAT, 16, f"file type {header['type']}, an executable or object expected")
    return header, _table(data, header, "section", SECTION_HEADER)


def section_headers(data: bytes, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The section headers of an ELF whose header that is, for any machine; InputError when they leave the data."""
    return _table(data, header, "section", SECTION_HEADER)


def read_elf(data: bytes) -> CoreImage:
    """Parse an executable of one core, or the code of a relocatable object; InputError on anything else."""
    header, sections = read_sections(data)
    if header["program_header_count"] > _MAXIMUM_PROGRAM_HEADERS:
        raise malformed(WHAT, 44, f"{header['program_header_count']} program headers")
    segments = [s for s in _table(data, header, "program", PROGRAM_HEADER) if s["type"] == _LOAD]
    symbols = _read_symbols(data, sections)
    if not segments:
        return CoreImage(_code_of_object(data, sections), header["entry"], symbols)
    program, contents = bytearray(), []
    for segment in segments:
        address, size = segment["physical"], segment["memory_size"]
        if size == 0:
            continue
        in_program = address + size <= PROGRAM_MEMORY_SIZE
        if not in_program and not CORE_VIEW.start <= address <= address + size <= CORE_VIEW.stop:
            raise malformed(WHAT, segment["offset"], f"segment at {address:#x} of {size} bytes is in no core memory")
        if segment["file_size"] > size:
            raise malformed(WHAT, segment["offset"], f"file size {segment['file_size']} beyond memory size {size}")
        initial = take(data, segment["offset"], segment["file_size"], "ELF segment").ljust(size, b"\0")
        if in_program:
            program += bytes(max(0, address + size - len(program)))
            program[address : address + size] = initial
        else:
            contents.append(DataSegment(address, initial))
    return CoreImage(bytes(program), header["entry"], symbols, tuple(contents))


def _table(data: bytes, header: dict[str, Any], which: str, layout: Layout) -> list[dict[str, Any]]:
    count = header[f"{which}_header_count"]
    if count and header[f"{which}_header_size"] != layout.size:
        raise malformed(WHAT, 0, f"{which} headers of {header[f'{which}_header_size']} bytes, must be {layout.size}")
    return layout.unpack_array(data, header[f"{which}_headers"], count) if count else []


def _read_symbols(data: bytes, sections: list[dict[str, Any]]) -> tuple[Symbol, ...]:
    table = next((s for s in sections if s["type"] == SYMTAB), None)
    if table is None:
        return ()
    if table["link"] >= len(sections):
        raise malformed(SYMBOL.what, table["offset"], f"names in section {table['link']} of {len(sections)}")
    link = sections[table["link"]]
    strings = take(data, link["offset"], link["size"], "ELF string table")
    symbols = []
    for entry in SYMBOL.unpack_array(data, table["offset"], table["size"] // SYMBOL.size):
        kind = SYMBOL_KINDS.get(entry["info"] & 15)
        if kind is not None and entry["section"] and entry["name"]:
            name = string_at(strings, entry["name"], "ELF string table")
            symbols.append(Symbol(entry["value"], name, entry["size"], kind))
    return tuple(symbols)


def _code_of_object(data: bytes, sections: list[dict[str, Any]]) -> bytes:
    """The code sections of an object one after the other, each at a multiple of 16."""
    code = bytearray()
    for section in sections:
        if section["type"] == PROGBITS and section["flags"] & CODE_FLAG:
            contents = take(data, section["offset"], section["size"], "ELF code section")
            if len(code) + len(contents) > 2 * len(data):
                raise malformed(WHAT, section["offset"], "code sections overlap")
            code += bytes(-len(code) % 16) + contents
    return bytes(code)
