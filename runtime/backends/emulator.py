"""The emulator as a backend: it boots the array image and runs the sequence, from their bytes alone."""

from __future__ import annotations

import time
from collections.abc import Sequence

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit.txn import Operation, read_txn
from npuc.compiler.progress import long_work
from npuc.runtime.apart import run_apart
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.rows import padded, take_back
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.timing import MACHINES, MachineTable
from npuc.runtime.kernel_file import DescribedKernel, KernelFile, told_of
from npuc.runtime.phases import names_of
from npuc.runtime.statistics import RunReport
from npuc.runtime.trace_names import Names


def machine_of(settings: BackendSettings) -> MachineTable:
    """The table of costs that these settings emulate. Raises UsageError for a clock that no array has."""
    machine = MACHINES[settings.machine]
    machine = machine if settings.clock is None else machine.at_clock(settings.clock)
    return machine.with_short_runs() if settings.short_runs else machine


class Emulation:
    """One booted array; its state persists between runs, as on hardware. After an exception it is of no use."""

    def __init__(self, pdi: bytes, columns: int, settings: BackendSettings, names: Names) -> None:
        self._settings, self._names = settings, names
        self._machine = machine_of(settings)
        self._device = run_apart(lambda: self._booted(pdi, columns))

    def _booted(self, pdi: bytes, columns: int) -> Device:
        device = Device(columns, self._machine, self._settings.strict, self._settings.engine)
        device.load_pdi(pdi)
        return device

    def run(self, operations: Sequence[Operation], buffers: Sequence[bytearray | memoryview]) -> RunReport:
        """Run a sequence once. Raises EmulationError (a BackendError) on a deadlock, misuse or too many cycles."""
        record = self._names if self._settings.trace else None
        limit = self._settings.max_cycles
        device, first, began = self._device, self._device.cycle, time.monotonic()
        with long_work() as tell:
            statistics = run_apart(
                lambda: device.run(operations, list(buffers), limit, record),
                lambda: tell(f"emulating: {device.cycle - first:,} cycles in {time.monotonic() - began:.0f} s"),
            )
        return RunReport(
            "emulator",
            emulated=True,
            seconds=statistics.cycles / self._machine.clock_hz,
            cycles=statistics.cycles,
            clock_hz=self._machine.clock_hz,
            cores=statistics.cores,
            dma=statistics.dma,
            warnings=(*statistics.warnings, *self._assumed()),
            trace=statistics.trace,
        )

    def _assumed(self) -> tuple[str, ...]:
        """What the cycles rest on that no measurement backs."""
        if not self._settings.short_runs:
            return ()
        cycles = f"{self._machine.ddr_run:.0f} cycles"
        return (f"assumed, not measured: each run of neighbouring words in DDR takes a channel at least {cycles}",)


class EmulatorBackend:
    """An npuc kernel on the emulator."""

    name = "emulator"

    def __init__(self, kernel: KernelFile, settings: BackendSettings) -> None:
        self._stream = b""
        self._operations: tuple[Operation, ...] = ()
        names = names_of(kernel) if settings.trace else Names(kernel.name)
        with told_of(kernel.file):
            self._emulation: Emulation | None = Emulation(kernel.pdi, kernel.columns, settings, names)

    def run(self, buffers: Sequence[bytearray | memoryview], kernel: DescribedKernel) -> RunReport:
        """Run the call's sequence once; errors as Emulation.run."""
        if self._emulation is None:
            raise BackendError("the kernel was closed")
        assert isinstance(kernel, KernelFile)
        stream = kernel.sequence()
        if stream != self._stream:
            self._stream, self._operations = stream, read_txn(stream).operations
        held = padded(kernel, buffers)
        report = self._emulation.run(self._operations, held)
        take_back(kernel, held, buffers)
        return report

    def close(self) -> None:
        """Free the emulated array."""
        self._emulation = None
