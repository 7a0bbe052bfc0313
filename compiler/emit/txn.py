"""The runtime instruction stream (TXN): version 0.1 written, 0.1 and 1.0 read.

Addresses are partition-relative, directions are 0 (S2MM) or 1 (MM2S), offsets and sizes are bytes.  Source:
facts/platform/txn.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.emit.layout import Layout, malformed, pack_words, take, take_words
from npuc.compiler.target.npu1.geometry import DEVICE_GENERATION, DIRECTIONS, ROWS

WHAT = "TXN"


@dataclass(frozen=True)
class Write:
    """Store one word."""

    address: int
    value: int


@dataclass(frozen=True)
class BlockWrite:
    """Store words at consecutive addresses."""

    address: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class MaskWrite:
    """register = register & ~mask | value & mask."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class MaskPoll:
    """Wait until register & mask == value."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class MaskPollBusy:
    """As MaskPoll; opcode 7."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class Noop:
    """Nothing."""


@dataclass(frozen=True)
class Preempt:
    """A place where the firmware may switch contexts."""

    level: int = 0


@dataclass(frozen=True)
class LoadPdi:
    """Load another array configuration (ELF flow only)."""

    pdi: int
    size: int
    address: int


@dataclass(frozen=True)
class Sync:
    """Wait for one task-completion token of the channel from each tile of the rectangle."""

    column: int
    row: int
    direction: int
    channel: int
    columns: int = 1
    rows: int = 1


@dataclass(frozen=True)
class DdrPatch:
    """Put address of buffer argument `argument` + `offset` into the descriptor words at `address` and `address` + 4."""

    address: int
    argument: int
    offset: int


@dataclass(frozen=True)
class ReadRegisters:
    """Report these registers to whoever debugs."""

    addresses: tuple[int, ...]


@dataclass(frozen=True)
class RecordTimer:
    """Note the time under an identifier."""

    identifier: int


@dataclass(frozen=True)
class MergeSync:
    """Wait for `tokens` task-completion tokens in all from any channels of the shims of columns 0..`columns` - 1."""

    tokens: int
    columns: int


Operation = (
    Write | BlockWrite | MaskWrite | MaskPoll | MaskPollBusy | Noop | Preempt | LoadPdi | Sync | DdrPatch
    | ReadRegisters | RecordTimer | MergeSync
)  # fmt: skip


@dataclass(frozen=True)
class Txn:
    """A stream for a partition of `columns`.

    generation: third byte of the header, by npuc.compiler.target.generations.BY_TXN_CODE.  rows: of the device.
    """

    columns: int
    operations: tuple[Operation, ...]
    version: tuple[int, int] = (0, 1)
    generation: int = DEVICE_GENERATION
    rows: int = ROWS


HEADER = Layout(
    "TXN header",
    ("major", "B", 0), ("minor", "B", 1), ("generation", "B", DEVICE_GENERATION), ("rows", "B", ROWS),
    ("columns", "B"), ("memtile_rows", "B", 1), (None, "2x"), ("operations", "I"), ("size", "I"),
)  # fmt: skip

