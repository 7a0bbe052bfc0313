"""XCLBIN: the container XRT and the amdxdna driver load (facts/platform/xclbin.md)."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.diagnostics import InputError, ResourceError
from npuc.compiler.emit.layout import Layout, malformed, text
from npuc.compiler.emit.partition import Image, Partition, read_partition, write_partition
from npuc.compiler.emit.xclbin_metadata import (
    KernelDescription,
    buffer_names,
    kernel_arguments,
    read_metadata,
    write_metadata,
)
from npuc.compiler.emit.xclbin_sections import (
    HOST,
    MEMORIES,
    SRAM,
    Connection,
    Instance,
    Memory,
    read_connections,
    read_instances,
    read_memories,
    read_vender,
    write_connections,
    write_instances,
    write_memories,
    write_vender,
)
from npuc.compiler.target.npu1.geometry import COLUMNS

WHAT = "XCLBIN"
MAGIC = b"xclbin2\0"
HEADER = Layout(
    "XCLBIN header",
    ("magic", "8s", MAGIC), ("signature_length", "i", -1), ("reserved", "28s", b"\xff" * 28),
    ("key_block", "256s", b"\xff" * 256), ("unique_id", "Q"), ("length", "Q"), ("time_stamp", "Q"),
    ("feature_rom_time", "Q", 0), ("version_patch", "H", 0), ("version_major", "B", 2), ("version_minor", "B", 21),
    ("mode", "H", 0), ("action_mask", "H", 0), ("interface_uuid", "16s", b""),
    ("platform", "64s", b"xilinx_v1_ipu_0_0"), ("uuid", "16s", b""), ("debug_binary", "16s", b""),
    ("section_count", "I"), (None, "4x"),
)  # fmt: skip
SECTION = Layout("XCLBIN section header", ("kind", "I"), ("name", "16s"), (None, "4x"), ("offset", "Q"), ("size", "Q"))
SMALLEST = HEADER.size + SECTION.size  # sizeof(axlf)
MOST_SECTIONS = 10000
EMBEDDED_METADATA, MEM_TOPOLOGY, CONNECTIVITY, IP_LAYOUT, PDI = 2, 6, 7, 8, 18
GROUP_TOPOLOGY, GROUP_CONNECTIVITY, VENDER_METADATA, AIE_PARTITION = 26, 27, 31, 32
SECTION_NAMES = {
    0: "BITSTREAM", 2: "EMBEDDED_METADATA", 6: "MEM_TOPOLOGY", 7: "CONNECTIVITY", 8: "IP_LAYOUT",
    14: "BUILD_METADATA", 15: "KEYVALUE_METADATA", 16: "USER_METADATA", 18: "PDI", 20: "PARTITION_METADATA",
    22: "SYSTEM_METADATA", 25: "AIE_METADATA", 26: "ASK_GROUP_TOPOLOGY", 27: "ASK_GROUP_CONNECTIVITY",
    31: "VENDER_METADATA", 32: "AIE_PARTITION",
}  # fmt: skip
_ONCE = (EMBEDDED_METADATA, MEM_TOPOLOGY, CONNECTIVITY, IP_LAYOUT, GROUP_TOPOLOGY, GROUP_CONNECTIVITY, AIE_PARTITION)
NPUA_NAME = "NPUA"
MOST_BUFFERS = 7  # what the driver's direct path takes (section 2, EMBEDDED_METADATA)
MOST_KERNELS = 32  # compute units the driver takes
_LONGEST_INSTANCE_NAME = 63
MIRROR_START, MIRROR_END = b"XCLBIN_MIRROR_DATA_START", b"XCLBIN_MIRROR_DATA_END"


@dataclass(frozen=True)
class KernelEntry:
    """One kernel: name, instance, 12-bit id, names of its buffer arguments in order, its NPUA (empty: foreign).

    `description` is filled by the reader: all arguments as the metadata declare them.  A kernel id of None: no PDI.
    """

    name: str
    instance: str
    kernel_id: int | None
    arguments: tuple[str, ...]
    npua: bytes = b""
    description: KernelDescription | None = None


@dataclass(frozen=True)
class SectionEntry:
    """One line of the section table; offset and size in bytes."""

    kind: int
    name: str
    offset: int
    size: int

    @property
    def kind_name(self) -> str:
        return SECTION_NAMES.get(self.kind, f"kind {self.kind}")


@dataclass(frozen=True)
class Xclbin:
    """Kernels, width of the partition, the array image of the first PDI; the reader fills in the rest.

    pdis: the array images with the kernels that each serves; a writer that gives none has `pdi` serve all.
    """

    kernels: tuple[KernelEntry, ...]
    columns: int
    pdi: bytes
    pdis: tuple[Image, ...] = ()
    uuid: str = ""
    time_stamp: int = 0
    platform: str = ""
    sections: tuple[SectionEntry, ...] = ()
    version: str = ""
    partition: Partition | None = None
    memories: tuple[Memory, ...] = ()
    instances: tuple[Instance, ...] = ()
    connections: tuple[Connection, ...] = ()

    def pdi_of(self, kernel: KernelEntry) -> bytes:
        """The array image that serves a kernel; InputError when none does."""
        for image in self.pdis:
            if kernel.kernel_id in image.kernel_ids:
                return image.pdi
        raise InputError(f"XCLBIN: kernel {kernel.name} has no PDI")


# --- writing ------------------------------------------------------------------------------------------------------
def _check(xclbin: Xclbin) -> None:
    """InputError or ResourceError for what the container or the driver cannot take."""
    if not 1 <= xclbin.columns <= COLUMNS:
        raise ResourceError(f"XCLBIN: {xclbin.columns} columns, npu1 has 1 to {COLUMNS} for a kernel")
    if not 1 <= len(xclbin.kernels) <= MOST_KERNELS:
        raise ResourceError(f"XCLBIN: {len(xclbin.kernels)} kernels, the driver takes 1 to {MOST_KERNELS}")
    for what, values in (("name", [k.name for k in xclbin.kernels]), ("id", [k.kernel_id for k in xclbin.kernels])):
        if len(set(values)) != len(values):
            raise InputError(f"XCLBIN: two kernels with the same {what}")
    for kernel in xclbin.kernels:
        if len(kernel.arguments) > MOST_BUFFERS:
            count = len(kernel.arguments)
            raise ResourceError(f"kernel {kernel.name} has {count} buffer arguments, the driver takes {MOST_BUFFERS}")
        for name in (kernel.name, kernel.instance):
            if not name or ":" in name or not name.isascii() or not name.isprintable():
                raise InputError(f"XCLBIN: kernel or instance name {name!r} must be printable ASCII without ':'")
        if any(not name or not name.isprintable() for name in kernel.arguments):
            raise InputError(f"XCLBIN: kernel {kernel.name} has an argument without a printable name")
        if len(kernel.name) + 1 + len(kernel.instance) > _LONGEST_INSTANCE_NAME:
            raise ResourceError(f"XCLBIN: {kernel.name}:{kernel.instance} exceeds {_LONGEST_INSTANCE_NAME} characters")
        if kernel.kernel_id is None or not 0 <= kernel.kernel_id < 1 << 12:
            raise InputError(f"XCLBIN: kernel {kernel.name} has id {kernel.kernel_id}, it has 12 bits")
        images = sum(image.kernel_ids.count(kernel.kernel_id) for image in xclbin.pdis)
        if xclbin.pdis and images != 1:
            raise InputError(f"XCLBIN: kernel {kernel.name} is served by {images} PDIs")


def _sections(xclbin: Xclbin) -> list[tuple[int, str, bytes]]:
    """(kind, name, payload) in the order of public tools, private data last."""
    kernels = xclbin.kernels
    ids = [kernel.kernel_id for kernel in kernels if kernel.kernel_id is not None]
    descriptions = [
        KernelDescription(k.name, (k.instance,), k.kernel_id, kernel_arguments(k.arguments)) for k in kernels
    ]
    instances = [Instance(f"{k.name}:{k.instance}", i) for k, i in zip(kernels, ids, strict=True)]
    connections = [
        Connection(argument, index, SRAM if argument == 1 else HOST)
        for index, kernel in enumerate(kernels)
        for argument in (1, *range(3, 3 + len(kernel.arguments)))
    ]
    private = [(VENDER_METADATA, "npua", write_vender(NPUA_NAME, kernel.npua)) for kernel in kernels]
    return [
        (MEM_TOPOLOGY, "mem", write_memories(MEMORIES)),
        (AIE_PARTITION, "part", write_partition(xclbin.columns, xclbin.pdis or (Image(xclbin.pdi, tuple(ids)),))),
        (EMBEDDED_METADATA, "", write_metadata(descriptions)),
        (IP_LAYOUT, "", write_instances(instances)),
        (CONNECTIVITY, "", write_connections(connections)),
        (GROUP_CONNECTIVITY, "", write_connections(connections * 2)),  # twice, as public tools write it
        (GROUP_TOPOLOGY, "", write_memories(MEMORIES)),
        *(private if any(kernel.npua for kernel in kernels) else ()),
    ]


def content_uuid(content: bytes) -> bytes:
    """RFC 9562 version 8: made of the content."""
    digest = bytearray(hashlib.sha256(content).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def _creation_time() -> int:
    value = os.environ.get("SOURCE_DATE_EPOCH") or "0"
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise InputError(f"SOURCE_DATE_EPOCH is {value!r}", remedy="set it to a number of seconds or unset it")
    return int(value)


def _mirror(header: bytes, entries: Sequence[SectionEntry]) -> bytes:
    """The JSON copy of header and section table that xclbinutil appends; its section_header key repeats."""
    values = HEADER.unpack(header)
    unique_id = HEADER.offsets["unique_id"]
    shown = {
        "Magic": text(MAGIC), "SignatureLength": "-1", "UniqueID": header[unique_id : unique_id + 8].hex(),
        "TimeStamp": str(values["time_stamp"]), "FeatureRomTimeStamp": str(values["feature_rom_time"]),
        "Mode": str(values["mode"]), "InterfaceUUID": values["interface_uuid"].hex(),
        "PlatformVBNV": text(values["platform"]), "XclBinUUID": values["uuid"].hex(),
        "DebugBin": text(values["debug_binary"]),
    }  # fmt: skip
    pairs: list[tuple[str, Any]] = [("schema_version", {"major": "1", "minor": "0", "patch": "0"}), ("header", shown)]
    for entry in entries:
        place = {"Offset": f"{entry.offset:#x}", "Size": f"{entry.size:#x}"}
        pairs.append(("section_header", {"Kind": str(entry.kind), "Name": entry.name, **place}))
    body = ",".join(f"{json.dumps(key)}:{json.dumps(value, separators=(',', ':'))}" for key, value in pairs)
    return MIRROR_START + b"{" + body.encode() + b"}" + MIRROR_END


def write_xclbin(xclbin: Xclbin) -> bytes:
    """The container; its UUID derives from the content, its time from SOURCE_DATE_EPOCH or zero."""
    _check(xclbin)
    sections = _sections(xclbin)
    start = HEADER.size + SECTION.size * len(sections)
    body, entries = bytearray(), []
    for kind, name, data in sections:
        body += bytes(-(start + len(body)) % 8)
        entries.append(SectionEntry(kind, name, start + len(body), len(data)))
        body += data
    table = b"".join(SECTION.pack(kind=e.kind, name=e.name.encode(), offset=e.offset, size=e.size) for e in entries)
    time = _creation_time()
    fields = {
        "unique_id": time, "time_stamp": time, "section_count": len(sections), "uuid": content_uuid(table + body)
    }  # fmt: skip
    end = start + len(body)
    mirror = bytes(-end % 8) + _mirror(HEADER.pack(length=0, **fields), entries)
    return HEADER.pack(length=end + len(mirror), **fields) + table + bytes(body) + mirror


# --- reading ------------------------------------------------------------------------------------------------------
def is_xclbin(data: bytes) -> bool:
    """Whether the data starts with the magic of an XCLBIN."""
    return data[: len(MAGIC)] == MAGIC


def _section_table(data: bytes, count: int) -> tuple[SectionEntry, ...]:
    if count > MOST_SECTIONS:
        raise malformed(WHAT, HEADER.offsets["section_count"], f"{count} sections")
    table_end = HEADER.size + count * SECTION.size
    entries = [
        SectionEntry(raw["kind"], text(raw["name"]), raw["offset"], raw["size"])
        for raw in SECTION.unpack_array(data, HEADER.size, count)
    ]
    end = table_end
    for entry in sorted(entries, key=lambda entry: (entry.offset, entry.size)):
        if entry.offset + entry.size > len(data):
            raise malformed(WHAT, entry.offset, f"section {entry.kind_name} of {entry.size} bytes leaves the file")
        if entry.size and entry.offset < end:  # sections that overlap could multiply the data
            raise malformed(WHAT, entry.offset, f"section {entry.kind_name} overlaps another or the table")
        end = max(end, entry.offset + entry.size)
    return tuple(entries)


def section_entries(data: bytes) -> tuple[SectionEntry, ...]:
    """The section table of any XCLBIN, whatever the sections hold; InputError when it is malformed."""
    if not is_xclbin(data):
        raise malformed(WHAT, 0, "no XCLBIN: the magic is missing")
    return _section_table(data, HEADER.unpack(data)["section_count"])


def read_xclbin(data: bytes) -> Xclbin:
    """Any npu1 XCLBIN, other tools' included; InputError with the offset for anything malformed."""
    if not is_xclbin(data):
        raise malformed(WHAT, 0, "no XCLBIN: the magic is missing")
    header = HEADER.unpack(data)
    if header["length"] != len(data) or len(data) < SMALLEST:
        where = HEADER.offsets["length"]
        raise malformed(WHAT, where, f"length {header['length']} announced, {len(data)} bytes present")
    entries = _section_table(data, header["section_count"])
    payloads: dict[int, bytes] = {}
    private: list[bytes] = []
    for entry in entries:
        payload = data[entry.offset : entry.offset + entry.size]
        if entry.kind == VENDER_METADATA:
            name, image = read_vender(payload)
            private += [image] if name == NPUA_NAME else []
        elif entry.kind in _ONCE:
            if entry.kind in payloads:
                raise malformed(WHAT, entry.offset, f"section {entry.kind_name} occurs twice")
            payloads[entry.kind] = payload
    for kind in (EMBEDDED_METADATA, IP_LAYOUT, AIE_PARTITION):
        if kind not in payloads:
            there = ", ".join(entry.kind_name for entry in entries) or "none"
            raise malformed(WHAT, HEADER.size, f"no section {SECTION_NAMES[kind]}; sections: {there}")
    partition = read_partition(payloads[AIE_PARTITION])
    # Either pair of memory tables substitutes the other (facts/platform/xclbin.md section 4).
    memories = payloads.get(MEM_TOPOLOGY, payloads.get(GROUP_TOPOLOGY))
    connections = payloads.get(CONNECTIVITY, payloads.get(GROUP_CONNECTIVITY))
    raw_uuid = header["uuid"].hex()
    return Xclbin(
        kernels=_with_npua(tuple(map(_entry, read_metadata(payloads[EMBEDDED_METADATA]))), private),
        columns=partition.columns,
        pdi=partition.images[0].pdi,
        pdis=partition.images,
        uuid="-".join((raw_uuid[:8], raw_uuid[8:12], raw_uuid[12:16], raw_uuid[16:20], raw_uuid[20:])),
        time_stamp=header["time_stamp"],
        platform=text(header["platform"]),
        sections=entries,
        version=f"{header['version_major']}.{header['version_minor']}.{header['version_patch']}",
        partition=partition,
        memories=() if memories is None else read_memories(memories),
        instances=read_instances(payloads[IP_LAYOUT]),
        connections=() if connections is None else read_connections(connections),
    )


def _entry(kernel: KernelDescription) -> KernelEntry:
    instance = kernel.instances[0] if kernel.instances else ""
    return KernelEntry(kernel.name, instance, kernel.kernel_id, buffer_names(kernel), b"", kernel)


def _with_npua(kernels: tuple[KernelEntry, ...], private: list[bytes]) -> tuple[KernelEntry, ...]:
    """Kernels with their NPUA sections, which stand in the order of the kernels."""
    if not private:
        return kernels
    if len(private) != len(kernels):
        raise malformed(WHAT, 0, f"{len(private)} NPUA sections for {len(kernels)} kernels")
    return tuple(replace(kernel, npua=npua) for kernel, npua in zip(kernels, private, strict=True))
