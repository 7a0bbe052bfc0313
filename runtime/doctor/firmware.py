"""The NPU's firmware: the files on disk, and the version that runs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.log_causes import RELOAD
from npuc.runtime.doctor.node import nodes
from npuc.runtime.doctor.pci import npus
from npuc.runtime.doctor.system import System

FOLDERS = ("/lib/firmware/updates/amdnpu/1502_00", "/lib/firmware/amdnpu/1502_00", "/usr/lib/firmware/amdnpu/1502_00")
# What the driver asks for, in its order; the kernel also takes .xz and .zst (amd/xdna-driver, aie2_pci.c).
NAMES = ("npu.dev.sbin", "npu_7.sbin", "npu.sbin")
SUFFIXES = ("", ".zst", ".xz")
VERSION = re.compile(r"\.(\d+(?:\.\d+){3})(?:\.|$)")


def files(system: System) -> list[str]:
    """The firmware files of npu1 that the driver would take, in its order."""
    there = {path for folder in FOLDERS for path in system.files(f"{folder}/*")}
    return [
        path for name in NAMES for suffix in SUFFIXES for folder in FOLDERS
        if (path := f"{folder}/{name}{suffix}") in there
    ]  # fmt: skip


def running(system: System) -> str | None:
    """The version that the driver tells."""
    for node in nodes(system):
        told = node.answers.get("firmware") or system.read(
            f"/sys/class/accel/{node.path.rpartition('/')[2]}/device/fw_version"
        )
        if told:
            return str(told).strip()
    for npu in npus(system):
        told = system.read(f"{npu.folder}/fw_version") if npu.folder else None
        if told:
            return told.strip()
    return None


def look(system: System) -> Iterator[Finding]:
    if not any(npu.served for npu in npus(system)):
        return
    version, there = running(system), files(system)
    if version is None and not there:
        dangling = [path for folder in FOLDERS for path in system.files(f"{folder}/npu*")]
        remedy = (
            "install your distribution's linux-firmware (Debian: firmware-amd-npu, firmware-misc-nonfree), "
            f"or XRT's plug-in package, which brings the driver's own; then {RELOAD}"
        )
        yield blocking("firmware", f"no npu.sbin in {FOLDERS[1]}", remedy, dangling)
        return
    if version is None:
        yield good("firmware", f"{there[0]} (not running)", *there[1:])
        return
    yield good("firmware", f"version {version} runs", *there)
    on_disk = VERSION.search(system.link(there[0]) or "") if there else None
    if on_disk and on_disk[1] != version:
        remedy = (
            "the initial ram disk holds an older copy, or the driver was not loaded again after an update: rebuild it "
            "(update-initramfs -u, dracut -f) and reboot"
        )
        yield warning("firmware", f"version {version} runs, version {on_disk[1]} is on disk", remedy, there[:1])
