"""ELF of one core's program: 32-bit, little-endian, executable, machine AIE.

Program segments lie at physical address 0 (program memory), data segments in the core's window on its own data memory
(facts/platform/pdi_cdo.md section 4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from npuc.compiler.emit.binary import Reader

MACHINE_AIE = 264
OWN_DATA_MEMORY = 0x70000
FLAGS_AIE2 = 2
HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
PROGRAM_HEADER = struct.Struct("<8I")
SECTION_HEADER = struct.Struct("<10I")
SYMBOL = struct.Struct("<IIIBBH")
TYPE_EXECUTABLE, VERSION = 2, 1
LOAD = 1
PROGBITS, SYMTAB, STRTAB = 1, 2, 3
ALLOC_EXECUTE, ALLOC_WRITE = 0x6, 0x3
READ_EXECUTE, READ_WRITE = 0x5, 0x6
GLOBAL_FUNCTION = 0x12
MAGIC = b"\x7fELF\x01\x01\x01" + bytes(9)


@dataclass(frozen=True)
class Symbol:
    address: int
    name: str


@dataclass(frozen=True)
class DataSegment:
    """Initial bytes of data memory; address as the core sees it (0x70000 and up for its own)."""

    address: int
    data: bytes


@dataclass(frozen=True)
class CoreImage:
    program: bytes
    entry: int = 0
    symbols: tuple[Symbol, ...] = ()
    data: tuple[DataSegment, ...] = ()


class _Strings:
    """A string table under construction."""

    def __init__(self) -> None:
        self.data = b"\0"

    def add(self, text: str) -> int:
        offset = len(self.data)
        self.data += text.encode() + b"\0"
        return offset


def write_elf(image: CoreImage) -> bytes:
    """The image with .text, one .data section a segment, .symtab, .strtab and .shstrtab."""
    names, strings = _Strings(), _Strings()
    segments = [(0, image.program, ".text", ALLOC_EXECUTE, READ_EXECUTE)]
    segments += [(s.address, s.data, f".data.{s.address:x}", ALLOC_WRITE, READ_WRITE) for s in image.data]
    position = HEADER.size + PROGRAM_HEADER.size * len(segments)
    body, programs, sections = b"", b"", SECTION_HEADER.pack(*[0] * 10)
    for address, data, name, flags, access in segments:
        gap = -position % 16
        body += bytes(gap) + data
        position += gap
        programs += PROGRAM_HEADER.pack(LOAD, position, address, address, len(data), len(data), access, 16)
        sections += SECTION_HEADER.pack(names.add(name), PROGBITS, flags, address, position, len(data), 0, 0, 16, 0)
        position += len(data)
    symbols = SYMBOL.pack(0, 0, 0, 0, 0, 0)
    for symbol in image.symbols:
        symbols += SYMBOL.pack(strings.add(symbol.name), symbol.address, 0, GLOBAL_FUNCTION, 0, 1)
    count = 1 + len(segments)
    for name, kind, data, link, info, size in (
        (".symtab", SYMTAB, symbols, count + 1, 1, SYMBOL.size),
        (".strtab", STRTAB, strings.data, 0, 0, 0),
        (".shstrtab", STRTAB, None, 0, 0, 0),
    ):
        offset = names.add(name)
        content = names.data if data is None else data
        gap = -position % 4
        body += bytes(gap) + content
        position += gap
        sections += SECTION_HEADER.pack(offset, kind, 0, 0, position, len(content), link, info, 4, size)
        position += len(content)
        count += 1
    gap = -position % 4
    header = HEADER.pack(
        MAGIC, TYPE_EXECUTABLE, MACHINE_AIE, VERSION, image.entry, HEADER.size, position + gap, FLAGS_AIE2,
        HEADER.size, PROGRAM_HEADER.size, len(segments), SECTION_HEADER.size, count, count - 1,
    )  # fmt: skip
    return header + programs + body + bytes(gap) + sections


def read_elf(data: bytes) -> CoreImage:
    """Program, data segments and symbols.  InputError with the offset for anything malformed."""
    reader = Reader(data, "ELF")
    fields = HEADER.unpack(reader.bytes(0, HEADER.size))
    reader.expect(fields[0][:6] == MAGIC[:6], 0, "no 32-bit little-endian ELF")
    reader.expect(fields[2] == MACHINE_AIE, 18, f"machine {fields[2]}, not AIE ({MACHINE_AIE})")
    entry, program_offset, section_offset = fields[4:7]
    program_size, program_count, section_size, section_count = fields[9:13]
    program, segments = b"", []
    for i in range(program_count):
        at = program_offset + i * program_size
        kind, offset, _, address, size, *_ = PROGRAM_HEADER.unpack(reader.bytes(at, PROGRAM_HEADER.size))
        if kind != LOAD:
            continue
        content = reader.bytes(offset, size)
        if address < 0x4000:
            reader.expect(address == len(program) or not program, at, "program segments do not follow each other")
            program += content
        else:
            segments.append(DataSegment(address, content))
    symbols = _read_symbols(reader, section_offset, section_size, section_count)
    return CoreImage(program, entry, symbols, tuple(segments))


def _read_symbols(reader: Reader, offset: int, size: int, count: int) -> tuple[Symbol, ...]:
    tables = [
        SECTION_HEADER.unpack(reader.bytes(offset + i * size, SECTION_HEADER.size)) for i in range(count)
    ]
    found = []
    for table in tables:
        if table[1] != SYMTAB:
            continue
        reader.expect(table[6] < count, offset, "symbol table without strings")
        strings = tables[table[6]][4]
        for at in range(table[4] + SYMBOL.size, table[4] + table[5], SYMBOL.size):
            name, address, *_ = SYMBOL.unpack(reader.bytes(at, SYMBOL.size))
            found.append(Symbol(address, reader.text(strings + name)))
    return tuple(found)
