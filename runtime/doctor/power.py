"""Power: whether the NPU came back from where runtime power management or suspend put it."""

from __future__ import annotations

from collections.abc import Iterator

from npuc.runtime.doctor.findings import Finding, blocking, good
from npuc.runtime.doctor.log_causes import COLD, RELOAD
from npuc.runtime.doctor.pci import npus
from npuc.runtime.doctor.system import System


def look(system: System) -> Iterator[Finding]:
    for npu in npus(system):
        status = (system.read(f"{npu.folder}/power/runtime_status") or "").strip() if npu.served and npu.folder else ""
        state = (system.read(f"{npu.folder}/power_state") or "").strip() if status else ""
        if status in ("error", "unsupported error"):
            remedy = f"end programs that use the NPU, then {RELOAD}; else {COLD}; a newer driver"
            yield blocking(
                "power", f"runtime power management gave {npu.address} up", remedy, [f"power/runtime_status: {status}"]
            )
        elif status:
            yield good("power", f"{status}{f', {state}' if state else ''}")
