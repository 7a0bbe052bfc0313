"""pyxrt without an NPU: `import npuc.pyxrt as pyxrt`, and a host program runs on the emulator.

A drop-in for XRT's Python module: devices, xclbins, contexts, kernels, buffers, runs and run lists. Buffers are not
coherent with the device, as on hardware: what is not synchronised does not arrive. Any npu1 xclbin runs, with TXN
sequences or, for kernels that take them, the older ones. What it does not serve raises NotImplementedError or
AttributeError by name. Cycles of the last runs: `emulated_cycles()`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from npuc.runtime.pyxrt.buffers import bo
from npuc.runtime.pyxrt.devices import calls as _calls
from npuc.runtime.pyxrt.devices import device, enumerate_devices, hw_context
from npuc.runtime.pyxrt.enums import ert_cmd_state, xclBOSyncDirection, xrt_info_device, xrt_msg_level
from npuc.runtime.pyxrt.extensions import elf, ext, module, program
from npuc.runtime.pyxrt.files import uuid, xclbin
from npuc.runtime.pyxrt.runs import kernel, run, runlist

XCL_BO_FLAGS_NONE = 0
emergency, alert, critical, error, warning, notice, info, debug = xrt_msg_level
npuc_emulated = True
sys.modules[ext.__name__] = ext  # so that it can be imported from

__all__ = [
    "XCL_BO_FLAGS_NONE",
    "bo",
    "device",
    "elf",
    "emulated_cycles",
    "enumerate_devices",
    "ert_cmd_state",
    "ext",
    "hw_context",
    "kernel",
    "log_message",
    "module",
    "npuc_emulated",
    "program",
    "run",
    "runlist",
    "uuid",
    "xclBOSyncDirection",
    "xclbin",
    "xrt_info_device",
    "xrt_msg_level",
]

_LEVELS = {"emergency": 50, "alert": 50, "critical": 50, "error": 40, "warning": 30, "notice": 20, "info": 20}


def log_message(level: xrt_msg_level, tag: str, text: str) -> None:
    """Into the logger `npuc`."""
    logging.getLogger("npuc").log(_LEVELS.get(level.name, logging.DEBUG), "%s: %s", tag, text)


def emulated_cycles() -> tuple[int, ...]:
    """Array cycles of the last runs, oldest first; of at most 16."""
    return tuple(statistics.cycles for statistics in getattr(_calls(), "runs", ()))


def __getattr__(name: str) -> Any:
    raise AttributeError(f"npuc.pyxrt has no {name!r}: it serves {', '.join(__all__)}")
