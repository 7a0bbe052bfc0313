"""The IOMMU: the NPU reads buffers at the process's own addresses (SVA, PASID), which needs it on and translating."""

from __future__ import annotations

from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.machine import hypervisor
from npuc.runtime.doctor.node import ADDRESSES, nodes
from npuc.runtime.doctor.pci import npus
from npuc.runtime.doctor.system import System

OFF = {"amd_iommu=off", "iommu=off", "iommu=soft", "amd_iommu=fullflush,off"}
PASSTHROUGH = {"iommu=pt", "iommu.passthrough=1", "iommu.passthrough=y", "iommu.passthrough=on"}
TURN_ON = "enable the IOMMU (AMD-Vi, SVM) in the firmware set-up, and boot without amd_iommu=off or iommu=off"
TRANSLATE = "boot without iommu=pt and iommu.passthrough=1 (iommu.passthrough=0), so that the NPU's group translates"
KERNEL = (
    "some kernels do not share addresses (before 6.10, and some 6.17 and 6.18): boot a newer or the last one that "
    "worked"
)


def look(system: System) -> Iterator[Finding]:
    served = [npu for npu in npus(system) if npu.served and npu.folder]
    words = set((system.read("/proc/cmdline") or "").lower().split())
    opened = any(node.tried and node.error is None for node in nodes(system))
    failed = next((node.error for node in nodes(system) if node.error in ADDRESSES), None)
    off, passing = sorted(words & OFF), sorted(words & PASSTHROUGH)
    kinds = {(system.read(f"{npu.folder}/iommu_group/type") or "").strip() for npu in served} - {""}
    none = bool(served) and not system.files("/sys/kernel/iommu_groups/*") and not system.files("/sys/class/iommu/*")
    evidence = [
        *(f"/proc/cmdline: {word}" for word in off + passing),
        *(f"iommu_group/type: {kind}" for kind in sorted(kinds)),
    ]
    if failed is not None:
        cause = (
            "it is off"
            if off or none
            else "the NPU's group passes through"
            if passing or "identity" in kinds
            else failed
        )
        remedy = (
            TURN_ON
            if off or none
            else f"{TRANSLATE}; {KERNEL}"
            if passing or "identity" in kinds
            else _by_error(system, failed)
        )
        yield blocking("iommu", f"opening the device fails for the IOMMU: {cause}", remedy, evidence)
    elif opened:
        yield good("iommu", "the driver shares addresses with the NPU", *evidence)
    elif off or none:
        yield blocking("iommu", "the IOMMU is off", TURN_ON, evidence)
    elif passing or "identity" in kinds:
        yield warning(
            "iommu", "the IOMMU passes through, with which drivers fail to share addresses", TRANSLATE, evidence
        )
    elif served:
        yield good("iommu", f"the IOMMU is on{''.join(f' ({kind})' for kind in sorted(kinds))}", *evidence)


def _by_error(system: System, error: str) -> str:
    """What helps where nothing else tells the cause."""
    if hypervisor(system):
        return "a guest cannot share addresses with the NPU: run on the host itself"
    if error == "ENODEV":
        return f"{TURN_ON} (amd_iommu=on); {KERNEL}"
    if error == "ENOSPC":
        return f"the IOMMU has no process address space left: end other users of the NPU and GPU, or reboot; {KERNEL}"
    return f"{TRANSLATE}; {KERNEL}"
