"""The NPU on the PCI bus and its generation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from npuc.runtime.doctor.findings import Finding, blocking, good
from npuc.runtime.doctor.machine import EMULATE, hypervisor, in_container, processor
from npuc.runtime.doctor.system import System

AMD = 0x1022
FOLDER = "/sys/bus/pci/devices"
# The driver's table of devices (amd/xdna-driver, amdxdna_pci_drv.c).
GENERATIONS: dict[tuple[int, int | None], str] = {
    (0x1502, None): "npu1 (Phoenix, Hawk Point)",
    (0x17F0, 0x10): "npu4 (Strix Point)",
    (0x17F0, 0x11): "npu5 (Strix Halo)",
    (0x17F0, 0x20): "npu6 (Krackan Point)",
    (0x17F0, None): "npu4 or later (XDNA 2)",
    (0x17F1, None): "npu3 or later",
    (0x17F2, None): "npu3 or later",
    (0x17F3, None): "npu3 or later",
    (0x1B0A, None): "npu3 or later",
    (0x1B0B, None): "npu3 or later",
}


@dataclass(frozen=True)
class Npu:
    """address: of the PCI function. folder: in sysfs, empty where only lspci told of it."""

    address: str
    device: int
    revision: int | None
    folder: str

    @property
    def generation(self) -> str:
        return GENERATIONS.get((self.device, self.revision)) or GENERATIONS[self.device, None]

    @property
    def served(self) -> bool:
        """Whether npuc makes code for it."""
        return self.device == 0x1502

    def __str__(self) -> str:
        revision = "" if self.revision is None else f" rev {self.revision:02x}"
        return f"{self.address} 1022:{self.device:04x}{revision}, {self.generation}"


def npus(system: System) -> list[Npu]:
    """All NPUs of AMD's, those first that npuc serves."""
    found = []
    for path in system.files(f"{FOLDER}/*/vendor"):
        folder = path.rpartition("/")[0]
        if _number(system.read(path)) == AMD:
            device = _number(system.read(f"{folder}/device"))
            if device is not None and (device, None) in GENERATIONS:
                revision = _number(system.read(f"{folder}/revision"))
                found.append(Npu(folder.rpartition("/")[2], device, revision, folder))
    listed = None if found else system.run("lspci")
    for line in listed.text.splitlines() if listed is not None else ():
        match = re.match(r"(\S+) .*\[1022:([0-9a-f]{4})\](?: \(rev ([0-9a-f]+)\))?", line)
        if match and (int(match[2], 16), None) in GENERATIONS:
            found.append(Npu(match[1], int(match[2], 16), int(match[3], 16) if match[3] else None, ""))
    return sorted(found, key=lambda npu: (not npu.served, npu.address))


def _number(text: str | None) -> int | None:
    try:
        return int((text or "").strip(), 16)
    except ValueError:
        return None


def look(system: System) -> Iterator[Finding]:
    found = npus(system)
    if not found:
        yield blocking("pci", "no AMD NPU on the PCI bus", _absent(system), filter(None, [processor(system)]))
    elif not found[0].served:
        remedy = f"npuc makes code for npu1 (PCI 1022:1502) only; {EMULATE}"
        yield blocking("pci", f"the NPU is {found[0].generation}", remedy, map(str, found))
    else:
        yield good("pci", str(found[0]), *map(str, found[1:]))


def _absent(system: System) -> str:
    if hypervisor(system):
        return f"a guest has no NPU: run on the host itself; {EMULATE}"
    if in_container(system) and not system.files(f"{FOLDER}/*/vendor"):
        return "this container hides the PCI bus: run npuc doctor on the host too"
    return (
        "Ryzen 7040, 8040, 8000G and 200 series processors have one: enable the NPU (IPU) in the firmware set-up, "
        f"update the BIOS, power off and on; elsewhere {EMULATE}"
    )
