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


MARKS = (("/.dockerenv", "docker"), ("/run/.containerenv", "podman"), ("/.flatpak-info", "flatpak"))
CGROUPS = (("kubepods", "kubernetes"), ("/docker", "docker"), ("libpod", "podman"), ("/lxc", "lxc"))


def container(system: System) -> str | None:
    """What keeps this process apart from its host: docker, podman, lxc, kubernetes, flatpak, ...; None: nothing."""
    for path, kind in MARKS:
        if system.read(path) is not None:
            return kind
    told = (system.read("/run/systemd/container") or "").strip().lower()
    if told:
        return told
    groups = system.read("/proc/1/cgroup") or ""
    return next((kind for word, kind in CGROUPS if word in groups), None)


def in_container(system: System) -> bool:
    return container(system) is not None


def handing_over(system: System) -> str:
    """How its host gives a container the node."""
    kind = container(system)
    if kind in ("lxc", "lxc-libvirt"):
        return (
            "give the container the node on its host: dev0: /dev/accel/accel0,gid=GID (Proxmox), or lxc.mount.entry "
            "and lxc.cgroup2.devices.allow; GID is the container's own number of the group; raise its memlock too "
            "(lxc.prlimit.memlock: unlimited)"
        )
    if kind == "kubernetes":
        return "give the pod the node: a device plugin for /dev/accel, or a hostPath volume and privileged: true"
    if kind == "flatpak":
        return "give the sandbox the host's devices: flatpak override --device=all, or run npuc outside of it"
    return "give the container the node: --device /dev/accel/accel0 --group-add GID --ulimit memlock=-1"


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
