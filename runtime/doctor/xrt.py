"""XRT and pyxrt: which Python it is for, which libraries it finds, and what it says of the device."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from npuc.runtime.doctor.driver import MODULE
from npuc.runtime.doctor.findings import Finding, blocking, good, warning
from npuc.runtime.doctor.iommu import KERNEL, TRANSLATE, TURN_ON
from npuc.runtime.doctor.log_causes import RELOAD
from npuc.runtime.doctor.machine import EMULATE
from npuc.runtime.doctor.memory_limit import raising
from npuc.runtime.doctor.node import nodes
from npuc.runtime.doctor.system import System

# The driver reports RyzenAI-npu1 (facts/platform/xrt_python.md), later ones the processor's name: both are npu1.
DEVICE_NAMES = ("npu1", "phoenix", "hawk")
SETUP = "/opt/xilinx/xrt/setup.sh"
BINDINGS = (
    "/opt/xilinx/xrt/python/pyxrt*", "/usr/lib/python3/dist-packages/pyxrt*", "/usr/lib/python3.*/site-packages/pyxrt*",
    "/usr/lib64/python3.*/site-packages/pyxrt*", "/usr/local/lib/python3.*/*-packages/pyxrt*",
)  # fmt: skip
PLUGIN = (
    "/opt/xilinx/xrt/lib/libxrt_driver_xdna*", "/usr/lib/*/libxrt_driver_xdna*", "/usr/lib64/libxrt_driver_xdna*",
    "/usr/lib/libxrt_driver_xdna*", "/usr/lib/*/xrt/module/libxrt_driver_xdna*",
)  # fmt: skip
LONGEST = 1000
"""Characters of what XRT says that are looked at."""
OPTIONAL = "(or none: npuc does without XRT where the device node opens)"


def proven(system: System) -> bool:
    """Whether pyxrt opened an npu1 just now."""
    told = system.pyxrt() or {}
    return any(_served(device.get("name")) for device in told.get("devices", ()))


def _served(name: object) -> bool:
    return isinstance(name, str) and any(known in name.lower() for known in DEVICE_NAMES)


def look(system: System) -> Iterator[Finding]:
    told, other = system.pyxrt(), _other_release(system)
    if other is not None:
        yield other
    if told is None:
        there = [path for pattern in (SETUP, *BINDINGS) for path in system.files(pattern)]
        if not there:
            yield _blocking("XRT is not installed", _install(), there)
        return
    if "ended" in told:
        remedy = f"the driver or XRT hangs or breaks: see the kernel log; {RELOAD}; install XRT and plug-in together"
        yield _blocking(f"asking pyxrt {told['ended']}", remedy)
    elif not told.get("imported"):
        yield _not_imported(system, told)
    elif told.get("error"):
        yield _raised(system, "looking for devices", str(told["error"]))
    elif not told.get("devices"):
        yield _no_device(system)
    else:
        yield _devices(system, told)


VERSION = "/opt/xilinx/xrt/version.json"


def _other_release(system: System) -> Finding | None:
    """Where XRT and AMD's driver are not of one release."""
    told = re.search(r'"BUILD_VERSION"\s*:\s*"(\d+\.\d+)', system.read(VERSION) or "")
    driver = re.match(r"(\d+\.\d+)", system.read(f"{MODULE}/version") or "")
    if told is None or driver is None or told[1] == driver[1]:
        return None
    found = f"XRT is of release {told[1]}, the driver of {driver[1]}"
    remedy = "install XRT and its plug-in package (which has the driver and its firmware) of one release, and reboot"
    return warning("xrt", found, remedy, [VERSION, f"{MODULE}/version"])


def _blocking(finding: str, remedy: str, evidence: Sequence[str] = ()) -> Finding:
    """Of XRT's own making, which npuc can do without."""
    return blocking("xrt", finding, f"{remedy} {OPTIONAL}", evidence, blocks=("xrt",))


def _of_the_device(finding: str, remedy: str, evidence: Sequence[str] = ()) -> Finding:
    """What stops other ways to the device too."""
    return blocking("xrt", finding, remedy, evidence, blocks=("xrt",))


def _install() -> str:
    return "install XRT (base, npu and Python packages) with its XDNA plug-in, of one release, then source its setup.sh"


