"""PDI: three fixed headers around one CDO (facts/platform/pdi_cdo.md sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npuc.compiler.emit import cdo
from npuc.compiler.emit.binary import Reader, checksum, pack_words, padded

SYNC = (0x000000DD, 0x11223344, 0x55667788, 0x99AABBCC)
IMAGE_TABLE, IMAGE, PARTITION, CDO = 0x10, 0x90, 0xD0, 0x150
TABLE_WORDS, IMAGE_WORDS, PARTITION_WORDS = 32, 16, 32
IMAGE_NAME = b"aie_image"
TRANSFORM_MARK = 0x8866


def _words(count: int, values: dict[int, int]) -> list[int]:
    """`count` words, those named set, the last the checksum of the others."""
    words = [values.get(i, 0) for i in range(count - 1)]
    return [*words, checksum(words)]


def _image_table() -> list[int]:
    return _words(
        TABLE_WORDS,
        {
            0: 0x00040000,  # version
            1: 1,  # images
            2: IMAGE // 4,
            3: 1,  # partitions
            4: PARTITION // 4,
            6: 0x14CA8093,  # id code
            10: 0x50504449,  # identification
            11: 0x00201020,  # sizes of the three headers in words
            12: 0x30,  # meta header length in words
            17: 1,  # extended id
        },
    )


def _image() -> list[int]:
    name = padded(IMAGE_NAME, 16)
    values = {0: PARTITION // 4, 1: 1, 8: 0x1C000000}
    values |= {4 + i: int.from_bytes(name[4 * i : 4 * i + 4], "little") for i in range(4)}
    return _words(IMAGE_WORDS, values)


def _partition(exact_words: int, padded_words: int) -> list[int]:
    return _words(
        PARTITION_WORDS,
        {
            0: padded_words,
            1: exact_words,
            2: padded_words,
            6: 0xFFFFFFFF,
            7: 0xFFFFFFFF,
            8: CDO // 4,
            9: 0x02000006,  # owner PLM, type CDO
            10: 1,
        },
    )


def write_pdi(commands: Sequence[cdo.Command]) -> bytes:
    """A plain PDI with one CDO."""
    body = cdo.write_cdo(commands)
    whole = padded(body, 16)
    headers = [*SYNC, *_image_table(), *_image(), *_partition(len(body) // 4, len(whole) // 4)]
    return pack_words(headers) + whole


@dataclass(frozen=True)
class Pdi:
    commands: tuple[cdo.Command, ...]
    transformed: bool
    image_name: str
    size: int


def read_pdi(data: bytes) -> Pdi:
    """A plain or transformed PDI.  InputError naming the header whose checksum or constant is wrong."""
    reader = Reader(data, "PDI")
    reader.expect(reader.words(0, 4) == SYNC, 0, "bus-width words wrong")
    table = reader.words(IMAGE_TABLE, TABLE_WORDS)
    image = reader.words(IMAGE, IMAGE_WORDS)
    partition = reader.words(PARTITION, PARTITION_WORDS)
    transformed = partition[28] != 0
    checked = [*partition[:28], 0, 0, 0] if transformed else list(partition[:31])
    for name, words, stored, offset in (
        ("image header table", table[:31], table[31], IMAGE_TABLE),
        ("image header", image[:15], image[15], IMAGE),
        ("partition header", checked, partition[31], PARTITION),
    ):
        reader.expect(checksum(words) == stored, offset, f"checksum of the {name} wrong")
    reader.expect(table[1] == 1 and table[3] == 1, IMAGE_TABLE, "not exactly one image and one partition")
    reader.expect(table[2] * 4 == IMAGE and table[4] * 4 == PARTITION, IMAGE_TABLE, "headers not at their places")
    if transformed:
        commands = _read_transformed(reader, partition)
    else:
        end = CDO + 4 * partition[1]
        reader.expect(end <= len(data), PARTITION, "partition longer than the PDI")
        commands = cdo.read_cdo(data[CDO:end])
    name = data[IMAGE + 16 : IMAGE + 32].split(b"\0", 1)[0].decode("utf-8", "replace")
    return Pdi(commands, transformed, name, len(data))


def _read_transformed(reader: Reader, partition: tuple[int, ...]) -> tuple[cdo.Command, ...]:
    """Groups of one operation each in a command zone, data of the block writes behind it."""
    zone = partition[29]
    kind = partition[28]
    mark = TRANSFORM_MARK | (kind >> 8 & 0xFF | (kind & 0xFF) << 8) | (zone >> 16 | (zone & 0xFFFF) << 16)
    reader.expect(partition[30] == mark & 0xFFFFFFFF, PARTITION + 120, "mark of a transformed PDI wrong")
    start = CDO + cdo.HEADER_BYTES
    reader.expect(zone % 4 == 0 and start + zone <= len(reader.data), PARTITION, "command zone outside the PDI")
    words = reader.words(start, zone // 4)
    data = reader.data[start + zone :]
    commands: list[cdo.Command] = []
    position = 0
    while position < len(words):
        offset = start + 4 * position
        reader.expect(position + 2 <= len(words), offset, "command group cut off")
        operation, count = words[position] & 0xFF, words[position + 1]
        size = {2: 3, 3: 2, 5: 4, 7: 4, 8: 3}.get(operation)
        reader.expect(size is not None, offset, f"unknown command group {words[position]:#x}")
        assert size is not None
        position += 2
        reader.expect(count * size <= len(words) - position, offset, "command group longer than its zone")
        for _ in range(count):
            payload = words[position : position + size]
            position += size
            commands.append(_block(reader, payload, data, offset) if operation == 5 else
                            cdo.decode(reader, operation, payload, offset))
    return tuple(commands)


def _block(reader: Reader, payload: tuple[int, ...], data: bytes, offset: int) -> cdo.DmaWrite:
    high, low, place, size = payload
    count = size & 0xFFFF
    reader.expect(high == 0, offset, f"upper address word {high:#x} is not zero")
    # Early files lack the last 20 bytes of their last block (facts/platform/pdi_cdo.md section 3).
    piece = data[place : place + 4 * count]
    reader.expect(place <= len(data) and len(piece) + cdo.HEADER_BYTES >= 4 * count, offset, "block outside the PDI")
    piece = piece + bytes(4 * count - len(piece))
    return cdo.DmaWrite(low, tuple(memoryview(piece).cast("I")))