# Operations of version 0.1.  The size word says how far the next operation is, whatever the structure holds.
_WRITE = Layout(
    "TXN WRITE", ("op", "I", 0), (None, "4x"), ("address", "I"), (None, "4x"), ("value", "I"), ("size", "I", 24)
)
_BLOCK = Layout("TXN BLOCKWRITE", ("op", "I", 1), ("hint", "I", 0), ("address", "I"), ("size", "I"))
_MASK = Layout(
    "TXN MASKWRITE",
    ("op", "I", 3), (None, "4x"), ("address", "I"), (None, "4x"), ("value", "I"), ("mask", "I"), ("size", "I", 28),
)  # fmt: skip
_POLL = Layout(
    "TXN MASKPOLL",
    ("op", "I", 4), (None, "4x"), ("address", "I"), (None, "4x"), ("value", "I"), ("mask", "I"), ("size", "I", 32),
    (None, "4x"),
)  # fmt: skip
_WORD = Layout("TXN one-word operation", ("op", "B"), ("level", "B", 0), (None, "2x"))
_LOAD_PDI = Layout("TXN LOADPDI", ("op", "H", 8), ("pdi", "H"), ("length", "I"), ("address", "Q"))
_SYNC = Layout(
    "TXN sync",
    ("op", "I", 0x80), ("size", "I", 16), ("direction", "B"), ("row", "B"), ("column", "B"), (None, "x"),
    (None, "x"), ("rows", "B"), ("columns", "B"), ("channel", "B"),
)  # fmt: skip
_PATCH = Layout(
    "TXN DDR patch",
    ("op", "I", 0x81), ("size", "I", 48), (None, "8x"), ("action", "I", 0), (None, "4x"), ("address", "I"),
    (None, "4x"), ("argument", "I"), (None, "4x"), ("offset", "Q"),
)  # fmt: skip
# The payloads of 0x82..0x84 are those of public drivers and assemblers: a count, padded, and 64-bit addresses; an
# identifier; numbers of tokens and columns.
_REGISTERS = Layout("TXN read registers", ("op", "I", 0x82), ("size", "I"), ("count", "I"), (None, "4x"))
_TIMER = Layout("TXN record timer", ("op", "I", 0x83), ("size", "I", 12), ("identifier", "I"))
_MERGE = Layout("TXN merge sync", ("op", "I", 0x84), ("size", "I", 12), ("tokens", "B"), ("columns", "B"), (None, "2x"))
# Version 1.0 packs the common operations and the polls (public structures of assemblers); the others are as above.
_WRITE_1 = Layout("TXN 1.0 WRITE", ("op", "I", 0), ("address", "I"), ("value", "I"))
_BLOCK_1 = Layout("TXN 1.0 BLOCKWRITE", ("op", "I", 1), ("address", "I"), ("size", "I"))
_MASK_1 = Layout("TXN 1.0 MASKWRITE", ("op", "I", 3), ("address", "I"), ("value", "I"), ("mask", "I"))
_POLL_1 = Layout("TXN 1.0 MASKPOLL", ("op", "B", 4), (None, "3x"), ("address", "I"), ("value", "I"), ("mask", "I"))
_PATCH_1 = Layout(
    "TXN 1.0 DDR patch",
    ("op", "I", 0x81), ("size", "I", 24), ("address", "I"), ("argument", "B"), (None, "3x"), ("offset", "Q"),
)  # fmt: skip


# --- writing ------------------------------------------------------------------------------------------------------
def pack_operation(operation: Operation) -> bytes:
    """One operation in version 0.1; AssertionError on a value that no field holds."""
    try:
        return _pack(operation)
    except struct.error as error:
        raise AssertionError(f"TXN operation {operation}: {error}") from error


def _pack(operation: Operation) -> bytes:
    if isinstance(operation, Write):
        return _WRITE.pack(address=operation.address, value=operation.value)
    if isinstance(operation, BlockWrite):
        data = pack_words(operation.words)
        tile = operation.address >> 25 | (operation.address >> 20 & 31) << 8
        return _BLOCK.pack(hint=tile, address=operation.address, size=_BLOCK.size + len(data)) + data
    if isinstance(operation, MaskWrite):
        return _MASK.pack(address=operation.address, value=operation.value, mask=operation.mask)
    if isinstance(operation, (MaskPoll, MaskPollBusy)):
        op = 4 if isinstance(operation, MaskPoll) else 7
        return _POLL.pack(op=op, address=operation.address, value=operation.value, mask=operation.mask)
    if isinstance(operation, Noop):
        return _WORD.pack(op=5)
    if isinstance(operation, Preempt):
        return _WORD.pack(op=6, level=operation.level)
    if isinstance(operation, LoadPdi):
        return _LOAD_PDI.pack(pdi=operation.pdi, length=operation.size, address=operation.address)
    if isinstance(operation, Sync):
        return _SYNC.pack(
            direction=operation.direction, row=operation.row, column=operation.column,
            rows=operation.rows, columns=operation.columns, channel=operation.channel,
        )  # fmt: skip
    if isinstance(operation, DdrPatch):
        return _PATCH.pack(address=operation.address, argument=operation.argument, offset=operation.offset)
    if isinstance(operation, RecordTimer):
        return _TIMER.pack(identifier=operation.identifier)
    if isinstance(operation, MergeSync):
        return _MERGE.pack(tokens=operation.tokens, columns=operation.columns)
    addresses = operation.addresses
    body = pack_words([word for address in addresses for word in (address & 0xFFFFFFFF, address >> 32)])
    return _REGISTERS.pack(size=_REGISTERS.size + len(body), count=len(addresses)) + body


