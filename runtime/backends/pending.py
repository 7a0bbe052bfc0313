"""Runs that a device has begun: what of a call is left to do, and the places in which calls take turns."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from npuc.runtime.backends.rows import take_back
from npuc.runtime.devices.giving_back import close_all
from npuc.runtime.kernel_file import KernelFile
from npuc.runtime.statistics import RunReport

PLACES = 2
"""Calls that a backend has under way at most: one runs while the next one's inputs are written."""


class Place(Protocol):
    """Buffers of one call: pinned, and used again by the calls that follow in it."""

    def close(self) -> None: ...


P = TypeVar("P", bound=Place)


def _nothing_left() -> RunReport:
    raise AssertionError("a call ends once")


class Pending:
    """One call under way. `finish` waits for it, fills its output buffers and tells what it took; again: the same."""

    def __init__(
        self,
        kernel: KernelFile,
        wide: Sequence[bytearray | memoryview],
        buffers: Sequence[bytearray | memoryview],
        wait: Callable[[], object],
        complete: Callable[[], RunReport],
        ended: Callable[[], bool],
    ) -> None:
        self._kernel, self._wide, self._buffers = kernel, wide, buffers
        self._wait, self._complete, self._ended = wait, complete, ended
        self._report: RunReport | None = None
        self._error: Exception | None = None

    @property
    def finished(self) -> bool:
        """Whether its buffers are filled, or it failed: the device's are free."""
        return self._report is not None or self._error is not None

    @property
    def done(self) -> bool:
        """Whether `finish` would not wait."""
        return self.finished or self._ended()

    def wait(self) -> None:
        """Until it has ended, however, or its time is over; any thread may. Raises BackendError."""
        if not self.finished:
            self._wait()

    def finish(self) -> RunReport:
        """Raises BackendError."""
        if self._error is not None:
            raise self._error
        if self._report is None:
            try:
                self._report = self._complete()
                take_back(self._kernel, self._wide, self._buffers)
            except Exception as error:
                self._error = copy.copy(error)  # without its traceback, which would keep what the call held
                self._release()
                raise
            self._release()
        return self._report

    def _release(self) -> None:
        """Keep nothing of the device."""
        self._wait = self._ended = lambda: True
        self._complete = _nothing_left


class Places(Generic[P]):
    """The places of a backend. Where all are taken, one is freed by finishing the call that is longest in it."""

    def __init__(self, make: Callable[[], P]) -> None:
        self._make = make
        self._places: list[P] = []
        self._held: dict[int, Pending] = {}  # by number of the place, in the order of their beginning

    def take(self) -> tuple[int, P]:
        """A free place and its number. Raises BackendError where the call in it fails."""
        self._held = {number: pending for number, pending in self._held.items() if not pending.finished}
        free = next((number for number in range(len(self._places)) if number not in self._held), None)
        if free is None and len(self._places) < PLACES:
            self._places.append(self._make())
            free = len(self._places) - 1
        if free is None:
            free = next(iter(self._held))
            self._held.pop(free).finish()
        return free, self._places[free]

    @property
    def idle(self) -> bool:
        """Whether no call is in any of them."""
        return all(pending.finished for pending in self._held.values())

    def hold(self, number: int, pending: Pending) -> None:
        """A call has begun there."""
        self._held[number] = pending

    def close(self) -> None:
        """Give all back; the first failure is raised when all was tried."""
        places, self._places, self._held = self._places, [], {}
        close_all(place.close for place in places)
