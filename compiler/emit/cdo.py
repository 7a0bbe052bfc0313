"""CDO: the list of register writes that configures the array (facts/platform/pdi_cdo.md section 2)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Union

from npuc.compiler.emit.binary import Reader, checksum, pack_words

IDENTIFICATION = 0x004F4443
VERSION = 0x00000200
HEADER_BYTES = 20
MODULE = 1
LONG_PAYLOAD = 255  # this length in a command word means: the length is in the next word


@dataclass(frozen=True)
class Write:
    address: int
    value: int


@dataclass(frozen=True)
class MaskWrite:
    """register = register & ~mask | value & mask."""

    address: int
    mask: int
    value: int


@dataclass(frozen=True)
class DmaWrite:
    address: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class MaskPoll:
    """Wait until (register & mask) == value.  The NPU's loader does not know it; read only."""

    address: int
    mask: int
    value: int
    timeout: int


@dataclass(frozen=True)
class Nop:
    words: tuple[int, ...] = ()


Command = Union[Write, MaskWrite, DmaWrite, MaskPoll, Nop]

# operation -> (words of payload, of which the first holds an upper address word)
_MASK_POLL, _MASK_WRITE, _WRITE, _DMA_WRITE = 0x01, 0x02, 0x03, 0x05
_MASK_POLL64, _MASK_WRITE64, _WRITE64, _NOP = 0x06, 0x07, 0x08, 0x11
_PAYLOAD = {_MASK_POLL: 4, _MASK_WRITE: 3, _WRITE: 2, _MASK_POLL64: 5, _MASK_WRITE64: 4, _WRITE64: 3}


def _command(operation: int, payload: Sequence[int]) -> list[int]:
    head = operation | MODULE << 8
    if len(payload) < LONG_PAYLOAD:
        return [head | len(payload) << 16, *payload]
    return [head | LONG_PAYLOAD << 16, len(payload), *payload]


def _encode(command: Command) -> list[int]:
    if isinstance(command, Write):
        return _command(_WRITE, (command.address, command.value))
    if isinstance(command, MaskWrite):
        return _command(_MASK_WRITE, (command.address, command.mask, command.value))
    if isinstance(command, DmaWrite):
        return _command(_DMA_WRITE, (0, command.address, *command.words))
    if isinstance(command, MaskPoll):
        return _command(_MASK_POLL, (command.address, command.mask, command.value, command.timeout))
    return _command(_NOP, command.words)


def write_cdo(commands: Sequence[Command]) -> bytes:
    """Header and commands."""
    body = [word for command in commands for word in _encode(command)]
    header = [4, IDENTIFICATION, VERSION, len(body)]
    return pack_words([*header, checksum(header), *body])


def decode(reader: Reader, operation: int, payload: tuple[int, ...], offset: int) -> Command:
    """One command from its operation and payload words; upper address words must be zero."""
    if operation in (_WRITE64, _MASK_WRITE64, _MASK_POLL64, _DMA_WRITE):
        reader.expect(len(payload) >= 2, offset, "command without an address")
        reader.expect(payload[0] == 0, offset, f"upper address word {payload[0]:#x} is not zero")
        payload = payload[1:]
        operation = {_WRITE64: _WRITE, _MASK_WRITE64: _MASK_WRITE, _MASK_POLL64: _MASK_POLL}.get(operation, operation)
    if operation == _DMA_WRITE:
        return DmaWrite(payload[0], payload[1:])
    wanted = _PAYLOAD.get(operation)
    if wanted is not None:
        reader.expect(len(payload) == wanted, offset, f"command {operation:#x} with {len(payload)} words of payload")
    if operation == _WRITE:
        return Write(*payload)
    if operation == _MASK_WRITE:
        return MaskWrite(*payload)
    if operation == _MASK_POLL:
        return MaskPoll(*payload)
    reader.expect(operation == _NOP, offset, f"unknown CDO command {operation:#x}")
    return Nop(payload)


def read_header(reader: Reader) -> int:
    """Words of the body.  InputError when identification, version or checksum are wrong."""
    header = reader.words(0, 5)
    reader.expect(header[0] == 4, 0, f"CDO header length {header[0]}")
    reader.expect(header[1] == IDENTIFICATION, 4, "no CDO identification")
    reader.expect(header[2] == VERSION, 8, f"CDO version {header[2]:#x}")
    reader.expect(header[4] == checksum(header[:4]), 16, "CDO header checksum wrong")
    return header[3]


def read_cdo(data: bytes) -> tuple[Command, ...]:
    """All commands.  InputError with the offset for anything malformed."""
    reader = Reader(data, "CDO")
    end = HEADER_BYTES + 4 * read_header(reader)
    reader.expect(end <= len(data), 12, f"CDO of {end} bytes in {len(data)}")
    words = struct.unpack(f"<{end // 4}I", data[:end])
    commands: list[Command] = []
    position = HEADER_BYTES // 4
    while position < len(words):
        start, head = position, words[position]
        length = head >> 16 & 0xFF
        reader.expect(head >> 24 == 0, 4 * start, f"not a CDO command word: {head:#010x}")
        position += 1
        if length == LONG_PAYLOAD:
            reader.expect(position < len(words), 4 * start, "CDO command cut off")
            length = words[position]
            position += 1
        reader.expect(length <= len(words) - position, 4 * start, "CDO command longer than the CDO")
        commands.append(decode(reader, head & 0xFF, words[position : position + length], 4 * start))
        position += length
    return tuple(commands)
