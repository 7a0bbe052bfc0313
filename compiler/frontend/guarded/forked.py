"""Work in a forked child: for a process without other threads, on Linux."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

from npuc.compiler import interrupts
from npuc.compiler.frontend.guarded.limits import Limits, restrict
from npuc.compiler.frontend.guarded.outcome import Answer, Died, Fault, Outcome, done, stage_line

# Work is given a function to tell its stages to.
Work: TypeAlias = "Callable[[Callable[[str], None]], Outcome]"


def run_forked(work: Work, limits: Limits, close: Sequence[int] = ()) -> Outcome:
    """`work`'s outcome, from a child within `limits`; the bindings must be imported.

    close: descriptors that the child must not keep open. Raises OSError where no child is to be had.
    """
    reading, writing = os.pipe()
    try:
        child = _fork()
    except BaseException:
        os.close(reading)
        os.close(writing)
        raise
    if child == 0:
        _child(work, limits, writing, (reading, *close))
    os.close(writing)
    answer = Answer()
    in_time = False
    try:
        in_time = _take_all(answer, reading, limits.wall_seconds)
    finally:
        os.close(reading)
        if not in_time:
            os.kill(child, signal.SIGKILL)
        ended_by, memory = _reap(child)
    if answer.outcome is not None:
        return answer.outcome
    if not in_time or ended_by == signal.SIGXCPU:
        return Died(answer.stage, "time")
    return Died(answer.stage, "memory" if memory > 0.8 * limits.memory else "signal")


def _fork() -> int:
    global _own_threads
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's threads, which their library ends before a fork
        child = os.fork()
    if child:
        _own_threads = min(_own_threads, _native_threads() - 1)
    return child


def _take_all(answer: Answer, descriptor: int, seconds: float) -> bool:
    """Read until the other end is closed; False where that takes too long."""
    end = time.monotonic() + seconds
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        left = end - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            return False
        part = os.read(descriptor, 1 << 20)
        if not part:
            return True
        answer.take(part)


def _reap(child: int) -> tuple[int, int]:
    """What signal ended the child (0: none) and its peak memory; (0, 0) where the caller ignores SIGCHLD."""
    try:
        _, status, usage = os.wait4(child, 0)
    except ChildProcessError:
        return 0, 0
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, usage.ru_maxrss * 1024


def _child(work: Work, limits: Limits, writing: int, close: Sequence[int]) -> None:
    """The child's life; does not return."""
    try:
        writing = _alone(writing, close)
        try:
            restrict(limits)
            outcome = on_small_stack(lambda: work(lambda stage: write_all(writing, stage_line(stage))), limits)
        except BaseException:
            outcome = Fault(traceback.format_exc())
        write_all(writing, done(outcome))
    finally:
        os._exit(0)


def _alone(writing: int, close: Sequence[int]) -> int:
    """Leave the parent's descriptors and signal handlers behind; the new number of `writing`."""
    import fcntl

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    moved = fcntl.fcntl(writing, fcntl.F_DUPFD_CLOEXEC, 3)
    for descriptor in {writing, *close}:
        os.close(descriptor)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    return moved


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def on_small_stack(work: Callable[[], Outcome], limits: Limits) -> Outcome:
    """`work`'s outcome, from a thread with a stack of `limits.stack` bytes."""
    found: list[Outcome] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException:
            found.append(Fault(traceback.format_exc()))

    before = threading.stack_size(limits.stack)
    try:
        thread = threading.Thread(target=run, daemon=True)
        thread.start()
    finally:
        threading.stack_size(before)
    thread.join()
    return found[0]


_own_threads = 0


def import_bindings() -> None:
    """Import the MLIR bindings and what any text needs of them, so that children need not.

    Counts the threads that doing so starts (numpy's, for linear algebra).
    """
    global _own_threads
    if "torch_mlir.passmanager" not in sys.modules:
        before = _native_threads()
        with interrupts.Held():
            import torch_mlir.dialects.builtin
            import torch_mlir.passmanager  # noqa: F401

            from npuc.compiler.frontend.context import new_context

            new_context()
        _own_threads = max(0, _native_threads() - before)


def may_fork() -> bool:
    """Whether there is no other thread, which could hold a lock that a child would wait for. `import_bindings` first.

    Threads that numpy's library keeps are ended by that library before a fork; those of other libraries count. Linux
    only: other systems' libraries do not bear a fork.
    """
    return sys.platform == "linux" and threading.active_count() == 1 and _native_threads() <= 1 + _own_threads


def _native_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return sys.maxsize
