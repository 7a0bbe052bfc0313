"""What a page is about: a kernel's bytes, and one emulated run of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npuc.runtime.emulator.timing import MachineTable
from npuc.runtime.statistics import PEAK_MACS_PER_CYCLE, RunReport
from npuc.runtime.verdict import ddr_bytes


@dataclass(frozen=True)
class Subject:
    """pdi, columns: the array image and its partition. programs: the file's bytes, which hold the core programs.

    report: of the run, with its trace. macs, precision: of an attention; None for other kernels. predicted: cycles by
    the cost model; terms: what it expects of the busiest core's code and its busiest channel. buffers: of core and
    memory tiles that are in use, by kind of tile and first byte: name and bytes. passing: what goes through the buffers
    of a fifo, where that is more than its name says.
    """

    name: str
    what: str
    machine: MachineTable
    pdi: bytes = field(repr=False)
    columns: int
    file: bytes = field(repr=False)
    report: RunReport = field(repr=False)
    macs: int | None = None
    precision: str | None = None
    predicted: int | None = None
    terms: Mapping[str, int] = field(default_factory=dict)
    buffers: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    passing: Mapping[str, str] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Of the run, at least 1."""
        return max(1, self.report.cycles or 0)

    @property
    def peak(self) -> int | None:
        """MACs a cycle of 16 cores at the kernel's precision."""
        return None if self.precision is None else PEAK_MACS_PER_CYCLE[self.precision]

    def ddr_bytes(self, direction: str) -> int:
        """Bytes that shim channels moved; direction: `mm2s` reads DDR, `s2mm` writes it."""
        return ddr_bytes(self.report, direction)
