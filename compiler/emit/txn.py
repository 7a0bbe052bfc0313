"""TXN: the runtime sequence the NPU's controller executes (facts/platform/txn.md).  Version 0.1 is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from npuc.compiler.emit.binary import Reader, pack_words

GENERATION = 3
ROWS = 6
MEMTILE_ROWS = 1
HEADER_WORDS = 4
(OP_WRITE, OP_BLOCK_WRITE, OP_MASK_WRITE, OP_MASK_POLL, OP_NOOP, OP_PREEMPT, OP_MASK_POLL_BUSY, OP_LOAD_PDI) = (
    0, 1, 3, 4, 5, 6, 7, 8)
OP_SYNC, OP_DDR_PATCH, OP_READ_REGISTERS, OP_RECORD_TIMER, OP_MERGE_SYNC = 0x80, 0x81, 0x82, 0x83, 0x84


@dataclass(frozen=True)
class Write:
    address: int
    value: int


@dataclass(frozen=True)
class BlockWrite:
    address: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class MaskWrite:
    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class MaskPoll:
    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class Sync:
    """Wait for a task-complete token of a channel.  direction: 0 S2MM, 1 MM2S."""

    column: int
    row: int
    direction: int
    channel: int
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class DdrPatch:
    """Put the address of buffer argument + offset into the shim descriptor whose word 1 is at `address`."""

    address: int
    argument: int
    offset: int


@dataclass(frozen=True)
class Noop:
    pass


@dataclass(frozen=True)
class Skipped:
    """An operation that is stepped over by its size: read only."""

    opcode: int
    words: tuple[int, ...]


Operation = Union[Write, BlockWrite, MaskWrite, MaskPoll, Sync, DdrPatch, Noop, Skipped]


@dataclass(frozen=True)
class Txn:
    columns: int
    operations: tuple[Operation, ...]
    version: tuple[int, int] = (0, 1)


def _encode(operation: Operation) -> list[int]:
    if isinstance(operation, Write):
        return [OP_WRITE, 0, operation.address, 0, operation.value, 24]
    if isinstance(operation, BlockWrite):
        column, row = operation.address >> 25, operation.address >> 20 & 31
        size = 16 + 4 * len(operation.words)
        return [OP_BLOCK_WRITE, column | row << 8, operation.address, size, *operation.words]
    if isinstance(operation, MaskWrite):
        return [OP_MASK_WRITE, 0, operation.address, 0, operation.value, operation.mask, 28]
    if isinstance(operation, MaskPoll):
        return [OP_MASK_POLL, 0, operation.address, 0, operation.value, operation.mask, 32, 0]
    if isinstance(operation, Sync):
        place = operation.direction | operation.row << 8 | operation.column << 16
        return [OP_SYNC, 16, place, operation.rows << 8 | operation.columns << 16 | operation.channel << 24]
    if isinstance(operation, DdrPatch):
        return [OP_DDR_PATCH, 48, 0, 0, 0, 0, operation.address, 0, operation.argument, 0, operation.offset, 0]
    if isinstance(operation, Noop):
        return [OP_NOOP]
    return list(operation.words)


def write_txn(operations: Sequence[Operation], columns: int) -> bytes:
    """Header and operations; columns: width of the partition."""
    body = [word for operation in operations for word in _encode(operation)]
    header = [
        1 << 8 | GENERATION << 16 | ROWS << 24,
        columns | MEMTILE_ROWS << 8,
        len(operations),
        4 * (HEADER_WORDS + len(body)),
    ]
    return pack_words(header + body)


def read_txn(data: bytes) -> Txn:
    """Version 0.1 or 1.0.  InputError with the offset for anything malformed."""
    reader = Reader(data, "runtime sequence")
    head, shape, count, size = reader.words(0, HEADER_WORDS)
    version = (head & 0xFF, head >> 8 & 0xFF)
    reader.expect(version in ((0, 1), (1, 0)), 0, f"version {version[0]}.{version[1]}, know 0.1 and 1.0")
    reader.expect(size % 4 == 0 and 4 * HEADER_WORDS <= size <= len(data), 12, f"size {size} of {len(data)} bytes")
    reader = Reader(data[:size], "runtime sequence")
    operations: list[Operation] = []
    position = 4 * HEADER_WORDS
    for _ in range(count):
        reader.expect(position < size, position, f"{count} operations announced, ends after {len(operations)}")
        operation, length = _decode(reader, position, version == (1, 0))
        operations.append(operation)
        position += length
    reader.expect(position == size, position, f"{size - position} bytes behind the last operation")
    return Txn(shape & 0xFF, tuple(operations), version)


def _decode(reader: Reader, at: int, optimised: bool) -> tuple[Operation, int]:
    """The operation at `at` and its size in bytes."""
    opcode = reader.word(at) & 0xFF
    if opcode == OP_NOOP:
        return Noop(), 4
    if opcode == OP_PREEMPT:
        return Skipped(opcode, reader.words(at, 1)), 4
    if opcode == OP_LOAD_PDI:
        return Skipped(opcode, reader.words(at, 4)), 16
    if opcode in (OP_SYNC, OP_DDR_PATCH, OP_READ_REGISTERS, OP_RECORD_TIMER, OP_MERGE_SYNC):
        return _custom(reader, at, opcode)
    if optimised:
        return _optimised(reader, at, opcode)
    size_word = {OP_WRITE: 5, OP_BLOCK_WRITE: 3, OP_MASK_WRITE: 6, OP_MASK_POLL: 6, OP_MASK_POLL_BUSY: 6}.get(opcode)
    reader.expect(size_word is not None, at, f"unknown operation {opcode:#x}")
    assert size_word is not None
    size = reader.word(at + 4 * size_word)
    reader.expect(size % 4 == 0 and size > 4 * size_word, at, f"operation of {size} bytes")
    words = reader.words(at, size // 4)
    if opcode == OP_WRITE:
        return Write(words[2], words[4]), size
    if opcode == OP_BLOCK_WRITE:
        return BlockWrite(words[2], words[4:]), size
    kind = MaskWrite if opcode == OP_MASK_WRITE else MaskPoll
    return kind(words[2], mask=words[5], value=words[4]), size


def _custom(reader: Reader, at: int, opcode: int) -> tuple[Operation, int]:
    size = reader.word(at + 4)
    reader.expect(size % 4 == 0 and size >= 8, at, f"operation of {size} bytes")
    words = reader.words(at, size // 4)
    if opcode == OP_SYNC:
        reader.expect(size >= 16, at, f"sync of {size} bytes")
        place, what = words[2], words[3]
        return Sync(place >> 16 & 0xFF, place >> 8 & 0xFF, place & 0xFF, what >> 24, what >> 16 & 0xFF,
                    what >> 8 & 0xFF), size
    if opcode == OP_DDR_PATCH:
        reader.expect(size >= 48, at, f"DDR patch of {size} bytes")
        return DdrPatch(words[6], words[8], words[10]), size
    return Skipped(opcode, words), size


def _optimised(reader: Reader, at: int, opcode: int) -> tuple[Operation, int]:
    if opcode == OP_WRITE:
        return Write(*reader.words(at + 4, 2)), 12
    if opcode == OP_MASK_WRITE:
        address, value, mask = reader.words(at + 4, 3)
        return MaskWrite(address, mask, value), 16
    reader.expect(opcode == OP_BLOCK_WRITE, at, f"unknown operation {opcode:#x}")
    address, size = reader.words(at + 4, 2)
    reader.expect(size % 4 == 0 and size >= 12, at, f"operation of {size} bytes")
    return BlockWrite(address, reader.words(at + 12, size // 4 - 3)), size
