"""The kernel log of this boot: what amdxdna said last."""

from __future__ import annotations

import re
from collections.abc import Iterator

from npuc.runtime.doctor.findings import BOTH, Finding, good, warning
from npuc.runtime.doctor.log_causes import CAUSES, STARTED, Cause
from npuc.runtime.doctor.node import nodes
from npuc.runtime.doctor.pci import npus
from npuc.runtime.doctor.system import System

FILES = ("/var/log/dmesg", "/var/log/kern.log", "/var/log/messages", "/var/log/syslog", "/dmesg", "/dmesg.txt")
RELEVANT = re.compile(
    r"amdxdna|xdna_mailbox|amdnpu|smu still busy|AMD-Vi.*IO_PAGE_FAULT|Running under hypervisor", re.IGNORECASE
)
_BOOT = re.compile(r"\bLinux version \d")
_PREFIX = re.compile(r"^(?:<\d+>)?(?:.*?\bkernel:\s*)?(?:\[[^\]]*\d[^\]]*\]\s*)?")
_FORBIDDEN = re.compile(r"not permitted|insufficient permissions|you are currently not seeing messages", re.IGNORECASE)
LONGEST = 1000
NAMED = 4
"""Lines of a cause that are shown."""


def text(system: System) -> str | None:
    """The log as it can be had; None where it may not be read."""
    read = False
    for name in ("dmesg", "journalctl"):
        told = system.run(name)
        if told is not None and told.code == 0 and not _FORBIDDEN.search(told.text[:2000]):
            read = True
            if told.text.strip():
                return told.text
    for path in FILES:
        found = system.read(path)
        if found is not None:
            return found
    return "" if read else None


def lines(log: str) -> list[str]:
    """The lines of the last boot that concern the NPU, without times and host names; of long ones the beginning."""
    found: list[str] = []
    for line in (whole[:LONGEST] for whole in log.splitlines()):
        if _BOOT.search(line):
            found.clear()
        elif RELEVANT.search(line):
            found.append(_PREFIX.sub("", line, count=1).strip())
    return found


def events(found: list[str], addresses: list[str]) -> dict[Cause, list[tuple[str, re.Match[str]]]]:
    """What still holds at the end of the log, in order of first appearance. addresses: of the NPUs on the bus."""
    seen: dict[Cause, list[tuple[str, re.Match[str]]]] = {}
    for line in found:
        if STARTED.search(line):
            seen = {cause: those for cause, those in seen.items() if cause.key == "smu busy"}
            continue
        cause, match = next(((c, m) for c in CAUSES if (m := c.match(line))), (None, None))
        if cause is None or match is None:
            continue
        if cause.key == "page fault" and not any(one.removeprefix("0000:") in line for one in addresses):
            continue
        seen.setdefault(cause, []).append((line, match))
    return seen


def look(system: System) -> Iterator[Finding]:
    log = text(system)
    if log is None:
        remedy = "read it as root: sudo dmesg | grep amdxdna (or sudo sysctl kernel.dmesg_restrict=0 and ask again)"
        yield warning("kernel log", "it may not be read", remedy)
        return
    found = lines(log)
    seen = events(found, [npu.address for npu in npus(system)])
    opens = any(node.tried and node.error is None for node in nodes(system))
    told: list[str] = []
    for cause, those in seen.items():
        if not cause.after.isdisjoint(told):
            continue
        told.append(cause.key)
        yield _finding(cause, those, opens)
    if not told:
        started = [line for line in found if STARTED.search(line)]
        yield good("kernel log", "amdxdna started" if started else "no complaint of amdxdna", *started[-1:])


def _finding(cause: Cause, those: list[tuple[str, re.Match[str]]], opens: bool) -> Finding:
    last = those[-1][1].groupdict()
    details = ""
    if cause.key == "protocol" and last.get("major"):
        details = f" (firmware: {last['major']}.{last['minor']}; npu1's driver takes 5.7 and later of 5)"
    elif cause.key == "sva" and last.get("code"):
        details = f" (error -{last['code']})"
    elif cause.key == "context":
        details = f" (status {last['code']})"
    warns = cause.warns or (cause.key == "sva" and opens)
    evidence = tuple(line for line, _ in those[:NAMED])
    return Finding("kernel log", False, cause.finding + details, cause.remedy, evidence, () if warns else BOTH)
