"""Reading in another process: whichever it is, whatever it meets, and what it leaves behind."""

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

from npuc.compiler.diagnostics import BackendError, InputError, InternalError
from npuc.compiler.frontend.guarded import attempt, forked, reading, worker
from npuc.compiler.frontend.guarded.limits import limits_for
from npuc.compiler.frontend.guarded.outcome import Died, Fault, Read, Refused
from npuc.compiler.frontend.parse import parse

SOUND = b"func.func private @f(tensor<4xf32>)"
CRASH = nested("attributes", 20000).encode()
SLOW = b"module attributes {a.b = " + b"9" * 40_000 + b" : i200000} {}"
LIMITS = limits_for(100)

linux = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux only")


@pytest.fixture(autouse=True)
def bindings() -> None:
    forked.import_bindings()


@pytest.fixture
def kept() -> Iterator[worker._Kept]:
    """The kept process of a caller of its own."""
    before, worker._kept = worker._kept, worker._Kept()
    yield worker._kept
    if worker._kept.worker:
        worker._kept.worker.end()
    worker._kept = before


def in_new_process(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments], capture_output=True, text=True, timeout=300
    )


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


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"))


def children() -> set[int]:
    """Processes of this one that live or were not waited for."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with open(f"/proc/self/task/{task}/children") as file:
            found |= {int(child) for child in file.read().split()}
    return found


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
            time.sleep(20)
            os._exit(0)
        {end}
    """)
    gone = False
    until = time.monotonic() + 20
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
        timeout=300,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert done.stdout == "Read\n", done.stderr


@linux
def test_hundreds_of_texts_are_read_in_seconds(kept):
    text = nested("attributes", 10).encode()
    worker.ask(text, LIMITS)
    begin = time.perf_counter()
    for _ in range(100):
        assert isinstance(worker.ask(text, LIMITS), Read)
    seconds = time.perf_counter() - begin
    print(f"{100 / seconds * 60:,.0f} texts a minute")
    assert seconds < 60, "some seconds on an idle machine"


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
