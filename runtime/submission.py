"""Calls that were begun and not yet waited for: `exe.submit(...)` gives one, `result()` ends it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.diagnostics import BackendError

if TYPE_CHECKING:
    from npuc.runtime.backends.pending import Pending
    from npuc.runtime.executable import Call


class Submission:
    """A call under way, with the manners of a future.

    Where the device fails it the call is made again, with the fallbacks of any call; wrong arguments raised already
    when it was submitted.
    """

    def __init__(
        self,
        pending: Pending | None,
        collect: Callable[[Pending], Call],
        again: Callable[[], Call],
        abandon: Callable[[], None],
        give: Callable[[Call], np.ndarray],
    ) -> None:
        self._pending, self._collect, self._again = pending, collect, again
        self._abandon, self._give = abandon, give
        self._turn = threading.RLock()
        self._call: Call | None = None
        self._error: Exception | None = None
        self._cancelled = False

    def done(self) -> bool:
        """Whether `result` would not wait for the device."""
        if self._call is not None or self._error is not None or self._cancelled:
            return True
        return self._pending is not None and self._pending.done

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> bool:
        """Forget the call, and what it was loaded on where the device is still at it; False once it is done."""
        with self._turn:
            if self.done():
                return self._cancelled
            self._cancelled = True
            self._pending = None
        self._abandon()
        return True

    def call(self) -> Call:
        """Outputs, report and warnings. Raises CancelledError, BackendError, UnsupportedError."""
        pending = self._pending
        if pending is not None and self._call is None:
            with contextlib.suppress(BackendError):
                pending.wait()  # without the lock: other calls may begin meanwhile
        with self._turn:
            if self._cancelled:
                raise CancelledError
            if self._error is not None:
                raise self._error
            if self._call is None:
                try:
                    self._call = self._ended()
                except Exception as error:
                    self._error = error
                    raise
            return self._call

    def _ended(self) -> Call:
        pending, self._pending = self._pending, None  # an interrupt here leaves a call that is made again
        if pending is None:
            return self._again()
        try:
            return self._collect(pending)
        except BackendError:
            return self._again()

    def result(self) -> np.ndarray:
        """The output, as calling the kernel gives it."""
        return self._give(self.call())

    def exception(self) -> BaseException | None:
        """What `result` raises, or None."""
        try:
            self.call()
        except (Exception, CancelledError) as error:
            return error
        return None
