"""The device node: really opened, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator

from npuc.runtime.doctor.driver import loaded
from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.machine import handing_over, in_container
from npuc.runtime.doctor.system import Node, System

PATTERN = "/dev/accel/accel*"
COLUMNS, ROWS = 5, 6
"""Of npu1, as its driver tells them (facts/platform/amdxdna.md, section 1)."""
READ_WRITE = 0o060
"""Of a node's mode: its group may read and write."""
ADDRESSES = ("ENODEV", "EOPNOTSUPP", "ENOTSUP", "ENOSPC", "EINVAL")
"""How opening fails where the driver cannot share the process's addresses: iommu.py tells the cause."""


def all_nodes(system: System) -> list[Node]:
    return [system.node(path) for path in system.files(PATTERN)]


def owner(system: System, node: Node) -> str | None:
    """The driver of a node: as it told itself, else by sysfs."""
    name = node.path.rpartition("/")[2]
    link = system.link(f"/sys/class/accel/{name}/device/driver")
    return node.driver or (link.rpartition("/")[2] if link else None)


def nodes(system: System) -> list[Node]:
    """The nodes that are amdxdna's, or may be."""
    return [node for node in all_nodes(system) if owner(system, node) in (None, "amdxdna", "amdxdna_accel_driver")]


def proven(system: System) -> bool:
    """Whether a client got an npu1 with its heap just now: the driver told of as many columns as npu1 has."""
    return any(
        node.tried and node.error is None and node.refused is None and node.driver == "amdxdna"
        and (node.answers.get("columns"), node.answers.get("rows")) == (COLUMNS, ROWS)
        for node in nodes(system)
    )  # fmt: skip


def look(system: System) -> Iterator[Finding]:
    ours, others = nodes(system), [node for node in all_nodes(system) if node not in nodes(system)]
    if not ours:
        seen = [f"{node.path} is {owner(system, node)}'s" for node in others]
        yield blocking("device", f"no {PATTERN} of amdxdna", _no_node(system), seen)
        return
    best = min(ours, key=lambda node: (node.tried and node.error is not None, node.refused is not None, node.path))
    if not best.tried:
        yield good("device", f"{best.path} is there (it was not opened)")
    elif best.error is None and best.refused is not None:
        remedy = best.remedy or "see the kernel log: sudo dmesg | grep amdxdna"
        yield blocking("device", f"{best.path} opens, but serves no client: {best.refused}", remedy)
    elif best.error is None:
        told = ", ".join(
            f"{name} {best.answers[name]}" for name in ("firmware", "aie", "columns") if name in best.answers
        )
        yield good("device", f"{best.path} opens, driver {best.driver} {best.version}".rstrip(), *filter(None, [told]))
        if best.answers.get("errors"):
            failed = ", ".join(f"{name}: {code}" for name, code in sorted(best.answers["errors"].items()))
            remedy = "harmless if it is EOPNOTSUPP: the driver is older than the question; otherwise see the kernel log"
            yield warning("device", "the driver does not answer all questions", remedy, [failed])
    else:
        yield _not_opened(system, best)


def _no_node(system: System) -> str:
    if in_container(system):
        return f"{handing_over(system)}; where the host has none either, look for amdxdna in its kernel log"
    if loaded(system):
        return (
            "the driver is loaded but its probe failed or found no NPU: look for amdxdna in the kernel log (sudo dmesg "
            "| grep amdxdna), match firmware and driver, power off and on"
        )
    return "enable the NPU (IPU) in the firmware set-up and load amdxdna"


def _not_opened(system: System, node: Node) -> Finding:
    found = f"{node.path} does not open: {node.error}"
    if node.error in ("EACCES", "EPERM"):
        return blocking("device", f"{node.path} may not be opened ({node.error})", _permission(system, node))
    if node.error in ADDRESSES:
        return blocking("device", found, "the driver cannot share addresses with the NPU: see iommu")
    if node.error in ("ENOENT", "ENXIO"):
        return blocking("device", found, "the node is stale: sudo modprobe -r amdxdna; sudo modprobe amdxdna")
    if node.error in ("ENOMEM", "EAGAIN"):
        return blocking("device", found, "memory is short: end other users of the NPU, raise memlock, or reboot")
    if node.error in ("EBUSY", "ETIME", "ETIMEDOUT", "EIO"):
        return blocking(
            "device", found, "the NPU hangs: sudo modprobe -r amdxdna; sudo modprobe amdxdna, else power off and on"
        )
    return blocking("device", found, "see the kernel log: sudo dmesg | grep amdxdna")


def _permission(system: System, node: Node) -> str:
    if in_container(system):
        return handing_over(system)
    user, group = system.user(), _group(system, node.gid)
    ours = node.gid is not None and user.gids is not None and node.gid in user.gids
    if user.root or (ours and (node.mode or 0) & READ_WRITE == READ_WRITE):
        return (
            "its rights suffice, so something else forbids it: rules of a service (DeviceAllow, PrivateDevices), a "
            "sandbox (snap, flatpak), AppArmor or SELinux (sudo ausearch -m avc, sudo dmesg | grep DENIED)"
        )
    if ours:
        return f'the group {group} may not read and write it: add a udev rule with MODE="0660", GROUP="render"'
    if node.gid is not None and user.listed is not None and node.gid in user.listed:
        return f"you are in its group {group} since after you logged in: log out and in again (or newgrp {group})"
    if node.gid == 0:
        return (
            'it belongs to root: add a udev rule with SUBSYSTEM=="accel", GROUP="render", MODE="0660", and join render'
        )
    return f"join its group: sudo usermod -aG {group} $USER, then log out and in again"


def _group(system: System, gid: int | None) -> str:
    """Its name; `render`, which distributions use, where it is not known."""
    for line in (system.read("/etc/group") or "").splitlines():
        parts = line.split(":")
        if len(parts) > 2 and parts[2] == str(gid):
            return parts[0]
    return "render"
