"""The kernel module: loaded, bound to the NPU, from the kernel or from AMD's repository, and if not, why not."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.log_causes import RELOAD
from npuc.runtime.doctor.machine import in_container, kernel_release, kernel_version
from npuc.runtime.doctor.pci import npus
from npuc.runtime.doctor.system import System

MODULE = "/sys/module/amdxdna"
FIRST_KERNEL = (6, 14)
"""The first that has the driver (facts/platform/amdxdna.md, section 2)."""

MODULES = ("/lib/modules", "/usr/lib/modules")
OTHERS = "or install the driver of AMD's xdna-driver repository (DKMS)"


def loaded(system: System) -> bool:
    return system.is_folder(MODULE) or system.is_folder("/sys/bus/pci/drivers/amdxdna")


def out_of_tree(system: System) -> bool:
    """Whether the loaded module is not the kernel's own: it has a version, taints the kernel, or lies elsewhere."""
    taint = system.read(f"{MODULE}/taint")
    if system.read(f"{MODULE}/version") is not None or "O" in (taint or ""):
        return True
    return taint is None and _elsewhere(_module_file(system) or "")


def _module_file(system: System) -> str | None:
    told = system.run("modinfo")
    found = re.search(r"^filename:\s*(\S+)", told.text, re.MULTILINE) if told is not None and told.code == 0 else None
    return found[1] if found else None


def _elsewhere(path: str) -> bool:
    return any(part in path for part in ("/updates/", "/extra/", "/weak-updates/", "/dkms/"))


def look(system: System) -> Iterator[Finding]:
    if not loaded(system):
        yield _missing(system)
        return
    release = kernel_release(system) or "this kernel"
    version = (system.read(f"{MODULE}/version") or "").strip()
    kind = f"out of tree {version}".strip() if out_of_tree(system) else f"of Linux {release}"
    unbound = [npu for npu in npus(system) if npu.served and npu.folder and _driver_of(system, npu.folder) is None]
    taken = {npu: _driver_of(system, npu.folder) for npu in npus(system) if npu.served and npu.folder}
    other = next((name for name in taken.values() if name not in (None, "amdxdna")), None)
    if other is not None:
        remedy = f"unbind it from {other} (driver_override, vfio settings) and load amdxdna again"
        yield blocking("driver", f"the NPU is bound to {other}, not to amdxdna", remedy)
    elif unbound:
        remedy = (
            "its probe failed: the cause is the line of amdxdna in the kernel log (sudo dmesg | grep amdxdna); match "
            "firmware and driver, then power off and on"
        )
        yield blocking("driver", f"amdxdna ({kind}) is loaded but does not drive {unbound[0].address}", remedy)
    elif not out_of_tree(system) and _elsewhere(_module_file(system) or ""):
        remedy = f"load it: {RELOAD}; where the old one comes back, rebuild the initial ram disk and reboot"
        found = "the kernel's own amdxdna is loaded, though AMD's is installed"
        yield warning("driver", found, remedy, [_module_file(system) or ""])
    else:
        yield good("driver", f"amdxdna is loaded, {kind}")


def _driver_of(system: System, folder: str) -> str | None:
    name = system.link(f"{folder}/driver")
    return name.rstrip("/").rpartition("/")[2] if name else None


def _missing(system: System) -> Finding:
    """Why the module is not loaded, the nearest cause first."""
    hidden = _forbidden(system)
    built = _built_for_others(system)
    release, version = kernel_release(system) or "this kernel", kernel_version(system)
    if hidden:
        remedy = "take that entry out, rebuild the initial ram disk where it is in modprobe.d, and reboot"
        return blocking("driver", "amdxdna is kept from loading", remedy, [hidden])
    replaced = _replaced(system, release)
    if replaced:
        remedy = f"reboot into the kernel that is installed ({', '.join(replaced)}), or install {release} again"
        return blocking("driver", f"the modules of Linux {release}, which runs, are no longer there", remedy)
    if in_container(system) and not system.files("/sys/module/*/initstate"):
        return blocking("driver", "amdxdna is not loaded", "load it on the container's host: sudo modprobe amdxdna")
    if _module_file(system):
        remedy = "sudo modprobe amdxdna; if that is refused, the kernel log says why"
        return blocking("driver", "amdxdna is there but not loaded", remedy, [_module_file(system) or ""])
    if built:
        remedy = f"install linux-headers-{release} and run sudo dkms autoinstall, then sudo modprobe amdxdna"
        return blocking("driver", f"amdxdna was built for another kernel than {release}", remedy, built)
    if version is not None and version < FIRST_KERNEL:
        remedy = f"boot Linux 6.14 or later, {OTHERS}"
        return blocking("driver", f"Linux {release} has no amdxdna", remedy)
    remedy = (
        "install the package with the rest of the kernel's modules (linux-modules-extra, kernel-modules-extra) or a "
        f"kernel with CONFIG_DRM_ACCEL_AMDXDNA, then sudo modprobe amdxdna; {OTHERS}"
    )
    return blocking("driver", f"amdxdna is not loaded, and Linux {release} has none installed", remedy, _config(system))


def _replaced(system: System, release: str) -> list[str]:
    """The kernels whose modules are there, where those of the running one are not: an update without a reboot."""
    names = {path.split("/")[-2] for folder in MODULES for path in system.files(f"{folder}/*/modules.dep")}
    return sorted(names) if names and release not in names and not in_container(system) else []


def _forbidden(system: System) -> str | None:
    """The setting that keeps the module out."""
    for word in (system.read("/proc/cmdline") or "").split():
        name, _, value = word.partition("=")
        if name in ("modprobe.blacklist", "module_blacklist", "initcall_blacklist") and "amdxdna" in value:
            return f"/proc/cmdline: {word}"
    for folder in ("/etc/modprobe.d", "/run/modprobe.d", "/usr/lib/modprobe.d", "/lib/modprobe.d"):
        for path in system.files(f"{folder}/*.conf"):
            for line in (system.read(path) or "").splitlines():
                if re.match(r"\s*(blacklist\s+amdxdna\b|install\s+amdxdna\s+(/usr)?/bin/(false|true)\b)", line):
                    return f"{path}: {line.strip()}"
    return None


def _built_for_others(system: System) -> list[str]:
    """DKMS modules of amdxdna, none of which is installed for this kernel."""
    told = system.run("dkms")
    lines = [line for line in told.text.splitlines() if "amdxdna" in line] if told is not None else []
    release = kernel_release(system) or "?"
    return [] if any(release in line and "installed" in line for line in lines) else lines


def _config(system: System) -> list[str]:
    text = system.read(f"/boot/config-{kernel_release(system)}") or ""
    return re.findall(r"^.*CONFIG_DRM_ACCEL(?:_AMDXDNA)?\b.*$", text, re.MULTILINE)
