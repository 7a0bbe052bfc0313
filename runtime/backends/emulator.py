"""The emulator as a backend: it boots the array image and runs the sequence, from their bytes alone."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.diagnostics import BackendError
from npuc.compiler.emit.txn import read_txn
from npuc.runtime.backends import BackendSettings
from npuc.runtime.emulator.device import Device
from npuc.runtime.emulator.timing import MACHINES
from npuc.runtime.kernel_file import KernelFile
from npuc.runtime.statistics import RunReport


class EmulatorBackend:
    """One booted array; its state persists between runs, as on hardware."""

    name = "emulator"

    def __init__(self, kernel: KernelFile, settings: BackendSettings) -> None:
        self._settings = settings
        self._operations = read_txn(kernel.sequence()).operations
        self._machine = MACHINES[settings.machine]
        self._device: Device | None = Device(kernel.columns, self._machine, settings.strict)
        self._device.load_pdi(kernel.pdi)

    def run(self, buffers: Sequence[bytearray]) -> RunReport:
        """Run the sequence once. Raises EmulationError (a BackendError) on a deadlock, misuse or too many cycles."""
        if self._device is None:
            raise BackendError("the kernel was closed")
        statistics = self._device.run(self._operations, list(buffers), self._settings.max_cycles)
        return RunReport(
            self.name,
            emulated=True,
            seconds=statistics.cycles / self._machine.clock_hz,
            cycles=statistics.cycles,
            clock_hz=self._machine.clock_hz,
            cores=statistics.cores,
            dma=statistics.dma,
            warnings=statistics.warnings,
        )

    def close(self) -> None:
        """Free the emulated array."""
        self._device = None
