"""More situations as people report them: containers, updates without a reboot, rights that suffice, limits.

Sources: issues of amd/xdna-driver (#18, #168, #299, #1074, #1250, #1257), of Xilinx/mlir-aie, Xilinx/XRT and of tools
that use the NPU on Linux (FastFlowLM, lemonade, Proxmox kernels).
"""

from __future__ import annotations

from doctor_situations import (
    BDF,
    FAILED,
    INDEX,
    NODE,
    NPU,
    STARTED,
    UNBOUND,
    UNLOADED,
    Situation,
    drm,
    failed,
    log,
    opening,
    pyxrt,
    raises,
)

HIDDEN = {**UNBOUND, f"{NPU}/driver": "amdxdna\n"}
"""The host has the driver, and does not hand the node in."""
NO_PYXRT = pyxrt("ModuleNotFoundError: No module named 'pyxrt'")
EXACTLY = "Max locked memory         67108864             67108864             bytes\n"
LITTLE_MORE = "Max locked memory         100663296            unlimited            bytes\n"

REPORTED = (
    Situation(
        "LXC container without the node",
        ("device", "no /dev/accel", "lxc.cgroup2.devices.allow"),
        {**HIDDEN, "/run/systemd/container": "lxc\n"},
        FAILED,
    ),
    Situation(
        "LXC container with a node that belongs to nobody",
        ("device", "may not be opened", "gid=GID"),
        {"/run/systemd/container": "lxc\n"},
        {**opening("EACCES"), "nodes": {NODE: {"error": "EACCES", "mode": 0o660, "gid": 65534}}},
    ),
    Situation(
        "pod without the node",
        ("device", "no /dev/accel", "device plugin"),
        {**HIDDEN, "/proc/1/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/pod1/cri-containerd-2\n"},
        FAILED,
    ),
    Situation(
        "docker that leaves no mark but its control group",
        ("device", "no /dev/accel", "--device /dev/accel/accel0"),
        {**HIDDEN, "/proc/1/cgroup": "12:devices:/docker/0123456789ab\n"},
        FAILED,
    ),
    Situation(
        "flatpak",
        ("device", "no /dev/accel", "--device=all"),
        {**HIDDEN, "/.flatpak-info": "[Application]\n"},
        FAILED,
    ),
    Situation(
        "kernel updated, not rebooted",
        ("driver", "no longer there", "reboot into the kernel that is installed (6.15.3-arch1-1)"),
        {**UNLOADED, "/usr/lib/modules/6.15.3-arch1-1/modules.dep": ""},
        failed({"modinfo": {"code": 1, "text": "modinfo: ERROR: Module amdxdna not found.\n"}}),
    ),
    Situation(
        "AMD's driver installed, the kernel's loaded",
        ("driver", "though AMD's is installed", "initial ram disk"),
        {},
        {"commands": {**INDEX["commands"], "modinfo": "filename: /lib/modules/6.14.0/updates/dkms/amdxdna.ko.zst\n"}},
        blocks=False,
    ),
    Situation(
        "forbidden though the group may",
        ("device", "may not be opened (EPERM)", "DeviceAllow"),
        {},
        opening("EPERM"),
    ),
    Situation(
        "forbidden to root",
        ("device", "may not be opened (EACCES)", "SELinux"),
        {},
        {**opening("EACCES"), "user": {"gids": [0], "listed": [0], "root": True}},
    ),
    Situation(
        "memlock of exactly the heap",
        ("memlock", "64 MiB of memory may be locked", "limits.d"),
        {"/proc/self/limits": EXACTLY},
        raises("mmap(addr=(nil), len=4096, prot=3, flags=8193, offset=4362100736) (err=-11): Resource temporarily"),
    ),
    Situation(
        "memlock of little more than the heap",
        ("memlock", "96 MiB of memory may be locked", "ulimit -l unlimited"),
        {"/proc/self/limits": LITTLE_MORE},
        blocks=False,
    ),
    Situation(
        "distribution's pyxrt in a virtual environment",
        ("xrt", "where this Python does not look", "--system-site-packages"),
        {"/usr/lib/python3/dist-packages/pyxrt.cpython-312-x86_64-linux-gnu.so": ""},
        {"pyxrt": {**NO_PYXRT["pyxrt"], "setup": False}},
        blocks=False,
    ),
    Situation(
        "NPU that does not leave its sleep",
        ("kernel log", "does not answer on the bus", "power the machine off"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(
                    f"amdxdna {BDF}: not ready 65535ms after resume; giving up",
                    f"amdxdna {BDF}: Refused to change power state from D3hot to D0",
                    started=True,
                ),
            }
        },
    ),  # fmt: skip
    Situation(
        "no room for its registers",
        ("kernel log", "no place in the address space", "pci=realloc"),
        UNBOUND,
        failed(
            log(
                f"amdxdna {BDF}: BAR 0 [mem size 0x00080000]: not claimed; can't enable device",
                drm("amdxdna_probe", "Hardware init failed, ret -22"),
                f"amdxdna {BDF}: probe with driver amdxdna failed with error -22",
            )
        ),
    ),  # fmt: skip
    Situation(
        "new firmware with an old driver, and the power controller after it",
        ("kernel log", "different protocols (firmware: 7.2", "newer kernel"),
        UNBOUND,
        failed(
            log(
                drm("aie2_check_protocol", "Incompatible firmware protocol major 7 minor 2"),
                drm("aie2_smu_exec", "smu cmd 4 failed, 0xff"),
                drm("aie2_smu_fini", "Power off failed, ret -22"),
                drm("aie2_init", "start npu failed, ret -22"),
            )
        ),
    ),  # fmt: skip
    Situation(
        "firmware that a reset did not bring back",
        ("kernel log", "does not come to life", "power the machine off"),
        UNBOUND,
        failed(log(drm("aie2_hw_start", "Reset firmware failed"), drm("aie2_init", "start npu failed, ret -5"))),
    ),
    Situation(
        "PASID refused in a guest with passthrough",
        ("kernel log", "no address space", "host"),
        {**UNBOUND, "/proc/cpuinfo": "model name\t: AMD Ryzen 7 8845HS\nflags\t\t: fpu hypervisor\n"},
        failed(
            log(
                "amdxdna 0000:00:1b.0: aie2_init: Enable PASID failed, ret -19",
                "amdxdna 0000:00:1b.0: amdxdna_probe: Hardware init failed, ret -19",
            )
        ),
    ),  # fmt: skip
)

