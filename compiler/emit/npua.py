"""NPUA: what npuc keeps of a kernel beside its array image, version 2; and the early version 1, read only.

Little-endian.  Version 2: header, table of sections, sections padded to 16 bytes.  Metadata, programs and patches are
canonical JSON (sorted keys, no blanks).  The source, where there is one of at most LARGEST_SOURCE bytes, is the text
that was compiled, byte for byte: what the kernel is meant to compute.  The SHA-256 of the array image (PDI) ties data
and image together.  Both versions start with the magic and a count of 16-byte instructions; a file is version 1 exactly
when its size is 8 + 16 * count, which the padding of version 2 makes impossible, and readers look for the tag of
version 2 first.
"""

from __future__ import annotations

import itertools
import json
import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import expression, txn
from npuc.compiler.emit.control_template import ControlTemplate, Patch
from npuc.compiler.emit.layout import Layout, malformed, padded, take

WHAT = "NPUA"
MAGIC = 0x4E505541
TAG = 0x32415055
MAJOR, MINOR = 2, 1  # 2.1: the source
HEADER = Layout(
    "NPUA header",
    ("magic", "I", MAGIC), ("instructions", "I"), ("tag", "I", TAG), ("major", "H", MAJOR), ("minor", "H", MINOR),
    ("header_size", "I", 48), ("total_size", "I"), ("section_count", "I"), ("crc32", "I", 0), (None, "16x"),
)  # fmt: skip
SECTION = Layout("NPUA section", ("kind", "I"), ("offset", "I"), ("size", "I"))
CONTROL_HEADER = Layout("NPUA control section", ("sequence_bytes", "I"), ("patch_bytes", "I"))
METADATA, CONTROL, PROGRAMS, PDI_HASH, PDI, SOURCE = 1, 2, 3, 4, 5, 6
SECTION_NAMES = {
    METADATA: "metadata", CONTROL: "control", PROGRAMS: "programs", PDI_HASH: "PDI hash", PDI: "PDI", SOURCE: "source",
}  # fmt: skip
LARGEST_SOURCE = 1 << 20  # bytes
HASH_BYTES = 32
MOST_SECTIONS = 256
DEEPEST = 64  # levels of JSON: whoever prints or walks it can recurse

V1_HEADER = Layout("NPUA 1 header", ("magic", "I", MAGIC), ("count", "I"))
V1_INSTRUCTION = Layout(
    "NPUA 1 instruction",
    ("opcode", "B"), ("source1", "B"), ("source2", "B"), ("destination", "B"), ("immediate", "I"), (None, "8x"),
)  # fmt: skip
V1_OPCODES = {
    0x10: "load tile", 0x11: "store tile", 0x20: "matmul int8", 0x21: "matmul int4", 0x30: "add", 0x31: "mul",
    0x40: "softmax", 0x41: "gelu", 0x42: "silu", 0xFF: "sync",
}  # fmt: skip


@dataclass(frozen=True)
class ProgramSymbols:
    """One core's program: its size in bytes, labels (address, name) and source lines (address, text)."""

    column: int
    row: int
    program_bytes: int
    symbols: tuple[tuple[int, str], ...] = ()
    lines: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True)
class Npua:
    """Version 2.  `pdi` is there in standalone files and None inside an xclbin; source: the text that was compiled."""

    metadata: dict[str, Any] = field(hash=False)
    control: ControlTemplate
    programs: tuple[ProgramSymbols, ...]
    pdi_sha256: bytes
    pdi: bytes | None = None
    source: str | None = None


@dataclass(frozen=True)
class V1Instruction:
    """An instruction of version 1 with its operation's name."""

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


# --- writing ------------------------------------------------------------------------------------------------------
def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _control(control: ControlTemplate) -> bytes:
    sequence = txn.write_txn(control.operations, control.columns)
    patches = _json([[patch.word, patch.expression] for patch in control.patches])
    return CONTROL_HEADER.pack(sequence_bytes=len(sequence), patch_bytes=len(patches)) + sequence + patches


