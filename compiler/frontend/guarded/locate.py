"""Where in a text MLIR's parser ends the process."""

from __future__ import annotations

import time
from collections.abc import Callable

SECONDS = 5.0


def fatal_offset(text: bytes, dies: Callable[[bytes], bool]) -> int | None:
    """The last byte of the shortest beginning of `text` that ends the process; None where no beginning is found.

    The parser reads from left to right, so every longer beginning does, too. Gives what it has after SECONDS.
    """
    end = time.monotonic() + SECONDS
    if not dies(text):
        return None
    survived, fatal = 0, len(text)
    while fatal - survived > 1 and time.monotonic() < end:
        middle = (survived + fatal) // 2
        if dies(text[:middle]):
            fatal = middle
        else:
            survived = middle
    return fatal - 1
