"""XCLBIN: the container XRT and the amdxdna driver load (facts/platform/xclbin.md)."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit.binary import Reader, padded
from npuc.compiler.emit.partition import Image, read_partition, write_partition

MAGIC = b"xclbin2\0"
# magic, signature length, reserved, key block, unique id, length, time stamp, feature ROM time, version patch, major,
# minor, mode, action mask, interface uuid, platform name, uuid, debug binary name, number of sections, padding
HEADER = struct.Struct("<8si28s256sQQQQHBBHH16s64s16s16sII")
SECTION = struct.Struct("<I16s4xQQ")
SMALLEST = 0x1F0
MOST_SECTIONS = 10000
UNSIGNED = -1
VERSION_MAJOR, VERSION_MINOR = 2, 21
PLATFORM = b"xilinx_v1_ipu_0_0"

EMBEDDED_METADATA, MEM_TOPOLOGY, CONNECTIVITY, IP_LAYOUT = 2, 6, 7, 8
GROUP_TOPOLOGY, GROUP_CONNECTIVITY, VENDER_METADATA, AIE_PARTITION = 26, 27, 31, 32
SECTION_NAMES = {
    0: "BITSTREAM", 2: "EMBEDDED_METADATA", 6: "MEM_TOPOLOGY", 7: "CONNECTIVITY", 8: "IP_LAYOUT",
    14: "BUILD_METADATA", 15: "KEYVALUE_METADATA", 16: "USER_METADATA", 18: "PDI", 20: "PARTITION_METADATA",
    22: "SYSTEM_METADATA", 25: "AIE_METADATA", 26: "ASK_GROUP_TOPOLOGY", 27: "ASK_GROUP_CONNECTIVITY",
    31: "VENDER_METADATA", 32: "AIE_PARTITION",
}  # fmt: skip

# Section 2: two memories always, a PS kernel of the DPU kind, arguments to memories.
COUNT = struct.Struct("<I4x")
MEMORY = struct.Struct("<BB6xQQ16s")
MEMORIES = ((2, 1, 0x10000, 0x4000000, b"HOST"), (2, 1, 0xC000, 0x4000000, b"SRAM"))
HOST, SRAM = 0, 1
IP = struct.Struct("<IIQ64s")
IP_PS_KERNEL, DPU, NO_BASE = 7, 1, (1 << 64) - 1
CONNECTION = struct.Struct("<iii")
VENDER_HEADER = struct.Struct("<III36x")
NPUA_NAME = "NPUA"
MOST_BUFFERS = 7  # what the driver's direct path takes (section 2, EMBEDDED_METADATA)
FIRST_BUFFER_OFFSET, BUFFER_BYTES = 0x14, 8


@dataclass(frozen=True)
class KernelEntry:
    """One kernel: name, instance, 12-bit id, names of its buffer arguments in order, its NPUA (empty: foreign)."""

    name: str
    instance: str
    kernel_id: int
    arguments: tuple[str, ...]
    npua: bytes = b""


@dataclass(frozen=True)
class SectionEntry:
    kind: int
    name: str
    offset: int
    size: int

    @property
    def kind_name(self) -> str:
        return SECTION_NAMES.get(self.kind, f"kind {self.kind}")


@dataclass(frozen=True)
class Xclbin:
    """kernels, width of the partition, the array image of the first PDI; uuid and sections are filled by the reader."""

    kernels: tuple[KernelEntry, ...]
    columns: int
    pdi: bytes
    pdis: tuple[Image, ...] = ()
    uuid: str = ""
    time_stamp: int = 0
    platform: str = ""
    sections: tuple[SectionEntry, ...] = ()


def _memory_topology() -> bytes:
    return COUNT.pack(len(MEMORIES)) + b"".join(MEMORY.pack(*memory) for memory in MEMORIES)


def _ip_layout(kernels: tuple[KernelEntry, ...]) -> bytes:
    data = COUNT.pack(len(kernels))
    for kernel in kernels:
        name = f"{kernel.name}:{kernel.instance}".encode()
        if len(name) > 63:
            raise InputError(f"kernel name {kernel.name} is longer than an IP_LAYOUT entry holds (63 bytes)")
        data += IP.pack(IP_PS_KERNEL, DPU | kernel.kernel_id << 16, NO_BASE, name)
    return data


def _connections(kernels: tuple[KernelEntry, ...]) -> list[bytes]:
    found = []
    for index, kernel in enumerate(kernels):
        places = [(1, SRAM)] + [(3 + i, HOST) for i in range(len(kernel.arguments))]
        found += [CONNECTION.pack(argument, index, memory) for argument, memory in places]
    return found


def _connectivity(connections: list[bytes]) -> bytes:
    return struct.pack("<i", len(connections)) + b"".join(connections)


def _argument(parent: ElementTree.Element, number: int, name: str, kind: str, pointer: bool, offset: int) -> None:
    size = 4 if kind == "uint32_t" else 8
    ElementTree.SubElement(
        parent, "arg", name=name, addressQualifier="1" if pointer else "0", id=str(number), size=f"{size:#x}",
        offset=f"{offset:#x}", hostOffset="0x0", hostSize=f"{size:#x}", type=kind,
    )  # fmt: skip


def _embedded_metadata(kernels: tuple[KernelEntry, ...]) -> bytes:
    project = ElementTree.Element("project")
    platform = ElementTree.SubElement(project, "platform")
    device = ElementTree.SubElement(platform, "device")
    core = ElementTree.SubElement(device, "core")
    for kernel in kernels:
        node = ElementTree.SubElement(core, "kernel", name=kernel.name, language="c", type="dpu")
        ElementTree.SubElement(node, "extended-data", subtype="1", functional="0",
                               dpu_kernel_id=f"{kernel.kernel_id:#x}")
        _argument(node, 0, "opcode", "uint64_t", False, 0)
        _argument(node, 1, "instr", "char *", True, 8)
        _argument(node, 2, "ninstr", "uint32_t", False, 0x10)
        for i, name in enumerate(kernel.arguments):
            _argument(node, 3 + i, name, "void*", True, FIRST_BUFFER_OFFSET + BUFFER_BYTES * i)
        ElementTree.SubElement(node, "instance", name=kernel.instance)
    return ElementTree.tostring(project, encoding="utf-8", xml_declaration=True)


def _vender_metadata(name: str, image: bytes) -> bytes:
    text = padded(name.encode() + b"\0", 8)
    start = VENDER_HEADER.size + len(text)
    return VENDER_HEADER.pack(VENDER_HEADER.size, start, len(image)) + text + image


def _time_stamp() -> int:
    value = os.environ.get("SOURCE_DATE_EPOCH", "0")
    if not value.isdigit() or int(value) >= 1 << 63:
        raise InputError(f"SOURCE_DATE_EPOCH is {value!r}", remedy="set it to a number of seconds or unset it")
    return int(value)


def write_xclbin(xclbin: Xclbin) -> bytes:
    """The container; its UUID derives from the content, its time from SOURCE_DATE_EPOCH or zero."""
    for kernel in xclbin.kernels:
        if len(kernel.arguments) > MOST_BUFFERS:
            raise InputError(f"kernel {kernel.name} has {len(kernel.arguments)} buffer arguments, "
                             f"the driver takes {MOST_BUFFERS}")
    connections = _connections(xclbin.kernels)
    partition = write_partition(xclbin.columns, xclbin.pdi, [kernel.kernel_id for kernel in xclbin.kernels])
    sections: list[tuple[int, bytes, bytes]] = [
        (MEM_TOPOLOGY, b"mem", _memory_topology()),
        (AIE_PARTITION, b"part", partition),
        (EMBEDDED_METADATA, b"", _embedded_metadata(xclbin.kernels)),
        (IP_LAYOUT, b"", _ip_layout(xclbin.kernels)),
        (CONNECTIVITY, b"", _connectivity(connections)),
        (GROUP_CONNECTIVITY, b"", _connectivity(connections + connections)),
        (GROUP_TOPOLOGY, b"", _memory_topology()),
    ]
    sections += [(VENDER_METADATA, b"npua", _vender_metadata(NPUA_NAME, kernel.npua))
                 for kernel in xclbin.kernels if kernel.npua]
    start = HEADER.size + SECTION.size * len(sections)
    table, body = b"", b""
    for kind, name, data in sections:
        gap = -(start + len(body)) % 8
        body += bytes(gap)
        table += SECTION.pack(kind, name, start + len(body), len(data))
        body += data
    total = start + len(body)
    digest = bytearray(hashlib.sha256(table + body).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80  # RFC 9562 version 8: made of the content
    digest[8] = digest[8] & 0x3F | 0x80
    time = _time_stamp()
    header = HEADER.pack(
        MAGIC, UNSIGNED, b"\xff" * 28, b"\xff" * 256, time, total, time, 0, 0, VERSION_MAJOR, VERSION_MINOR, 0, 0,
        bytes(16), PLATFORM, bytes(digest), bytes(16), len(sections), 0,
    )  # fmt: skip
    return header + table + body


def read_xclbin(data: bytes) -> Xclbin:
    """Any npu1 XCLBIN.  InputError with the offset for anything malformed."""
    reader = Reader(data, "XCLBIN")
    reader.expect(data.startswith(MAGIC), 0, "no XCLBIN")
    reader.expect(len(data) >= SMALLEST, 0, f"only {len(data)} bytes")
    fields = HEADER.unpack(reader.bytes(0, HEADER.size))
    reader.expect(fields[5] == len(data), 0x130, f"length {fields[5]} announced, {len(data)} bytes present")
    count = fields[17]
    reader.expect(count <= MOST_SECTIONS, 0x1C0, f"{count} sections")
    sections = []
    for i in range(count):
        at = HEADER.size + i * SECTION.size
        kind, name, offset, size = SECTION.unpack(reader.bytes(at, SECTION.size))
        reader.expect(offset + size <= len(data), at, f"section {kind} leaves the file")
        sections.append(SectionEntry(kind, _name(name), offset, size))
    first = {section.kind: section for section in reversed(sections)}
    for kind in (EMBEDDED_METADATA, IP_LAYOUT, AIE_PARTITION):
        reader.expect(kind in first, 0x1C0, f"no {SECTION_NAMES[kind]} section")
    columns, images = read_partition(_payload(data, first[AIE_PARTITION]))
    npuas = [_npua(_payload(data, s)) for s in sections if s.kind == VENDER_METADATA]
    kernels = _kernels(_payload(data, first[EMBEDDED_METADATA]), _payload(data, first[IP_LAYOUT]),
                       [npua for npua in npuas if npua])
    uuid = fields[15].hex()
    return Xclbin(kernels, columns, images[0].pdi if images else b"", images,
                  "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:])), fields[6],
                  _name(fields[14]), tuple(sections))


def _name(raw: bytes) -> str:
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def _payload(data: bytes, section: SectionEntry) -> bytes:
    return data[section.offset : section.offset + section.size]


def _npua(payload: bytes) -> bytes:
    """The image of an NPUA section, empty for other vendors' sections."""
    reader = Reader(payload, "VENDER_METADATA")
    name, image, size = VENDER_HEADER.unpack(reader.bytes(0, VENDER_HEADER.size))
    return reader.bytes(image, size) if reader.text(name) == NPUA_NAME else b""


