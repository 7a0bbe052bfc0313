"""What runs a kernel: the NPU through XRT or its driver, the emulator, numpy, PyTorch.

Each opens one kernel: devices a KernelFile, what computes on the host (HOST_BACKENDS) a DescribedKernel.

A device takes the kernel's data buffers, in the order of the runtime sequence, and fills the output ones in place; the
host takes arrays as callers have them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, get_args, runtime_checkable

from npuc.compiler.diagnostics import BackendError, UnsupportedError, UsageError
from npuc.runtime.choices import BackendName, MachineName

if TYPE_CHECKING:
    import numpy as np

    from npuc.runtime.backends.pending import Pending
    from npuc.runtime.kernel_file import DescribedKernel, KernelFile
    from npuc.runtime.statistics import RunReport

HOST_BACKENDS = ("reference", "gpu")
NPU_BACKENDS = ("xrt", "amdxdna")
BACKENDS: tuple[str, ...] = get_args(BackendName)[1:]  # without auto
# The emulator's machine tables (npuc.runtime.emulator.timing), named here so that --help need not load it.
MACHINES: tuple[str, ...] = get_args(MachineName)


@dataclass(frozen=True)
class BackendSettings:
    """Concern the emulator only, but for time_limit: seconds that a call may take on the NPU.

    max_cycles None: no limit. trace: record a timeline. engine: one of npuc.runtime.emulator.engines, or None for the
    default. clock: of the array in GHz, None for the machine's own. short_runs: assume a cost of short runs in DDR
    (npuc.runtime.emulator.timing).
    """

    machine: str = "phoenix"
    max_cycles: int | None = None
    strict: bool = False
    trace: bool = False
    engine: str | None = None
    clock: float | None = None
    short_runs: bool = False
    time_limit: float | None = None


class Backend(Protocol):
    """One kernel, opened."""

    name: str

    def close(self) -> None:
        """Give the device back."""
        ...


@runtime_checkable
class HostBackend(Backend, Protocol):
    """A kernel that the host computes."""

    def compute(self, arrays: Mapping[str, np.ndarray], kernel: DescribedKernel) -> tuple[np.ndarray, RunReport]:
        """The output, in any type that holds it, of inputs by name in their interface types.

        kernel: the opened one with its lengths known. Raises BackendError.
        """
        ...


class DeviceBackend(Backend, Protocol):
    """A kernel on a device."""

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run once the call that `kernel`, the opened one with its lengths known, describes.

        Raises BackendError when the device fails.
        """
        ...


@runtime_checkable
class QueueingBackend(DeviceBackend, Protocol):
    """A device that takes calls ahead. idle: none is under way."""

    @property
    def idle(self) -> bool: ...

    def submit(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> Pending:
        """Begin the call; its end fills the buffers. Raises BackendError."""
        ...


def open_backend(name: str, kernel: DescribedKernel, settings: BackendSettings) -> HostBackend | DeviceBackend:
    """Open `kernel` on the backend of that name.

    Raises BackendError where it is not available, UnsupportedError where it does not compute this.
    """
    if name == "xrt":
        from npuc.runtime.backends.xrt import XrtBackend

        return XrtBackend(_with_code(name, kernel), settings)
    if name == "amdxdna":
        from npuc.runtime.backends.amdxdna import AmdxdnaBackend

        return AmdxdnaBackend(_with_code(name, kernel), settings)
    if name == "emulator":
        if settings.machine not in MACHINES:
            raise UsageError(f"machine {settings.machine!r} is unknown", remedy=f"one of {', '.join(MACHINES)}")
        from npuc.runtime.backends.emulator import EmulatorBackend

        return EmulatorBackend(_with_code(name, kernel), settings)
    if name == "reference":
        from npuc.runtime.backends.reference_backend import ReferenceBackend

        return ReferenceBackend(kernel)
    if name == "gpu":
        from npuc.runtime.backends.gpu import GpuBackend

        return GpuBackend(kernel)
    raise UsageError(f"backend {name!r} is unknown", remedy=f"one of auto, {', '.join(BACKENDS)}")


def _with_code(name: str, kernel: DescribedKernel) -> KernelFile:
    from npuc.runtime.kernel_file import KernelFile

    if kernel.refusal is not None:
        refusal = kernel.refusal
        raise UnsupportedError(refusal.message, place=refusal.place, remedy=refusal.remedy)
    if not isinstance(kernel, KernelFile):
        raise BackendError(f"{name} runs compiled kernels, and {kernel.name} was only recognised")
    return kernel


def choose_automatically() -> tuple[str, str]:
    """The backend that `auto` means on this machine, and one line saying which and why."""
    from npuc.runtime.backends import amdxdna, xrt

    without_xrt = xrt.unavailable_reason()
    if without_xrt is None:
        return "xrt", "running on the NPU through XRT"
    without_driver = amdxdna.unavailable_reason()
    if without_driver is None:
        return "amdxdna", "running on the NPU through the amdxdna driver"
    return "emulator", f"no NPU to run on ({without_xrt}; {without_driver}); running emulated"
