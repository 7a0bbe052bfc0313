"""Reading in another process: a forked child, the choice between it and the kept process, what the caller sees."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import replace

import pytest
from damaged_mlir import nested
from reading_processes import CRASH, LIMITS, SOUND, children, descriptors, in_new_process, linux

from npuc.compiler.diagnostics import InputError, InternalError
from npuc.compiler.frontend.guarded import attempt, forked, worker
from npuc.compiler.frontend.guarded.outcome import Died, Fault, Read, Refused
from npuc.compiler.frontend.parse import parse


@pytest.fixture(autouse=True)
def bindings() -> None:
    forked.import_bindings()


# a forked child


@linux
def test_a_child_answers_and_one_that_dies_is_noticed():
    assert isinstance(attempt.read_in_child(SOUND, LIMITS), Read)
    assert forked.run_forked(lambda note: Refused("no"), LIMITS) == Refused("no")
    assert forked.run_forked(lambda note: (note("dying"), os.abort()), LIMITS) == Died("dying", "signal")
    assert forked.run_forked(lambda note: os._exit(0), LIMITS) == Died("starting", "signal")
    fault = forked.run_forked(lambda note: 1 / 0, LIMITS)
    assert isinstance(fault, Fault) and "ZeroDivisionError" in fault.traceback


@linux
def test_a_child_is_bounded_in_time_and_memory_and_stack():
    def spin(note):
        while True:
            pass

    assert forked.run_forked(spin, replace(LIMITS, processor_seconds=0.1)) == Died("starting", "time")
    assert forked.run_forked(lambda note: time.sleep(600), replace(LIMITS, wall_seconds=0.1)) == Died(
        "starting", "time"
    )
    small = replace(LIMITS, memory=200 << 20)
    died = forked.run_forked(lambda note: Refused(str(len(bytearray(400 << 20)))), small)
    assert isinstance(died, Fault) and "MemoryError" in died.traceback
    assert isinstance(attempt.read_in_child(nested("attributes", 900).encode(), LIMITS), Read | Died)
    shallow = replace(LIMITS, stack=256 << 10)
    assert isinstance(attempt.read_in_child(nested("attributes", 600).encode(), shallow), Died)


@linux
def test_what_takes_all_memory_is_told_as_that():
    def fill(note):
        held = []
        try:
            while True:
                held.append(bytes(10 << 20) + b"x")
        except MemoryError:
            os.abort()

    assert forked.run_forked(fill, replace(LIMITS, memory=300 << 20)) == Died("starting", "memory")


@linux
def test_a_child_leaves_no_descriptor_and_no_zombie():
    before = descriptors(), children()
    for text in (SOUND, CRASH, b"garbage"):
        attempt.read_in_child(text, LIMITS)
    with pytest.raises(ZeroDivisionError):
        interrupted_read()
    assert (descriptors(), children()) == before


def interrupted_read() -> None:
    """A reading that a signal's handler breaks off."""
    before = signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        forked.run_forked(lambda note: time.sleep(600), LIMITS)
    finally:
        signal.signal(signal.SIGALRM, before)


@linux
def test_a_child_is_reaped_also_where_the_caller_ignores_its_children():
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert isinstance(attempt.read_in_child(SOUND, LIMITS), Read)
        assert isinstance(attempt.read_in_child(CRASH, LIMITS), Died)
    finally:
        signal.signal(signal.SIGCHLD, before)


@linux
def test_a_child_works_where_the_caller_has_no_standard_streams():
    done = in_new_process("""
        import os
        from npuc.compiler.frontend.guarded import attempt, forked, limits, outcome
        forked.import_bindings()
        for standard in (0, 1, 2):
            os.close(standard)
        found = attempt.read_in_child(b"module {}", limits.limits_for(9))
        os._exit(0 if isinstance(found, outcome.Read) else 3)
    """)
    assert done.returncode == 0


# which process


def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `attempt` chooses, as it does."""
    ways: list[str] = []
    monkeypatch.setattr(attempt, "read_in_child", lambda *_: ways.append("child") or Refused("x"))
    monkeypatch.setattr(worker, "ask", lambda *_: ways.append("kept") or Refused("x"))
    return ways


@linux
def test_a_process_without_threads_forks_and_one_with_a_lingering_thread_asks_the_kept_process():
    done = in_new_process("""
        import threading
        from npuc.compiler.frontend.parse import parse
        from npuc.compiler.frontend.guarded import worker

        parse("module {}", "f.mlir")
        print(len(worker.Worker.alive))
        parse("module {}", "f.mlir")
        print(len(worker.Worker.alive))
        lingering = threading.Event()
        thread = threading.Thread(target=lingering.wait)
        thread.start()
        parse("module {}", "f.mlir")
        print(len(worker.Worker.alive))
        lingering.set()
    """)
    assert done.stdout.split() == ["0", "0", "1"], done.stderr


def test_a_thread_that_python_does_not_know_counts(monkeypatch):
    monkeypatch.setattr(forked, "_own_threads", 0)
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.setattr(forked, "_native_threads", lambda: 2)
    assert not forked.may_fork()
    ways = chosen(monkeypatch)
    attempt.attempt(SOUND)
    assert ways == ["kept"]


def test_where_no_child_is_to_be_had_the_kept_process_is_asked(monkeypatch):
    ways = chosen(monkeypatch)

    def no_child(*_):
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(attempt, "may_fork", lambda: True)
    monkeypatch.setattr(attempt, "read_in_child", no_child)
    attempt.attempt(SOUND)
    assert ways == ["kept"]


# what the caller sees


@pytest.mark.parametrize("depth", [100, 20000])
@pytest.mark.parametrize("threads", [False, True])
def test_the_same_text_gives_the_same_answer_in_either_process(monkeypatch, threads, depth):
    if not threads and sys.platform != "linux":
        pytest.skip("children are forked on Linux only")
    monkeypatch.setattr(attempt, "may_fork", lambda: not threads)
    text = nested("attributes", depth)
    if depth == 100:
        parse(text, "f.mlir")
        return
    with pytest.raises(InputError, match=r"^f.mlir:1:\d+: nests too deeply"):
        parse(text, "f.mlir")


@pytest.mark.parametrize(
    "outcome, message",
    [
        (Died("lowering tosa", "signal"), "f.mlir: MLIR's library fails while lowering tosa"),
        (Died("parsing", "time"), "f.mlir: parsing takes too long"),
        (Died("lowering torch", "memory"), "f.mlir: lowering torch takes too much memory"),
        (Died("parsing", "signal"), "f.mlir: MLIR's parser fails on this text"),
        (Died("parsing", "signal", 9), "f.mlir:2:3: MLIR's parser fails here"),
    ],
)
def test_each_end_has_its_message(monkeypatch, outcome, message):
    monkeypatch.setattr(attempt, "attempt", lambda text: outcome)
    with pytest.raises(InputError) as error:
        parse("module\nattributes {}", "f.mlir")
    assert str(error.value).startswith(message)


def test_a_fault_of_npuc_in_the_other_process_is_one_here(monkeypatch):
    monkeypatch.setattr(attempt, "attempt", lambda text: Fault("Traceback: ZeroDivisionError"))
    with pytest.raises(InternalError, match="ZeroDivisionError"):
        parse("module {}", "f.mlir")


def test_the_place_of_a_location_in_another_file_is_that_files():
    with pytest.raises(InputError, match=r"^model.py:7:3: "):
        parse('"arith.constant"() : () -> i32 loc("model.py":7:3)', "f.mlir")
