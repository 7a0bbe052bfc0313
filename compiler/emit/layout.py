"""Declarations of binary structures, each of which both reads and writes.

A `Layout` names the fields of one little-endian structure in order.  Reading checks the bounds first, so a reader built
from layouts ends every malformed input in an InputError that names the structure, the offset and the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from npuc.compiler.diagnostics import InputError


def malformed(what: str, offset: int, reason: str) -> InputError:
    """The error of every reader: what was read, where (bytes from its start) and why not."""
    return InputError(f"{what}: offset {offset:#x}: {reason}")


def take(data: bytes, offset: int, size: int, what: str) -> bytes:
    """`size` bytes at `offset`; InputError when they do not all exist."""
    if offset < 0 or size < 0 or offset + size > len(data):
        raise malformed(what, offset, f"needs {size} bytes, the data ends at {len(data):#x}")
    return data[offset : offset + size]


def take_words(data: bytes, offset: int, count: int, what: str) -> tuple[int, ...]:
    """`count` little-endian 32-bit words at `offset`; InputError when they do not all exist."""
    return struct.unpack(f"<{count}I", take(data, offset, 4 * count, what)) if count >= 0 else ()


def pack_words(words: Sequence[int]) -> bytes:
    """Little-endian 32-bit words as bytes."""
    return struct.pack(f"<{len(words)}I", *words)


def padded(data: bytes, alignment: int) -> bytes:
    """`data` followed by zero bytes up to a multiple of `alignment`."""
    return data + bytes(-len(data) % alignment)


def text(raw: bytes) -> str:
    """A NUL-terminated string, undecodable bytes replaced."""
    return raw.split(b"\0", 1)[0].decode("utf-8", "replace")


def string_at(data: bytes, offset: int, what: str, limit: int = 4096) -> str:
    """The NUL-terminated string at `offset`, at most `limit` bytes long."""
    if not 0 <= offset < len(data):
        raise malformed(what, offset, f"string outside the data of {len(data):#x} bytes")
    end = data.find(b"\0", offset, offset + limit)
    if end < 0:
        raise malformed(what, offset, "string is not terminated")
    return text(data[offset : end + 1])


class Layout:
    """A structure: fields `(name, struct code, value when not given)`; a name of None is padding of zero bytes."""

    def __init__(self, what: str, *fields: tuple[Any, ...]) -> None:
        self.what = what
        self.names: list[str] = []
        self.defaults: dict[str, Any] = {}
        self.offsets: dict[str, int] = {}
        self.codes: dict[str, str] = {}  # struct codes
        codes: list[str] = []
        for name, code, *default in fields:
            offset = struct.calcsize("<" + "".join(codes))
            codes.append(code)
            if name is not None:
                self.names.append(name)
                self.offsets[name] = offset
                self.codes[name] = code
                self.defaults.update({name: default[0]} if default else {})
        self._struct = struct.Struct("<" + "".join(codes))
        self.size = self._struct.size
        self.positional = self._struct.pack  # all named fields in order, where speed counts

    def pack(self, **values: Any) -> bytes:
        """The structure's bytes.  A missing or unknown field, or a value that does not fit, is a caller's fault."""
        assert values.keys() <= set(self.names), f"{self.what} has no field {values.keys() - set(self.names)}"
        merged = {**self.defaults, **values}
        return self._struct.pack(*(merged[name] for name in self.names))

    def unpack(self, data: bytes, offset: int = 0) -> dict[str, Any]:
        """Field name -> value; InputError when the data ends inside the structure."""
        return dict(zip(self.names, self._struct.unpack(take(data, offset, self.size, self.what)), strict=True))

    def unpack_array(self, data: bytes, offset: int, count: int) -> list[dict[str, Any]]:
        """`count` structures in a row, checked to lie inside the data before any is read."""
        take(data, offset, count * self.size, f"{self.what} array")
        return [self.unpack(data, offset + i * self.size) for i in range(count)]

    def expect(self, values: dict[str, Any], offset: int, *names: str) -> None:
        """InputError unless the named fields hold their declared values."""
        for name in names:
            if values[name] != self.defaults[name]:
                have, want = (f"{v:#x}" if isinstance(v, int) else repr(v) for v in (values[name], self.defaults[name]))
                raise malformed(self.what, offset, f"{name} is {have}, must be {want}")
