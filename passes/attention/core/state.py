"""What the core keeps for each four queries between blocks of keys: vectors of a number a lane, one after another."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.passes.attention.core.context import TILE


@dataclass(frozen=True)
class Record:
    """fields: names of its vectors in the order in which they lie."""

    fields: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        return TILE * len(self.fields)

    def offset(self, name: str) -> int:
        """Bytes from the record's start."""
        return TILE * self.fields.index(name)


STATE = Record(("reference", "unseen"))
"""reference: negated, in raw score units.  unseen: whether no key was seen yet, as `query.UNSEEN`."""
