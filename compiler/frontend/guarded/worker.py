"""The kept process that reads texts for callers that cannot fork: started once, again after an end or a fork."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from typing import ClassVar

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.frontend.guarded.limits import Limits
from npuc.compiler.frontend.guarded.outcome import STARTING, Answer, Died, Outcome

# On top of what a reading may take: the process's start, and finding the place where the parser ends.
MARGIN_SECONDS = 60.0
_SERVER = "npuc.compiler.frontend.guarded.serve"
_SERVE = f"import sys; sys.path[:] = sys.argv[1:]; from {_SERVER} import serve; sys.exit(serve())"


class Worker:
    """One process. Not for several threads at once."""

    alive: ClassVar[set[Worker]] = set()

    def __init__(self) -> None:
        if not sys.executable:
            raise BackendError("MLIR is read in another process, and this Python knows no executable to start")
        path = [os.path.abspath(entry) for entry in sys.path]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *path],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=os.path.abspath(os.sep),  # holds no folder of the caller's
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
                start_new_session=True,  # an interrupt from the keyboard is the caller's
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # the same on Windows
            )
        except OSError as error:
            raise BackendError(f"no process can be started to read MLIR: {error.strerror or error}") from error
        assert self._process.stdin is not None and self._process.stdout is not None
        self._request, self._answer = self._process.stdin, self._process.stdout
        self.answered = 0
        self.alive.add(self)

    def ask(self, text: bytes, limits: Limits) -> Outcome | None:
        """What comes of a text; None where the process ended without a word. Unless it answers, `end` it."""
        answer = Answer()
        self._send(json.dumps({"size": len(text), **asdict(limits)}).encode() + b"\n" + text)
        end = time.monotonic() + limits.wall_seconds + MARGIN_SECONDS
        while answer.outcome is None:
            if not self._readable(end - time.monotonic()):
                return Died(answer.stage, "time")
            part = os.read(self._answer.fileno(), 1 << 20)
            if not part:
                return Died(answer.stage, "signal") if answer.stage != STARTING else None
            answer.take(part)
        self.answered += 1
        return answer.outcome

    def _send(self, data: bytes) -> None:
        """Where the process has ended that shows when it is read from; its closed pipe must not end this one."""
        view = memoryview(data)
        with _without_broken_pipe_signal(), suppress(BrokenPipeError):
            while view:
                view = view[os.write(self._request.fileno(), view) :]

    def _readable(self, seconds: float) -> bool:
        """Whether an answer or an end comes in time. Without poll the process alone bounds its time."""
        if not hasattr(select, "poll"):
            return True
        poll = select.poll()
        poll.register(self._answer.fileno(), select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def end(self) -> None:
        """Kill it and leave nothing behind."""
        self._process.kill()
        self._process.wait()
        self._close()

    def forget(self) -> None:
        """For a forked child: the process is its parent's, only the copies of the pipe's ends are its own."""
        self._process.returncode = 0
        self._close()

    def _close(self) -> None:
        self.alive.discard(self)
        self._request.close()
        self._answer.close()


@contextmanager
def _without_broken_pipe_signal() -> Iterator[None]:
    """Writing to a process that has ended is an error here, also where the caller restored SIGPIPE's default."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE not in before:
            if hasattr(signal, "sigtimedwait"):
                signal.sigtimedwait({signal.SIGPIPE}, 0)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Kept:
    """The process that is kept between texts, and the thread that uses it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.worker: Worker | None = None
        self.user: int | None = None


_kept = _Kept()


def ask(text: bytes, limits: Limits) -> Outcome:
    """What comes of a text, from the kept process. Raises BackendError where none can be started.

    One text at a time: other threads wait. A thread that is interrupted while it waits, by a signal's handler that asks
    again, gets a process of its own.
    """
    kept = _kept
    if kept.user == threading.get_ident():
        return _ask(_Kept(), text, limits, keep=False)
    with kept.lock:
        kept.user = threading.get_ident()
        try:
            return _ask(kept, text, limits, keep=True)
        finally:
            kept.user = None


def _ask(kept: _Kept, text: bytes, limits: Limits, keep: bool) -> Outcome:
    while True:
        worker = kept.worker or Worker()
        kept.worker = None  # until it has answered: an interrupted exchange leaves it in between
        answered = worker.answered
        outcome = None
        try:
            outcome = worker.ask(text, limits)
        finally:
            if keep and worker.answered > answered:
                kept.worker = worker
            else:
                worker.end()
        if outcome is not None:
            return outcome
        if not answered:
            raise BackendError(
                "the process that reads MLIR does not start", remedy=f"`{sys.executable} -m {_SERVER}` says why"
            )


def _forget() -> None:
    """After a fork, in the child: processes and the lock are the parent's."""
    global _kept
    _kept = _Kept()
    for worker in tuple(Worker.alive):
        worker.forget()


def _end() -> None:
    for worker in tuple(Worker.alive):
        worker.end()


atexit.register(_end)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
