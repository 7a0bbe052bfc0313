"""The AIE_PARTITION section of an XCLBIN (facts/platform/xclbin.md section 3)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from npuc.compiler.emit.binary import Reader

# schema version, name offset, operations per cycle, inference and pre/post fingerprints, column width, start columns
# (count, offset), PDIs (count, offset), commit id offset
HEADER = struct.Struct("<B3xIIIQQH6xII72xIII52x")
PDI_ENTRY = struct.Struct("<16sIIII64x")
GROUP = struct.Struct("<IB3xQIIII64x")
PRIMARY, PDI_ID, PRE_GROUP = 1, 1, 0xC1
OPERATIONS_PER_CYCLE = 2048  # of one column
FINGERPRINT, PRE_POST_FINGERPRINT = 23423, 12345
PHYSICAL_COLUMNS = 5
LARGEST_PDI = 128 << 20
GROUP_NAME = "DPU"


@dataclass(frozen=True)
class Image:
    """One PDI and the kernel ids it serves."""

    pdi: bytes
    kernel_ids: tuple[int, ...]


class _Heap:
    """Items behind the header, 8-aligned; offsets count from the section's start."""

    def __init__(self) -> None:
        self.data = b""

    def add(self, item: bytes) -> int:
        self.data += bytes(-(HEADER.size + len(self.data)) % 8)
        offset = HEADER.size + len(self.data)
        self.data += item
        return offset


def write_partition(columns: int, pdi: bytes, kernel_ids: Sequence[int]) -> bytes:
    """One PDI that serves all the kernels."""
    heap = _Heap()
    name, commit = heap.add(b"\0"), heap.add(b"\0")
    starts = list(range(1, PHYSICAL_COLUMNS - columns + 1))
    start_offset = heap.add(struct.pack(f"<{len(starts)}H", *starts))
    image = heap.add(pdi)
    group_name = heap.add(GROUP_NAME.encode() + b"\0")
    ids = heap.add(struct.pack(f"<{len(kernel_ids)}Q", *kernel_ids))
    before = heap.add(struct.pack("<Q", PRE_GROUP))
    group = heap.add(GROUP.pack(group_name, PRIMARY, PDI_ID, len(kernel_ids), ids, 1, before))
    entry = heap.add(PDI_ENTRY.pack(bytes(16), len(pdi), image, 1, group))
    header = HEADER.pack(
        0, name, OPERATIONS_PER_CYCLE * columns, 0, FINGERPRINT, PRE_POST_FINGERPRINT, columns, len(starts),
        start_offset, 1, entry, commit,
    )  # fmt: skip
    return header + heap.data


def read_partition(data: bytes) -> tuple[int, tuple[Image, ...]]:
    """Column width and images.  InputError with the offset for anything malformed."""
    reader = Reader(data, "AIE_PARTITION")
    fields = HEADER.unpack(reader.bytes(0, HEADER.size))
    columns, count, offset = fields[6], fields[9], fields[10]
    reader.expect(0 < columns <= PHYSICAL_COLUMNS, 0x20, f"{columns} columns")
    images = []
    for i in range(count):
        at = offset + i * PDI_ENTRY.size
        _, size, place, groups, group_offset = PDI_ENTRY.unpack(reader.bytes(at, PDI_ENTRY.size))
        reader.expect(size <= LARGEST_PDI, at, f"PDI of {size} bytes")
        ids: list[int] = []
        for j in range(groups):
            group = group_offset + j * GROUP.size
            _, _, _, id_count, id_offset, _, _ = GROUP.unpack(reader.bytes(group, GROUP.size))
            ids += struct.unpack(f"<{id_count}Q", reader.bytes(id_offset, 8 * id_count))
        images.append(Image(reader.bytes(place, size), tuple(ids)))
    reader.expect(bool(images), 0x78, "no PDI")
    return columns, tuple(images)
