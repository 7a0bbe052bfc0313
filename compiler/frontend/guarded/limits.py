"""Bounds of a process that reads MLIR."""

from __future__ import annotations

import sys
from dataclasses import dataclass

MEGABYTE = 1 << 20


@dataclass(frozen=True)
class Limits:
    """processor_seconds, wall_seconds: of one reading.  memory: bytes beyond what the process has when it begins.
    stack: bytes.

    The stack is a fraction of what a process has that takes the result, so that whatever recursion came through here
    comes through there.
    """

    processor_seconds: float
    wall_seconds: float
    memory: int
    stack: int = MEGABYTE


def limits_for(size: int) -> Limits:
    """For a text of `size` bytes: some hundred times what reading, lowering and writing a sound one takes."""
    megabytes = size / MEGABYTE
    return Limits(10 + megabytes, 60 + 6 * megabytes, 2048 * MEGABYTE + 16 * size)


def restrict(limits: Limits) -> None:
    """Bound this process where the system can, and let its end make neither noise nor a core file."""
    import faulthandler

    faulthandler.disable()
    if sys.platform == "win32":
        import msvcrt

        msvcrt.SetErrorMode(msvcrt.SEM_FAILCRITICALERRORS | msvcrt.SEM_NOGPFAULTERRORBOX)
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = int(used.ru_utime + used.ru_stime + limits.processor_seconds) + 1
    _bound(resource.RLIMIT_CORE, 0)
    _bound(resource.RLIMIT_CPU, seconds)
    if sys.platform == "linux":
        _bound(resource.RLIMIT_AS, _address_space() + limits.memory)
        _leave_no_trace()


def _bound(kind: int, value: int) -> None:
    import resource

    _, hard = resource.getrlimit(kind)
    soft = value if hard == resource.RLIM_INFINITY else min(value, hard)
    try:
        resource.setrlimit(kind, (soft, hard))
    except (ValueError, OSError):  # a system without this limit
        return


def _address_space() -> int:
    """Bytes this process has mapped: a parent may have mapped much."""
    import resource

    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _leave_no_trace() -> None:
    """No core to a handler that ignores the limit, and an end with the parent (of <sys/prctl.h>)."""
    import ctypes
    import signal

    set_parent_death_signal, set_dumpable = 1, 4
    prctl = ctypes.CDLL(None).prctl
    prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0)
    prctl(set_dumpable, 0, 0, 0, 0)
