"""Calls that were begun and not yet waited for: `exe.submit(...)` gives one, `result()` ends it."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.devices.giving_back import passed_over

if TYPE_CHECKING:
    from npuc.runtime.backends import Backend
    from npuc.runtime.backends.pending import Pending
    from npuc.runtime.executable import Call, Executable
    from npuc.runtime.kernel_file import DescribedKernel, KernelFile


@dataclass(frozen=True)
class Begun:
    """A call on a device. kernel: as it was called; held: as the device has its arguments, which `buffers` are."""

    pending: Pending
    backend: Backend
    kernel: DescribedKernel
    held: KernelFile
    buffers: Sequence[bytearray | memoryview]


class Submission:
    """A call under way, with the manners of a future.

    begun: None where it was not begun yet. Where the device fails it the call is made again, with the fallbacks of any
    call; wrong arguments raised already when it was submitted.
    """

    def __init__(self, executable: Executable, given: Mapping[str, np.ndarray], begun: Begun | None) -> None:
        self._executable, self._given, self._begun = executable, given, begun
        self._turn = threading.RLock()
        self._call: Call | None = None
        self._error: Exception | None = None
        self._cancelled = False

    def done(self) -> bool:
        """Whether `result` would not wait for the device."""
        if self._call is not None or self._error is not None or self._cancelled:
            return True
        begun = self._begun
        return begun is not None and begun.pending.done

    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> bool:
        """Forget the call, and what it was loaded on where the device is still at it; False once it is done."""
        with self._turn:
            if self.done():
                return self._cancelled
            self._cancelled = True
            begun, self._begun = self._begun, None
        if begun is not None:
            self._executable.drop(begun.backend)
        return True

    def call(self) -> Call:
        """Outputs, report and warnings. Raises CancelledError, BackendError, UnsupportedError."""
        begun = self._begun
        if begun is not None and self._call is None:
            with passed_over(BackendError):
                begun.pending.wait()  # without the lock: other calls may begin meanwhile
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
        begun, self._begun = self._begun, None  # an interrupt here leaves a call that is made again
        if begun is not None:
            with passed_over(BackendError):
                return self._executable.end(begun)
        return self._executable.call(self._given)

    def result(self) -> Any:
        """The output, as calling the kernel gives it."""
        return self._executable.as_given(self._given, self.call())

    def exception(self) -> BaseException | None:
        """What `result` raises, or None."""
        try:
            self.call()
        except (Exception, CancelledError) as error:
            return error
        return None
