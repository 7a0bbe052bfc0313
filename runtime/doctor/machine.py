"""The machine: operating system, processor, and what it runs inside of."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.system import System

EMULATE = "kernels run emulated here: npuc run --backend emulator"


def kernel_release(system: System) -> str | None:
    """`6.14.0-37-generic`."""
    told = system.run("uname")
    if told is not None and len(told.text.split()) >= 2:
        return told.text.split()[1]
    return (system.read("/proc/sys/kernel/osrelease") or "").strip() or None


def kernel_version(system: System) -> tuple[int, int] | None:
    found = re.match(r"(\d+)\.(\d+)", kernel_release(system) or "")
    return (int(found[1]), int(found[2])) if found else None


def in_container(system: System) -> bool:
    return any(system.read(path) is not None for path in ("/.dockerenv", "/run/.containerenv"))


def hypervisor(system: System) -> str | None:
    """What this machine is a guest of; None on bare metal."""
    kind = system.read("/sys/hypervisor/type")
    if kind and kind.strip() not in ("", "none"):
        return kind.strip().capitalize()
    flags = re.search(r"^flags\s*:.*\bhypervisor\b", system.read("/proc/cpuinfo") or "", re.MULTILINE)
    return "a hypervisor" if flags else None


def processor(system: System) -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", system.read("/proc/cpuinfo") or "", re.MULTILINE)
    return found[1].strip() if found else None


def look(system: System) -> Iterator[Finding]:
    told = system.run("uname")
    words = told.text.split() if told is not None else []
    name = words[0] if words else (system.read("/proc/sys/kernel/ostype") or "Linux").strip()
    release, kind = kernel_release(system) or "", words[2] if len(words) > 2 else "x86_64"
    found = " ".join(filter(None, (name, release, f"on {kind}")))
    if name != "Linux":
        yield blocking("system", found, f"npuc reaches the NPU from Linux; {EMULATE}")
    elif kind not in ("x86_64", "AMD64"):
        yield blocking("system", found, f"the NPU is a part of x86-64 processors; {EMULATE}")
    elif "microsoft" in release.lower():
        remedy = f"Windows Subsystem for Linux has no way to the NPU: boot Linux itself; {EMULATE}"
        yield blocking("system", f"{found}, inside Windows", remedy)
    else:
        yield good("system", found, *filter(None, [processor(system)]))
        guest = hypervisor(system)
        if guest:
            remedy = f"current drivers do not start in a guest: run on the host itself; {EMULATE}"
            yield warning("system", f"this is a guest of {guest}", remedy)
