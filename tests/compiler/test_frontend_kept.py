"""The kept process that reads MLIR: started once, again after an end or a fork, gone with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from damaged_mlir import nested
from reading_processes import CRASH, LIMITS, SLOW, SOUND, children, descriptors, in_new_process, linux

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.frontend.guarded import reading, worker
from npuc.compiler.frontend.guarded.outcome import Died, Read, Refused


@pytest.fixture
def kept() -> Iterator[worker._Kept]:
    """The kept process of a caller of its own."""
    before, worker._kept = worker._kept, worker._Kept()
    yield worker._kept
    if worker._kept.worker:
        worker._kept.worker.end()
    worker._kept = before


# the kept process


def test_the_kept_process_is_started_once_and_survives_what_it_reads(kept):
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
    first = kept.worker
    died = worker.ask(CRASH, LIMITS)
    assert isinstance(died, Died) and died.stage == reading.PARSING
    assert isinstance(worker.ask(b"garbage", LIMITS), Refused)
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
    if sys.platform == "linux":
        assert kept.worker is first and died.offset is not None


def test_a_kept_process_that_was_killed_is_started_again(kept):
    worker.ask(SOUND, LIMITS)
    first = kept.worker
    first._process.kill()
    first._process.wait()
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
    assert kept.worker is not first and first not in worker.Worker.alive


def test_a_killed_kept_process_ends_nothing_where_broken_pipes_end_processes(kept):
    worker.ask(SOUND, LIMITS)
    kept.worker._process.kill()
    kept.worker._process.wait()
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        assert isinstance(worker.ask(SOUND + b"\n" * 200_000, LIMITS), Read)
    finally:
        signal.signal(signal.SIGPIPE, before)


@linux
def test_a_kept_process_that_hangs_is_ended(kept, monkeypatch):
    monkeypatch.setattr(worker, "MARGIN_SECONDS", 0.5)
    worker.ask(SOUND, LIMITS)
    first = kept.worker
    os.kill(first._process.pid, signal.SIGSTOP)
    assert worker.ask(SOUND, replace(LIMITS, wall_seconds=0.1)) == Died("starting", "time")
    assert first._process.returncode == -signal.SIGKILL and kept.worker is None


@linux
def test_slow_texts_are_ended_by_the_kept_process_itself(kept):
    assert worker.ask(SLOW, replace(LIMITS, processor_seconds=0.2)) == Died(reading.PARSING, "time")
    assert kept.worker is not None


@linux
def test_an_exchange_that_is_broken_off_does_not_answer_the_next_text(kept):
    worker.ask(SOUND, LIMITS)
    os.kill(kept.worker._process.pid, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(ZeroDivisionError):
            worker.ask(b"garbage", LIMITS)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert isinstance(worker.ask(SOUND, LIMITS), Read)


@linux
def test_a_signal_handler_may_read_while_its_thread_waits(kept):
    worker.ask(SOUND, LIMITS)
    found = []

    def handler(*_):
        found.append(worker.ask(b"garbage", LIMITS))
        os.kill(kept_process, signal.SIGCONT)

    kept_process = kept.worker._process.pid
    os.kill(kept_process, signal.SIGSTOP)
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        assert isinstance(worker.ask(SOUND, LIMITS), Read)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert isinstance(found[0], Refused)


def test_threads_share_the_kept_process_and_get_their_own_answers(kept):
    def ask(number: int) -> None:
        text = "\n" * number + "garbage"
        answers[number] = [worker.ask(text.encode(), LIMITS) for _ in range(5)]

    answers: dict[int, list] = {}
    before = set(worker.Worker.alive)
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all({found.line for found in answers[n]} == {n + 1} for n in range(6))
    assert len(worker.Worker.alive - before) == 1


@linux
def test_a_forked_child_has_a_kept_process_of_its_own(kept):
    worker.ask(SOUND, LIMITS)
    mine = kept.worker._process.pid
    child = os.fork()
    if child == 0:
        try:
            right = not worker.Worker.alive and isinstance(worker.ask(b"garbage", LIMITS), Refused)
            (other,) = worker.Worker.alive
            right = right and other._process.pid != mine
            worker._end()
            os._exit(0 if right else 1)
        finally:
            os._exit(2)
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
    assert os.waitpid(child, 0)[1] == 0
    assert isinstance(worker.ask(SOUND, LIMITS), Read) and kept.worker._process.pid == mine


@linux
@pytest.mark.parametrize("end", ["pass", "os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_the_kept_process_ends_with_its_parent_also_where_a_fork_of_it_lives_on(end):
    done = in_new_process(f"""
        import os, signal, sys, time
        from npuc.compiler.frontend.guarded import worker
        from npuc.compiler.frontend.guarded.limits import limits_for
        worker.ask(b"module {{}}", limits_for(9))
        print(worker._kept.worker._process.pid, flush=True)
        if os.fork() == 0:
            for standard in (0, 1, 2):
                os.close(standard)
            time.sleep(60)
            os._exit(0)
        {end}
    """)
    gone = False
    until = time.monotonic() + 50
    while not gone and time.monotonic() < until:
        gone = not alive(int(done.stdout))
        time.sleep(0.02)
    assert gone


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@linux
def test_the_kept_process_leaves_no_descriptor_and_no_zombie(kept):
    before = descriptors(), children()
    for _ in range(3):
        worker.ask(SOUND, LIMITS)
        kept.worker._process.kill()
    worker.ask(SOUND, LIMITS)
    kept.worker.end()
    kept.worker = None
    assert (descriptors(), children()) == before


def test_what_keeps_the_process_from_starting_is_said(kept, monkeypatch):
    before = set(worker.Worker.alive)
    monkeypatch.setattr(worker, "_SERVE", "raise SystemExit(1)")
    with pytest.raises(BackendError, match="does not start .*guarded.serve` says why"):
        worker.ask(SOUND, LIMITS)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    with pytest.raises(BackendError, match="no process can be started"):
        worker.ask(SOUND, LIMITS)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(BackendError, match="knows no executable"):
        worker.ask(SOUND, LIMITS)
    assert worker.Worker.alive == before


def test_the_kept_process_finds_npuc_where_its_caller_does(tmp_path):
    """Also where the caller's path is its own, and the current folder holds modules of the same names."""
    for name in ("json", "npuc", "typing"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('wrong module')")
    script = f"""
        import sys
        sys.path[:] = {sys.path!r}
        from npuc.compiler.frontend.guarded import worker
        from npuc.compiler.frontend.guarded.limits import limits_for
        print(type(worker.ask(b"module {{}}", limits_for(9))).__name__)
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=600,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.stdout == "Read\n", done.stderr


@linux
def test_hundreds_of_texts_are_read_in_seconds(kept):
    text = nested("attributes", 10).encode()
    worker.ask(text, LIMITS)
    begin = time.perf_counter()
    for _ in range(30):
        assert isinstance(worker.ask(text, LIMITS), Read)
    seconds = time.perf_counter() - begin
    print(f"{30 / seconds * 60:,.0f} texts a minute")
    assert seconds < 120, "half a second on an idle machine, a minute where each starts a process"


# a system whose processes do not bear a fork: the kept process reads by itself


@pytest.fixture
def without_fork(kept, monkeypatch):
    monkeypatch.setattr(worker, "_SERVE", worker._SERVE.replace("import sys;", "import sys; sys.platform = 'darwin';"))
    return kept


def test_without_forks_the_kept_process_reads_and_is_started_again_after_its_end(without_fork):
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
    first = without_fork.worker
    assert isinstance(worker.ask(b"garbage", LIMITS), Refused) and without_fork.worker is first
    assert worker.ask(CRASH, LIMITS) == Died(reading.PARSING, "signal")
    assert without_fork.worker is None
    assert isinstance(worker.ask(SOUND, LIMITS), Read) and without_fork.worker is not first


def test_without_forks_the_kept_process_bounds_its_time(without_fork):
    worker.ask(SOUND, LIMITS)
    found = worker.ask(SLOW, replace(LIMITS, wall_seconds=0.2))
    assert isinstance(found, Died) and found.stage == reading.PARSING
    assert isinstance(worker.ask(SOUND, LIMITS), Read)
