"""The older runtime sequence of npu1, read and written as TXN operations (facts/platform/legacy_sequence.md).

A stream is 32-bit words: a prologue of word[0] words, then operations without a length field, each as long as its
opcode says.  Kernels that take it declare functional 1 and no argument named opcode.  Every operation has an equal in
TXN, so one controller serves both forms; what only debugs (dumps, reads) is read over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import txn
from npuc.compiler.emit.layout import malformed, take_words
from npuc.compiler.target.npu1 import geometry

WHAT = "runtime sequence (older form)"
ALL_BITS = 0xFFFFFFFF
# The prologue is skipped by the interpreter; its first word is its length and nothing depends on the others.
PROLOGUE = (1,)
_NEXT_BD = geometry.BD_FIELDS["memtile"]["next_bd"]


# --- text form ----------------------------------------------------------------------------------------------------
def is_text(data: bytes) -> bool:
    """Whether the data is the text form: one hexadecimal word a line."""
    return bool(data.strip()) and not data.translate(None, b"0123456789abcdefABCDEFxX \t\r\n")


def words_of_text(data: bytes) -> tuple[int, ...]:
    """The words of the text form; InputError names the line that is none."""
    words = []
    for number, line in enumerate(data.decode("ascii", "replace").splitlines(), 1):
        text = line.strip()
        if not text:
            continue
        if not re.fullmatch(r"(0[xX])?[0-9A-Fa-f]{1,8}", text):
            raise InputError(f"{WHAT}: line {number}: {text[:40]!r} is no 32-bit word in hexadecimal")
        words.append(int(text, 16))
    return tuple(words)


def text_of_words(words: Iterable[int]) -> bytes:
    """One word a line, eight upper-case digits, as public tools write it."""
    return "".join(f"{word:08X}\n" for word in words).encode()


# --- reading ------------------------------------------------------------------------------------------------------
Reader = Callable[[Sequence[int], Sequence[int]], list[txn.Operation]]  # (words of the operation, whole stream)


def _address(column: int, row: int, offset: int) -> int:
    return geometry.tile_address(column, row, offset & (geometry.TILE_SIZE - 1))


def _tile(word: int) -> tuple[int, int]:
    return word >> 16 & 0xFF, word >> 8 & 0xFF


def _bd_address(column: int, row: int, bd: int) -> int:
    return _address(column, row, geometry.bd_offset(geometry.tile_kind(row), bd))


def _shim_bd(column: int, bd: int, argument: int, words: Sequence[int], offset: int) -> list[txn.Operation]:
    """A shim descriptor and the patch of its address: words are the eight registers."""
    place = _bd_address(column, geometry.SHIM_ROW, bd)
    patched = (words[0], 0, words[2] & 0xFFFF0000, *words[3:])
    offset += words[1] | (words[2] & 0xFFFF) << 32
    return [txn.BlockWrite(place, tuple(patched)), txn.DdrPatch(place + 4, argument, offset)]


def _write_bd(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, row = _tile(words[0])
    if row == geometry.SHIM_ROW:
        return _shim_bd(column, words[0] & 15, words[0] >> 4 & 15, words[1:], 0)
    return [txn.BlockWrite(_bd_address(column, row, words[0] & 0xFF), tuple(words[1:]))]


def _write(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    return [txn.Write(_address(*_tile(words[0]), words[1]), words[2])]


def _sync(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, row = _tile(words[0])
    direction = words[0] & 0xFF
    if direction >= len(geometry.DIRECTIONS):
        raise ValueError(f"direction {direction}, 0 (S2MM) or 1 (MM2S) expected")
    return [txn.Sync(column, row, direction, words[1] >> 24, words[1] >> 16 & 0xFF, words[1] >> 8 & 0xFF)]


def _write_core_bds(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, row = _tile(words[0])
    return [
        txn.BlockWrite(_bd_address(column + x, row + y, words[0] & 0xFF), tuple(words[2:]))
        for x in range(words[1] >> 24) for y in range(words[1] >> 16 & 0xFF)
    ]  # fmt: skip


def _write_rectangle(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, row = _tile(words[0])
    return [
        txn.Write(_address(column + x, row + y, words[1]), words[2])
        for x in range(words[0] >> 4 & 15) for y in range(words[0] & 15)
    ]  # fmt: skip


def _write_shim_bds(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, columns = _tile(words[0])
    operations: list[txn.Operation] = []
    for x in range(columns):
        operations += _shim_bd(column + x, words[0] & 15, words[0] >> 4 & 15, words[2:], x * words[1])
    return operations


def _write_memtile_bds(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column = words[0] >> 16 & 0xFF
    operations: list[txn.Operation] = []
    for x in range(words[0] & 0xFF):
        bd, following = words[1] >> 8 * x & 0xFF, words[2] >> 8 * x & 63
        body = list(words[3:])
        body[_NEXT_BD.word] = body[_NEXT_BD.word] & ~(63 << _NEXT_BD.lsb) | following << _NEXT_BD.lsb
        operations.append(txn.BlockWrite(_bd_address(column + x, geometry.MEMTILE_ROW, bd), tuple(body)))
    return operations


def _write_with_bd(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, row = _tile(words[0])
    columns, rows = words[0] >> 4 & 15, words[0] & 15
    return [
        txn.Write(_address(column + x, row + y, words[2]), words[3] & ~63 | words[1] >> 8 * x & 63)
        for x in range(columns) for y in range(rows)
    ]  # fmt: skip


def _write_memtile_bd_to_columns(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    column, columns = _tile(words[0])
    places = [_bd_address(column + x, geometry.MEMTILE_ROW, words[0] & 0xFF) for x in range(columns)]
    return [txn.BlockWrite(place, tuple(words[1:])) for place in places]


def _write_one_memtile_bd(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    place = _bd_address(words[0] >> 16 & 0xFF, geometry.MEMTILE_ROW, words[0] & 0xFF)
    return [txn.BlockWrite(place, tuple(words[1:]))]


def _write_parameter(words: Sequence[int], stream: Sequence[int]) -> list[txn.Operation]:
    if words[2] >= len(stream):
        raise ValueError(f"parameter word {words[2]}, the stream has {len(stream)}")
    return [txn.Write(_address(*_tile(words[0]), words[1]), stream[words[2]])]


def _poll(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    return [txn.MaskPoll(_address(*_tile(words[0]), words[1]), ALL_BITS, words[2])]


def _time_stamp(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    return [txn.RecordTimer(words[0] & 0xFFFFFF)]


def _merged_sync(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    return [txn.MergeSync(words[0] & 0xFF, words[0] >> 8 & 0xFF)]


def _debug(words: Sequence[int], _: Sequence[int]) -> list[txn.Operation]:
    return []


# opcode -> (words, reader); operations 1 and 18 have a length of their own (section 4 of the fact sheet).
_OPERATIONS: dict[int, tuple[int, Reader]] = {
    0: (1, _debug), 1: (9, _write_bd), 2: (3, _write), 3: (2, _sync), 4: (8, _write_core_bds),
    5: (3, _write_rectangle), 6: (10, _write_shim_bds), 7: (11, _write_memtile_bds), 8: (4, _write_with_bd),
    9: (9, _write_memtile_bd_to_columns), 10: (44, _debug), 11: (9, _write_bd), 12: (9, _write_one_memtile_bd),
    13: (3, _write_parameter), 14: (2, _debug), 15: (4, _poll), 16: (1, _time_stamp), 17: (1, _merged_sync),
    18: (2, _debug),
}  # fmt: skip


def _length(opcode: int, words: Sequence[int], at: int) -> int:
    if opcode == 1 and words[at] >> 8 & 0xFF >= geometry.CORE_ROWS[0]:
        return 1 + geometry.BD_WORDS["core"]
    if opcode == 18 and at + 1 < len(words):
        return 1 + 2 * (words[at + 1] & 0xFFFFFF)
    return _OPERATIONS[opcode][0]


def read_legacy_sequence(words: Sequence[int]) -> tuple[txn.Operation, ...]:
    """The operations as those of TXN; InputError with the offset on what the format does not define."""
    if not words or not 1 <= words[0] <= len(words):
        raise malformed(WHAT, 0, f"prologue of {words[0] if words else 0} words in a stream of {len(words)}")
    operations: list[txn.Operation] = []
    at = words[0]
    while at < len(words):
        opcode = words[at] >> 24
        if opcode not in _OPERATIONS:
            raise malformed(WHAT, 4 * at, f"unknown operation {opcode:#x}")
        size = _length(opcode, words, at)
        if size < 1 or at + size > len(words):
            raise malformed(WHAT, 4 * at, f"operation {opcode} of {size} words, {len(words) - at} are left")
        try:
            operations += _OPERATIONS[opcode][1](words[at : at + size], words)
        except ValueError as error:
            raise malformed(WHAT, 4 * at, str(error)) from error
        at += size
    return tuple(operations)


def read_legacy_bytes(data: bytes) -> tuple[txn.Operation, ...]:
    """The same from text or from little-endian words."""
    if is_text(data):
        return read_legacy_sequence(words_of_text(data))
    if len(data) % 4:
        raise malformed(WHAT, len(data), "the size is not a multiple of 4 bytes")
    return read_legacy_sequence(take_words(data, 0, len(data) // 4, WHAT))


# --- writing ------------------------------------------------------------------------------------------------------
def _is_patched_bd(block: txn.BlockWrite, patch: txn.DdrPatch) -> bool:
    column, row, offset = geometry.split_address(block.address)
    number, rest = divmod(offset - geometry.BD_BASE["shim"], geometry.BD_STRIDE)
    return (
        row == geometry.SHIM_ROW and not rest and 0 <= number < geometry.BD_COUNT["shim"]
        and len(block.words) == geometry.BD_WORDS["shim"] and patch.address & ~15 == block.address & ~15
    )  # fmt: skip


def _shim_bd_words(block: txn.BlockWrite, patch: txn.DdrPatch) -> list[int]:
    column, _, offset = geometry.split_address(block.address)
    bd = (offset - geometry.BD_BASE["shim"]) // geometry.BD_STRIDE
    if patch.argument > 15 or patch.offset >> 48:
        raise InputError(f"{WHAT}: argument {patch.argument} with offset {patch.offset:#x} does not fit its fields")
    head = 6 << 24 | column << 16 | 1 << 8 | patch.argument << 4 | bd
    high = block.words[2] & 0xFFFF0000 | patch.offset >> 32
    return [head, 0, block.words[0], patch.offset & ALL_BITS, high, *block.words[3:]]


def write_legacy_sequence(operations: Sequence[txn.Operation]) -> tuple[int, ...]:
    """Words for these operations: writes, shim descriptors with their patch, syncs, polls of whole registers.

    InputError for an operation the older form does not have.
    """
    words = list(PROLOGUE)
    at = 0
    while at < len(operations):
        operation = operations[at]
        following = operations[at + 1] if at + 1 < len(operations) else None
        if isinstance(operation, txn.BlockWrite):
            if isinstance(following, txn.DdrPatch) and _is_patched_bd(operation, following):
                words += _shim_bd_words(operation, following)
                at += 1
            else:
                writes = enumerate(operation.words)
                words += [w for i, value in writes for w in _one(txn.Write(operation.address + 4 * i, value))]
        else:
            words += _one(operation)
        at += 1
    return tuple(words)


def _one(operation: txn.Operation) -> list[int]:
    if isinstance(operation, txn.Write):
        column, row, offset = geometry.split_address(operation.address)
        return [2 << 24 | column << 16 | row << 8, offset, operation.value]
    if isinstance(operation, txn.Sync):
        head = 3 << 24 | operation.column << 16 | operation.row << 8 | operation.direction
        return [head, operation.channel << 24 | operation.columns << 16 | operation.rows << 8]
    if isinstance(operation, txn.MaskPoll) and operation.mask == ALL_BITS:
        column, row, offset = geometry.split_address(operation.address)
        return [15 << 24 | column << 16 | row << 8, offset, operation.value, 0]
    if isinstance(operation, txn.Noop):
        return [0]
    if isinstance(operation, txn.RecordTimer):
        return [16 << 24 | operation.identifier & 0xFFFFFF]
    if isinstance(operation, txn.MergeSync):
        return [17 << 24 | operation.columns << 8 | operation.tokens]
    raise InputError(f"{WHAT}: {type(operation).__name__} has no equal in it", remedy="write a TXN")


def write_legacy_text(operations: Sequence[txn.Operation]) -> bytes:
    """The text form."""
    return text_of_words(write_legacy_sequence(operations))