def word_index(operations: Sequence[Operation], index: int, field: str, element: int = 0) -> int:
    """Place in the stream, in words with the header counted, of a field of `operations[index]` (for patches).

    `field` is 'value', 'mask', 'address', 'offset', 'argument', or 'words' with the number of the data word.
    """
    start = HEADER.size + sum(len(pack_operation(operation)) for operation in operations[:index])
    operation = operations[index]
    if isinstance(operation, BlockWrite) and field == "words":
        assert 0 <= element < len(operation.words), f"{operation} has no word {element}"
        return (start + _BLOCK.size) // 4 + element
    layouts: dict[type, Layout] = {Write: _WRITE, BlockWrite: _BLOCK, MaskWrite: _MASK, DdrPatch: _PATCH}
    return (start + layouts.get(type(operation), _POLL).offsets[field]) // 4


def write_txn(operations: Iterable[Operation], columns: int) -> bytes:
    """The stream of version 0.1 for a partition of `columns` columns."""
    packed = [pack_operation(operation) for operation in operations]
    body = b"".join(packed)
    return HEADER.pack(columns=columns, operations=len(packed), size=HEADER.size + len(body)) + body


# --- reading ------------------------------------------------------------------------------------------------------
def _sized(layout: Layout, data: bytes, at: int) -> tuple[dict[str, Any], int]:
    values = layout.unpack(data, at)
    size = values["size"]
    if size < layout.size or size % 4:
        raise malformed(layout.what, at, f"size word {size}, at least {layout.size} and a multiple of 4 expected")
    take(data, at, size, layout.what)
    return values, size


def _read_write(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_WRITE, data, at)
    return Write(values["address"], values["value"]), size


