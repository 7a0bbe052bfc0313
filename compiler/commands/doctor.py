"""npuc doctor: what this machine lacks to run on an NPU."""

from __future__ import annotations

import glob
import json
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass

import click


@dataclass(frozen=True)
class Finding:
    """name: what was looked at. ok: whether it is as needed. finding: what is there. remedy: what would help."""

    name: str
    ok: bool
    finding: str
    remedy: str | None = None


def _system() -> Finding:
    found = f"{platform.system()} on {platform.machine()}"
    ok = platform.system() == "Linux" and platform.machine() in ("x86_64", "AMD64")
    return Finding("system", ok, found, None if ok else "the NPU is driven from Linux on x86-64; elsewhere emulate")


def _driver_module() -> Finding:
    ok = os.path.isdir("/sys/module/amdxdna")
    remedy = "Linux 6.14 or later with CONFIG_DRM_ACCEL_AMDXDNA, or amdxdna of AMD's xdna-driver; modprobe it"
    return Finding("driver", ok, "amdxdna is loaded" if ok else "amdxdna is not loaded", None if ok else remedy)


def _device_node() -> Finding:
    nodes = sorted(glob.glob("/dev/accel/accel*"))
    if not nodes:
        remedy = "enable the NPU (IPU) in the firmware set-up and load amdxdna"
        return Finding("device", False, "no /dev/accel/accel*", remedy)
    usable = [node for node in nodes if os.access(node, os.R_OK | os.W_OK)]
    if not usable:
        return Finding("device", False, f"{nodes[0]} may not be opened", "join its group: usermod -aG render $USER")
    return Finding("device", True, f"{usable[0]} may be opened")


def _xrt() -> Finding:
    from npuc.runtime.backends.xrt import unavailable_reason

    reason = unavailable_reason()
    if reason is None:
        return Finding("xrt", True, "pyxrt finds an npu1 device")
    return Finding("xrt", False, reason, "install XRT with the XDNA plugin, and put its pyxrt on PYTHONPATH")


CHECKS: tuple[Callable[[], Finding], ...] = (_system, _driver_module, _device_node, _xrt)


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print {npu_usable, findings[{name, ok, finding, remedy}]}.")
def command(as_json: bool) -> None:
    """Say what this machine lacks to run on an NPU, each finding with its remedy. Emulation needs none of it."""
    findings = [check() for check in CHECKS]
    usable = all(finding.ok for finding in findings)
    if as_json:
        click.echo(json.dumps({"npu_usable": usable, "findings": [asdict(finding) for finding in findings]}))
        return
    for finding in findings:
        click.echo(f"{'ok     ' if finding.ok else 'missing'} {finding.name}: {finding.finding}")
        if finding.remedy:
            click.echo(f"        {finding.remedy}")
    click.echo("kernels run on the NPU" if usable else "kernels run emulated")
