"""What a unit of the array waits for: the links of which a diagnosis makes its chain."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Wait:
    """One reason why a unit stands still.

    unit: who waits, by its name.  kind: 'lock', 'words' (nothing arrives), 'room' (nothing is taken), 'arbiter'
    (another packet passes) or 'way' (the switches lead nowhere).  on: the lock, channel or port waited for, by its
    name.  text: one line.
    peers: names of the units whose next step could end the wait, where the array knows them.  lock: (tile, lock, value
    wanted as in the acquire) for kind 'lock'.
    """

    unit: str
    kind: str
    on: str
    text: str
    peers: tuple[str, ...] = field(default=())
    lock: tuple[str, int, int] | None = None
