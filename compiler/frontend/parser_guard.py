"""Text that makes MLIR's parser abort the process instead of reporting an error.

Upstream's parser of linalg's `permutation = [...]` and `dimensions = [...]` goes on with a
null attribute where the list is malformed, and dies.  A forked child therefore tries first.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections.abc import Callable

from npuc.compiler.diagnostics import InputError, Place

_LIST = re.compile(r"\b(permutation|dimensions)\s*=\s*")
_WELL_FORMED = re.compile(r"\[\s*(-?\d{1,18}\s*(,\s*-?\d{1,18}\s*)*)?\]")


def survives(parse: Callable[[], object]) -> bool:
    """Whether `parse` comes back, with a result or an error, when a child process runs it.

    Where a child is not to be had (no fork, other threads that may hold locks) the answer is yes.
    """
    if not hasattr(os, "fork") or threading.active_count() > 1:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of libraries, which the child does not touch
        child = os.fork()
    if child == 0:
        try:
            _be_quiet()
            parse()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return not os.WIFSIGNALED(status)


def _be_quiet() -> None:
    """No message of the abort, no core file."""
    import faulthandler
    import resource

    faulthandler.disable()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def abort_error(text: str, file: str) -> InputError:
    """What to tell of text whose parsing aborts: the malformed list, if one is found."""
    for match in _LIST.finditer(text):
        rest = text[match.end() :]
        if not rest.startswith("array<") and not _WELL_FORMED.match(rest):
            line = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start())
            return InputError(f"{match[1]}: expected a list of integers", place=Place(file, line, column))
    return InputError("MLIR's parser aborts on this text", place=file, remedy="mlir-opt may show where")