def _not_imported(system: System, told: Mapping[str, Any]) -> Finding:
    error = str(told.get("error", ""))[:LONGEST]
    there = [path for pattern in BINDINGS for path in system.files(pattern)]
    python = str(told.get("python", "?"))
    versions = sorted({f"{found[1]}.{found[2]}" for path in there if (found := re.search(r"cpython-(\d)(\d+)", path))})
    evidence = [error, *there]
    source = f"source {SETUP} (in every shell that uses it)"
    named = re.search(r"cpython-(\d)(\d+)\S*: undefined symbol", error)
    made_for = f"{named[1]}.{named[2]}" if named else versions[0] if versions else None
    if made_for is not None and made_for != python and python not in versions:
        remedy = f"run npuc with Python {made_for}, or build XRT's Python module for {python}"
        return _blocking(f"pyxrt is for Python {made_for}, npuc runs on Python {python}: {error}", remedy, evidence)
    missing = re.search(r"version `(?:GLIBCXX|CXXABI)_[\d.]+' not found", error)
    if missing:
        remedy = (
            "this environment's C++ library is older than the one XRT was built with (conda: conda install -c "
            "conda-forge libstdcxx-ng; else run the system's own Python)"
        )
        return _blocking(f"pyxrt does not fit this environment's libstdc++: {error}", remedy, evidence)
    if re.search(r"version `GLIBC_[\d.]+' not found", error):
        remedy = "XRT is built for a newer distribution: install its packages for this one, or build it here"
        return _blocking(f"pyxrt does not fit this system's C library: {error}", remedy, evidence)
    if "undefined symbol" in error or "version `" in error:
        remedy = (
            f"pyxrt is made for another Python than {python} or another release of XRT: install both of one release "
            f"for this Python, {source}"
        )
        return _blocking(f"pyxrt does not fit this Python or its libraries: {error}", remedy, evidence)
    if "cannot open shared object" in error:
        library = re.search(r"(lib\w+)\.so", error)
        what = library[1] if library else "one of its libraries"
        remedy = (
            f"XRT's libraries are not found: {source}"
            if not told.get("setup")
            else f"install the package with {what} of XRT's release"
        )
        return _blocking(f"pyxrt does not find {what}: {error}", remedy, evidence)
    if "No module named" in error:
        if system.files(SETUP) and not told.get("setup"):
            return _blocking(f"XRT is installed, but its set-up was not sourced: {error}", source, evidence)
        if there and not system.files(SETUP):
            folder = there[0].rpartition("/")[0]
            remedy = f"put {folder} on PYTHONPATH, or make the virtual environment with --system-site-packages"
            return _blocking(f"XRT's pyxrt is installed where this Python does not look: {error}", remedy, evidence)
        if there or system.files(SETUP):
            remedy = f"put the folder of pyxrt for Python {python} on PYTHONPATH, or install XRT's Python package"
            return _blocking(f"XRT is set up, but has no pyxrt for this Python: {error}", remedy, evidence)
        return _blocking("XRT is not installed: no pyxrt", _install(), evidence)
    return _blocking(
        f"pyxrt cannot be imported: {error}", f"install XRT's Python module for Python {python}; {source}", evidence
    )


def _raised(system: System, doing: str, error: str) -> Finding:
    """What an exception of XRT's says."""
    error = error[:LONGEST]
    found = f"pyxrt failed {doing}: {error}"
    if re.search(r"No such device with index|device index .* out of", error):
        return replace(_no_device(system), finding=found)
    if "XILINX_XRT" in error:
        return _blocking(found, f"source {SETUP} (in every shell that uses it)", [error])
    if "67108864" in error or "err=-11" in error or "Resource temporarily" in error:
        return _of_the_device(found, raising(system), [error])
    if re.search(r"err=-?13\b|Permission denied", error):
        remedy = "join the group of the device: sudo usermod -aG render $USER, then log in again"
        return _of_the_device(found, remedy, [error])
    if re.search(r"err=-?95\b|not supported", error):
        if re.search(r"GET_INFO|GET_ARRAY", error):
            remedy = "XRT is newer than the driver: install the driver of its release (plug-in package), or older XRT"
        else:
            return _of_the_device(found, f"{TRANSLATE} (amd_iommu=on); {KERNEL}", [error])
        return _blocking(found, remedy, [error])
    if re.search(r"GET_INFO.*err=-?22\b", error):
        remedy = f"the NPU did not come back from power management (kernel log): end its users, then {RELOAD}"
        return _of_the_device(found, remedy, [error])
    if re.search(r"err=-?(19|22|28)\b|No such device|Invalid argument", error):
        return _of_the_device(found, f"{TURN_ON} (amd_iommu=on); in a VM run on the host; {KERNEL}", [error])
    if re.search(r"err=-?(5|62|110)\b|Timer expired|Input/output|timed out", error):
        return _of_the_device(
            found, f"the firmware hangs: see the kernel log; {RELOAD}; else power off and on", [error]
        )
    return _blocking(
        found, f"see the kernel log for its cause; {RELOAD}; install XRT and its plug-in of one release", [error]
    )


def _no_device(system: System) -> Finding:
    there = [path for pattern in PLUGIN for path in system.files(pattern)]
    if any(node.error is None for node in nodes(system)):
        remedy = "install XRT's XDNA plug-in (xrt_plugin-amdxdna) of XRT's release; raise memlock if it is there"
        return _blocking("XRT finds no device, though the driver has one", remedy, there)
    return _of_the_device(
        "XRT finds no device",
        "the driver has none: look for amdxdna in the kernel log; match firmware and driver; reboot",
        there,
    )


def _devices(system: System, told: Mapping[str, Any]) -> Finding:
    names = [device["name"] for device in told["devices"] if "name" in device]
    errors = [device["error"] for device in told["devices"] if "error" in device]
    if any(map(_served, names)):
        return good(
            "xrt", f"pyxrt opens {next(name for name in names if _served(name))}", *filter(None, [told.get("file")])
        )
    if errors:
        return _raised(system, "opening the device", errors[0])
    return _of_the_device(
        f"pyxrt has {', '.join(names)}, not npu1",
        f"npuc makes code for npu1 (Phoenix, Hawk Point) only; {EMULATE}",
        names,
    )