def _read_block(layout: Layout) -> Callable[[bytes, int], tuple[Operation, int]]:
    def read(data: bytes, at: int) -> tuple[Operation, int]:
        values, size = _sized(layout, data, at)
        words = take_words(data, at + layout.size, (size - layout.size) // 4, layout.what)
        return BlockWrite(values["address"], words), size

    return read


def _read_mask_write(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_MASK, data, at)
    return MaskWrite(values["address"], values["mask"], values["value"]), size


def _read_poll(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_POLL, data, at)
    kind = MaskPoll if values["op"] & 0xFF == 4 else MaskPollBusy
    return kind(values["address"], values["mask"], values["value"]), size


def _read_noop(data: bytes, at: int) -> tuple[Operation, int]:
    return Noop(), _WORD.size


def _read_preempt(data: bytes, at: int) -> tuple[Operation, int]:
    return Preempt(_WORD.unpack(data, at)["level"]), _WORD.size


def _read_load_pdi(data: bytes, at: int) -> tuple[Operation, int]:
    values = _LOAD_PDI.unpack(data, at)
    return LoadPdi(values["pdi"], values["length"], values["address"]), _LOAD_PDI.size


def _read_sync(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_SYNC, data, at)
    if values["direction"] >= len(DIRECTIONS):
        raise malformed(_SYNC.what, at, f"direction {values['direction']}, 0 (S2MM) or 1 (MM2S) expected")
    names = "column", "row", "direction", "channel", "columns", "rows"
    return Sync(*(values[name] for name in names)), size


def _read_patch(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_PATCH, data, at)
    if values["action"]:
        raise malformed(_PATCH.what, at, f"action {values['action']}, only 0 is known")
    return DdrPatch(values["address"], values["argument"], values["offset"]), size


def _read_patch_1(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_PATCH_1, data, at)
    return DdrPatch(values["address"], values["argument"], values["offset"]), size


def _read_registers(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_REGISTERS, data, at)
    if 8 * values["count"] != size - _REGISTERS.size:
        raise malformed(_REGISTERS.what, at, f"{values['count']} addresses do not fill {size} bytes")
    words = take_words(data, at + _REGISTERS.size, 2 * values["count"], _REGISTERS.what)
    return ReadRegisters(tuple(low | high << 32 for low, high in zip(words[::2], words[1::2], strict=True))), size


def _read_timer(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_TIMER, data, at)
    return RecordTimer(values["identifier"]), size


def _read_merge(data: bytes, at: int) -> tuple[Operation, int]:
    values, size = _sized(_MERGE, data, at)
    return MergeSync(values["tokens"], values["columns"]), size


def _read_write_1(data: bytes, at: int) -> tuple[Operation, int]:
    values = _WRITE_1.unpack(data, at)
    return Write(values["address"], values["value"]), _WRITE_1.size


def _read_mask_write_1(data: bytes, at: int) -> tuple[Operation, int]:
    values = _MASK_1.unpack(data, at)
    return MaskWrite(values["address"], values["mask"], values["value"]), _MASK_1.size


def _read_poll_1(data: bytes, at: int) -> tuple[Operation, int]:
    values = _POLL_1.unpack(data, at)
    kind = MaskPoll if values["op"] == 4 else MaskPollBusy
    return kind(values["address"], values["mask"], values["value"]), _POLL_1.size


Reader = Callable[[bytes, int], tuple[Operation, int]]
_COMMON: dict[int, Reader] = {
    5: _read_noop, 6: _read_preempt, 8: _read_load_pdi, 0x80: _read_sync, 0x82: _read_registers, 0x83: _read_timer,
    0x84: _read_merge,
}  # fmt: skip
_READERS: dict[tuple[int, int], dict[int, Reader]] = {
    (0, 1): {
        **_COMMON, 0: _read_write, 1: _read_block(_BLOCK), 3: _read_mask_write, 4: _read_poll, 7: _read_poll,
        0x81: _read_patch,
    },
    (1, 0): {
        **_COMMON, 0: _read_write_1, 1: _read_block(_BLOCK_1), 3: _read_mask_write_1, 4: _read_poll_1,
        7: _read_poll_1, 0x81: _read_patch_1,
    },
}  # fmt: skip
_BLOCK_HEADERS = {(0, 1): _BLOCK.size, (1, 0): _BLOCK_1.size}


def is_txn(data: bytes) -> bool:
    """Whether the header is that of a stream of a known version whose size word agrees with the data."""
    if len(data) < HEADER.size:
        return False
    header = HEADER.unpack(data)
    return (header["major"], header["minor"]) in _READERS and HEADER.size <= header["size"] <= len(data)


def read_txn(data: bytes) -> Txn:
    """Parse a stream; InputError with the offset on anything the version does not define."""
    return _read(data)[0]


def block_places(data: bytes) -> list[tuple[int, int]]:
    """(index of the operation, offset of its first data word in the stream) of every block write of a stream."""
    stream, places = _read(data)
    header = _BLOCK_HEADERS[stream.version]
    blocks = (i for i, operation in enumerate(stream.operations) if isinstance(operation, BlockWrite))
    return [(i, places[i] + header) for i in blocks]


def _read(data: bytes) -> tuple[Txn, list[int]]:
    """The stream and the offset of each operation."""
    header = HEADER.unpack(data)
    version = header["major"], header["minor"]
    if version not in _READERS:
        raise malformed(WHAT, 0, f"version {version[0]}.{version[1]}, 0.1 or 1.0 expected")
    end = header["size"]
    if not HEADER.size <= end <= len(data) or end % 4:
        raise malformed(WHAT, 12, f"size word {end}, the data has {len(data)} bytes")
    if any(data[end:]):
        raise malformed(WHAT, end, "bytes after the stream are not zero")
    data, at = data[:end], HEADER.size
    if header["operations"] > (end - at) // 4:
        raise malformed(WHAT, 8, f"{header['operations']} operations do not fit {end - at} bytes")
    operations, places = [], []
    for _ in range(header["operations"]):
        opcode = take(data, at, 4, WHAT)[0]
        reader = _READERS[version].get(opcode)
        if reader is None:
            raise malformed(WHAT, at, f"unknown operation {opcode:#x}")
        operation, size = reader(data, at)
        operations.append(operation)
        places.append(at)
        at += size
    if at != end:
        raise malformed(WHAT, at, f"operations end here, the size word says {end:#x}")
    stream = Txn(header["columns"], tuple(operations), version, header["generation"], header["rows"])
    return stream, places
