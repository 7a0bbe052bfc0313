"""Failures that are passed over, as where what is given back has gone already: nothing of them stays behind.

Frames of a failure hold what they worked on, and failures that come from each other hold each other's frames: in
cycles, in which a device that has gone would live on until they are searched for.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable

from npuc.compiler.diagnostics import NpucError


class passed_over:  # noqa: N801 (a statement's word)
    """`with passed_over(BackendError):` ends the block at such an error, which is forgotten."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __enter__(self) -> None:
        self._handled = sys.exc_info()[1]

    def __exit__(self, kind: object, error: BaseException | None, place: object) -> bool:
        if not isinstance(error, self._kinds):
            return False
        forget(error, self._handled)
        return True


def closed(close: Callable[[], object]) -> None:
    """Call `close`, whose NpucErrors are passed over."""
    with passed_over(NpucError):
        close()


def close_all(steps: Iterable[Callable[[], object]]) -> None:
    """Do every step, in order; the first failure is raised when all was tried, the others are forgotten."""
    handled, failed = sys.exc_info()[1], None
    for step in steps:
        try:
            step()
        except BaseException as error:
            if failed is None:
                failed = error
            elif isinstance(error, NpucError):
                forget(error, handled)
            else:  # an interrupt is told before all
                forget(failed, handled)
                failed = error
    if failed is not None:
        try:
            raise failed
        finally:
            del failed, step  # the traceback refers to this frame


def forget(error: BaseException, handled: BaseException | None = None) -> None:
    """Drop what the frames of an error hold, and of those that it came from; its text stays.

    handled: the one that was handled when the work began that failed, which is somebody else's.
    """
    left: list[BaseException | None] = [error]
    seen = {id(handled)}
    while left:
        one = left.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        traceback.clear_frames(one.__traceback__)
        one.__traceback__ = None
        left += [one.__cause__, one.__context__]
