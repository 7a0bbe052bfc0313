"""A loaded kernel that can be called, on whichever backend can serve it."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from npuc.compiler.diagnostics import BackendError, InputError, UnsupportedError, UsageError
from npuc.passes.attention.supported import check_supported
from npuc.runtime import dlpack, sharing
from npuc.runtime.arguments import BFLOAT16, from_buffer, from_user, to_interface, to_user
from npuc.runtime.backends import (
    HOST_BACKENDS,
    NPU_BACKENDS,
    Backend,
    BackendSettings,
    DeviceBackend,
    HostBackend,
    QueueingBackend,
    choose_automatically,
    open_backend,
)
from npuc.runtime.devices.failures import DeviceFailure, reason_of
from npuc.runtime.devices.giving_back import closed, forget
from npuc.runtime.kernel_file import DescribedKernel, KernelFile
from npuc.runtime.layouts import all_inward, outward
from npuc.runtime.magnitudes import magnitudes, overflows
from npuc.runtime.metrics import metrics
from npuc.runtime.notices import say_once
from npuc.runtime.statistics import RunReport
from npuc.runtime.strides import hold
from npuc.runtime.submission import Begun, Submission

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention
    from npuc.runtime.trace import Trace

T = TypeVar("T")
EMULATED = "kernels run on the emulator: cycles and times are emulated, not measured"


def _as_array(name: str, value: Any) -> np.ndarray:
    return dlpack.as_numpy(name, value) if dlpack.is_foreign(value) else np.asarray(value)


@dataclass(frozen=True)
class Call:
    """outputs: by name, in device dtypes. warnings: what was odd about the call."""

    outputs: dict[str, np.ndarray]
    report: RunReport
    warnings: tuple[str, ...]


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()
_of_the_parent: list[object] = []


class Executable:
    """A loaded kernel: call it with arrays. Calls from several threads take turns; `stats` is that of the last.

    names: the backends that serve it, in order. notice: which one `auto` means here, and why. warnings: what was odd
    about the last call.
    """

    def __init__(
        self, kernel: DescribedKernel, *, backend: str, fallback: Sequence[str], settings: BackendSettings
    ) -> None:
        self.kernel = kernel
        self.notice: str | None = None
        if backend == "auto":
            backend, self.notice = choose_automatically()
        self.names = tuple(dict.fromkeys((backend, *fallback)))
        self._settings = settings
        self._opened: dict[str, HostBackend | DeviceBackend] = {}  # those that stand as a load or a whole run left them
        self._closed = False
        self._turn = threading.RLock()  # a signal's handler may call while a call waits
        self._report: RunReport | None = None
        self.warnings: list[str] = []
        self._first_that(self._open)
        _executables.add(self)

    def __repr__(self) -> str:
        return f"<npuc.Executable {self.kernel.name} on {', else '.join(self.names)}>"

    def __enter__(self) -> Executable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the devices back."""
        self._closed = True
        sharing.given_back(self)
        while self._opened:
            self._opened.popitem()[1].close()

    @property
    def stats(self) -> RunReport:
        """What the last run took. Raises UsageError before the first."""
        if self._report is None:
            raise UsageError(f"{self.kernel.name} has not run yet")
        return self._report

    @property
    def trace(self) -> Trace:
        """The timeline of the last run: `exe.trace.write("t.json")`. Raises UsageError where none was recorded."""
        trace = self.stats.trace
        if trace is None:
            raise UsageError("no timeline was recorded", remedy="load with trace=True, on the emulator")
        return trace

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run once. Inputs in argument order or by name; returns the output (an array; a tuple of them where a function
        with attention inside returns several), `stats` tells what it took.

        bf16 inputs are float arrays (rounded to nearest even), ml_dtypes bfloat16, or uint16 bits, of numpy or of a
        library that gives them out by DLPack. A bf16 output is bfloat16 when the first array is, else float32. Raises
        InputError on a wrong shape or dtype, UnsupportedError, BackendError.
        """
        given = self._named(arrays, named)
        return self.as_given(given, self.call(given))

    def submit(self, *arrays: Any, **named: Any) -> Submission:
        """Begin a call, with arguments as calling it takes them; the result's `result()` is what calling gives.

        On the NPU its inputs are written while the call before it runs; two are under way at most, a third waits for
        the first. Elsewhere it runs now. Raises InputError; device failures are the result's.
        """
        # Copies: callers may write the next call's values over these, and a device that fails has the call made again.
        given = {name: np.array(value) for name, value in self._named(arrays, named).items()}
        if self._closed:
            raise BackendError("the kernel was closed")
        kernel = self.of_call(given)
        kernel, prepared = kernel.called(self._prepare(kernel, given))
        _ = kernel.attention.lengths
        begun = None
        if magnitudes(kernel.attention, prepared).problem is None:
            with self._turn:
                begun = self._begin(kernel, all_inward(kernel, prepared))
        submission = Submission(self, given, begun)
        if begun is None:
            submission.exception()  # runs it
        return submission

    def _begin(self, kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]) -> Begun | None:
        """The call on the device; None where it takes none ahead, or fails this one, which then is made as usual."""
        name, handled = self.names[0], sys.exc_info()[1]
        try:
            if name in NPU_BACKENDS and kernel is not self.kernel:
                check_supported(kernel.attention)
            self._open(name)
            backend = self._opened[name]
            if not isinstance(backend, QueueingBackend):
                return None
            del self._opened[name]  # whatever ends this early leaves no half-begun device for the next call
            try:
                assert isinstance(kernel, KernelFile)
                buffers, held = hold(kernel, arrays)
                pending = backend.submit(buffers, held)
            except BaseException:
                closed(backend.close)
                raise
        except BackendError as error:
            self._count_failure(name, error)
            forget(error, handled)
            return None
        except UnsupportedError:
            return None
        self._opened[name] = backend
        return Begun(pending, backend, kernel, held, buffers)

    def end(self, begun: Begun) -> Call:
        """What a call that was begun came to. Raises BackendError, and then uses its device no more."""
        with self._turn:
            try:
                report = begun.pending.finish()
            except BaseException as error:
                if isinstance(error, BackendError):
                    self._count_failure(self.names[0], error)
                self.drop(begun.backend)
                raise
            outputs = {a.name: from_buffer(a, begun.buffers[a.buffer]) for a in begun.held.outputs}
            return self._said(self._noted(begun.kernel, outputs, report, _overflows(begun.kernel, outputs)))

    def drop(self, backend: Backend) -> None:
        """Use a backend no more."""
        with self._turn:
            for name, opened in list(self._opened.items()):
                if opened is backend:
                    del self._opened[name]
        closed(backend.close)

    def _named(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments by name."""
        inputs = self.kernel.inputs
        if len(arrays) > len(inputs):
            raise InputError(f"{self.kernel.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = {argument.name: array for argument, array in zip(inputs, arrays, strict=False)}
        twice = given.keys() & named.keys()
        if twice:
            raise InputError(f"argument {min(twice)} is given twice")
        return {name: _as_array(name, value) for name, value in {**given, **named}.items()}

    def as_given(self, given: Mapping[str, Any], call: Call) -> Any:
        """The output in the kind of the inputs; all of them, where a function returns several."""
        first = next(argument for argument in self.kernel.inputs if argument.passed)
        keeps = given[first.name].dtype == BFLOAT16
        results = [
            call.outputs[output.name]
            if keeps and output.dtype == "bf16"
            else to_user(output, call.outputs[output.name])
            for output in self.kernel.outputs
        ]
        return results[0] if len(results) == 1 else tuple(results)

    def run(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run once with inputs by name; outputs by name in device dtypes. `warnings` holds what is odd about it."""
        return self.call(given).outputs

    def of_call(self, given: Mapping[str, Any]) -> DescribedKernel:
        """The kernel with the lengths that these inputs show, where it leaves any open."""
        if not self.kernel.attention.open_dimensions:
            return self.kernel
        return self.kernel.of_arrays({name: np.shape(array) for name, array in given.items()})

    def call(self, given: Mapping[str, Any], attention: Attention | None = None) -> Call:
        """`serve`, and say what is odd about it, and that it is emulated."""
        return self._said(self.serve(given, attention))

    def _said(self, call: Call) -> Call:
        """With what is odd about it logged."""
        if call.report.emulated:
            say_once(self.notice or EMULATED, "emulation")
        for warning in call.warnings:
            say_once(f"{self.kernel.name}: {warning}")
        return call

    def serve(self, given: Mapping[str, Any], attention: Attention | None = None) -> Call:
        """Run once with inputs by name.

        attention: another of the kernel's class, as lengths, limits and scale are parameters of a call; where the
        source takes the scale as an argument, the one given is the call's. Values that
        kernels cannot represent (npuc.runtime.magnitudes) count as not supported: the reference computes them. Raises
        as a call does.
        """
        if self._closed:
            raise BackendError("the kernel was closed")
        kernel = self.of_call(given) if attention is None else self.kernel.computing(attention)
        kernel, arrays = kernel.called(self._prepare(kernel, given))
        _ = kernel.attention.lengths
        problem = magnitudes(kernel.attention, arrays).problem
        with self._turn:
            inside = all_inward(kernel, arrays)
            outputs, report = self._first_that(lambda name: self._run_on(name, kernel, inside, problem))
            return self._noted(kernel, outputs, report, [problem] if problem else _overflows(kernel, outputs))

    def _noted(
        self, kernel: DescribedKernel, outputs: Mapping[str, np.ndarray], report: RunReport, odd: Sequence[str]
    ) -> Call:
        """A call that has ended: its outputs as callers have them, and what `stats` and `warnings` tell of it."""
        self._report, self.warnings = report, [*odd, *report.warnings]
        labels = dict(kernel=self.kernel.name, backend=report.backend)
        metrics.count("npuc_calls_total", 1, **labels)
        metrics.time(report.seconds, **labels)
        if report.cycles is not None:
            metrics.count("npuc_cycles_total", report.cycles, **labels)
        laid = {a.name: outward(a.layout, outputs[a.name]) for a in kernel.outputs}
        return Call(laid, report, tuple(self.warnings))

    def prepare(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All inputs by name in their interface dtypes. Raises InputError on a missing, unknown or unfit one."""
        return self._prepare(self.of_call(given), given)

    def _prepare(self, kernel: DescribedKernel, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.require_inputs(given)
        missing = [a.name for a in kernel.inputs if a.name not in given]
        if missing:
            raise InputError(f"argument {', '.join(missing)} of {kernel.name} is missing")
        return {a.name: from_user(a, given[a.name]) for a in kernel.inputs}

    def require_inputs(self, names: Iterable[str]) -> None:
        """Raises InputError where one of the names is no input's."""
        known = [a.name for a in self.kernel.inputs]
        for name in names:
            if name not in known:
                raise InputError(f"{self.kernel.name} has no input {name!r}", remedy=f"there is {', '.join(known)}")

    def _open(self, name: str) -> None:
        if name in NPU_BACKENDS:
            if name not in self._opened:
                self._opened[name] = sharing.with_room(self, lambda: self._opened_anew(name))
            sharing.used(self)
        elif name not in self._opened:
            self._opened[name] = self._opened_anew(name)

    def _opened_anew(self, name: str) -> HostBackend | DeviceBackend:
        return open_backend(name, self.kernel, self._settings)

    def rest(self) -> bool:
        """Give the NPU back until the next call, if no call is under way; whether that was so."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            for name in NPU_BACKENDS:
                backend = self._opened.get(name)
                if isinstance(backend, QueueingBackend) and backend.idle:
                    sharing.given_back(self)
                    self.drop(backend)
                    return True
            return False
        finally:
            self._turn.release()

    def _run_on(
        self, name: str, kernel: DescribedKernel, arrays: Mapping[str, np.ndarray], problem: str | None
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        if problem is not None and name != "reference":
            raise UnsupportedError(problem, remedy="the reference computes it")
        if name not in HOST_BACKENDS and kernel is not self.kernel:
            check_supported(kernel.attention)  # its lengths, which the file left open
        handled = sys.exc_info()[1]
        try:
            return self._run_once(name, kernel, arrays)
        except DeviceFailure as failure:
            if name not in NPU_BACKENDS or failure.hopeless:
                raise
            say_once(f"{name} failed {self.kernel.name}: {failure}; loading it anew")
            metrics.count("npuc_reloads_total", kernel=self.kernel.name, backend=name)
            forget(failure, handled)
        return self._run_once(name, kernel, arrays)

    def _run_once(
        self, name: str, kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, np.ndarray], RunReport]:
        self._open(name)
        # Taken out for the run: whatever ends it early, however often, leaves no half-run array for the next call.
        backend = self._opened.pop(name)
        try:
            outputs, report = _run(backend, kernel, arrays)
        except BaseException as error:
            if isinstance(error, BackendError):
                self._count_failure(name, error)
            closed(backend.close)
            raise
        self._opened[name] = backend
        return outputs, report

    def _count_failure(self, name: str, error: BackendError) -> None:
        metrics.count("npuc_failures_total", kernel=self.kernel.name, backend=name, reason=reason_of(error))

    def _first_that(self, act: Callable[[str], T]) -> T:
        """The result of `act` on the first backend that can, each fallback with a logged reason."""
        handled = sys.exc_info()[1]
        for name, following in zip(self.names, (*self.names[1:], None), strict=True):
            try:
                return act(name)
            except (BackendError, UnsupportedError) as error:
                if following is None:
                    raise
                say_once(f"{name} cannot serve {self.kernel.name}: {error}; falling back to {following}")
                metrics.count("npuc_fallbacks_total", kernel=self.kernel.name, backend=name, to=following)
                forget(error, handled)
        raise AssertionError("unreachable: there is at least one backend")

    def _after_fork(self) -> None:
        """Devices are the parent's, which may be in the middle of a run: the child loads afresh and gives none back."""
        _of_the_parent.append(self._opened)
        self._opened = {}
        self._turn = threading.RLock()


def _run(
    backend: HostBackend | DeviceBackend, kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], RunReport]:
    if isinstance(backend, HostBackend):
        (output,) = kernel.outputs
        result, report = backend.compute(arrays, kernel)
        return {output.name: to_interface(output, result)}, report
    assert isinstance(kernel, KernelFile)
    # Fresh buffers on each try: a backend that failed half way may have written into its own.
    buffers, kernel = hold(kernel, arrays)
    report = backend.run(buffers, kernel)
    return {a.name: from_buffer(a, buffers[a.buffer]) for a in kernel.outputs}, report


def _overflows(kernel: DescribedKernel, outputs: Mapping[str, np.ndarray]) -> list[str]:
    return [
        f"output {argument.name} overflows: it holds values that are not finite, though all inputs are"
        for argument in kernel.outputs
        if overflows(to_user(argument, outputs[argument.name]))
    ]


def _after_fork() -> None:
    for executable in list(_executables):
        executable._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
