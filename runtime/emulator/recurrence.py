"""Proof that an array goes round for ever: all its state comes back while the sequence waits.

What happens next in an array depends on its state alone: registers and memories of cores, locks, channels, words on
their way, and when the next events are due, all times counted from now.  When all of that is as it was a round ago,
and once more a round later (which settles what is still in the pipelines of cores), it comes back for ever, and what
the sequence waits for never comes.

One state, the anchor, is compared with later ones at events of the same unit, the cheap parts first and registers when
all else agrees; after twice as many events each time a later state becomes the anchor, so that any start and any length
of a round is found.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.asm.codec import DecodeError, decode_bundle
from npuc.compiler.asm.text import format_bundle
from npuc.runtime.emulator.state import array_state, registers_state, words_state

if TYPE_CHECKING:
    from npuc.runtime.emulator.array import Array
    from npuc.runtime.emulator.controller import Controller
    from npuc.runtime.emulator.tile import Tile

FIRST_ANCHOR = 8192  # events of one wait of the sequence before the first anchor
FREE, EVERY = 8, 5000  # comparisons of all the state for each anchor, and events between any more of them
HOST_LIMIT = 64 << 20  # bytes of buffers up to which their contents are compared


@dataclass(frozen=True)
class Round:
    """One round of what repeats: its cycles, and by name what each unit that moves does in it."""

    cycles: int
    movers: dict[str, str]


class Recurrence:
    """Looks at the array after every event while the sequence waits."""

    def __init__(self, array: Array, controller: Controller) -> None:
        self.array, self.controller = array, controller
        self._events = 0  # of the present wait, when it was last looked at
        self.due = FIRST_ANCHOR  # at which number of events to look in any case
        self.rank = -1  # of the unit at whose events the anchor is compared
        self._anchor: _Anchor | None = None
        self._length: tuple[int, int] | None = None  # events and cycles of a round seen once
        self._compared = self._not_before = 0
        self._possible: bool | None = None

    def forget(self) -> None:
        """The sequence goes on: what was is no longer of use."""
        self.due, self.rank = FIRST_ANCHOR, -1
        self._anchor = self._length = None
        self.array.host.unmark()

    def look(self, events: int) -> Round | None:
        """After so many events of the present wait.  What repeats, once it is proved to.

        Nothing is found unless so many are `due`, or the last one was of the unit of `rank`.
        """
        self._events = events
        if events >= self.due:
            self.due *= 2
            if self._possible is not False and self.array.clock.rank:
                self._drop_anchor(registers=False)
        elif self.array.clock.rank == self.rank and self._events >= self._not_before:
            return self._compare()
        return None

    def _drop_anchor(self, registers: bool) -> None:
        self.rank = self.array.clock.rank
        self._anchor = _Anchor(self.array, self.rank, self._events, registers)
        self._compared = self._not_before = 0

    def _compare(self) -> Round | None:
        anchor = self._anchor
        assert anchor is not None
        if not anchor.resembles(self.array):
            return None
        if not anchor.equals(self.array):
            self._compared += 1
            self._not_before = self._events + EVERY if self._compared >= FREE else 0
            return None
        if self._possible is None:
            self._possible = not any(_reads_time(tile) for tile in self.array.tiles.values())
        if not self._possible:
            self.rank = -1
            return None
        length = self._events - anchor.event, self.array.clock.cycle - anchor.cycle
        if anchor.has_registers and self._length == length:
            return Round(length[1], dict(_movers(self.array, length[1])))
        self._length = length if anchor.has_registers else None
        self._drop_anchor(registers=True)
        self.due = max(self.due, self._events + 4 * length[0])
        return None


class _Anchor:
    """A state, in parts that cost more and more to compare.

    registers: whether those of the cores are part of it; to look at them slows cores that run as native code.
    """

    def __init__(self, array: Array, rank: int, event: int, registers: bool) -> None:
        self.event, self.cycle, self.has_registers = event, array.clock.cycle, registers
        self._cores = [tile.core for tile in array.tiles.values() if tile.core is not None]
        self._own = next((core for core in self._cores if core.tile.rank == rank), None)
        self._pc = self._own.core.pc if self._own is not None else 0
        self._pending = array.clock.due_from_now()
        self._state = array_state(array)
        self._words = words_state(array)
        self._memories = [tile.memory.data.copy() for tile in array.tiles.values() if tile.memory is not None]
        self._moved = _words_of_shims(array)
        self._host = array.host if array.host.size <= HOST_LIMIT else None
        if self._host is not None:
            self._host.mark()
        self._registers = self._all_registers() if registers else []

    def _all_registers(self) -> list[Hashable]:
        return [registers_state(core) for core in self._cores if core.running]

    def resembles(self, array: Array) -> bool:
        """Whether the unit at whose event this is, and what is due, are as they were."""
        if self._own is not None and self._own.core.pc != self._pc:
            return False
        return array.clock.is_due(self._pending)

    def equals(self, array: Array) -> bool:
        """Whether all of the state is as it was."""
        memories = [tile.memory.data for tile in array.tiles.values() if tile.memory is not None]
        if not all(map(np.array_equal, memories, self._memories)):
            return False
        if array_state(array) != self._state or words_state(array) != self._words:
            return False
        read, written = (now - before for now, before in zip(_words_of_shims(array), self._moved, strict=True))
        # Host memory matters to the array only where it is both read and written.
        if read and written and (self._host is None or not self._host.as_marked()):
            return False
        return not self.has_registers or self._all_registers() == self._registers


def _words_of_shims(array: Array) -> tuple[int, int]:
    """Words that shims have read from and written to host memory."""
    shims = [tile for tile in array.tiles.values() if tile.kind == "shim"]
    channels = [channel for tile in shims for channel in tile.channels.values()]
    read, written = (sum(c.words for c in channels if c.direction == way) for way in ("mm2s", "s2mm"))
    return read, written


def _reads_time(tile: Tile) -> bool:
    """Whether a program may look at timers or other registers of its tile, which no state here holds."""
    if tile.core is None or not tile.core.running:
        return False
    program, address = tile.core.program, 0
    while address < len(program):
        try:
            bundle = decode_bundle(program, address)
        except DecodeError:
            break
        text = format_bundle(bundle).lower()
        if ".tm" in text or "cntr" in text:
            return True
        address += bundle.size
    return False


def _movers(array: Array, cycles: int) -> Iterator[tuple[str, str]]:
    """Run one round; what each unit that moves does in it."""
    bundles = {tile.name: tile.core.core.bundles for tile in array.tiles.values() if tile.core is not None}
    runs: dict[str, dict[int, None]] = {}
    changed: dict[str, dict[str, None]] = {}
    hooks = {tile.name: tile.locks.changed for tile in array.tiles.values()}
    for tile in array.tiles.values():
        tile.locks.changed = _noting(tile, changed)
    words = {channel.name: channel.words for channel in array.channels()}
    end = array.clock.cycle + cycles
    while (due := array.clock.next_cycle()) is not None and due <= end:
        array.clock.step()
        for channel in array.channels():
            if channel.rank == array.clock.rank and channel.number_running is not None:
                runs.setdefault(channel.name, {})[channel.number_running] = None
    for tile in array.tiles.values():
        tile.locks.changed = hooks[tile.name]
        if tile.core is not None and (count := tile.core.core.bundles - bundles[tile.name]):
            yield tile.name, _of_core(count, cycles, tuple(changed.get(tile.name, ())))
    for channel in array.channels():
        if channel.words > words[channel.name] or channel.name in runs and channel.name in changed:
            numbers = ", ".join(map(str, sorted(runs.get(channel.name, ())))) or str(channel.number_running)
            yield channel.name, f"runs descriptor {numbers} for ever, every {cycles} cycles the same"


def _noting(tile: Tile, changed: dict[str, dict[str, None]]) -> Callable[[str, int, int], None]:
    def note(name: str, lock: int, value: int) -> None:
        changed.setdefault(tile.locks.writers[lock], {})[f"{lock} of {name}"] = None

    return note


def _of_core(bundles: int, cycles: int, locks: tuple[str, ...]) -> str:
    where = f", acquires and releases lock {' and '.join(locks)}" if locks else ""
    return f"repeats the same {bundles} bundles every {cycles} cycles for ever{where}, and nothing comes of it"
