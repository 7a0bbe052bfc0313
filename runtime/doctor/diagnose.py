"""All subjects in order, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from npuc.runtime.doctor import (
    driver,
    firmware,
    iommu,
    kernel_log,
    machine,
    memory_limit,
    node,
    pci,
    power,
    xrt,
)  # fmt: skip
from npuc.runtime.doctor.findings import BOTH, Finding, Way
from npuc.runtime.doctor.system import System

SUBJECTS: tuple[Callable[[System], Iterator[Finding]], ...] = (
    machine.look, pci.look, driver.look, firmware.look, kernel_log.look, power.look, node.look, iommu.look,
    memory_limit.look, xrt.look,
)  # fmt: skip


BY_FILES = ("system", "pci", "driver", "firmware", "iommu")
"""Subjects that files tell of, which a container may hide."""


@dataclass(frozen=True)
class Diagnosis:
    """findings: in the order of the subjects, from the machine to XRT."""

    findings: tuple[Finding, ...]

    @property
    def ways(self) -> dict[Way, bool]:
        """Which ways to the NPU work."""
        return {way: not any(way in finding.blocks for finding in self.findings) for way in BOTH}

    @property
    def usable(self) -> bool:
        return any(self.ways.values())

    def as_json(self) -> dict[str, Any]:
        return {
            "npu_usable": self.usable,
            "ways": dict(self.ways),
            "findings": [{**asdict(finding), "severity": finding.severity} for finding in self.findings],
        }


def diagnose(system: System) -> Diagnosis:
    """Asks the system everything. What XRT or a client has just opened is there, whatever files say: they only warn."""
    found = [finding for subject in SUBJECTS for finding in subject(system)]
    if node.proven(system):
        found = [replace(finding, blocks=()) if finding.name in BY_FILES else finding for finding in found]
    if xrt.proven(system):
        found = [
            replace(finding, blocks=tuple(way for way in finding.blocks if way != "xrt"))
            if finding.name not in ("kernel log", "xrt") else finding
            for finding in found
        ]  # fmt: skip
    return Diagnosis(tuple(found))
