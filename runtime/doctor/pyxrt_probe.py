"""What XRT's Python module finds, asked in a process of its own: it may abort, hang, or be made for another Python.

Run as a program it prints one JSON object, after whatever XRT prints.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MARK = "npuc-pyxrt-probe: "


def probe() -> dict[str, Any]:
    """python; setup: whether XRT's set-up was sourced; imported, file, error: of the module; devices: name or error."""
    found: dict[str, Any] = {
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "setup": "XILINX_XRT" in os.environ,
        "imported": False,
        "devices": [],
    }
    try:
        import pyxrt
    except Exception as error:  # noqa: BLE001  whatever a module raises that does not fit
        return {**found, "error": _text(error)}
    found.update(imported=True, file=getattr(pyxrt, "__file__", None))
    try:
        count = pyxrt.enumerate_devices()
    except Exception as error:  # noqa: BLE001
        return {**found, "error": _text(error)}
    for index in range(count):
        try:
            found["devices"].append({"name": str(pyxrt.device(index).get_info(pyxrt.xrt_info_device.name))})
        except Exception as error:  # noqa: BLE001
            found["devices"].append({"error": _text(error)})
    return found


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def parsed(code: int, text: str) -> dict[str, Any]:
    """The probe's answer; of a process that ended without one, how it ended."""
    for line in reversed(text.splitlines()):
        if line.startswith(MARK):
            answer = json.loads(line[len(MARK) :])
            assert isinstance(answer, dict)
            return answer
    if code == 124:
        return {"imported": False, "devices": [], "ended": "hangs"}
    return {"imported": False, "devices": [], "ended": f"ends by signal {-code}" if code < 0 else f"exits with {code}"}


if __name__ == "__main__":
    print(MARK + json.dumps(probe()), flush=True)
    os._exit(0)  # XRT's destructors may hang where the driver does