def _kernels(metadata: bytes, layout: bytes, npuas: list[bytes]) -> tuple[KernelEntry, ...]:
    reader = Reader(metadata, "EMBEDDED_METADATA")
    try:
        root = ElementTree.fromstring(metadata.rstrip(b"\0").decode("utf-8"))
    except (ElementTree.ParseError, UnicodeDecodeError, ValueError) as error:
        raise reader.fail(0, f"no XML ({error})") from error
    instances = _instances(layout)
    found = []
    for index, node in enumerate(root.findall("platform/device/core/kernel")):
        name = node.get("name", "")
        extended = node.find("extended-data")
        kernel_id = _number(reader, extended.get("dpu_kernel_id", "0") if extended is not None else "0")
        arguments = tuple(argument.get("name", "") for argument in node.findall("arg"))[3:]
        npua = npuas[index] if index < len(npuas) else b""
        found.append(KernelEntry(name, instances.get(name, ""), kernel_id, arguments, npua))
    return tuple(found)


def _number(reader: Reader, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError as error:
        raise reader.fail(0, f"{text!r} is no number") from error


def _instances(layout: bytes) -> dict[str, str]:
    reader = Reader(layout, "IP_LAYOUT")
    count = reader.word(0)
    reader.expect(COUNT.size + count * IP.size <= len(layout), 0, f"{count} entries announced")
    names = [IP.unpack(reader.bytes(COUNT.size + i * IP.size, IP.size))[3] for i in range(count)]
    matches = (re.fullmatch(r"([^:]+):(.*)", _name(name)) for name in names)
    return {match[1]: match[2] for match in matches if match}
