"""A runtime sequence with words still to be computed from the call's dimensions."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

from npuc.compiler.diagnostics import InputError
from npuc.compiler.emit import expression, txn


@dataclass(frozen=True)
class Patch:
    """Word number `word` of the TXN (its header counted) becomes the value of `expression`."""

    word: int
    expression: str


@dataclass(frozen=True)
class ControlTemplate:
    """TXN operations for a partition of `columns`, and what each call fills in."""

    columns: int
    operations: tuple[txn.Operation, ...] = ()
    patches: tuple[Patch, ...] = ()

    @property
    def dimensions(self) -> frozenset[str]:
        """The runtime dimensions that a call must give."""
        return frozenset().union(*(expression.names(patch.expression) for patch in self.patches))

    def instantiate(self, dimensions: Mapping[str, int]) -> bytes:
        """The TXN for these dimensions; InputError when one is missing or a value does not fit a 32-bit word."""
        data = bytearray(txn.write_txn(self.operations, self.columns))
        for patch in self.patches:
            value = expression.evaluate(patch.expression, dimensions)
            if not -(1 << 31) <= value < 1 << 32:
                raise InputError(f"runtime sequence word {patch.word}: {patch.expression} = {value} exceeds 32 bits")
            if not txn.HEADER.size <= 4 * patch.word < len(data):
                raise InputError(f"runtime sequence word {patch.word} to patch is not in the stream")
            struct.pack_into("<I", data, 4 * patch.word, value & 0xFFFFFFFF)
        return bytes(data)
