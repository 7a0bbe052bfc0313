"""The public API: compile, load, attention."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from npuc.compiler import driver
from npuc.compiler.diagnostics import BackendError, InputError, UsageError
from npuc.compiler.files import read_bytes, write_bytes
from npuc.runtime.arguments import BFLOAT16, from_buffer, from_user, to_buffer, to_user
from npuc.runtime.backends import BACKENDS, HOST_BACKENDS, Backend, BackendSettings, choose_automatically, open_backend
from npuc.runtime.kernel_file import DescribedKernel, KernelFile, SourceText, described, is_kernel_file, read_kernel
from npuc.runtime.statistics import RunReport

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention
    from npuc.runtime.trace import Trace

logger = logging.getLogger("npuc")

DEFAULT_FALLBACK = ("reference",)


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel. result: everything the compilation made."""

    result: driver.Compiled

    @property
    def xclbin(self) -> bytes:
        """The XCLBIN file's bytes."""
        return self.result.xclbin

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the xclbin (by the suffix .npua or .pdi: that file). Raises InputError when it cannot be written."""
        stage = driver.STAGE_OF_SUFFIX.get(os.path.splitext(os.fspath(path))[1], "xclbin")
        if stage not in ("xclbin", "npua", "pdi"):
            raise UsageError(f"a kernel is not saved as {os.fspath(path)}", remedy="use .xclbin, .npua or .pdi")
        write_bytes(os.fspath(path), self.result.stage(stage))

    def load(self, **settings: Any) -> Executable:
        """The kernel, ready to call; settings as in `load`."""
        return load(self, **settings)


def compile(  # noqa: A001 (the public name)
    source: str | os.PathLike[str] | Attention,
    *,
    function: str | None = None,
    columns: int | None = None,
    precision: str | None = None,
    options: Mapping[str, str] | None = None,
    use_cache: bool = True,
) -> Kernel:
    """Compile a file of MLIR, MLIR text, or an Attention description, for npu1.

    A str that holds a line break or `func.func` is text, as is one with a brace that names no file; any other is a
    file's path. Raises InputError (file:line:col
    where there is one), UsageError, ResourceError.
    """
    settings = driver.Settings(
        function=function, columns=columns, precision=precision, options=dict(options or {}), use_cache=use_cache
    )
    if isinstance(source, os.PathLike):
        return Kernel(driver.compile_file(os.fspath(source), settings))
    if isinstance(source, str):
        if "\n" in source or "func.func" in source or ("{" in source and not os.path.exists(source)):
            return Kernel(driver.compile_source(source, settings=settings))
        return Kernel(driver.compile_file(source, settings))
    return Kernel(driver.compile_description(source, settings))


def load(
    source: str | os.PathLike[str] | bytes | Kernel,
    *,
    backend: str = "auto",
    fallback: Sequence[str] = DEFAULT_FALLBACK,
    kernel: str | None = None,
    dims: Mapping[str, int] | None = None,
    machine: str = "phoenix",
    max_cycles: int | None = None,
    strict: bool = False,
    trace: bool = False,
    engine: str | None = None,
    clock: float | None = None,
    short_runs: bool = False,
) -> Executable:
    """Open an .xclbin, .npua or .mlir file (the last is compiled first), its bytes, or a Kernel.

    For 'reference' and 'gpu' a .mlir file is recognised, not compiled: they take what kernels do not support.

    backend: 'auto' (the NPU when one works, else the emulator), 'xrt', 'emulator' or 'reference'.
    fallback: what serves a call, in order, when the backend cannot: of 'gpu', 'reference', 'emulator'; () raises
    BackendError instead. kernel: which one, of a file that holds several. dims: the
    sizes that the source leaves open, by name (B, S, Skv). machine, clock (GHz, the machine's own for None),
    short_runs (assume a cost of short runs in DDR), max_cycles, strict, trace (record a timeline,
    `Executable.trace`) and engine (npuc.runtime.emulator.engines) are the emulator's.
    Raises InputError, UsageError, BackendError.
    """
    opened = (_described if backend in HOST_BACKENDS else _open)(source, kernel, dims or {})
    settings = BackendSettings(machine, max_cycles, strict, trace, engine, clock, short_runs)
    return Executable(opened, backend=backend, fallback=fallback, settings=settings)


Source: TypeAlias = "str | os.PathLike[str] | bytes | Kernel"


def _described(source: Source, name: str | None, dims: Mapping[str, int]) -> DescribedKernel:
    """The kernel as far as a host backend needs it: MLIR is recognised only."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = read_bytes(path)
        if is_mlir(path, data):
            attention = driver.recognise_bytes(data, path, name).bound(dims)
            return described(attention, SourceText(driver.text_of(data, path), path))
        return read_kernel(data, path, name).closed(dims)
    return _open(source, name, dims)


def _open(source: Source, name: str | None, dims: Mapping[str, int]) -> KernelFile:
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = read_bytes(path)
        if is_mlir(path, data):
            compiled = driver.compile_bytes(data, path, driver.Settings(function=name))
            kernel = replace(read_kernel(compiled.xclbin, path), source=SourceText(driver.text_of(data, path), path))
            return kernel.closed(dims)
        return read_kernel(data, path, name).closed(dims)
    return read_kernel(source.xclbin if isinstance(source, Kernel) else bytes(source), name=name).closed(dims)


def is_mlir(path: str, data: bytes) -> bool:
    """Whether a file is MLIR text, by its suffix, else by its first bytes."""
    suffix = os.path.splitext(path)[1]
    return suffix == ".mlir" or (suffix not in (".xclbin", ".npua") and not is_kernel_file(data))


_executables: weakref.WeakSet[Executable] = weakref.WeakSet()
_of_the_parent: list[object] = []


class Executable:
    """A loaded kernel: call it with arrays. Calls from several threads take turns; `stats` is that of the last."""

    def __init__(
        self, kernel: DescribedKernel, *, backend: str, fallback: Sequence[str], settings: BackendSettings
    ) -> None:
        unknown = [name for name in (backend, *fallback) if name not in ("auto", *BACKENDS)] + [
            name for name in fallback if name in ("auto", "xrt")
        ]
        if isinstance(fallback, str) or unknown:
            raise UsageError(
                f"backend {backend!r} with fallback {fallback!r} is not possible",
                remedy=f"backend is one of auto, {', '.join(BACKENDS)}; fallback a tuple of gpu, reference, emulator",
            )
        self.kernel = kernel
        self.notice: str | None = None
        if backend == "auto":
            backend, self.notice = choose_automatically()
            logger.info(self.notice)
        self._settings = settings
        self._names = tuple(dict.fromkeys((backend, *fallback)))
        self._opened: dict[str, Backend] = {}  # those that stand as a load or a whole run left them
        self._closed = False
        self._turn = threading.RLock()  # a signal's handler may call while a call waits
        self.stats: RunReport | None = None
        self.warnings: list[str] = []
        self._first_that(self._open)
        _executables.add(self)

    def __enter__(self) -> Executable:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the devices back."""
        self._closed = True
        while self._opened:
            self._opened.popitem()[1].close()

    @property
    def trace(self) -> Trace | None:
        """The timeline of the last run, where the backend was asked for one: `exe.trace.write("t.json")`."""
        return self.stats.trace if self.stats is not None else None

    def __call__(self, *arrays: Any, **named: Any) -> np.ndarray:
        """Run once. Inputs in argument order or by name; returns the output, `stats` tells what it took.

        bf16 inputs are float arrays (rounded to nearest even), ml_dtypes bfloat16, or uint16 bits. A bf16 output is
        bfloat16 when the first array is, else float32. Raises InputError on a wrong shape or dtype, BackendError.
        """
        inputs = self.kernel.inputs
        if len(arrays) > len(inputs):
            raise InputError(f"{self.kernel.name} takes {len(inputs)} arrays, got {len(arrays)}")
        given = {argument.name: array for argument, array in zip(inputs, arrays, strict=False)}
        twice = given.keys() & named.keys()
        if twice:
            raise InputError(f"argument {min(twice)} is given twice")
        given.update(named)
        (output,) = self.kernel.outputs
        result = self.run(given)[output.name]
        keep = output.dtype == "bf16" and np.asarray(given[inputs[0].name]).dtype == BFLOAT16
        return result if keep else to_user(output, result)

    def compute(self, attention: Attention, *arrays: Any) -> np.ndarray:
        """As a call, of another attention of the kernel's class: lengths, limits and scale are parameters of a call."""
        kernel = self.kernel.computing(attention)
        given = {argument.name: array for argument, array in zip(kernel.inputs, arrays, strict=True)}
        (output,) = kernel.outputs
        return to_user(output, self._run(kernel, given)[output.name]).astype(np.asarray(arrays[0]).dtype)

    def run(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Run once with inputs by name; outputs by name in device dtypes. `warnings` holds what is odd about it."""
        return self._run(self.of_call(given), given)

    def _run(self, kernel: DescribedKernel, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        if self._closed:
            raise BackendError("the kernel was closed")
        arrays = self._prepare(kernel, given)
        _ = kernel.attention.lengths
        self.warnings = [
            f"argument {name} holds values that are not finite"
            for name, array in arrays.items()
            if array.dtype.kind not in "biu" and not np.isfinite(array).all()
        ]
        for warning in self.warnings:
            logger.warning(warning)
        with self._turn:
            buffers = self._first_that(lambda name: self._run_on(name, kernel, arrays))
            assert self.stats is not None
            self.warnings += self.stats.warnings
        return {a.name: from_buffer(a, buffers[a.buffer]) for a in kernel.outputs}

    def of_call(self, given: Mapping[str, Any]) -> DescribedKernel:
        """The kernel with the lengths that these inputs show, where it leaves any open."""
        if not self.kernel.attention.open_dimensions:
            return self.kernel
        return self.kernel.of_arrays({name: np.shape(array) for name, array in given.items()})

    def prepare(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """All inputs by name in their interface dtypes. Raises InputError on a missing, unknown or unfit one."""
        return self._prepare(self.of_call(given), given)

    def _prepare(self, kernel: DescribedKernel, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        self.require_inputs(given)
        missing = [a.name for a in kernel.inputs if a.name not in given]
        if missing:
            raise InputError(f"argument {', '.join(missing)} of {self.kernel.name} is missing")
        return {a.name: from_user(a, given[a.name]) for a in kernel.inputs}

    def require_inputs(self, names: Iterable[str]) -> None:
        """Raises InputError where one of the names is no input's."""
        known = [a.name for a in self.kernel.inputs]
        for name in names:
            if name not in known:
                raise InputError(f"{self.kernel.name} has no input {name!r}", remedy=f"there is {', '.join(known)}")

    def _open(self, name: str) -> None:
        if name not in self._opened:
            self._opened[name] = open_backend(name, self.kernel, self._settings)

    def _run_on(self, name: str, kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]) -> list[bytearray]:
        # Fresh buffers on each try: a backend that failed half way may have written into its own.
        buffers = [bytearray() for _ in range(kernel.buffer_count)]
        for argument in kernel.inputs:
            buffers[argument.buffer] = to_buffer(argument, arrays[argument.name])
        for argument in kernel.outputs:
            buffers[argument.buffer] = bytearray(argument.nbytes)
        self._open(name)
        # Taken out for the run: whatever ends it early, however often, leaves no half-run array for the next call.
        backend = self._opened.pop(name)
        try:
            self.stats = backend.run(buffers, kernel)
        except BaseException:
            with contextlib.suppress(BackendError):
                backend.close()
            raise
        self._opened[name] = backend
        return buffers

    def _first_that(self, act: Any) -> Any:
        """The result of `act` on the first backend that can, each fallback with a logged reason."""
        for name, following in zip(self._names, (*self._names[1:], None), strict=True):
            try:
                return act(name)
            except BackendError as error:
                if following is None:
                    raise
                logger.warning("%s cannot serve %s: %s; falling back to %s", name, self.kernel.name, error, following)
        raise AssertionError("unreachable: there is at least one backend")

    def _after_fork(self) -> None:
        """Devices are the parent's, which may be in the middle of a run: the child loads afresh and gives none back."""
        _of_the_parent.append(self._opened)
        self._opened = {}
        self._turn = threading.RLock()


def _after_fork() -> None:
    for executable in list(_executables):
        executable._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
