"""CDO: the register writes that configure the array.

A 64-bit command whose upper address word is 0 reads as its 32-bit form (as the public packer rewrites it); an address
beyond 32 bits is written as the 64-bit form.  Source: facts/platform/pdi_cdo.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from npuc.compiler.emit.layout import Layout, malformed, pack_words, take, take_words

WHAT = "CDO"
MAGIC = 0x004F4443


@dataclass(frozen=True)
class Write:
    """Store one word."""

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
    """Store words at consecutive addresses."""

    address: int
    words: tuple[int, ...]


@dataclass(frozen=True)
class Nop:
    """Nothing, with filler words."""

    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class MaskPoll:
    """Wait until register & mask == value, at most `timeout` milliseconds.  The NPU's loader does not know it."""

    address: int
    mask: int
    value: int
    timeout: int


Command = Write | MaskWrite | DmaWrite | Nop | MaskPoll

MASK_POLL, MASK_WRITE, WRITE, DMA_WRITE, MASK_POLL64, MASK_WRITE64, WRITE64, NOP = 1, 2, 3, 5, 6, 7, 8, 0x11
LONG = 255  # payload length in the command word that means: the length is in the next word
_MODULE = 1
_PAYLOAD_WORDS = {MASK_POLL: 4, MASK_WRITE: 3, WRITE: 2, MASK_POLL64: 5, MASK_WRITE64: 4, WRITE64: 3}

HEADER = Layout(
    "CDO header",
    ("words", "I", 4), ("magic", "I", MAGIC), ("version", "I", 0x200), ("length", "I"), ("checksum", "I"),
)  # fmt: skip


def is_cdo(data: bytes) -> bool:
    """Whether the data have the magic of a CDO."""
    return data[4:8] == MAGIC.to_bytes(4, "little")


def checksum(words: Iterable[int]) -> int:
    """One's complement of the 32-bit sum, as CDO and PDI headers end with."""
    return ~sum(words) & 0xFFFFFFFF


def _split(address: int) -> tuple[int, int]:
    return address >> 32, address & 0xFFFFFFFF


def _command(short: int, wide: int, address: int, *values: int) -> tuple[int, list[int]]:
    high, low = _split(address)
    return (wide, [high, low, *values]) if high else (short, [low, *values])


def _payload(command: Command) -> tuple[int, list[int]]:
    if isinstance(command, Write):
        return _command(WRITE, WRITE64, command.address, command.value)
    if isinstance(command, MaskWrite):
        return _command(MASK_WRITE, MASK_WRITE64, command.address, command.mask, command.value)
    if isinstance(command, MaskPoll):
        return _command(MASK_POLL, MASK_POLL64, command.address, command.mask, command.value, command.timeout)
    if isinstance(command, DmaWrite):
        return DMA_WRITE, [*_split(command.address), *command.words]
    return NOP, list(command.words)


def write_cdo(commands: Iterable[Command]) -> bytes:
    """Header and commands, exactly those given."""
    body = []
    for command in commands:
        operation, payload = _payload(command)
        length = len(payload)
        body.append(operation | _MODULE << 8 | min(length, LONG) << 16)
        body += ([length] if length >= LONG else []) + payload
    head = {"words": 4, "magic": MAGIC, "version": 0x200, "length": len(body)}
    return HEADER.pack(**head, checksum=checksum(head.values())) + pack_words(body)


def make_command(operation: int, payload: tuple[int, ...], offset: int) -> Command:
    """The command of an operation code and its payload words (NOP and DMA_WRITE with their data)."""
    if operation == NOP:
        return Nop(payload)
    if operation == DMA_WRITE:
        if len(payload) < 3:
            raise malformed(WHAT, offset, "DMA_WRITE without data")
        return DmaWrite(payload[0] << 32 | payload[1], payload[2:])
    if operation not in _PAYLOAD_WORDS:
        raise malformed(WHAT, offset, f"unknown command {operation:#x}")
    if len(payload) != _PAYLOAD_WORDS[operation]:
        raise malformed(WHAT, offset, f"command {operation:#x} with {len(payload)} payload words")
    if operation in (MASK_POLL64, MASK_WRITE64, WRITE64):
        payload = (payload[0] << 32 | payload[1], *payload[2:])
    kind: Callable[..., Command] = {
        WRITE: Write, WRITE64: Write, MASK_WRITE: MaskWrite, MASK_WRITE64: MaskWrite,
        MASK_POLL: MaskPoll, MASK_POLL64: MaskPoll,
    }[operation]  # fmt: skip
    return kind(*payload)


def read_header(data: bytes) -> int:
    """Number of body words of the CDO at the start of `data`; InputError when the header is wrong."""
    header = HEADER.unpack(data)
    HEADER.expect(header, 0, "words", "magic", "version")
    want = checksum((header["words"], header["magic"], header["version"], header["length"]))
    if header["checksum"] != want:
        raise malformed(WHAT, 16, f"header checksum {header['checksum']:#010x}, computed {want:#010x}")
    return header["length"]


def read_cdo(data: bytes) -> tuple[Command, ...]:
    """Parse a CDO; zero bytes may follow it (PDI padding).  InputError with the offset otherwise."""
    length = read_header(data)
    end = HEADER.size + 4 * length
    take(data, HEADER.size, 4 * length, WHAT)
    if any(data[end:]):
        raise malformed(WHAT, end, "bytes after the commands are not zero")
    words = take_words(data, 0, end // 4, WHAT)
    commands, at, end = [], HEADER.size // 4, end // 4
    while at < end:
        start, word = at, words[at]
        operation, module, count = word & 0xFF, word >> 8 & 0xFF, word >> 16 & 0xFF
        at += 1
        if word >> 24 or module != _MODULE:
            raise malformed(WHAT, 4 * start, f"command word {word:#010x}")
        if count == LONG:
            if at == end:
                raise malformed(WHAT, 4 * start, "the length word of a long command is missing")
            count, at = words[at], at + 1
        if at + count > end:
            raise malformed(WHAT, 4 * start, f"{count} payload words run past the end at {4 * end:#x}")
        commands.append(make_command(operation, words[at : at + count], 4 * start))
        at += count
    return tuple(commands)
