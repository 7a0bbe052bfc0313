"""Captured situations as people report them: a machine where all is well, and what is different on each.

Trees are made up, as small as the situation allows; causes and messages are those of public reports (issues of
amd/xdna-driver, Xilinx/mlir-aie, Xilinx/XRT) and of facts/platform/amdxdna.md, section 5.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BDF = "0000:c5:00.1"
NPU = f"/sys/bus/pci/devices/{BDF}"
NODE = "/dev/accel/accel0"
NO_HEAP = "mmap(addr=0x79, len=67108864, prot=3, flags=8209, offset=4) (err=-11): Resource temporarily unavailable"
STARTED = f"[    4.66] [drm] Initialized amdxdna_accel_driver 0.0.0 for {BDF} on minor 0"
GONE = None
"""In the place of a file: it is not there."""

Files = dict[str, str | None]

HEALTHY: Files = {
    f"{NPU}/vendor": "0x1022\n",
    f"{NPU}/device": "0x1502\n",
    f"{NPU}/revision": "0x00\n",
    f"{NPU}/driver": "amdxdna\n",
    f"{NPU}/iommu_group/type": "DMA-FQ\n",
    f"{NPU}/power/runtime_status": "active\n",
    "/sys/bus/pci/drivers/amdxdna/module": "",
    "/sys/module/amdxdna/initstate": "live\n",
    "/sys/module/amdxdna/taint": "\n",
    "/sys/kernel/iommu_groups/0/type": "DMA-FQ\n",
    "/sys/class/iommu/ivhd0/devices": "",
    "/sys/class/accel/accel0/device/driver": "amdxdna\n",
    "/sys/class/accel/accel0/device/fw_version": "1.5.2.380\n",
    "/lib/firmware/amdnpu/1502_00/npu.sbin": "npu.sbin.1.5.2.380\n",
    "/proc/cmdline": "quiet splash\n",
    "/proc/cpuinfo": "model name\t: AMD Ryzen 7 7840HS w/ Radeon 780M Graphics\nflags\t\t: fpu svm\n",
    "/proc/self/limits": "Max locked memory         unlimited            unlimited            bytes\n",
    "/proc/self/status": "Uid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n",
    "/proc/sys/kernel/osrelease": "6.14.0-37-generic\n",
    "/etc/group": "root:x:0:\nrender:x:992:\n",
    NODE: "",
}
INDEX: dict[str, Any] = {
    "format": 1,
    "commands": {
        "uname": "Linux 6.14.0-37-generic x86_64",
        "dmesg": f"[    4.55] amdxdna {BDF}: enabling device (0000 -> 0002)\n{STARTED}\n",
    },
    "nodes": {
        NODE: {"driver": "amdxdna", "version": "0.0.0", "mode": 0o660, "gid": 992, "answers": {"firmware": "1.5.2.380"}}
    },
    "user": {"gids": [992], "listed": [992], "root": False},
    "pyxrt": {
        "python": "3.12", "setup": True, "imported": True, "file": "/opt/xilinx/xrt/python/pyxrt.so",
        "devices": [{"name": "RyzenAI-npu1"}],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Situation:
    """files, index: what is other than in HEALTHY and INDEX. finding: (subject, words of it, words of its remedy).

    blocks: whether no NPU would run.
    """

    name: str
    finding: tuple[str, str, str]
    files: Files = field(default_factory=dict)
    index: dict[str, Any] = field(default_factory=dict)
    blocks: bool = True


def log(*lines: str, started: bool = False) -> dict[str, Any]:
    before = [STARTED] if started else []
    return {"dmesg": "\n".join([*before, *(f"[    5.{n:02d}] {line}" for n, line in enumerate(lines))]) + "\n"}


def drm(function: str, text: str) -> str:
    return f"amdxdna {BDF}: [drm] *ERROR* {function}: {text}"


UNBOUND: Files = {
    f"{NPU}/driver": GONE, NODE: GONE, "/sys/class/accel/accel0/device/driver": GONE,
    "/sys/class/accel/accel0/device/fw_version": GONE,
}  # fmt: skip
UNLOADED: Files = {
    **UNBOUND, "/sys/bus/pci/drivers/amdxdna/module": GONE, "/sys/module/amdxdna/initstate": GONE,
    "/sys/module/amdxdna/taint": GONE,
}  # fmt: skip
NO_XRT_DEVICE: dict[str, Any] = {**INDEX["pyxrt"], "devices": []}
FAILED: dict[str, Any] = {"nodes": {}, "pyxrt": NO_XRT_DEVICE}


def failed(commands: dict[str, Any]) -> dict[str, Any]:
    """The probe failed: no node, XRT sees none, and the kernel log says why."""
    return {**FAILED, "commands": {"uname": INDEX["commands"]["uname"], **commands}}


def opening(error: str, **more: Any) -> dict[str, Any]:
    return {
        "nodes": {NODE: {"error": error, "mode": 0o660, "gid": 992}},
        "pyxrt": {**INDEX["pyxrt"], "devices": [{"error": "RuntimeError: Failed to open KMQ device fd (err=1): x"}]},
        **more,
    }


def pyxrt(error: str, **more: Any) -> dict[str, Any]:
    return {"pyxrt": {"python": "3.12", "setup": False, "imported": False, "devices": [], "error": error, **more}}


def raises(error: str, **more: Any) -> dict[str, Any]:
    """XRT has the error, and so has everybody else: the node does not open either."""
    return {"pyxrt": {**INDEX["pyxrt"], "devices": [{"error": f"RuntimeError: {error}"}]}, **more}


SITUATIONS = (
    Situation(
        "no NPU on the bus",
        ("pci", "no AMD NPU", "firmware set-up"),
        {**UNLOADED, f"{NPU}/vendor": GONE},
        failed({}),
    ),
    Situation(
        "another generation",
        ("pci", "npu4 (Strix Point)", "npu1"),
        {f"{NPU}/device": "0x17f0\n", f"{NPU}/revision": "0x10\n"},
        {"pyxrt": {**INDEX["pyxrt"], "devices": [{"name": "NPU Strix"}]}},
    ),
    Situation(
        "Linux too old",
        ("driver", "has no amdxdna", "6.14"),
        {**UNLOADED, "/proc/sys/kernel/osrelease": "6.8.0-45-generic\n"},
        failed({"uname": "Linux 6.8.0-45-generic x86_64"}),
    ),
    Situation(
        "driver not loaded",
        ("driver", "not loaded", "modprobe amdxdna"),
        UNLOADED,
        failed(
            {"modinfo": "filename:       /lib/modules/6.14.0-37-generic/kernel/drivers/accel/amdxdna/amdxdna.ko.zst\n"}
        ),
    ),
    Situation(
        "driver not installed",
        ("driver", "none installed", "CONFIG_DRM_ACCEL_AMDXDNA"),
        {**UNLOADED, "/boot/config-6.14.0-37-generic": "# CONFIG_DRM_ACCEL_AMDXDNA is not set\n"},
        failed({"modinfo": {"code": 1, "text": "modinfo: ERROR: Module amdxdna not found.\n"}}),
    ),
    Situation(
        "driver blacklisted on the command line",
        ("driver", "kept from loading", "take that entry out"),
        {**UNLOADED, "/proc/cmdline": "quiet module_blacklist=amdxdna,nouveau\n"},
        failed({}),
    ),
    Situation(
        "driver blacklisted in modprobe.d",
        ("driver", "kept from loading", "modprobe.d"),
        {**UNLOADED, "/etc/modprobe.d/npu.conf": "# hot\nblacklist amdxdna\n"},
        failed({}),
    ),
    Situation(
        "DKMS built for another kernel",
        ("driver", "built for another kernel", "dkms autoinstall"),
        UNLOADED,
        failed({"dkms": "xrt-amdxdna/2.20.0, 6.11.0-19-generic, x86_64: installed\n"}),
    ),
    Situation(
        "module refused by secure boot",
        ("kernel log", "refuses the module", "mokutil"),
        UNLOADED,
        failed(log("Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7 (amdxdna)")),
    ),
    Situation(
        "module of another build",
        ("kernel log", "refuses the module", "build it for this kernel"),
        UNLOADED,
        failed(log("amdxdna: disagrees about version of symbol module_layout")),
    ),
    Situation(
        "NPU taken by vfio",
        ("driver", "bound to vfio-pci", "unbind"),
        {**UNBOUND, f"{NPU}/driver": "vfio-pci\n"},
        FAILED,
    ),
    Situation(
        "firmware missing",
        ("kernel log", "finds no firmware", "linux-firmware"),
        {**UNBOUND, "/lib/firmware/amdnpu/1502_00/npu.sbin": GONE},
        failed(
            log(
                f"amdxdna {BDF}: Direct firmware load for amdnpu/1502_00/npu.sbin failed with error -2",
                drm("aie2_init", "failed to request_firmware amdnpu/1502_00/npu.sbin, ret -2"),
                f"amdxdna {BDF}: probe with driver amdxdna failed with error -2",
            )
        ),
    ),
    Situation(
        "firmware damaged",
        ("kernel log", "cannot be read", "again"),
        UNBOUND,
        failed(log(f"amdxdna {BDF}: loading /lib/firmware/amdnpu/1502_00/npu.sbin failed with error -22")),
    ),
    Situation(
        "protocol too new",
        ("kernel log", "different protocols (firmware: 6.1", "newer kernel"),
        UNBOUND,
        failed(
            log(
                drm("aie2_check_protocol", "Incompatible firmware protocol major 6 minor 1"),
                drm("aie2_hw_start", "firmware is not alive"),
                drm("aie2_smu_exec", "smu cmd 4 failed, 0xff"),
                f"amdxdna {BDF}: probe with driver amdxdna failed with error -22",
            )
        ),
    ),
    Situation(
        "firmware not alive",
        ("kernel log", "does not come to life", "1502_00"),
        UNBOUND,
        failed(
            log(
                drm("aie2_get_mgmt_chann_info", "Invalid mbox magic 0x30ec000"),
                drm("aie2_hw_start", "firmware is not alive"),
                drm("aie2_smu_exec", "smu cmd 4 failed, 0xff"),
                drm("amdxdna_probe", "Hardware init failed, ret -22"),
            )
        ),
    ),
    Situation(
        "SMU refuses",
        ("kernel log", "SMU) refuses", "power the machine off"),
        UNBOUND,
        failed(
            log(
                drm("aie2_smu_exec", "smu cmd 4 failed, 0xff"),
                drm("aie2_smu_init", "Access power failed, ret -22"),
                drm("aie2_hw_start", "failed to init smu, ret -22"),
                drm("amdxdna_probe", "Hardware init failed, ret -22"),
            )
        ),
    ),
    Situation(
        "SMU busy",
        ("kernel log", "SMU) is busy", "ryzenadj"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(f"amdxdna {BDF}: aie2_smu_exec: reg write while smu still busy, smu_resp_reg 0x0", started=True),
            }
        },
        blocks=False,
    ),
    Situation(
        "PSP refuses",
        ("kernel log", "security processor", "BIOS"),
        UNBOUND,
        failed(log(drm("psp_exec", "fw return error 0x3"), drm("aie2_hw_start", "failed to start psp, ret -22"))),
    ),
    Situation(
        "guest of a hypervisor",
        ("kernel log", "guest", "host"),
        {**UNBOUND, "/proc/cpuinfo": "model name\t: AMD Ryzen 7 7840HS\nflags\t\t: fpu hypervisor\n"},
        failed(
            log(
                drm("aie2_init", "Running under hypervisor not supported"),
                drm("amdxdna_probe", "Hardware init failed, ret -22"),
            )
        ),
    ),
    Situation(
        "no PASID",
        ("kernel log", "no address space", "amd_iommu=off"),
        UNBOUND,
        failed(
            log(
                f"amdxdna {BDF}: aie2_init: Enable PASID failed, ret -19",
                f"amdxdna {BDF}: amdxdna_probe: Hardware init failed, ret -19",
            )
        ),
    ),
    Situation(
        "IOMMU off",
        ("iommu", "it is off", "amd_iommu=off"),
        {
            "/proc/cmdline": "quiet amd_iommu=off\n",
            f"{NPU}/iommu_group/type": GONE,
            "/sys/kernel/iommu_groups/0/type": GONE,
            "/sys/class/iommu/ivhd0/devices": GONE,
        },
        opening(
            "ENODEV",
            commands={
                **INDEX["commands"],
                **log(drm("amdxdna_drm_open", "SVA bind device failed, ret -19"), started=True),
            },
        ),
    ),
    Situation(
        "IOMMU passes through",
        ("iommu", "passes through", "without iommu=pt"),
        {"/proc/cmdline": "quiet iommu=pt\n", f"{NPU}/iommu_group/type": "identity\n"},
        opening("EOPNOTSUPP"),
    ),
    Situation(
        "kernel without shared addresses",
        ("kernel log", "does not share addresses (error -95)", "another kernel"),
        {},
        opening(
            "EOPNOTSUPP",
            commands={
                **INDEX["commands"],
                **log(drm("amdxdna_drm_open", "SVA bind device failed, ret -95"), started=True),
            },
        ),
    ),
    Situation(
        "not in the group",
        ("device", "may not be opened", "usermod -aG render"),
        {},
        {**opening("EACCES"), "user": {"gids": [100], "listed": [100], "root": False}},
    ),
    Situation(
        "in the group since this login",
        ("device", "may not be opened", "log out and in"),
        {},
        {**opening("EACCES"), "user": {"gids": [100], "listed": [100, 992], "root": False}},
    ),
    Situation(
        "container without the node",
        ("device", "no /dev/accel", "--device /dev/accel/accel0"),
        {NODE: GONE, "/.dockerenv": ""},
        FAILED,
    ),
    Situation(
        "memlock",
        ("memlock", "8 MiB", "limits.d"),
        {"/proc/self/limits": "Max locked memory         8388608              8388608              bytes\n"},
        raises(NO_HEAP),
    ),
    Situation(
        "memlock in a container",
        ("memlock", "64 KiB", "--ulimit memlock"),
        {
            "/proc/self/limits": "Max locked memory         65536                65536                bytes\n",
            "/.dockerenv": "",
        },
        raises(NO_HEAP),
    ),
    Situation(
        "mailbox timeout",
        ("kernel log", "stopped answering", "modprobe -r amdxdna"),
        {},
        {
            **opening("ENODEV"),
            "commands": {
                **INDEX["commands"],
                **log(
                    f"amdxdna {BDF}: xdna_send_msg_wait: Wait for completion timeout",
                    drm("aie2_destroy_context", "x"),
                    started=True,
                ),
            },
        },
    ),
    Situation(
        "resume failed",
        ("kernel log", "did not come back from suspend", "modprobe -r amdxdna"),
        {},
        {
            **opening("EINVAL"),
            "commands": {
                **INDEX["commands"],
                **log(
                    drm("aie2_config_cu", "Lookup GEM object failed"),
                    drm("aie2_hwctx_restart", "Config cu failed, ret -22"),
                    drm("amdxdna_pm_resume_get", "Resume failed: -22"),
                    started=True,
                ),
            },
        },
    ),
    Situation(
        "suspend failed",
        ("kernel log", "did not go to sleep", "before suspending"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(
                    f"amdxdna {BDF}: amdxdna_do_suspend: suspend NPU firmware failed",
                    f"amdxdna {BDF}: PM: pci_pm_suspend(): amdxdna_pmops_suspend+0x0/0x80 [amdxdna] returns -19",
                    started=True,
                ),
            }
        },
    ),
    Situation(
        "power management gave up",
        ("power", "gave", "modprobe -r amdxdna"),
        {f"{NPU}/power/runtime_status": "error\n"},
        opening("EINVAL"),
    ),
    Situation(
        "the firmware hangs",
        ("kernel log", "stopped answering", "modprobe -r amdxdna"),
        {},
        {
            **opening("ENODEV"),
            "commands": {
                **INDEX["commands"],
                **log(drm("aie2_config_cu", "Config CU to firmware failed, ret -62"), started=True),
            },
        },
    ),
    Situation(
        "a device that did not come back",
        ("xrt", "err=-22", "power management"),
        {},
        {
            **raises("DRM_IOCTL_AMDXDNA_GET_INFO IOCTL failed (err=-22): Invalid argument"),
            "nodes": {
                NODE: {
                    "driver": "amdxdna",
                    "version": "0.6.0",
                    "refused": f"{NODE}: GET_INFO failed with EINVAL (Invalid argument)",
                    "answers": {"errors": {"array": "EINVAL"}},
                }
            },
        },
    ),
    Situation(
        "XRT and driver of different releases",
        ("xrt", "release 2.20, the driver of 2.18", "one release"),
        {
            "/opt/xilinx/xrt/version.json": '{\n  "BUILD_VERSION" : "2.20.0"\n}\n',
            "/sys/module/amdxdna/version": "2.18.0_20240712, b6db49f792a4\n",
        },
        blocks=False,
    ),
    Situation(
        "a kernel hung",
        ("kernel log", "watchdog", "--backend emulator"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(f"amdxdna {BDF}: amdxdna_tdr_work: Device isn't making progress... Count 2", started=True),
            }
        },
        blocks=False,
    ),
    Situation(
        "stale firmware in the ram disk",
        ("firmware", "1.5.5.391 is on disk", "initramfs"),
        {"/lib/firmware/amdnpu/1502_00/npu.sbin": "npu.sbin.1.5.5.391\n"},
        blocks=False,
    ),
    Situation(
        "kernel log forbidden",
        ("kernel log", "may not be read", "sudo dmesg"),
        {},
        {
            "commands": {
                "uname": INDEX["commands"]["uname"],
                "dmesg": {"code": 1, "text": "dmesg: read kernel buffer failed: Operation not permitted\n"},
            }
        },
        blocks=False,
    ),
    Situation(
        "no XRT at all",
        ("xrt", "not installed", "or none"),
        {},
        pyxrt("ModuleNotFoundError: No module named 'pyxrt'"),
        blocks=False,
    ),
    Situation(
        "XRT not set up",
        ("xrt", "set-up was not sourced", "source /opt/xilinx/xrt/setup.sh"),
        {"/opt/xilinx/xrt/setup.sh": ""},
        pyxrt("ModuleNotFoundError: No module named 'pyxrt'"),
        blocks=False,
    ),
    Situation(
        "XRT's libraries not found",
        ("xrt", "libxrt_coreutil", "source"),
        {},
        pyxrt("ImportError: libxrt_coreutil.so.2: cannot open shared object file: No such file or directory"),
        blocks=False,
    ),
    Situation(
        "pyxrt of another Python",
        ("xrt", "for Python 3.10", "Python 3.10"),
        {"/opt/xilinx/xrt/python/pyxrt.cpython-310-x86_64-linux-gnu.so": ""},
        pyxrt("ModuleNotFoundError: No module named 'pyxrt'", setup=True),
        blocks=False,
    ),
    Situation(
        "pyxrt with symbols of another Python",
        ("xrt", "for Python 3.13", "3.13"),
        {},
        pyxrt("ImportError: pyxrt.cpython-313-x86_64-linux-gnu.so: undefined symbol: _PyThreadState_UncheckedGet"),
        blocks=False,
    ),
    Situation(
        "XRT without its plug-in",
        ("xrt", "though the driver has one", "plug-in"),
        {},
        {"pyxrt": NO_XRT_DEVICE},
        blocks=False,
    ),
    Situation(
        "XRT newer than the driver",
        ("xrt", "err=95", "newer than the driver"),
        {},
        raises("DRM_IOCTL_AMDXDNA_GET_INFO IOCTL failed (err=95): Operation not supported"),
        blocks=False,
    ),
    Situation(
        "XRT raises what it likes",
        ("xrt", "IndexError", "of one release"),
        {},
        {"pyxrt": {**INDEX["pyxrt"], "devices": [{"error": "IndexError: invalid device index"}]}},
        blocks=False,
    ),
    Situation(
        "XRT hangs",
        ("xrt", "hangs", "kernel log"),
        {},
        {"pyxrt": {"imported": False, "devices": [], "ended": "hangs"}},
        blocks=False,
    ),
    Situation(
        "Windows Subsystem for Linux",
        ("system", "inside Windows", "boot Linux itself"),
        {**UNLOADED, f"{NPU}/vendor": GONE},
        failed({"uname": "Linux 5.15.153.1-microsoft-standard-WSL2 x86_64"}),
    ),
    Situation("not x86-64", ("system", "aarch64", "x86-64"), UNLOADED, failed({"uname": "Linux 6.14.0 aarch64"})),
    Situation(
        "another maker's node",
        ("device", "no /dev/accel", "kernel log"),
        {
            "/sys/class/accel/accel0/device/driver": "intel_vpu\n",
            f"{NPU}/driver": GONE,
            "/sys/class/accel/accel0/device/fw_version": GONE,
        },
        failed({}) | {"nodes": {NODE: {"driver": "intel_vpu"}}},
    ),
)


def merged(situation: Situation) -> tuple[Files, dict[str, Any]]:
    """All files and the index of a situation."""
    return {**HEALTHY, **situation.files}, {**copy.deepcopy(INDEX), **situation.index}


def write(folder: Path, files: Files, index: dict[str, Any]) -> Path:
    """The tree of a situation."""
    for path, text in files.items():
        if text is not None:
            here = folder / path.lstrip("/")
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_text(text)
    (folder / "npuc-capture.json").write_text(json.dumps(index))
    return folder
