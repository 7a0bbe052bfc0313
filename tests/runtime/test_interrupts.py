"""What ends a call early (interrupts, limits, failures) is delivered and leaves nothing half done behind."""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
import pytest
from kernel_files import xclbin_of
from small_kernels import compiled

import npuc
from npuc.compiler import interrupts
from npuc.compiler.frontend.attention import Attention
from npuc.runtime import apart, executable, executor
from npuc.runtime.backends.emulator import Emulation
from npuc.runtime.statistics import RunReport

SMALL = Attention.make(heads=2, query_length=8, head_dim=4)
alarms = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")


@pytest.fixture
def raising() -> Iterator[Callable[[type[BaseException]], None]]:
    """Makes the alarm's handler raise; the timer is stopped at the end."""
    before = signal.getsignal(signal.SIGALRM)

    def arm(kind: type[BaseException]) -> None:
        def handler(*_: object) -> None:
            raise kind

        signal.signal(signal.SIGALRM, handler)

    yield arm
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def leave_no_thread() -> None:
    """Waits for a thread that was interrupted before it began: it ends by itself, having done nothing.

    One whose start was interrupted before there was a thread stays in the list and never lives.
    """
    begin = time.monotonic()
    while any(thread.name == "npuc-run" and thread.is_alive() for thread in threading.enumerate()):
        assert time.monotonic() < begin + 600, "a thread goes on"


class Swallows:
    """Work whose every step is inside a finaliser: what a signal's handler raised there would be printed and lost."""

    def __init__(self) -> None:
        self.steps = 0
        self.threads: set[str] = set()

    def __call__(self) -> None:
        class Step:
            def __del__(step) -> None:
                self.threads.add(threading.current_thread().name)
                time.monotonic_ns()

        while True:
            Step()
            self.steps += 1
            apart.check()


