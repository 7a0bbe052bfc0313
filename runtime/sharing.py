"""Contexts of the NPU are few, for all programs together: kernels that rest give theirs to those that are called."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from npuc.runtime.devices.failures import DeviceFailure
from npuc.runtime.metrics import metrics

if TYPE_CHECKING:
    from npuc.runtime.executable import Executable

T = TypeVar("T")

_lock = threading.Lock()
_used: dict[int, weakref.ref[Executable]] = {}  # by identity, the one that was used longest ago first


def used(executable: Executable) -> None:
    """Note that it has the NPU, and was called just now."""
    key = id(executable)
    with _lock:
        _used.pop(key, None)
        _used[key] = weakref.ref(executable, lambda _: _used.pop(key, None))


def given_back(executable: Executable) -> None:
    """Note that it has the NPU no more."""
    with _lock:
        _used.pop(id(executable), None)


def with_room(executable: Executable, open_: Callable[[], T]) -> T:
    """What `open_` gives. While contexts are what it lacks, kernels that rest give theirs, in the order of their use.

    Raises BackendError where it lacks something else, or nobody can give.
    """
    while True:
        try:
            return open_()
        except DeviceFailure as failure:
            if failure.call != "CREATE_HWCTX" or not _someone_gives(executable):
                raise


def _someone_gives(asking: Executable) -> bool:
    with _lock:
        others = [reference() for reference in _used.values()]
    given = any(other is not None and other is not asking and other.rest() for other in others)
    if given:
        metrics.count("npuc_contexts_given_total")
    return given
