"""Giving back what may have gone already: its failures tell nothing new, and nothing of them stays behind."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from npuc.compiler.diagnostics import NpucError


def closed(close: Callable[[], object]) -> None:
    """Call `close`, whose NpucErrors are passed over.

    Frames of a failed close hold what was closed, and failures of several steps hold each other's frames: in cycles, in
    which a device that has gone would live on until they are searched for.
    """
    handled = sys.exc_info()[1]  # which the failure came after, not from
    try:
        close()
    except NpucError as error:
        _forget(error, handled)


def _forget(error: BaseException, handled: BaseException | None) -> None:
    """Drop what the frames of an error hold, and of those that it came from, up to the one that was handled before."""
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
