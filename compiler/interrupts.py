"""Interrupts of a command whose exception went astray.

Python raises KeyboardInterrupt between any two steps of the main thread. Where that is in a finaliser, or while an
extension module initialises that drops what is raised there (numpy.random's, for one), nothing of it is left, and the
command would go on to its end. So the command's handler notes the interrupt first; long work and whatever writes files
look whether one is noted.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType

_noted: list[None] = []


def note() -> None:
    """An interrupt came; to be called by a handler of signals."""
    _noted.append(None)


def forget() -> None:
    """What was noted has been delivered, or belongs to an earlier command of this process."""
    _noted.clear()


def noted() -> bool:
    """Whether an interrupt came that was not delivered yet."""
    return bool(_noted)


def check() -> None:
    """Raises KeyboardInterrupt where an interrupt is noted."""
    if _noted:
        raise KeyboardInterrupt


class Held:
    """Interrupts of the main thread come after what is within.

    Some extension modules (nanobind's) end the process where one comes while they initialise.
    """

    def __enter__(self) -> None:
        self._came: list[int] = []
        self._replaced = None
        if threading.current_thread() is threading.main_thread():
            before = signal.getsignal(signal.SIGINT)
            if callable(before):
                signal.signal(signal.SIGINT, self._note)
                self._replaced = before

    def __exit__(self, *_: object) -> None:
        if self._replaced is not None:
            signal.signal(signal.SIGINT, self._replaced)
        if self._came:
            signal.raise_signal(signal.SIGINT)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came.append(number)
