"""PDI: the container from which the NPU's firmware loads the array configuration.

The loader jumps to fixed offsets, so the layout is one image, one partition, one CDO at 0x150.  The plain form is
written; the regrouped ("transformed") form of shipped files is read too.  Source: facts/platform/pdi_cdo.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import cdo
from npuc.compiler.emit.layout import Layout, malformed, padded, take, take_words

WHAT = "PDI"
SYNC = Layout(
    "PDI bus-width words", ("w0", "I", 0xDD), ("w1", "I", 0x11223344), ("w2", "I", 0x55667788), ("w3", "I", 0x99AABBCC)
)
IMAGE_HEADER_TABLE = Layout(
    "PDI image header table",
    ("version", "I", 0x00040000), ("images", "I", 1), ("image_header", "I", 0x24), ("partitions", "I", 1),
    ("partition_header", "I", 0x34), (None, "4x"), ("id_code", "I", 0x14CA8093), (None, "4x"), ("pdi_id", "I", 0),
    ("parent", "I", 0), ("identification", "I", 0x50504449), ("header_sizes", "I", 0x00201020),
    ("meta_header_words", "I", 0x30), (None, "16x"), ("extended_id_code", "I", 1), (None, "52x"), ("checksum", "I", 0),
)  # fmt: skip
IMAGE_HEADER = Layout(
    "PDI image header",
    ("partition_header", "I", 0x34), ("partitions", "I", 1), (None, "8x"), ("name", "16s", b"aie_image"),
    ("image_id", "I", 0x1C000000), (None, "24x"), ("checksum", "I", 0),
)  # fmt: skip
PARTITION_HEADER = Layout(
    "PDI partition header",
    ("encrypted_words", "I"), ("words", "I"), ("total_words", "I"), (None, "12x"),
    ("load_address", "Q", 0xFFFFFFFFFFFFFFFF), ("data_offset", "I", 0x54), ("attributes", "I", 0x02000006),
    ("sections", "I", 1), (None, "68x"), ("transform_type", "I", 0), ("command_zone", "I", 0),
    ("transform_mark", "I", 0), ("checksum", "I", 0),
)  # fmt: skip
BOOT_HEADER = bytes.fromhex("665599aa") + b"XNLX"  # width detection and identification, as AMD's bootgen writes them
IMAGE_HEADER_TABLE_OFFSET, IMAGE_HEADER_OFFSET, PARTITION_HEADER_OFFSET, CDO_OFFSET = 0x10, 0x90, 0xD0, 0x150
TRANSFORM_MARK = 0x8866
_GROUP = Layout("transformed PDI group", ("operation", "I"), ("count", "I"))
_ARGUMENTS = {cdo.MASK_WRITE: 3, cdo.WRITE: 2, cdo.DMA_WRITE: 4, cdo.MASK_WRITE64: 4, cdo.WRITE64: 3}
_EARLY_TOOL_LOSS = cdo.HEADER.size  # the tool of shipped files cut this many bytes off the last block


@dataclass(frozen=True)
class Pdi:
    """What a PDI writes to the array; `missing` bytes at the end of the last block were cut off and read as zero."""

    commands: tuple[cdo.Command, ...]
    transformed: bool
    image_name: str = "aie_image"
    missing: int = 0


def _checksum(header: bytes) -> int:
    return cdo.checksum(struct.unpack(f"<{len(header) // 4 - 1}I", header[:-4]))


def _signed(layout: Layout, **values: Any) -> bytes:
    """The header with its checksum in the last word."""
    header = layout.pack(**values)
    return header[:-4] + struct.pack("<I", _checksum(header))


def write_pdi(commands: Iterable[cdo.Command]) -> bytes:
    """The plain PDI of these commands; one NOP is put in front when they do not start with one.

    InputError for what the NPU's loader does not take: polls, and addresses beyond 32 bits.
    """
    commands = tuple(commands)
    for command in commands:
        if isinstance(command, cdo.MaskPoll):
            raise InputError(f"PDI: the NPU's loader cannot poll (mask poll of {command.address:#x})")
        if not isinstance(command, cdo.Nop) and command.address >> 32:
            raise InputError(f"PDI: the NPU's loader takes no address beyond 32 bits ({command.address:#x})")
    if not commands or not isinstance(commands[0], cdo.Nop):
        commands = (cdo.Nop(), *commands)
    body = cdo.write_cdo(commands)
    data = padded(body, 16)
    total = len(data) // 4
    partition = _signed(PARTITION_HEADER, encrypted_words=total, words=len(body) // 4, total_words=total)
    return SYNC.pack() + _signed(IMAGE_HEADER_TABLE) + _signed(IMAGE_HEADER) + partition + data


def _read_header(layout: Layout, data: bytes, offset: int, *fixed: str) -> dict[str, Any]:
    """Read a checksummed header; in a transformed PDI the checksum leaves the transform words out."""
    values = layout.unpack(data, offset)
    raw = take(data, offset, layout.size, layout.what)
    if values.get("transform_type"):
        raw = raw[:-16] + bytes(12) + raw[-4:]
    want = _checksum(raw)
    if values["checksum"] != want:
        raise malformed(layout.what, offset, f"checksum {values['checksum']:#010x}, computed {want:#010x}")
    layout.expect(values, offset, *fixed)
    return values


def is_pdi(data: bytes) -> bool:
    """Whether the data starts with the bus-width words of a PDI."""
    return data[: SYNC.size] == SYNC.pack()


def in_buffer(data: bytes) -> bytes:
    """The PDI at the start of a buffer that is longer, by its headers; a transformed one ends in zeros anyway.

    InputError where the headers are cut short.
    """
    partition = PARTITION_HEADER.unpack(data, PARTITION_HEADER_OFFSET)
    if partition["transform_type"] or partition["transform_mark"] or partition["command_zone"]:
        return data
    return data[: CDO_OFFSET + 4 * partition["total_words"]]


def read_pdi(data: bytes) -> Pdi:
    """Parse a PDI of either kind, checking every checksum; InputError names what is wrong and where."""
    if not is_pdi(data):
        raise malformed(WHAT, 0, "does not start with the bus-width words")
    if data[IMAGE_HEADER_TABLE_OFFSET:].startswith(BOOT_HEADER):
        raise malformed(WHAT, IMAGE_HEADER_TABLE_OFFSET, "a boot header: it boots a device, partial ones have none")
    _read_header(
        IMAGE_HEADER_TABLE, data, IMAGE_HEADER_TABLE_OFFSET,
        "version", "images", "image_header", "partitions", "partition_header", "identification",
    )  # fmt: skip
    image = _read_header(IMAGE_HEADER, data, IMAGE_HEADER_OFFSET, "partition_header", "partitions")
    partition = _read_header(PARTITION_HEADER, data, PARTITION_HEADER_OFFSET, "data_offset")
    name = image["name"].split(b"\0", 1)[0].decode("utf-8", "replace")
    if partition["transform_type"] or partition["transform_mark"] or partition["command_zone"]:
        commands, missing = _read_transformed(data, partition)
        return Pdi(commands, True, name, missing)
    words, total = partition["words"], partition["total_words"]
    if partition["encrypted_words"] != total or total != (words + 3) // 4 * 4:
        raise malformed(WHAT, PARTITION_HEADER_OFFSET, f"lengths of {words} and {total} words do not agree")
    if len(data) != CDO_OFFSET + 4 * total:
        raise malformed(WHAT, PARTITION_HEADER_OFFSET, f"{len(data)} bytes, headers say {CDO_OFFSET + 4 * total}")
    body = data[CDO_OFFSET:]
    if cdo.read_header(body) + cdo.HEADER.size // 4 != words:
        raise malformed(WHAT, CDO_OFFSET, f"partition of {words} words, its CDO has another length")
    return Pdi(cdo.read_cdo(body), False, name)


def _read_transformed(data: bytes, partition: dict[str, Any]) -> tuple[tuple[cdo.Command, ...], int]:
    kind, zone = partition["transform_type"], partition["command_zone"]
    swapped = (kind & 0xFF) << 8 | kind >> 8 & 0xFF | (zone & 0xFFFF) << 16 | zone >> 16
    if kind != 1 or partition["transform_mark"] != TRANSFORM_MARK | swapped:
        raise malformed(PARTITION_HEADER.what, PARTITION_HEADER_OFFSET, "is marked transformed, but the mark is wrong")
    cdo.read_header(data[CDO_OFFSET : CDO_OFFSET + cdo.HEADER.size])
    at = CDO_OFFSET + cdo.HEADER.size
    end = at + zone
    take(data, at, zone, "transformed PDI command zone")
    # An early tool cut the file short: what is lost can only be the tail of the last block.
    head, blocks = data[:end], data[end:] + bytes(_EARLY_TOOL_LOSS)
    commands: list[cdo.Command] = []
    used = 0
    while at < end:
        group = _GROUP.unpack(head, at)
        operation, count = group["operation"], group["count"]
        if operation not in _ARGUMENTS:
            raise malformed(WHAT, at, f"unknown group command {operation:#x}")
        width = _ARGUMENTS[operation]
        words = take_words(head, at + _GROUP.size, count * width, "transformed PDI group")
        for i in range(count):
            arguments, where = words[i * width : (i + 1) * width], at + _GROUP.size + 4 * i * width
            if operation == cdo.DMA_WRITE:
                high, low, offset, length = arguments
                if offset != used:  # blocks lie in order; reading one twice could ask for unbounded memory
                    raise malformed(WHAT, where, f"block at {offset:#x} of the data zone, {used:#x} expected")
                payload = take_words(blocks, offset, length & 0xFFFF, f"transformed PDI block of {where:#x}")
                used += 4 * len(payload)
                arguments = (high, low, *payload)
            commands.append(cdo.make_command(operation, arguments, where))
        at += _GROUP.size + 4 * count * width
    if any(data[end + used :]):
        raise malformed(WHAT, end + used, "bytes after the data zone are not zero")
    return tuple(commands), max(0, end + used - len(data))
