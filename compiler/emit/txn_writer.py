"""Packs the operations of a long runtime stream one by one, quickly: what `txn.write_txn` does from dataclasses.

Version 0.1.  The layouts are those of `txn`; tests compare the bytes of both.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence

from npuc.compiler.emit import txn

_WRITE = txn._WRITE.positional
_BLOCK = txn._BLOCK.positional
_PATCH = txn._PATCH.positional
_SYNC = txn._SYNC.positional
_BLOCK_HEAD = txn._BLOCK.size
_SIZES = txn._WRITE.size, txn._PATCH.size, txn._SYNC.size
pack_offset = struct.Struct("<Q").pack
"""What completes `patch_head`."""


def write_bytes(address: int, value: int) -> bytes:
    """A write of one word."""
    return bytes(_WRITE(0, address, value, _SIZES[0]))


def block_head(address: int, words: int) -> bytes:
    """A block write of so many words of one tile, without them."""
    tile = address >> 25 | (address >> 20 & 31) << 8
    return bytes(_BLOCK(1, tile, address, _BLOCK_HEAD + 4 * words))


def patch_head(address: int, argument: int) -> bytes:
    """A patch of descriptor words at `address` by a buffer argument's address plus an offset in bytes, without that."""
    return bytes(_PATCH(0x81, _SIZES[1], 0, address, argument, 0))[:-8]


def sync_bytes(column: int, row: int, direction: int, channel: int) -> bytes:
    """A wait for one task token."""
    return bytes(_SYNC(0x80, _SIZES[2], direction, row, column, 1, 1, channel))


class TxnWriter:
    """Collects operations; `finish` gives the stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._operations = 0

    def put(self, parts: Iterable[bytes], operations: int) -> None:
        """Operations in pieces."""
        self._parts += parts
        self._operations += operations

    def write(self, address: int, value: int) -> None:
        self.put((write_bytes(address, value),), 1)

    def block(self, address: int, words: Sequence[int]) -> None:
        """Consecutive words of one tile."""
        self.put((block_head(address, len(words)), txn.pack_words(words)), 1)

    def patch(self, address: int, argument: int, offset: int) -> None:
        """The address of a buffer argument plus an offset in bytes into the descriptor words at `address`."""
        self.put((patch_head(address, argument), pack_offset(offset)), 1)

    def sync(self, column: int, row: int, direction: int, channel: int) -> None:
        """Wait for one task token."""
        self.put((sync_bytes(column, row, direction, channel),), 1)

    @property
    def size(self) -> int:
        """Bytes so far, the header counted."""
        return txn.HEADER.size + sum(map(len, self._parts))

    def finish(self, columns: int) -> bytes:
        """The stream for a partition of `columns` columns."""
        body = b"".join(self._parts)
        header = txn.HEADER.pack(columns=columns, operations=self._operations, size=txn.HEADER.size + len(body))
        return header + body
