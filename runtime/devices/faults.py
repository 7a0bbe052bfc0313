"""Failures of a stand-in device, asked for by tests: which call fails with what, and how commands end."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

from npuc.runtime.devices.software_contexts import Outcome


@dataclass
class Faults:
    """Asked-for failures; each happens once unless said otherwise."""

    _codes: dict[str, list[tuple[int, int]]] = field(default_factory=dict)  # call -> (calls before it, errno)
    _outcomes: deque[Outcome | None] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _lost: int | None = None

    def fail(self, call: str, code: int, after: int = 0) -> None:
        """A call (open, mmap, munmap, close, or a request's name) fails with that errno, after so many that do not."""
        with self._lock:
            self._codes.setdefault(call, []).append((after, code))

    def lose(self, code: int) -> None:
        """From now on every call but close and munmap fails so: the device is gone, until `find`."""
        self._lost = code

    def find(self) -> None:
        """The device is there again."""
        self._lost = None

    def end(self, state: int, operation: int | None = None, failed: int = 0) -> None:
        """The next command ends in that state without having run."""
        with self._lock:
            self._outcomes.append(Outcome(state, operation, failed))

    def hang(self) -> None:
        """The next command never ends."""
        with self._lock:
            self._outcomes.append(None)

    def code_of(self, call: str) -> int | None:
        """What a call that is made now fails with; None: it does not."""
        if self._lost is not None and call not in ("close", "munmap"):
            return self._lost
        with self._lock:
            waiting = self._codes.get(call)
            if not waiting:
                return None
            after, code = waiting[0]
            if after:
                waiting[0] = after - 1, code
                return None
            waiting.pop(0)
            return code

    def outcome(self) -> tuple[Outcome | None, bool]:
        """How the command that is submitted now ends, where that was asked for, and whether it hangs."""
        with self._lock:
            if not self._outcomes:
                return None, False
            outcome = self._outcomes.popleft()
            return outcome, outcome is None

    @property
    def left(self) -> int:
        """How many failures have not happened yet."""
        with self._lock:
            return sum(map(len, self._codes.values())) + len(self._outcomes)
