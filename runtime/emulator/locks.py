"""Locks of one tile: 6-bit counters with waiters (facts/platform/device_npu1.md, "Locks")."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.errors import EmulationError

Wake = Callable[[], None]


class Locks:
    """values: the counters.  Waiters are woken, in the order they came, whenever their lock changes."""

    def __init__(self, count: int, name: str, strict: bool, warn: Callable[[str], None]) -> None:
        self.values = [0] * count
        self.writers = ["reset"] * count
        # By lock, who has ever acquired or released it; for diagnosis.
        self.acquirers: defaultdict[int, set[str]] = defaultdict(set)
        self.releasers: defaultdict[int, set[str]] = defaultdict(set)
        self.misuse = {"overflow": 0, "underflow": 0}  # a bit a lock, until it is cleared
        self.changed: Callable[[str, int, int], None] | None = None  # told tile, lock and new value
        self.name = name
        self._strict = strict
        self._warn = warn
        self._waiters: dict[int, list[Wake]] = {}

    def try_acquire(self, lock: int, value: int, who: str) -> bool:
        """value < 0: when the counter is at least -value, subtract it.  value >= 0: when it is equal, subtract it."""
        values = self.values
        current = values[lock]
        if value < 0:
            left = current + value
            if left < 0:
                return False
        elif current != value:
            return False
        else:
            left = 0
        self.acquirers[lock].add(who)
        values[lock] = left
        self.writers[lock] = who
        if self.changed is not None or lock in self._waiters:
            self._tell(lock, left)
        return True

    def release(self, lock: int, value: int, who: str) -> None:
        """Add the signed value; beyond 0..63 is misuse: an error in strict mode, else a warning and the limit."""
        self.releasers[lock].add(who)
        total = self.values[lock] + value
        if not 0 <= total <= geometry.LOCK_MAXIMUM:
            text = f"lock {lock} of {self.name} leaves 0..{geometry.LOCK_MAXIMUM}: {total} after {who} releases {value}"
            self._misused(text)
            self.misuse["overflow" if total > 0 else "underflow"] |= 1 << lock
            total = min(max(total, 0), geometry.LOCK_MAXIMUM)
        self.values[lock] = total
        self.writers[lock] = who
        if self.changed is not None or lock in self._waiters:
            self._tell(lock, total)

    def _misused(self, text: str) -> None:
        if self._strict:
            raise EmulationError(text)
        self._warn(text)

    def clear_misuse(self, kind: str, locks: int) -> None:
        """Clear the bits of kind 'overflow' or 'underflow' that are set in `locks`."""
        self.misuse[kind] &= ~locks

    def write(self, lock: int, value: int, who: str) -> None:
        """A direct write of the value register, which has six bits; more is misuse."""
        if value > geometry.LOCK_MAXIMUM:
            kept = value & geometry.LOCK_MAXIMUM
            text = f"{who} writes {value} to lock {lock} of {self.name}, which holds 0..{geometry.LOCK_MAXIMUM}"
            self._misused(f"{text}: it becomes {kept}")
        self.values[lock] = value & geometry.LOCK_MAXIMUM
        self.writers[lock] = who
        self._tell(lock, self.values[lock])

    def wait(self, lock: int, wake: Wake) -> None:
        """Call `wake` once, when the lock next changes."""
        self._waiters.setdefault(lock, []).append(wake)

    def _tell(self, lock: int, value: int) -> None:
        if self.changed is not None:
            self.changed(self.name, lock, value)
        if lock in self._waiters:
            for wake in self._waiters.pop(lock):
                wake()
