"""Runs of cores that do not interact, on several threads.

A core whose turn is still to come is run ahead of it on copies of its state and its memory. When its turn comes, what
the run started from is compared with what is there now: where nothing has changed it the results are taken over, else
they are dropped and the core runs as ever. So results and cycles are those of one thread whatever the threads do.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import UsageError
from npuc.runtime.emulator.native.program import Program
from npuc.runtime.emulator.native.state import StateBuffer

VARIABLE = "NPUC_THREADS"
LONG = 5000
"""Bundles of a run from which on the next one is worth a thread: copies and comparison cost about 50 microseconds."""


@functools.cache
def threads() -> int:
    """How many threads may run cores: NPUC_THREADS, else the processors of this process."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise UsageError(f"{VARIABLE} is {text!r}", remedy="a number from 1 to 256")
    return int(text)


_pools: dict[int, ThreadPoolExecutor] = {}  # by process: the threads of a pool do not come along when it forks


def _pool() -> ThreadPoolExecutor:
    process = os.getpid()
    if process not in _pools:
        _pools.setdefault(process, ThreadPoolExecutor(threads() - 1, thread_name_prefix="npuc-core"))
    return _pools[process]


def _run(program: Program, block: Any, state: StateBuffer, memory: np.ndarray) -> tuple[int, int]:
    """Holds on to what native code writes, also when nobody waits for it any more."""
    return program.run(block, state, int(memory.ctypes.data))


class Ahead:
    """A run from a state on; key: what else it depends on, compared when it is taken over."""

    def __init__(self, program: Program, block: Any, state: StateBuffer, memory: np.ndarray, key: Any) -> None:
        self.key = key
        self._process = os.getpid()
        self._before = memory.copy()
        self._memory = memory.copy()
        self._state = state.copy()
        self._future: Future[tuple[int, int]] = _pool().submit(_run, program, block, self._state, self._memory)

    def take_over(self, state: StateBuffer, memory: np.ndarray, key: Any) -> tuple[int, int] | None:
        """Kind and place of the exit, with state and memory as the run left them; None when it is worth nothing."""
        if self._process != os.getpid():  # the thread is the parent's
            return None
        exit_taken = self._future.result()
        if key != self.key or not np.array_equal(memory, self._before):
            return None
        state.bytes[:] = self._state.bytes
        memory[:] = self._memory
        return exit_taken