def _instruction_count(programs: tuple[ProgramSymbols, ...]) -> int:
    return sum(-(-program.program_bytes // 16) for program in programs)


def _programs(programs: tuple[ProgramSymbols, ...]) -> bytes:
    """[[[column, row], ...], bytes, symbols, lines] of neighbours in the list that run the same program."""
    alike = itertools.groupby(programs, key=lambda p: (p.program_bytes, p.symbols, p.lines))
    return _json([[[[p.column, p.row] for p in cores], *program] for program, cores in alike])


def write_npua(npua: Npua) -> bytes:
    """Version 2 bytes."""
    assert len(npua.pdi_sha256) == HASH_BYTES, f"hash of {len(npua.pdi_sha256)} bytes"
    sections = [
        (METADATA, _json(npua.metadata)),
        (CONTROL, _control(npua.control)),
        (PROGRAMS, _programs(npua.programs)),
        (PDI_HASH, npua.pdi_sha256),
    ]
    sections += [] if npua.pdi is None else [(PDI, npua.pdi)]
    sections += [] if npua.source is None else [(SOURCE, npua.source.encode())]
    start = HEADER.size + SECTION.size * len(sections)
    start += -start % 16
    table, body = bytearray(), bytearray()
    for kind, data in sections:
        table += SECTION.pack(kind=kind, offset=start + len(body), size=len(data))
        body += padded(data, 16)
    count = _instruction_count(npua.programs)
    fields = {"instructions": count, "total_size": start + len(body), "section_count": len(sections)}
    rest = bytes(table).ljust(start - HEADER.size, b"\0") + bytes(body)
    assert fields["total_size"] != 8 + 16 * count  # never version 1: the size is a multiple of 16
    return HEADER.pack(**fields, crc32=zlib.crc32(HEADER.pack(**fields) + rest)) + rest


# --- reading ------------------------------------------------------------------------------------------------------
def is_npua(data: bytes) -> bool:
    """Whether the data starts with the magic of an NPUA of any version."""
    return data[:4] == MAGIC.to_bytes(4, "little")


def is_version_1(data: bytes) -> bool:
    """Whether size and count satisfy the equation of version 1 and the tag of version 2 is absent."""
    if not is_npua(data) or len(data) < V1_HEADER.size or data[8:12] == TAG.to_bytes(4, "little"):
        return False
    return len(data) == V1_HEADER.size + V1_INSTRUCTION.size * V1_HEADER.unpack(data)["count"]


def _sections(data: bytes) -> dict[int, tuple[int, bytes]]:
    """kind -> (offset, contents) once header, CRC and table are checked."""
    if is_version_1(data):
        raise InputError(f"{WHAT}: version 1 does not run on hardware", remedy="npuc inspect lists it")
    header = HEADER.unpack(data)
    HEADER.expect(header, 0, "magic", "tag", "major", "header_size")
    if header["total_size"] != len(data):
        where = HEADER.offsets["total_size"]
        raise malformed(WHAT, where, f"header says {header['total_size']} bytes, there are {len(data)}")
    at = HEADER.offsets["crc32"]
    computed = zlib.crc32(data[:at] + bytes(4) + data[at + 4 :])
    if computed != header["crc32"]:
        raise malformed(WHAT, at, f"CRC-32 {header['crc32']:#010x}, computed {computed:#010x}")
    if header["section_count"] > MOST_SECTIONS:
        raise malformed(WHAT, HEADER.offsets["section_count"], f"{header['section_count']} sections")
    sections: dict[int, tuple[int, bytes]] = {}
    for entry in SECTION.unpack_array(data, HEADER.size, header["section_count"]):
        if entry["kind"] in sections:
            raise malformed(WHAT, entry["offset"], f"two sections of kind {entry['kind']}")
        if entry["kind"] in SECTION_NAMES:
            sections[entry["kind"]] = entry["offset"], take(data, entry["offset"], entry["size"], "NPUA section")
    for kind in (METADATA, CONTROL, PROGRAMS, PDI_HASH):
        if kind not in sections:
            raise malformed(WHAT, HEADER.size, f"no {SECTION_NAMES[kind]} section")
    return sections


def read_npua(data: bytes) -> Npua:
    """A version 2 file; InputError with the offset for anything malformed, damaged or of another version."""
    sections = _sections(data)
    metadata = _parse(*sections[METADATA], "metadata")
    if not isinstance(metadata, dict):
        raise malformed(WHAT, sections[METADATA][0], "metadata is no JSON object")
    programs = _read_programs(*sections[PROGRAMS])
    if _instruction_count(programs) != HEADER.unpack(data)["instructions"]:
        raise malformed(WHAT, 4, "the count of instruction words is not that of the programs")
    at, pdi_hash = sections[PDI_HASH]
    if len(pdi_hash) != HASH_BYTES:
        raise malformed(WHAT, at, f"PDI hash of {len(pdi_hash)} bytes")
    pdi = sections[PDI][1] if PDI in sections else None
    source = _read_source(*sections[SOURCE]) if SOURCE in sections else None
    return Npua(metadata, _read_control(*sections[CONTROL]), programs, pdi_hash, pdi, source)


def keeps_source(text: str) -> bool:
    """Whether a source is small enough for a file to carry it."""
    return len(text.encode()) <= LARGEST_SOURCE


def _read_source(offset: int, data: bytes) -> str:
    if len(data) > LARGEST_SOURCE:
        raise malformed(WHAT, offset, f"source of {len(data)} bytes, at most {LARGEST_SOURCE}")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise malformed(WHAT, offset + error.start, "the source is not UTF-8") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"{literal[:40]} exceeds every float")
    return value


def _parse(offset: int, data: bytes, what: str) -> Any:
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise malformed(WHAT, offset, f"{what} cannot be read as JSON ({error})") from error
    if too_deep(value):
        raise malformed(WHAT, offset, f"{what} is nested deeper than {DEEPEST}")
    return value


def _items(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def too_deep(root: Any, items: Callable[[Any], Iterable[Any]] = _items) -> bool:
    """Whether a tree, of JSON values or of what `items` gives the children of, is deeper than DEEPEST levels."""
    level = [root]
    for _ in range(DEEPEST):
        level = [item for holder in level for item in items(holder)]
    return bool(level)


def _is_list(value: Any, *kinds: type) -> bool:
    """Whether a JSON value is a list of exactly these types (booleans are not numbers)."""
    return isinstance(value, list) and [type(item) for item in value] == list(kinds)


def _pairs(offset: int, value: list[Any]) -> tuple[tuple[int, str], ...]:
    if not all(_is_list(pair, int, str) for pair in value):
        raise malformed(WHAT, offset, "programs: (address, text) expected")
    return tuple((address, name) for address, name in value)


def _read_programs(offset: int, data: bytes) -> tuple[ProgramSymbols, ...]:
    rows = _parse(offset, data, "programs")
    if not isinstance(rows, list) or not all(_is_list(row, list, int, list, list) for row in rows):
        raise malformed(WHAT, offset, "programs: a list of [cores, bytes, symbols, lines] expected")
    programs: list[ProgramSymbols] = []
    for cores, size, symbols, lines in rows:
        if size < 0 or not all(_is_list(core, int, int) and min(core) >= 0 for core in cores):
            raise malformed(WHAT, offset, "programs: sizes and [column, row] of cores expected, none negative")
        texts = _pairs(offset, symbols), _pairs(offset, lines)
        programs += (ProgramSymbols(column, row, size, *texts) for column, row in cores)
    return tuple(programs)


def _read_control(offset: int, data: bytes) -> ControlTemplate:
    header = CONTROL_HEADER.unpack(data)
    size = header["sequence_bytes"]
    sequence = txn.read_txn(take(data, CONTROL_HEADER.size, size, CONTROL_HEADER.what))
    raw = take(data, CONTROL_HEADER.size + size, header["patch_bytes"], CONTROL_HEADER.what)
    records = _parse(offset + CONTROL_HEADER.size + size, raw, "patches")
    if not isinstance(records, list) or not all(_is_list(record, int, str) for record in records):
        raise malformed(WHAT, offset, "patches: a list of [word, expression] expected")
    for word, text in records:
        expression.parse(text)
        if not txn.HEADER.size <= 4 * word < size:
            raise malformed(WHAT, offset, f"patch of word {word}, the sequence has {size // 4}")
    return ControlTemplate(sequence.columns, sequence.operations, tuple(Patch(*record) for record in records))


def read_npua_v1(data: bytes) -> NpuaV1:
    """The instructions of a version 1 file."""
    if not is_version_1(data):
        raise malformed(WHAT, 0, "no NPUA version 1: size and instruction count do not agree")
    count = V1_HEADER.unpack(data)["count"]
    return NpuaV1(
        tuple(
            V1Instruction(operation=V1_OPCODES.get(raw["opcode"], f"unknown {raw['opcode']:#04x}"), **raw)
            for raw in V1_INSTRUCTION.unpack_array(data, V1_HEADER.size, count)
        )
    )