@alarms
@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError, SystemExit])
def test_what_a_signal_raises_is_delivered_and_the_work_has_stopped(
    kind: type[BaseException], raising: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[object] = []
    monkeypatch.setattr("sys.unraisablehook", lost.append)
    raising(kind)
    for _ in range(20):
        work = Swallows()
        with pytest.raises(kind):  # from here on the signal may come at any moment
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            apart.run_apart(work)
        steps = work.steps
        leave_no_thread()
        assert work.steps == steps and not lost and work.threads <= {"npuc-run"}


def test_an_interrupt_that_went_astray_stops_work_that_begins_later() -> None:
    stopped = threading.Event()

    def work() -> None:
        try:
            while True:
                apart.check()
        finally:
            stopped.set()

    interrupts.note()
    try:
        with pytest.raises(KeyboardInterrupt):
            apart.run_apart(work)
    finally:
        interrupts.forget()
    assert stopped.is_set()


def test_results_and_errors_come_back_and_other_threads_do_the_work_themselves() -> None:
    assert apart.run_apart(lambda: threading.current_thread().name) == "npuc-run"

    def failing() -> None:
        raise npuc.BackendError("it fell over")

    with pytest.raises(npuc.BackendError, match="it fell over"):
        apart.run_apart(failing)
    names: list[str] = []
    other = threading.Thread(target=lambda: names.append(apart.run_apart(lambda: threading.current_thread().name)))
    other.start()
    other.join()
    assert names == [other.name]


def test_a_thread_whose_start_was_interrupted_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wait for ever for its start to be noted, by a lock inside of threading; the process ends all the same."""

    def interrupted(thread: threading.Thread) -> None:
        assert thread.daemon
        monkeypatch.setattr(thread, "is_alive", lambda: True)
        raise KeyboardInterrupt

    monkeypatch.setattr(apart, "start_thread", interrupted)
    with pytest.raises(KeyboardInterrupt):
        apart.run_apart(lambda: None)


class Device:
    """A backend that notes how often it was opened and closed, and whose runs end as told."""

    name = "emulator"

    def __init__(self, log: list[str], ends: list[BaseException]) -> None:
        self.log, self.ends, self.half_run = log, ends, False
        log.append("open")

    def run(self, buffers: Any, kernel: Any) -> RunReport:
        assert not self.half_run, "a half-run array was used again"
        self.half_run = True
        if self.ends:
            raise self.ends.pop()
        self.half_run = False
        return RunReport(self.name, emulated=True, seconds=1e-6)

    def close(self) -> None:
        self.log.append("close")
        if self.half_run:
            raise npuc.BackendError("it cannot even be closed")


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), TimeoutError(), SystemExit(1), MemoryError(), npuc.BackendError("limit"), ValueError()]
)
def test_a_run_that_an_exception_leaves_is_followed_by_a_fresh_load(
    end: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    log: list[str] = []
    ends: list[BaseException] = []
    monkeypatch.setattr(executable, "open_backend", lambda *_: Device(log, ends))
    arrays = [np.ones((1, 2, 8, 4), np.float32)] * 3
    with npuc.load(xclbin_of(SMALL), backend="emulator", fallback=()) as exe:
        exe(*arrays)
        exe(*arrays)
        assert log == ["open"], "an array that ended its run serves the next one"
        ends.append(end)
        with pytest.raises(type(end)):
            exe(*arrays)
        assert log == ["open", "close"]
        exe(*arrays)
        assert log == ["open", "close", "open"]
    assert log == ["open", "close", "open", "close"]


def test_a_cycle_limit_leaves_no_half_run_array_behind(seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = [generator.standard_normal((1, 1, 64, 64)).astype(np.float32) for _ in range(3)]
    with npuc.load(compiled().xclbin, backend="emulator", fallback=()) as exe:
        right = exe(*arrays)
        exe._settings = executor.BackendSettings(max_cycles=5000)
        exe._opened.clear()
        for _ in range(3):
            with pytest.raises(npuc.BackendError, match="not finished after 5000 cycles"):
                exe(*arrays)
        exe._settings = executor.BackendSettings()
        np.testing.assert_array_equal(exe(*arrays), right)


@alarms
def test_calls_after_interrupted_ones_are_right(seed: int, raising: Any) -> None:
    """Interrupts at random moments of a call: each is delivered, and the next call is as if nothing had been."""
    generator, moments = np.random.default_rng(seed), Random(seed)
    first, second = ([generator.standard_normal((1, 1, 64, 64)).astype(np.float32) for _ in range(3)] for _ in range(2))
    raising(KeyboardInterrupt)
    interrupted = 0
    with npuc.load(compiled().xclbin, backend="emulator", fallback=()) as exe:
        right = exe(*second)
        usual = math.inf
        for _ in range(3):
            begin = time.perf_counter()
            exe(*first)
            usual = min(usual, time.perf_counter() - begin)
        for _ in range(12):
            try:
                signal.setitimer(signal.ITIMER_REAL, moments.uniform(0.05, 0.9) * usual)
                exe(*first)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except KeyboardInterrupt:
                interrupted += 1
            leave_no_thread()
            np.testing.assert_array_equal(exe(*second), right)
    assert interrupted, "no call was interrupted"


def test_an_emulation_runs_where_no_signal_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code calls back into Python, where an exception of a signal's handler would be printed and lost."""
    from npuc.runtime.emulator.native import program

    threads: set[str] = set()
    monkeypatch.setattr(program, "_programs", weakref.WeakValueDictionary())
    resolve = program.Program._resolve

    def noted(self: Any, *arguments: int) -> int | None:
        threads.add(threading.current_thread().name)
        return resolve(self, *arguments)

    monkeypatch.setattr(program.Program, "_resolve", noted)
    with npuc.load(compiled().xclbin, backend="emulator", fallback=()) as exe:
        exe(*[np.ones((1, 1, 64, 64), np.float32)] * 3)
    assert threads and "MainThread" not in threads


def test_what_a_thread_writes_lives_as_long_as_it_runs() -> None:
    """A core that is run ahead on another thread works on copies; they must outlive a run that was given up."""
    from npuc.runtime.emulator.native.ahead import Ahead
    from npuc.runtime.emulator.native.state import StateBuffer

    started, go_on = threading.Event(), threading.Event()

    class Program:
        def run(self, block: Any, state: StateBuffer, memory: int) -> tuple[int, int]:
            started.set()
            go_on.wait(60)
            return 1, 0

    program: Any = Program()
    made = Ahead(program, None, StateBuffer(), np.zeros(1 << 16, np.uint8), key=())
    memory, state = weakref.ref(made._memory), weakref.ref(made._state)
    future = made._future
    assert started.wait(60)
    del made
    gc.collect()
    assert memory() is not None and state() is not None
    go_on.set()
    assert future.result(60) == (1, 0)


def test_an_emulation_of_another_tool_runs_apart_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from npuc.runtime.emulator.device import Device as EmulatedDevice

    threads: list[str] = []

    def run(self: Any, *_: Any) -> Any:
        threads.append(threading.current_thread().name)
        raise npuc.BackendError("that is enough")

    monkeypatch.setattr(EmulatedDevice, "run", run)
    from npuc.compiler.emit.pdi import write_pdi

    with pytest.raises(npuc.BackendError, match="enough"):
        Emulation(write_pdi([]), 1, executor.BackendSettings(), "k").run((), [])
    assert threads == ["npuc-run"]
