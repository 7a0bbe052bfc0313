"""What one run of a kernel took, whichever backend it ran on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from npuc.runtime.trace import Trace

# Multiply-accumulates a cycle of all 16 cores: facts/schedule/peak.md (bf16 128, int8 256 a core).
PEAK_MACS_PER_CYCLE = {"bf16": 2048, "int8": 4096}


@dataclass(frozen=True)
class CoreStatistics:
    """One core, in bundles and cycles."""

    col: int
    row: int
    bundles: int
    mac_bundles: int
    stall_lock: int
    stall_memory: int
    stall_stream: int
    idle: int


@dataclass(frozen=True, repr=False)
class RunReport:
    """cycles: of the array clock, first operation of the runtime sequence to its last completion; None where the
    backend does not count them. seconds: cycles at the clock when emulated, else measured around the run."""

    backend: str
    emulated: bool
    seconds: float
    cycles: int | None = None
    clock_hz: int | None = None
    cores: tuple[CoreStatistics, ...] = ()
    dma: tuple[dict[str, Any], ...] = ()
    warnings: tuple[str, ...] = field(default=())
    trace: Trace | None = None

    def __repr__(self) -> str:
        parts = [self.backend, *(["emulated"] if self.emulated else [])]
        parts += [f"{self.cycles:,} cycles"] if self.cycles is not None else []
        parts += [f"{self.seconds * 1e3:.4g} ms"]
        parts += [f"{len(self.warnings)} warnings"] if self.warnings else []
        return f"<npuc.RunReport {', '.join(parts)}>"

    @property
    def bundles(self) -> int | None:
        """Bundles of all cores; None where the backend does not count them."""
        return sum(core.bundles for core in self.cores) if self.cores else None

    def utilization(self, macs: int, precision: str) -> float | None:
        """macs over what all 16 cores could do in the cycles at that precision."""
        if not self.cycles:
            return None
        return macs / (self.cycles * PEAK_MACS_PER_CYCLE[precision])
