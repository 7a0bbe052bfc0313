"""What runs a kernel: the NPU through XRT, the emulator, numpy, PyTorch.

Each opens one kernel: devices a KernelFile, what computes on the host (HOST_BACKENDS) a DescribedKernel.

A backend takes the kernel's data buffers, in the order of the runtime sequence, and fills the output ones in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from npuc.compiler.diagnostics import BackendError, UsageError

if TYPE_CHECKING:
    from npuc.runtime.kernel_file import DescribedKernel, KernelFile
    from npuc.runtime.statistics import RunReport

HOST_BACKENDS = ("reference", "gpu")
BACKENDS = ("xrt", "emulator", "reference", "gpu")
# The emulator's machine tables (npuc.runtime.emulator.timing), named here so that --help need not load it.
MACHINES = ("phoenix", "8945hs", "8700g")


@dataclass(frozen=True)
class BackendSettings:
    """Concern the emulator only. max_cycles None: no limit. trace: record a timeline. engine: one of
    npuc.runtime.emulator.engines, or None for the default. clock: of the array in GHz, None for the machine's own.
    short_runs: assume a cost of short runs in DDR (npuc.runtime.emulator.timing)."""

    machine: str = "phoenix"
    max_cycles: int | None = None
    strict: bool = False
    trace: bool = False
    engine: str | None = None
    clock: float | None = None
    short_runs: bool = False


class Backend(Protocol):
    """One kernel, opened on one device."""

    name: str

    def run(self, buffers: Sequence[bytearray], kernel: DescribedKernel) -> RunReport:
        """Run once the call that `kernel`, the opened one with its lengths known, describes.

        Raises BackendError when the device fails.
        """
        ...

    def close(self) -> None:
        """Give the device back."""
        ...


def open_backend(name: str, kernel: DescribedKernel, settings: BackendSettings) -> Backend:
    """Open `kernel` on the backend of that name. Raises BackendError where it is not available."""
    if name == "xrt":
        from npuc.runtime.backends.xrt import XrtBackend

        return XrtBackend(_with_code(name, kernel))
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

    if not isinstance(kernel, KernelFile):
        raise BackendError(f"{name} runs compiled kernels, and {kernel.name} was only recognised")
    return kernel


def choose_automatically() -> tuple[str, str]:
    """The backend that `auto` means on this machine, and one line saying which and why."""
    from npuc.runtime.backends.xrt import unavailable_reason

    reason = unavailable_reason()
    if reason is None:
        return "xrt", "running on the NPU through XRT"
    return "emulator", f"no NPU to run on ({reason}); running emulated"
