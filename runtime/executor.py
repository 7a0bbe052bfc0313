"""The public API: compile and load."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from npuc.compiler import driver
from npuc.compiler.diagnostics import UnsupportedError, UsageError
from npuc.compiler.files import read_bytes, write_bytes
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.backends import HOST_BACKENDS, BackendSettings
from npuc.runtime.choices import (
    BACKEND_NAMES,
    FALLBACK_NAMES,
    BackendName,
    EngineName,
    FallbackName,
    MachineName,
    PrecisionName,
)
from npuc.runtime.executable import Executable
from npuc.runtime.kernel_file import DescribedKernel, SourceText, described, is_kernel_file, read_kernel
from npuc.runtime.whole_modules import WholeExecutable, WholeKernel
from npuc.runtime.whole_modules import described as whole_kernel

DEFAULT_FALLBACK: tuple[FallbackName, ...] = ("reference",)


@dataclass(frozen=True, repr=False)
class Kernel:
    """A compiled kernel. result: everything the compilation made."""

    result: driver.Compiled

    def __repr__(self) -> str:
        told = []
        for about in self.result.summary["kernels"]:
            shapes = ", ".join(f"{a['name']} {'x'.join(map(str, a['shape']))} {a['dtype']}" for a in about["args"])
            told.append(f"{about['name']}: {shapes}")
        return f"<npuc.Kernel {'; '.join(told)}; {len(self.xclbin):,} bytes>"

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
    precision: PrecisionName | None = None,
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
    source: str | os.PathLike[str] | bytes | Kernel | Attention,
    *,
    backend: BackendName = "auto",
    fallback: Sequence[FallbackName] = DEFAULT_FALLBACK,
    kernel: str | None = None,
    dims: Mapping[str, int] | None = None,
    machine: MachineName = "phoenix",
    max_cycles: int | None = None,
    strict: bool = False,
    trace: bool = False,
    engine: EngineName | None = None,
    clock: float | None = None,
    short_runs: bool = False,
    time_limit: float | None = None,
) -> Executable:
    """Open an .xclbin, .npua or .mlir file (the last is compiled first), its bytes, a Kernel, or a description.

    For 'reference' and 'gpu' a .mlir file is recognised, not compiled: they take what kernels do not support.

    backend: 'auto' (the NPU when one works, else the emulator), 'xrt' or 'amdxdna' (the NPU through XRT or through its
    driver), 'emulator', 'reference' or 'gpu'.
    fallback: what serves a call, in order, when kernels do not support it or the device fails: of 'gpu', 'reference',
    'emulator'; () raises UnsupportedError or BackendError instead. kernel: which one, of a file that holds several.
    dims: the sizes that the source leaves open, by name (B, S, Skv). machine, clock (GHz, the machine's own for None),
    short_runs (assume a cost of short runs in DDR), max_cycles, strict, trace (record a timeline,
    `Executable.trace`) and engine (npuc.runtime.emulator.engines) are the emulator's.
    time_limit: seconds that a call may take on the NPU (30 for None); beyond them it counts as failed.
    Raises InputError, UsageError, BackendError.
    """
    if time_limit is not None and not time_limit > 0:
        raise UsageError(f"a time limit of {time_limit:g} seconds", remedy="give more than 0, or None")
    settings = BackendSettings(machine, max_cycles, strict, trace, engine, clock, short_runs, time_limit)
    return open_kernel(source, backend, fallback, kernel, dims or {}, settings)


Source: TypeAlias = "str | os.PathLike[str] | bytes | Kernel | Attention"


def open_kernel(
    source: Source,
    backend: str,
    fallback: Sequence[str],
    kernel: str | None,
    dims: Mapping[str, int],
    settings: BackendSettings,
) -> Executable:
    """`load`, with the emulator's settings in one value."""
    if isinstance(fallback, str) or backend not in BACKEND_NAMES or not set(fallback) <= set(FALLBACK_NAMES):
        raise UsageError(
            f"backend {backend!r} with fallback {fallback!r} is not possible",
            remedy=f"backend is one of {', '.join(BACKEND_NAMES)}; fallback a tuple of {', '.join(FALLBACK_NAMES)}",
        )
    code = None if backend in HOST_BACKENDS else not set(fallback) & set(HOST_BACKENDS)

    def open_(described: DescribedKernel) -> Executable:
        return Executable(described, backend=backend, fallback=fallback, settings=settings)

    opened = _opened(source, kernel, dims, code)
    return WholeExecutable(opened, open_) if isinstance(opened, WholeKernel) else open_(opened)


def _opened(source: Source, name: str | None, dims: Mapping[str, int], code: bool | None) -> DescribedKernel:
    """code: whether the kernel must have code; None: it needs none, so MLIR is recognised only. Where it need not, what
    kernels do not support is described, with the reason."""
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        data = read_bytes(path)
        if not is_mlir(path, data):
            return read_kernel(data, path, name).closed(dims)
        settings = driver.Settings(function=name)
        made = _made(
            code,
            lambda: driver.recognise_bytes(data, path, name),
            lambda: driver.compile_bytes(data, path, settings),
            path,
        )
        text = SourceText(driver.text_of(data, path), path)
        return replace(made, source=text).closed(dims)
    if isinstance(source, Attention):
        return _made(code, lambda: source, lambda: driver.compile_description(source)).closed(dims)
    return read_kernel(source.xclbin if isinstance(source, Kernel) else bytes(source), name=name).closed(dims)


def _made(
    code: bool | None,
    recognised: Callable[[], Attention | driver.HostModule],
    compiled: Callable[[], driver.Compiled],
    file: str = "<description>",
) -> DescribedKernel:
    refusal = None
    if code is not None:
        try:
            result = compiled()
            if result.host is None:
                return read_kernel(result.xclbin, file)
            return whole_kernel(result.host, file, lambda part: read_kernel(result.xclbin, file, part.kernel))
        except UnsupportedError as error:
            if code:
                raise
            refusal = error
    found = recognised()
    if isinstance(found, driver.HostModule):
        return whole_kernel(found, file, lambda part: described(part.attention, refusal=refusal))
    return described(found, refusal=refusal)


def is_mlir(path: str, data: bytes) -> bool:
    """Whether a file is MLIR text, by its suffix, else by its first bytes."""
    suffix = os.path.splitext(path)[1]
    return suffix == ".mlir" or (suffix not in (".xclbin", ".npua") and not is_kernel_file(data))
