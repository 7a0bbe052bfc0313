"""Reading binary input safely: every access is bounded, every failure says where."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from npuc.compiler.diagnostics import InputError


class Reader:
    """A window on bytes; offsets in errors count from the start of the window."""

    def __init__(self, data: bytes, what: str) -> None:
        self.data = data
        self.what = what

    def fail(self, offset: int, reason: str) -> InputError:
        return InputError(f"{self.what}: {reason} at offset {offset:#x}")

    def bytes(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`; InputError when they are not all there."""
        if offset < 0 or size < 0 or offset + size > len(self.data):
            raise self.fail(offset, f"{size} bytes wanted, file ends at {len(self.data):#x}")
        return self.data[offset : offset + size]

    def words(self, offset: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"<{count}I", self.bytes(offset, 4 * count))

    def word(self, offset: int) -> int:
        return int(self.words(offset, 1)[0])

    def text(self, offset: int) -> str:
        """The NUL-terminated string at `offset`."""
        end = self.data.find(b"\0", offset)
        if not 0 <= offset < len(self.data) or end < 0:
            raise self.fail(offset, "unterminated string")
        return self.data[offset:end].decode("utf-8", "replace")

    def expect(self, condition: bool, offset: int, reason: str) -> None:
        if not condition:
            raise self.fail(offset, reason)


def pack_words(words: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(words)}I", *words)


def padded(data: bytes, unit: int) -> bytes:
    """`data` with zero bytes up to a multiple of `unit`."""
    return data + bytes(-len(data) % unit)


def checksum(words: Sequence[int]) -> int:
    """One's complement of the 32-bit sum (facts/platform/pdi_cdo.md section 1)."""
    return ~sum(words) & 0xFFFFFFFF
