"""What a trace calls things: phases of core programs by address, locks and fifos by number."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field

Core = tuple[int, int]
FULL, EMPTY = "_full", "_empty"


@dataclass(frozen=True)
class Phases:
    """A program's parts by address: starts[i] is where a stretch of bundles of names[i] begins; '' where none is known.

    watched: addresses at which control may come into another phase, enough to see every change.
    """

    starts: tuple[int, ...]
    names: tuple[str, ...]
    watched: frozenset[int]

    def at(self, address: int) -> str:
        """The phase of the bundle at an address."""
        place = bisect_right(self.starts, address) - 1
        return self.names[place] if place >= 0 else ""


@dataclass(frozen=True)
class Names:
    """kernel: of the slices of cores. phases: by core. locks: by kind of tile and number. depths: of fifos' locks that
    count free buffers, how many buffers there are."""

    kernel: str
    phases: Mapping[Core, Phases] = field(default_factory=dict)
    locks: Mapping[tuple[str, int], str] = field(default_factory=dict)
    depths: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def wait(self, kind: str, lock: int) -> str | None:
        """What a core waits for that acquires a lock; None where locks have no names."""
        name = self.locks.get((kind, lock))
        if name is None:
            return None
        stream, shown = name.removesuffix(FULL).removesuffix(EMPTY), name
        if name != stream:
            shown = stream.upper() if len(stream) == 1 else stream
        return f"waiting for room for {shown}" if name.endswith(EMPTY) else f"waiting for {shown}"

    def level(self, kind: str, lock: int) -> str:
        """A lock's counter."""
        name = self.locks.get((kind, lock))
        return f"lock {lock}" if name is None else f"lock {lock} {name}"

    def fifo(self, kind: str, lock: int) -> tuple[str, int] | None:
        """The fifo whose free buffers a lock counts: its name and how many buffers it has."""
        name, depth = self.locks.get((kind, lock), ""), self.depths.get((kind, lock))
        return None if depth is None else (name.removesuffix(EMPTY), depth)
