"""The small tables of an XCLBIN: memories, kernel instances, connections, private data.

Source: facts/platform/xclbin.md sections 2 and 5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuc.compiler.emit.layout import Layout, malformed, padded, string_at, take, text

COUNT = Layout("XCLBIN table", ("count", "I"))
MEMORY = Layout(
    "MEM_TOPOLOGY entry",
    ("type", "B", 2), ("used", "B", 1), (None, "6x"), ("size_kib", "Q"), ("base", "Q"), ("tag", "16s"),
)  # fmt: skip
INSTANCE = Layout(
    "IP_LAYOUT entry", ("type", "I", 7), ("properties", "I"), ("base", "Q", (1 << 64) - 1), ("name", "64s")
)
CONNECTION = Layout("CONNECTIVITY entry", ("argument", "i"), ("instance", "i"), ("memory", "i"))
VENDER = Layout("VENDER_METADATA", ("name", "I"), ("image", "I"), ("size", "I"), (None, "36x"))
HOST, SRAM = 0, 1  # indices of the two memories
DPU_SUBTYPE = 1


@dataclass(frozen=True)
class Memory:
    """A memory bank; size in KiB."""

    tag: str
    size_kib: int
    base: int
    type: int = 2
    used: int = 1


@dataclass(frozen=True)
class Instance:
    """A compute unit: `<kernel>:<instance>` with its 12-bit kernel id."""

    name: str
    kernel_id: int
    type: int = 7
    functional: int = 0


@dataclass(frozen=True)
class Connection:
    """Argument number of an instance (by index) and the memory (by index) it lies in."""

    argument: int
    instance: int
    memory: int


MEMORIES = (Memory("HOST", 0x10000, 0x4000000), Memory("SRAM", 0xC000, 0x4000000))  # always these two


def write_memories(memories: Sequence[Memory]) -> bytes:
    """MEM_TOPOLOGY or GROUP_TOPOLOGY."""
    entries = (MEMORY.pack(size_kib=m.size_kib, base=m.base, tag=m.tag.encode(), type=m.type) for m in memories)
    return padded(COUNT.pack(count=len(memories)), 8) + b"".join(entries)


def read_memories(data: bytes) -> tuple[Memory, ...]:
    count = COUNT.unpack(data)["count"]
    entries = MEMORY.unpack_array(data, 8, count)
    return tuple(Memory(text(e["tag"]), e["size_kib"], e["base"], e["type"], e["used"]) for e in entries)


def write_instances(instances: Sequence[Instance]) -> bytes:
    """IP_LAYOUT of DPU kernels."""
    entries = (
        INSTANCE.pack(properties=DPU_SUBTYPE | i.functional << 4 | i.kernel_id << 16, name=i.name.encode())
        for i in instances
    )
    return padded(COUNT.pack(count=len(instances)), 8) + b"".join(entries)


def read_instances(data: bytes) -> tuple[Instance, ...]:
    count = COUNT.unpack(data)["count"]
    return tuple(
        Instance(text(e["name"]), e["properties"] >> 16 & 0xFFF, e["type"], e["properties"] >> 4 & 3)
        for e in INSTANCE.unpack_array(data, 8, count)
    )


def write_connections(connections: Sequence[Connection]) -> bytes:
    """CONNECTIVITY or GROUP_CONNECTIVITY."""
    entries = (CONNECTION.pack(argument=c.argument, instance=c.instance, memory=c.memory) for c in connections)
    return COUNT.pack(count=len(connections)) + b"".join(entries)


def read_connections(data: bytes) -> tuple[Connection, ...]:
    count = COUNT.unpack(data)["count"]
    return tuple(Connection(**entry) for entry in CONNECTION.unpack_array(data, COUNT.size, count))


def write_vender(name: str, image: bytes) -> bytes:
    """Private data under a name; the image starts 8-aligned."""
    title = padded(name.encode() + b"\0", 8)
    return VENDER.pack(name=VENDER.size, image=VENDER.size + len(title), size=len(image)) + title + image


def read_vender(data: bytes) -> tuple[str, bytes]:
    """(name, image) of private data."""
    header = VENDER.unpack(data)
    name = string_at(data, header["name"], VENDER.what)
    if header["image"] < VENDER.size and header["size"]:
        raise malformed(VENDER.what, header["image"], "image overlaps the header")
    return name, take(data, header["image"], header["size"], "VENDER_METADATA image")
