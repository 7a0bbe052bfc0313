"""How much memory may be locked: the driver's heap is a locked mapping of 64 MiB (facts/platform/amdxdna.md)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.machine import container, in_container
from npuc.runtime.doctor.system import System

HEAP_BYTES = 64 << 20
LEAST_BYTES = HEAP_BYTES + (1 << 20)
"""The heap, and a command with little data: all buffers are locked (XRT's shim and npuc map them so)."""
AMPLE_BYTES = 128 << 20
CAP_IPC_LOCK = 14


def limits(system: System) -> tuple[float, float] | None:
    """(soft, hard) in bytes."""
    text = system.read("/proc/self/limits") or ""
    found = re.search(r"^Max locked memory\s+(\S+)\s+(\S+)", text, re.MULTILINE)
    return None if found is None else (_bytes(found[1]), _bytes(found[2]))


def _bytes(word: str) -> float:
    return float(word) if word.isascii() and word.isdigit() else float("inf")


def _privileged(system: System) -> bool:
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", system.read("/proc/self/status") or "", re.MULTILINE)
    return bool(found and int(found[1], 16) >> CAP_IPC_LOCK & 1)


def raising(system: System) -> str:
    """How to raise the limit here."""
    if container(system) in ("lxc", "lxc-libvirt"):
        return "raise memlock on the container's host: lxc.prlimit.memlock: unlimited in its configuration"
    if in_container(system):
        return (
            "raise memlock: start the container with --ulimit memlock=-1:-1; its host's limit is that of limits.d and "
            "of LimitMEMLOCK of the service that starts it"
        )
    known = limits(system)
    shell = "ulimit -l unlimited in this shell; for good, " if known and known[1] >= AMPLE_BYTES > known[0] else ""
    return (
        f"raise memlock: {shell}the lines `* soft memlock unlimited` and `* hard memlock unlimited` in "
        "/etc/security/limits.d/99-amdxdna.conf, LimitMEMLOCK=infinity for services, user@.service too; "
        "then log out and in again"
    )


def look(system: System) -> Iterator[Finding]:
    known = limits(system)
    if known is None:
        return
    soft, hard = known
    told = f"{_mib(soft)} of memory may be locked"
    hard_told = f"hard limit {_mib(hard)}"
    if soft >= AMPLE_BYTES or _privileged(system):
        yield good("memlock", told if soft >= AMPLE_BYTES else f"{told}, but this process is privileged")
    elif soft >= LEAST_BYTES:
        found = f"{told}; the NPU's heap takes 64 MiB of it, and every other buffer is locked too"
        yield warning("memlock", found, raising(system), [hard_told])
    else:
        yield blocking("memlock", f"{told}, the NPU's heap needs 64 MiB and more", raising(system), [hard_told])


def _mib(count: float) -> str:
    if count == float("inf"):
        return "any amount"
    return f"{count / (1 << 20):g} MiB" if count >= 1 << 20 else f"{count / (1 << 10):g} KiB"
