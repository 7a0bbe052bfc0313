"""What lines of the kernel log say of amdxdna, in the driver's words (amd/xdna-driver, drivers/accel/amdxdna)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

RELOAD = "sudo modprobe -r amdxdna; sudo modprobe amdxdna"
COLD = "power the machine off (not a restart; unplug it for a minute where that does not help) and on"
MATCH = (
    "install the firmware that belongs to the driver: linux-firmware for the kernel's own driver, XRT's plug-in "
    "package for AMD's; take stale copies out of /lib/firmware/amdnpu/1502_00"
)


@dataclass(frozen=True)
class Cause:
    """key: names it. patterns: one of them is in a line. finding, remedy: what it means, what helps.

    warns: it does not keep the NPU from running. after: causes of which it is a mere consequence when they came before.
    """

    key: str
    patterns: tuple[str, ...]
    finding: str
    remedy: str
    warns: bool = False
    after: frozenset[str] = field(default_factory=frozenset)

    def match(self, line: str) -> re.Match[str] | None:
        found = (re.search(pattern, line, re.IGNORECASE) for pattern in self.patterns)
        return next((match for match in found if match), None)


_FIRMWARE = frozenset({"firmware missing", "firmware damaged", "protocol", "firmware dead", "psp"})
_PROBE = _FIRMWARE | {"smu", "hypervisor", "pasid", "sva", "power", "resources", "module", "mailbox"}

CAUSES: tuple[Cause, ...] = (
    Cause(
        "firmware missing",
        (r"firmware load for amdnpu/\S+ failed with error -2\b", r"failed to request_firmware amdnpu/\S+ ret -2\b"),
        "the driver finds no firmware file",
        "install linux-firmware (or firmware-amd-npu), or XRT's plug-in package, and rebuild the initial ram disk; a "
        f"file .zst needs a kernel that unpacks it; then {RELOAD}",
    ),
    Cause(
        "firmware damaged",
        (
            r"firmware load for amdnpu/\S+ failed",
            r"loading \S*amdnpu/\S+ failed",
            r"failed to request_firmware amdnpu/\S+ ret",
        ),
        "the firmware file cannot be read",
        f"install it again; {MATCH}; then {RELOAD}",
    ),
    Cause(
        "protocol",
        (r"incompatible firmware\b.*?major (?P<major>\d+)\D+minor (?P<minor>\d+)", r"incompatible firmware"),
        "firmware and driver speak different protocols",
        f"{MATCH}: newer firmware needs a newer kernel or AMD's driver, older firmware an update; then {RELOAD}",
    ),
    Cause(
        "firmware dead",
        (
            "firmware is not alive", "invalid mbox magic", "reset firmware failed", "initial mgmt firmware failed",
            "failed to query fw",
        ),
        "the firmware does not come to life",
        f"{MATCH}; then {COLD}",
        after=frozenset({"protocol"}),
    ),
    Cause(
        "psp",
        ("psp is not ready", "failed to start psp", "failed to (?:validate|start) fw", "fw return error 0x"),
        "the security processor refuses the firmware",
        f"{MATCH}; update the BIOS; {COLD}",
        after=frozenset({"firmware dead", "protocol"}),
    ),
    Cause(
        "smu busy",
        ("reg write while smu still busy", r"s(?:mu|um) intr idle timed out"),
        "the power controller (SMU) is busy while the driver commands it",
        f"stop power tools that use it too (ryzenadj, ryzen_smu); a newer driver; {COLD}",
        warns=True,
        after=_FIRMWARE,
    ),
    Cause(
        "smu",
        (
            r"smu cmd \d+ (?:failed|timed out)", "access power failed", r"power o(?:n|ff) failed", "failed to init smu",
            r"set (?:mpnpu clock|hclock).* failed",
        ),
        "the power controller (SMU) refuses the driver's commands",
        f"{COLD}; {MATCH}; update the BIOS; stop power tools that use it too",
        after=_FIRMWARE | {"hypervisor"},
    ),
    Cause(
        "hypervisor",
        ("running under hypervisor not supported",),
        "the driver does not start in a guest of a hypervisor",
        "run on the host itself (of Xen: a kernel without it); kernels run emulated here",
    ),
    Cause(
        "pasid",
        ("enable pasid failed", "can not assign pasid", "failed to alloc iommu domain", "no iommu group found"),
        "the IOMMU gives the NPU no address space of a process",
        "enable the IOMMU (AMD-Vi) in the firmware set-up, boot without amd_iommu=off and iommu=pt; in a guest run on "
        "the host",
    ),
    Cause(
        "sva",
        (
            r"sva bind device failed, ret -(?P<code>\d+)", "sva bind device failed", "sva get pasid failed",
            "pasid unavailable",
        ),
        "opening fails: the IOMMU does not share addresses",
        "-19: enable the IOMMU in the firmware set-up, boot with amd_iommu=on; -95: boot without iommu=pt, or another "
        "kernel (some of 6.17 and 6.18 switch it off); -28: a kernel from 6.10 on",
    ),
    Cause(
        "power",
        (
            r"amdxdna.*(?:(?:unable to|refused to|can't) change power state|inaccessible|not ready \d+ms after)",
            "pcim enable device failed", r"map bar \d+ failed",
        ),
        "the NPU does not answer on the bus",
        f"{COLD}; update the BIOS; where it comes after suspend, boot with pcie_aspm=off",
    ),
    Cause(
        "resources",
        (
            r"amdxdna.*can't (?:reserve|request|ioremap|enable device: bar)",
            r"amdxdna.*bar \d+.*(?:not claimed|no space|failed to assign)",
        ),
        "the NPU's registers have no place in the address space",
        "update the BIOS (and set above 4G decoding); boot with pci=realloc; end what claims the range (/proc/iomem)",
    ),
    Cause(
        "module",
        (
            r"amdxdna.*(?:disagrees about version of symbol|unknown symbol|version magic)",
            r"(?:unsigned module|module signature|lockdown).*amdxdna",
            r"amdxdna.*(?:is rejected|key was rejected|required key not available)",
        ),
        "the kernel refuses the module",
        "build it for this kernel (sudo dkms autoinstall) and, with secure boot, sign it with an enrolled key (mokutil "
        "--import) or switch secure boot off",
    ),
    Cause(
        "crash",
        (r"\brip: .*\[amdxdna\]", r"(?:bug|oops|general protection fault): .*amdxdna", r"kernel bug at \S*amdxdna"),
        "the driver crashed inside the kernel",
        "reboot: what it held stays taken until then; a newer kernel or AMD's driver; report it to amd/xdna-driver "
        "with the log from the line with RIP on",
        after=frozenset({"suspend", "resume"}),
    ),
    Cause(
        "suspend",
        (
            "suspend npu firmware failed", "suspend firmware failed", "suspend_fw failed", "failed to suspend fw",
            r"amdxdna.*pm.*(?:suspend|freeze|poweroff).* returns -", r"amdxdna.*failed to (?:suspend|freeze|poweroff)",
        ),
        "the NPU did not go to sleep when the machine was suspended",
        f"end programs that use the NPU before suspending; {RELOAD}; a newer driver",
        after=frozenset({"mailbox"}),
    ),
    Cause(
        "resume",
        (
            r"amdxdna.*(?:resume failed|resume firmware failed|hwctx_restart.*failed)",
            r"amdxdna.*failed to (?:resume|restore|thaw)",
            r"amdxdna.*pm.*(?:resume|restore|thaw).* returns -", "resume failed after npu reset",
        ),
        "the NPU did not come back from suspend",
        f"end programs that use the NPU, then {RELOAD}; else {COLD}; a newer driver",
        after=_FIRMWARE | {"smu", "mailbox"},
    ),
    Cause(
        "context",
        (r"command opcode 0x\w+ failed, status (?P<code>0x\w+)",),
        "the firmware refuses a command",
        "0x2000003: no context is free, end other users of the NPU; 0x3000003: the file is for another NPU; else "
        f"{RELOAD}",
        warns=True,
        after=frozenset({"mailbox", "resume", "firmware dead"}),
    ),
    Cause(
        "mailbox",
        (
            "wait for completion timeout", "channel in bad state", r"xdna_mailbox.*(?:timeout|timed out)",
            r"mailbox.*timed? ?out", "bad message id", r"failed, ret -62\b",
        ),
        "the firmware stopped answering (mailbox)",
        f"{RELOAD}; {MATCH}; if it comes back, {COLD}",
        after=_FIRMWARE | {"smu"},
    ),
    Cause(
        "map host buffer",
        (r"map host buf(?:fer)? failed",),
        "the firmware does not take the process's heap",
        f"update the firmware ({MATCH}), raise memlock",
        after=frozenset({"mailbox"}),
    ),
    Cause(
        "pages",
        ("failed to pin pages", "partially pinned pages"),
        "memory for the NPU could not be locked",
        "raise memlock (see memlock), or use smaller buffers",
        warns=True,
    ),
    Cause(
        "no progress",
        ("device isn't making progress", "tdr timeout detected", "npu firmware unhealthy"),
        "a command ran longer than the driver's watchdog (2 s) and was ended",
        "run the same file on the emulator, which tells what waits for what: npuc run FILE --backend emulator; for a "
        "long kernel raise the module's timeout_in_sec",
        warns=True,
        after=frozenset({"mailbox"}),
    ),
    Cause(
        "page fault",
        (r"amd-vi.*io_page_fault",),
        "the IOMMU refused an access of the NPU",
        "a buffer was freed or too small while the NPU used it: run the same file on the emulator; a newer driver",
        warns=True,
    ),
    Cause(
        "probe",
        (
            r"amdxdna.*(?:hardware init failed|start npu failed)",
            r"amdxdna.*(?:probe (?:with driver amdxdna|of \S+) failed with error|probe failed)",
            r"probe (?:with driver amdxdna|of \S+) failed with error.*amdxdna",
        ),
        "the driver's probe failed",
        f"{MATCH}; {COLD}; then {RELOAD}",
        after=_PROBE,
    ),
)  # fmt: skip

STARTED = re.compile(r"initialized amdxdna", re.IGNORECASE)
"""The driver drives the NPU: what failed before is past."""