REPORTED += (
    Situation(
        "conda's C++ library",
        ("xrt", "this environment's libstdc++", "libstdcxx-ng"),
        {},
        pyxrt(
            "ImportError: /opt/conda/lib/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by "
            "/opt/xilinx/xrt/lib/libxrt_coreutil.so.2)",
            setup=True,
        ),
        blocks=False,
    ),
    Situation(
        "XRT of a newer distribution",
        ("xrt", "this system's C library", "newer distribution"),
        {},
        pyxrt("ImportError: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found", setup=True),
        blocks=False,
    ),
    Situation(
        "XRT has no such index",
        ("xrt", "No such device with index '0'", "plug-in"),
        {},
        raises("No such device with index '0'"),
        blocks=False,
    ),
    Situation(
        "XRT wants its variable",
        ("xrt", "XILINX_XRT", "source /opt/xilinx/xrt/setup.sh"),
        {},
        raises("XILINX_XRT environment variable is not set"),
        blocks=False,
    ),
    Situation(
        "NPU lost in hibernation",
        ("kernel log", "did not come back from suspend", "modprobe -r amdxdna"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(
                    f"amdxdna {BDF}: PM: pci_pm_restore(): amdxdna_pmops_resume+0x0/0x80 [amdxdna] returns -62",
                    f"amdxdna {BDF}: PM: failed to restore async: error -62",
                    started=True,
                ),
            }
        },
    ),  # fmt: skip
    Situation(
        "configuration space gone",
        ("kernel log", "does not answer on the bus", "BIOS"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(
                    f"amdxdna {BDF}: can't change power state from D3cold to D0 (config space inaccessible)",
                    started=True,
                ),
            }
        },
    ),  # fmt: skip
    Situation(
        "driver crashed",
        ("kernel log", "crashed inside the kernel", "reboot"),
        {},
        {
            "commands": {
                **INDEX["commands"],
                **log(
                    "BUG: kernel NULL pointer dereference, address: 0000000000000018",
                    "RIP: 0010:aie2_hwctx_fini+0x1a/0x120 [amdxdna]",
                    started=True,
                ),
            }
        },
    ),  # fmt: skip
)

HARMLESS = (
    "amdxdna: loading out-of-tree module taints kernel.",
    "amdxdna: module verification failed: signature and/or required key missing - tainting kernel",
    "Loading firmware: amdnpu/1502_00/npu.sbin",
    f"amdxdna {BDF}: enabling device (0000 -> 0002)",
    f"amdxdna {BDF}: set mpnpu_clock = 600 mhz",
    f"amdxdna {BDF}: PCI INT A: not connected",
    f"amdxdna {BDF}: firmware resuming...",
    f"amdxdna {BDF}: hardware context resuming...",
    STARTED,
)
"""Lines that people quote, and that say nothing of a failure."""
