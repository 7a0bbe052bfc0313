"""NPUA: what npuc keeps of a kernel beside its array image, version 2; and the early version 1, read only.

Version 2: a header of 48 bytes, a table of sections, the sections.  Metadata is canonical JSON (sorted keys, no
blanks).  The SHA-256 of the array image (PDI) ties the two together.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import txn
from npuc.compiler.emit.binary import Reader, padded
from npuc.compiler.emit.expression import evaluate

MAGIC = 0x4E505541
TAG = 0x32415055
MAJOR, MINOR = 2, 0
# magic, instruction words of 16 bytes, tag, major, minor, header size, total size, sections, CRC-32, 3 words reserved
HEADER = struct.Struct("<IIIHHIIII12x")
CRC_OFFSET = 28
SECTION = struct.Struct("<III")
METADATA, CONTROL, PROGRAMS, PDI_HASH, PDI = 1, 2, 3, 4, 5
V1_INSTRUCTION = struct.Struct("<BBBBIQ")
V1_OPCODES = {
    0x10: "load tile", 0x11: "store tile", 0x20: "matmul int8", 0x21: "matmul int4", 0x30: "add", 0x31: "mul",
    0x40: "softmax", 0x41: "gelu", 0x42: "silu", 0xFF: "sync",
}  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """The word of the sequence that an expression over the runtime dimensions gives."""

    word: int
    expression: str


@dataclass(frozen=True)
class ControlTemplate:
    """The runtime sequence with places still to fill."""

    columns: int
    operations: tuple[txn.Operation, ...]
    patches: tuple[Patch, ...] = ()

    def instantiate(self, dimensions: Mapping[str, int]) -> bytes:
        """The TXN binary for these runtime dimensions.  InputError when an expression cannot be evaluated."""
        data = bytearray(txn.write_txn(self.operations, self.columns))
        for patch in self.patches:
            if not 0 <= 4 * patch.word <= len(data) - 4:
                raise InputError(f"control template: word {patch.word} is outside the sequence")
            value = evaluate(patch.expression, dimensions)
            if not 0 <= value < 1 << 32:
                raise InputError(f"control template: {patch.expression} = {value} does not fit a word")
            struct.pack_into("<I", data, 4 * patch.word, value)
        return bytes(data)


@dataclass(frozen=True)
class ProgramSymbols:
    """One core's program: its size, labels (address, name) and lines (address, text)."""

    column: int
    row: int
    program_bytes: int
    symbols: tuple[tuple[int, str], ...] = ()
    lines: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Npua:
    metadata: dict[str, Any]
    control: ControlTemplate
    programs: tuple[ProgramSymbols, ...]
    pdi_sha256: bytes
    pdi: bytes | None = None


@dataclass(frozen=True)
class V1Instruction:
    opcode: int
    operation: str
    source1: int
    source2: int
    destination: int
    immediate: int


@dataclass(frozen=True)
class NpuaV1:
    """Early experiments: an instruction list no hardware runs."""

    instructions: tuple[V1Instruction, ...]


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _control(control: ControlTemplate) -> bytes:
    sequence = txn.write_txn(control.operations, control.columns)
    patches = _json([[patch.word, patch.expression] for patch in control.patches])
    return struct.pack("<II", len(sequence), len(patches)) + sequence + patches


