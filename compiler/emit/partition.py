"""The AIE_PARTITION section of an XCLBIN: column width and the PDIs (facts/platform/xclbin.md section 3).

Offsets count from the section's start; items of the heap behind the header are 8-aligned.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.emit.layout import Layout, malformed, string_at, take
from npuc.compiler.target.npu1.geometry import COLUMNS_PHYSICAL, OPERATIONS_PER_CYCLE_PER_COLUMN

WHAT = "AIE_PARTITION"
HEADER = Layout(
    "AIE_PARTITION header",
    ("schema", "B", 0), (None, "3x"), ("name", "I"), ("operations_per_cycle", "I"), (None, "4x"),
    ("inference_fingerprint", "Q", 23423), ("pre_post_fingerprint", "Q", 12345), ("columns", "H"), (None, "6x"),
    ("start_count", "I"), ("starts", "I"), (None, "72x"), ("pdi_count", "I"), ("pdis", "I"), ("commit", "I"),
    (None, "52x"),
)  # fmt: skip
PDI_ENTRY = Layout(
    "AIE_PARTITION PDI entry",
    ("uuid", "16s", b""), ("size", "I"), ("image", "I"), ("group_count", "I"), ("groups", "I"), (None, "64x"),
)  # fmt: skip
GROUP = Layout(
    "AIE_PARTITION CDO group",
    ("name", "I"), ("type", "B", 1), (None, "3x"), ("pdi_id", "Q", 1), ("kernel_count", "I"), ("kernels", "I"),
    ("pre_count", "I"), ("pre_groups", "I"), (None, "64x"),
)  # fmt: skip
GROUP_NAME, PRE_GROUP = "DPU", 0xC1  # what public tools write
GROUP_TYPES = {1: "PRIMARY", 2: "LITE", 3: "PRE_POST"}
MOST_COLUMNS = 128  # what an address can name; files for wider devices than npu1 are read too
MOST_PDIS = 1024  # shipped files have some ten
LARGEST_PDI = 128 << 20  # the limit of XRT's parser


@dataclass(frozen=True)
class Group:
    """A CDO group of a PDI: which kernel ids it serves."""

    name: str
    type: int
    pdi_id: int
    kernel_ids: tuple[int, ...]
    pre_groups: tuple[int, ...]


@dataclass(frozen=True)
class Image:
    """One PDI and the kernel ids it serves."""

    pdi: bytes
    kernel_ids: tuple[int, ...]
    uuid: bytes = bytes(16)
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Partition:
    """Width in columns, columns it may start at, and its PDIs."""

    columns: int
    start_columns: tuple[int, ...]
    operations_per_cycle: int
    images: tuple[Image, ...]


class _Heap:
    """Items behind the header, 8-aligned."""

    def __init__(self) -> None:
        self.data = bytearray()

    def add(self, item: bytes) -> int:
        self.data += bytes(-(HEADER.size + len(self.data)) % 8)
        offset = HEADER.size + len(self.data)
        self.data += item
        return offset


def write_partition(columns: int, images: Sequence[Image]) -> bytes:
    """PDIs, each in one group that serves its kernels; the groups' PDI ids count from 1."""
    heap = _Heap()
    name, commit = heap.add(b"\0"), heap.add(b"\0")
    starts = range(1, COLUMNS_PHYSICAL - columns + 1)
    start_offset = heap.add(struct.pack(f"<{len(starts)}H", *starts))
    entries = heap.add(b"".join([_entry(heap, image, number) for number, image in enumerate(images, 1)]))
    header = HEADER.pack(
        name=name, operations_per_cycle=OPERATIONS_PER_CYCLE_PER_COLUMN * columns, columns=columns,
        start_count=len(starts), starts=start_offset, pdi_count=len(images), pdis=entries, commit=commit,
    )  # fmt: skip
    return header + bytes(heap.data)


def _entry(heap: _Heap, image: Image, number: int) -> bytes:
    """The entry of a PDI, with all that it points to put on the heap."""
    place = heap.add(image.pdi)
    ids = image.kernel_ids
    group = {
        "name": heap.add(GROUP_NAME.encode() + b"\0"),
        "kernels": heap.add(struct.pack(f"<{len(ids)}Q", *ids)),
        "pre_groups": heap.add(struct.pack("<Q", PRE_GROUP)),
    }
    groups = heap.add(GROUP.pack(pdi_id=number, kernel_count=len(ids), pre_count=1, **group))
    return PDI_ENTRY.pack(size=len(image.pdi), image=place, group_count=1, groups=groups)


class _PartitionReader:
    """Follows the section's offsets; what it copies out is bounded by the section's size."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.numbers_left = len(data)  # elements of number arrays: arrays that overlap must not multiply the data
        self.images: dict[tuple[int, int], bytes] = {}

    def numbers(self, code: str, offset: int, count: int) -> tuple[int, ...]:
        self.numbers_left -= count
        if self.numbers_left < 0:
            raise malformed(WHAT, offset, f"array of {count} numbers in a section of {len(self.data)} bytes")
        raw = take(self.data, offset, struct.calcsize(code) * count, WHAT) if count else b""
        return struct.unpack(f"<{count}{code}", raw)

    def image(self, offset: int, size: int) -> bytes:
        if size > LARGEST_PDI:
            raise malformed(WHAT, offset, f"PDI of {size} bytes")
        if (offset, size) not in self.images:
            self.images[offset, size] = take(self.data, offset, size, "AIE_PARTITION PDI")
            if sum(map(len, self.images.values())) > len(self.data):
                raise malformed(WHAT, offset, "PDIs overlap")
        return self.images[offset, size]

    def group(self, values: dict[str, Any]) -> Group:
        name = string_at(self.data, values["name"], "AIE_PARTITION group name")
        kernel_ids = self.numbers("Q", values["kernels"], values["kernel_count"])
        pre_groups = self.numbers("Q", values["pre_groups"], values["pre_count"])
        return Group(name, values["type"], values["pdi_id"], kernel_ids, pre_groups)

    def entry(self, values: dict[str, Any]) -> Image:
        pdi = self.image(values["image"], values["size"])
        self.numbers_left -= values["group_count"]
        if self.numbers_left < 0:
            raise malformed(WHAT, values["groups"], f"{values['group_count']} groups")
        raw = GROUP.unpack_array(self.data, values["groups"], values["group_count"]) if values["group_count"] else []
        groups = tuple(self.group(group) for group in raw)
        return Image(pdi, tuple(i for group in groups for i in group.kernel_ids), values["uuid"], groups)


def read_partition(data: bytes) -> Partition:
    """The section's contents; InputError with the offset for anything malformed."""
    reader = _PartitionReader(data)
    header = HEADER.unpack(data)
    if not 0 < header["columns"] <= MOST_COLUMNS:
        raise malformed(WHAT, HEADER.offsets["columns"], f"{header['columns']} columns")
    starts = reader.numbers("H", header["starts"], header["start_count"])
    if not 0 < header["pdi_count"] <= MOST_PDIS:
        raise malformed(WHAT, HEADER.offsets["pdi_count"], f"{header['pdi_count']} PDIs")
    images = tuple(map(reader.entry, PDI_ENTRY.unpack_array(data, header["pdis"], header["pdi_count"])))
    return Partition(header["columns"], starts, header["operations_per_cycle"], images)
