"""What the emulator refuses to do, with the place in the array or in the program that asked for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import BackendError

if TYPE_CHECKING:
    from npuc.runtime.emulator.memory import DataMemory
    from npuc.runtime.emulator.wait_graph import Diagnosis
    from npuc.runtime.trace import Trace


class EmulationError(BackendError):
    """The program did something the machine cannot do, or something the emulator does not model.

    message: one line. details: further lines, for instance who waits for what in a deadlock. diagnosis: the same as
    data, where the array stood still. trace: of the run up to here, where one was asked for.
    """

    trace: Trace | None = None

    def __init__(
        self,
        message: str,
        *,
        details: Iterable[str] = (),
        place: str | None = None,
        remedy: str | None = None,
        diagnosis: Diagnosis | None = None,
    ) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.details = list(details)
        self.diagnosis = diagnosis


class UndefinedData(EmulationError):
    """Strict: bits that were never defined decide something, or leave memory.

    sent: where a channel sends what nothing has written, the memory, the first byte of that, and the first and the end
    of the channel's buffer.
    """

    sent: tuple[DataMemory, int, int, int] | None = None


class Deadlock(EmulationError):
    """Nothing in the array can proceed and the runtime sequence has not ended."""


class CycleLimit(BackendError):
    """The run needed more cycles than it was allowed. details, diagnosis: how the array stood then."""

    trace: Trace | None = None

    def __init__(self, message: str, *, remedy: str | None = None, diagnosis: Diagnosis | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.diagnosis = diagnosis
        self.details = diagnosis.details() if diagnosis is not None else []