def write_npua(npua: Npua) -> bytes:
    """Version 2 bytes."""
    programs = [[p.column, p.row, p.program_bytes, p.symbols, p.lines] for p in npua.programs]
    sections = [
        (METADATA, _json(npua.metadata)),
        (CONTROL, _control(npua.control)),
        (PROGRAMS, _json(programs)),
        (PDI_HASH, npua.pdi_sha256),
    ]
    if npua.pdi is not None:
        sections.append((PDI, npua.pdi))
    table, body = b"", b""
    start = HEADER.size + SECTION.size * len(sections)
    start += -start % 16
    for kind, data in sections:
        table += SECTION.pack(kind, start + len(body), len(data))
        body += padded(data, 16)
    count = sum(-(-program.program_bytes // 16) for program in npua.programs)
    total = start + len(body)
    if total == 8 + 16 * count:  # would be taken for version 1
        total += 16
    header = HEADER.pack(MAGIC, count, TAG, MAJOR, MINOR, HEADER.size, total, len(sections), 0)
    data = bytearray(padded(header + table, 16) + body)
    data += bytes(total - len(data))
    struct.pack_into("<I", data, CRC_OFFSET, zlib.crc32(data))
    return bytes(data)


def read_npua(data: bytes) -> Npua:
    """A version 2 file.  InputError with the offset for anything malformed."""
    reader = Reader(data, "NPUA")
    magic, _, tag, major, _, header_size, total, count, crc = HEADER.unpack(reader.bytes(0, HEADER.size))
    reader.expect(magic == MAGIC and tag == TAG, 0, "no NPUA version 2")
    reader.expect(major == MAJOR, 12, f"NPUA version {major}, this npuc reads {MAJOR}")
    reader.expect(total == len(data), 20, f"{total} bytes announced, {len(data)} present")
    reader.expect(header_size == HEADER.size, 16, f"header of {header_size} bytes")
    cleared = data[:CRC_OFFSET] + bytes(4) + data[CRC_OFFSET + 4 :]
    reader.expect(zlib.crc32(cleared) == crc, CRC_OFFSET, "CRC wrong: the file was damaged or changed")
    sections = {}
    for i in range(count):
        kind, offset, size = SECTION.unpack(reader.bytes(HEADER.size + i * SECTION.size, SECTION.size))
        sections[kind] = reader.bytes(offset, size)
    for kind, name in ((METADATA, "metadata"), (CONTROL, "control"), (PROGRAMS, "program"), (PDI_HASH, "hash")):
        reader.expect(kind in sections, HEADER.size, f"no {name} section")
    metadata = _parse(reader, sections[METADATA], "metadata")
    reader.expect(isinstance(metadata, dict), 0, "metadata is no object")
    programs = _read_programs(reader, _parse(reader, sections[PROGRAMS], "programs"))
    control = _read_control(sections[CONTROL])
    return Npua(metadata, control, programs, sections[PDI_HASH], sections.get(PDI))


def _parse(reader: Reader, data: bytes, what: str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise reader.fail(0, f"{what} is no JSON ({error})") from error


def _read_programs(reader: Reader, rows: Any) -> tuple[ProgramSymbols, ...]:
    def pairs(items: Any) -> tuple[tuple[int, str], ...]:
        return tuple((int(address), str(text)) for address, text in items)

    try:
        return tuple(ProgramSymbols(int(c), int(r), int(n), pairs(s), pairs(lines)) for c, r, n, s, lines in rows)
    except (TypeError, ValueError) as error:
        raise reader.fail(0, f"program section malformed ({error})") from error


def _read_control(data: bytes) -> ControlTemplate:
    reader = Reader(data, "control template")
    size, patch_size = reader.words(0, 2)
    sequence = txn.read_txn(reader.bytes(8, size))
    try:
        patches = tuple(Patch(int(w), str(e)) for w, e in _parse(reader, reader.bytes(8 + size, patch_size), "patches"))
    except (TypeError, ValueError) as error:
        raise reader.fail(8 + size, f"patch records malformed ({error})") from error
    return ControlTemplate(sequence.columns, sequence.operations, patches)


def is_version_1(data: bytes) -> bool:
    """Whether size and count satisfy the equation of version 1 and the tag of version 2 is absent."""
    if len(data) < 8:
        return False
    magic, count = struct.unpack_from("<II", data)
    tagged = len(data) >= 12 and struct.unpack_from("<I", data, 8)[0] == TAG
    return magic == MAGIC and len(data) == 8 + 16 * count and not tagged


def read_npua_v1(data: bytes) -> NpuaV1:
    """The instructions of a version 1 file."""
    if not is_version_1(data):
        raise InputError("no NPUA version 1: size and instruction count do not agree")
    found = []
    for opcode, source1, source2, destination, immediate, _ in V1_INSTRUCTION.iter_unpack(data[8:]):
        name = V1_OPCODES.get(opcode, f"unknown {opcode:#04x}")
        found.append(V1Instruction(opcode, name, source1, source2, destination, immediate))
    return NpuaV1(tuple(found))
