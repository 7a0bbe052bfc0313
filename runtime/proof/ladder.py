"""The ladder: rungs from the lowest to the highest, climbed until one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.proof import rungs_attention, rungs_basic, rungs_probes, rungs_speed
from npuc.runtime.proof.machines import Machine
from npuc.runtime.proof.outcome import Differs, Findings
from npuc.runtime.proof.settings import Settings


@dataclass(frozen=True)
class Rung:
    """sentence: what is so where it fails. remedy: what to do then."""

    name: str
    climb: Callable[[Machine, Settings], Findings]
    sentence: str
    remedy: str


_REPORT = "send the report, npuc's emulator is wrong about this device"
_LOG = "look into the kernel log (npuc doctor does)"

LADDER: tuple[Rung, ...] = (
    Rung("open", rungs_basic.opened, "The device does not open", "do what npuc doctor says"),
    Rung(
        "context", rungs_basic.context, "The driver makes no context for an array image",
        f"end other users of the NPU; {_LOG}; match firmware and driver; reload amdxdna",
    ),
    Rung(
        "no-op sequence", rungs_basic.nothing, "A sequence that does nothing does not end",
        f"the firmware runs no sequences: {_LOG}; match firmware and driver; reload amdxdna or power off and on",
    ),
    Rung(
        "copy by DMA", rungs_basic.copy, "The DMA does not copy what it is given",
        "check the driver's version (buffers' addresses, cache flushes) and the IOMMU; then " + _REPORT,
    ),
    Rung("one core adding", rungs_basic.add, "A core does not add numbers, block after block", _REPORT),
    Rung("bf16 numbers", rungs_basic.numbers, "Multiplying or converting bf16 numbers gives other bits", _REPORT),
    Rung("banks", rungs_probes.banks, "Accesses that meet in a bank of a core's memory give other values", _REPORT),
    Rung("sub-word stores", rungs_probes.sub_word, "Stores of bytes that all sources allow lose some", _REPORT),
    Rung(
        "doubtful pairs", rungs_probes.doubtful, "Results land at other times than the schedule tables say", _REPORT,
    ),
    Rung(
        "attention, plain sequences", rungs_attention.plain, "Attention with plain sequences gives another output",
        f"{_LOG}; run the case again; then " + _REPORT,
    ),
    Rung(
        "attention, iterated and chained sequences", rungs_attention.iterated,
        "Attention with descriptors that iterate, chain or repeat gives another output",
        "compile with --option sequence=plain meanwhile; " + _REPORT,
    ),
    Rung("all features", rungs_attention.features, "A feature of attention gives another output", _REPORT),
    Rung(
        "repetitions", rungs_attention.repeated, "The same call does not give the same output again and again",
        f"{_LOG}; watch for suspends and other users of the NPU; then " + _REPORT,
    ),
    Rung(
        "dispatch latency", rungs_speed.latency, "Submissions that follow each other closely do not all end",
        f"{_LOG}; match firmware and driver",
    ),
    Rung(
        "DDR bandwidth", rungs_speed.bandwidth, "Long transfers lose or change words", f"{_LOG}; then " + _REPORT,
    ),
)  # fmt: skip


@dataclass
class Climbed:
    """A rung that was tried. wrong: why it failed, None where it holds."""

    name: str
    seconds: float
    findings: Findings = field(default_factory=Findings)
    wrong: str | None = None
    remedy: str | None = None
    device_failed: bool = False

    @property
    def passed(self) -> bool:
        return self.wrong is None

    def as_json(self) -> dict[str, Any]:
        found = asdict(self.findings)
        return {"name": self.name, "passed": self.passed, "seconds": round(self.seconds, 3), **found}


def climb(machine: Machine, settings: Settings, ladder: Sequence[Rung] = LADDER) -> Iterator[Climbed]:
    """The rungs in order, each when it was tried; the last one is the first that failed. The machine is given back."""
    try:
        for rung in ladder:
            tried = _tried(rung, machine, settings)
            yield tried
            if not tried.passed:
                return
    finally:
        machine.close()


def _tried(rung: Rung, machine: Machine, settings: Settings) -> Climbed:
    began = time.monotonic()
    try:
        findings = rung.climb(machine, settings)
    except Differs as difference:
        where = f" ({difference.place})" if difference.place else ""
        wrong, remedy, device_failed = f"{rung.sentence}: {difference.sentence}{where}", rung.remedy, False
    except BackendError as error:
        wrong = f"{rung.sentence}: {error.message}"
        remedy, device_failed = f"{error.remedy}; {rung.remedy}" if error.remedy else rung.remedy, True
    else:
        return Climbed(rung.name, time.monotonic() - began, findings)
    return Climbed(rung.name, time.monotonic() - began, Findings(), wrong, remedy, device_failed)
