"""Work that no signal may tear: it runs on a thread of its own and stops only where it looks whether it should.

Python runs signal handlers on the main thread, between any two of its steps. An exception that one raises (an
interrupt, a time limit) is printed and forgotten where the step is part of a finaliser or of a function that native
code calls, and where it is not forgotten it may leave locks taken and tables half written. So what calls native code,
or is called by it, is kept off the main thread, which waits; an exception there asks the work to stop, waits until it
has, and goes on its way.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from npuc.compiler import interrupts

T = TypeVar("T")

GLANCE = 0.2
"""Seconds after which the waiting thread looks up; on some systems signals do not end a wait."""
STACK = 16 << 20
"""Bytes of the thread's stack: LLVM's code generator needs more than some systems give a thread."""

_here = threading.local()


class Stopped(BaseException):
    """The work was asked to stop."""


class _Work(Generic[T]):
    def __init__(self, act: Callable[[], T]) -> None:
        self._act = act
        self.stop = False
        self.begun = self.ended = False
        self._going_on = threading.Lock()
        self._going_on.acquire()
        self.result: T
        self.error: BaseException | None = None

    def run(self) -> None:
        self.begun = True
        _here.work = self
        try:
            check()  # the main thread may have been interrupted while it started this one
            self.result = self._act()
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True
            self._going_on.release()

    def wait(self, seconds: float) -> bool:
        """Whether the work has ended, within that time.

        A bare lock, as an exception of a signal's handler may leave the lock inside an Event taken for ever.
        """
        return self.ended or self._going_on.acquire(timeout=seconds) or self.ended


def check() -> None:
    """Raises Stopped where the work that the calling thread does is to stop; to be called every few milliseconds."""
    work = getattr(_here, "work", None)
    if work is not None and work.stop:
        raise Stopped


class StopRequest:
    """By which another thread stops the work of one."""

    stop = False


def run_until(request: StopRequest, act: Callable[[], T]) -> T:
    """What `act`, done by this thread, returns or raises; Stopped at its next `check` once the request is made."""
    before = getattr(_here, "work", None)
    _here.work = request
    try:
        check()
        return act()
    finally:
        _here.work = before


def run_apart(act: Callable[[], T], meanwhile: Callable[[], None] = lambda: None) -> T:
    """What `act` returns or raises. An exception that a signal's handler raises meanwhile stops it at its next `check`.

    Threads other than the main one hear no signals and do the work themselves. meanwhile: what the waiting thread does
    whenever it looks up.
    """
    if threading.current_thread() is not threading.main_thread():
        return act()
    work = _Work(act)
    # A start that is interrupted may leave the thread waiting for ever for its own start to be noted: daemons do not
    # keep the process from ending.
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(work.run,), name="npuc-run", daemon=True)
    try:
        start_thread(thread)
        while not work.wait(GLANCE):
            interrupts.check()
            meanwhile()
    except BaseException:
        work.stop = True
        while work.begun and not work.ended:  # what begins from now on ends at once
            work.wait(GLANCE)
        raise
    if work.error is None:
        return work.result
    try:
        raise work.error
    finally:
        del work  # its error's traceback refers to this frame


def start_thread(thread: threading.Thread) -> None:
    """Start a thread whose stack is large enough for native code."""
    before = threading.stack_size(STACK)
    try:
        thread.start()
    finally:
        threading.stack_size(before)
