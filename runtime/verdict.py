"""What binds a run, in a sentence, and what would help: told from the run's own counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.timing import MachineTable
from npuc.runtime.statistics import CoreStatistics, RunReport

WORD_BYTES = 4
WAITING = "waiting for "  # how a trace calls what a core waits for, where locks have names
START = "start"  # the lock that a call raises
FULL = 0.85  # of the cycles: from there on a channel or DDR is what the rest waits for
BUSY = 0.7  # of the cycles: from there on the cores' own code is


class Share(NamedTuple):
    """cycles of one cause; class_: its colour."""

    text: str
    cycles: float
    class_: str


def of_core(core: CoreStatistics, cycles: int) -> tuple[Share, ...]:
    """All of a run's cycles. Waiting before a core is started and after it ended is no stall."""
    plain = core.bundles - core.mac_bundles
    known = core.bundles + core.stall_lock + core.stall_memory + core.stall_stream
    return (
        Share("products", core.mac_bundles, "c0"),
        Share("other bundles", plain, "c1"),
        Share("memory stalls", core.stall_memory, "c2"),
        Share("stream stalls", core.stall_stream, "c3"),
        Share("waiting for locks", core.stall_lock, "c4"),
        Share("idle", max(0, cycles - known), "c5"),
    )


@dataclass(frozen=True)
class Verdict:
    """binds: what the run waits for most. why: with its figures. help: what would shorten it."""

    binds: str
    why: str
    help: str


def ddr_bytes(report: RunReport, direction: str) -> int:
    """Bytes that shim channels moved; direction: `mm2s` reads DDR, `s2mm` writes it."""
    words = (c["words"] for c in report.dma if c["row"] == geometry.SHIM_ROW and c["direction"] == direction)
    return WORD_BYTES * sum(words)


def verdict(report: RunReport, machine: MachineTable) -> Verdict:
    """Of one emulated run, best with its trace: without one what passes before and after the cores' work is not known.
    Only cores that ran count."""
    cycles = max(1, report.cycles or 0)
    read = ddr_bytes(report, "mm2s") / machine.ddr_read_bytes / cycles
    written = ddr_bytes(report, "s2mm") / machine.ddr_write_bytes / cycles
    if max(read, written) >= FULL:
        way = "reads" if read >= written else "writes"
        return Verdict(
            "DDR", f"DDR {way} take {max(read, written):.0%} of the cycles at the machine's bandwidth",
            "fewer bytes: K and V shared by more queries of their head, smaller element types",
        )  # fmt: skip
    channel = max(report.dma, key=lambda c: c["busy"], default=None)
    if channel is not None and channel["busy"] / cycles >= FULL:
        where = f"{channel['col']},{channel['row']} {channel['direction'].upper()} {channel['channel']}"
        return Verdict(
            "streams", f"channel {where} passes words in {channel['busy'] / cycles:.0%} of the cycles, 4 bytes each",
            "its data over more channels, or read less often",
        )  # fmt: skip
    cores = [core for core in report.cores if core.bundles]
    if not cores:
        return Verdict("nothing", "no core ran", "a sequence that starts one")
    total = cycles * len(cores)
    share = {s.text: 0.0 for s in of_core(cores[0], cycles)}
    for core in cores:
        for each in of_core(core, cycles):
            share[each.text] += each.cycles / total
    code = share["products"] + share["other bundles"]
    if code >= BUSY:
        return Verdict(
            "core code",
            f"cores issue bundles in {code:.0%} of the cycles, {share['products']:.0%} with a product in them",
            "denser loops: see those whose bundles exceed their bound, and the code between loops",
        )
    memory = share["memory stalls"] + share["stream stalls"]
    if memory >= max(share["waiting for locks"], share["idle"]):
        return Verdict("memory", f"cores stand still for memory or streams in {memory:.0%} of the cycles",
                       "buffers that are used together in different banks")  # fmt: skip
    edges = _edges(report, cycles, len(cores))
    if edges >= (1 - code) / 2:
        return Verdict(
            "start and end",
            f"{edges:.0%} of the cores' cycles pass before they begin and after they end: sequence, data, tokens",
            "longer runs: more heads, queries or batches in a call",
        )
    return Verdict(
        "data",
        f"cores wait for locks in {share['waiting for locks']:.0%} of the cycles{_waited_for(report, total)}",
        "data that comes earlier: more buffers, another order of tasks, work shared out more evenly",
    )


def _waited_for(report: RunReport, total: int) -> str:
    """What the waits that a trace has names for are for, the longest three of those that are a twentieth of all."""
    cycles: Counter[str] = Counter()
    for span in () if report.trace is None else report.trace.spans:
        if span.category == "stall" and span.name.startswith(WAITING):
            cycles[span.name.removeprefix(WAITING)] += round(span.end - span.start)
    parts = [f"{name} {count / total:.0%}" for name, count in cycles.most_common(3) if count / total >= 0.05]
    return f" (for {', '.join(parts)})" if parts else ""


def _edges(report: RunReport, cycles: int, cores: int) -> float:
    """The share of cycles before cores begin and after they end, by the trace: the cores' mean where it knows the wait
    for a call, else what lies before the first and after the last bundle of any core."""
    trace = report.trace
    named = [] if trace is None else [s for s in trace.spans if s.category == "stall" and s.name == WAITING + START]
    if named:
        return min(1.0, sum(span.end - span.start for span in named) / (cycles * cores))
    spans = [] if trace is None else [span for span in trace.spans if span.category == "core"]
    if not spans or trace is None:
        return 0.0
    first, last = min(span.start for span in spans), max(span.end for span in spans)
    # A core runs a few bundles up to its first wait for the sequence; that wait belongs to the start.
    waits = [s for s in trace.spans if s.category == "stall" and s.start <= first + cycles / 100]
    begin = min((span.end for span in waits), default=first)
    origin = min(span.start for span in trace.spans)
    return max(0.0, min(1.0, (begin - origin + cycles - (last - origin)) / cycles))
