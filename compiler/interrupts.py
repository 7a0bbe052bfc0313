"""Interrupts of a command whose exception went astray.

Python raises KeyboardInterrupt between any two steps of the main thread. Where that is in a finaliser, or while an
extension module initialises that drops what is raised there (numpy.random's, for one), nothing of it is left, and the
command would go on to its end. So the command's handler notes the interrupt first; long work and whatever writes files
look whether one is noted.
"""

from __future__ import annotations

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
