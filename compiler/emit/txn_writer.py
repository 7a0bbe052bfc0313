"""Packs the operations of a long runtime stream one by one, quickly: what `txn.write_txn` does from dataclasses.

Version 0.1.  The layouts are those of `txn`; tests compare the bytes of both.
"""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.emit import txn

_WRITE = txn._WRITE.positional
_BLOCK = txn._BLOCK.positional
_PATCH = txn._PATCH.positional
_SYNC = txn._SYNC.positional
_BLOCK_HEAD = txn._BLOCK.size
_SIZES = txn._WRITE.size, txn._PATCH.size, txn._SYNC.size


class TxnWriter:
    """Collects operations; `finish` gives the stream."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, address: int, value: int) -> None:
        self._parts.append(_WRITE(0, address, value, _SIZES[0]))

    def block(self, address: int, words: Sequence[int]) -> None:
        """Consecutive words of one tile."""
        data = txn.pack_words(words)
        tile = address >> 25 | (address >> 20 & 31) << 8
        self._parts.append(_BLOCK(1, tile, address, _BLOCK_HEAD + len(data)) + data)

    def patch(self, address: int, argument: int, offset: int) -> None:
        """The address of a buffer argument plus an offset in bytes into the descriptor words at `address`."""
        self._parts.append(_PATCH(0x81, _SIZES[1], 0, address, argument, offset))

    def sync(self, column: int, row: int, direction: int, channel: int) -> None:
        """Wait for one task token."""
        self._parts.append(_SYNC(0x80, _SIZES[2], direction, row, column, 1, 1, channel))

    @property
    def size(self) -> int:
        """Bytes so far, the header counted."""
        return txn.HEADER.size + sum(map(len, self._parts))

    def finish(self, columns: int) -> bytes:
        """The stream for a partition of `columns` columns."""
        body = b"".join(self._parts)
        header = txn.HEADER.pack(columns=columns, operations=len(self._parts), size=txn.HEADER.size + len(body))
        return header + body
