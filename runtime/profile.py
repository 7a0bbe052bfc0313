"""A run's profile as text: what binds, cycles by class of tile and by phase, on request every core and channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.emulator.timing import MachineTable
from npuc.runtime.energy import energy_line, modelled
from npuc.runtime.phase_shares import PhaseShare, phase_shares
from npuc.runtime.statistics import RunReport
from npuc.runtime.summary import table
from npuc.runtime.verdict import of_core, verdict


def profile_text(report: RunReport, machine: MachineTable, per_tile: bool = False, macs: int | None = None) -> str:
    """Shares are of the run's cycles: the mean of a class's units, and for channels the busiest one's.

    machine: the one that was emulated. per_tile: with tables of each core and DMA channel, in cycles. macs: of the
    run, for its energy.
    """
    if not report.cores or not report.cycles:
        return f"no profile: {report.backend} does not count cycles\n"
    said = verdict(report, machine)
    mark = " (emulated)" if report.emulated else ""
    text = f"binds        {said.binds}: {said.why}\nhelps        {said.help}\n"
    energy = modelled(report.seconds, macs) if macs is not None and report.emulated else None
    text += "" if energy is None else energy_line(energy)
    text += f"cores{mark}, share of the cycles\n{table([_cores(report)])}"
    if report.dma:
        text += f"DMA channels{mark}, share of the cycles\n{table(_channels(report))}"
    shares = phase_shares(report.trace) if report.trace is not None else []
    if shares:
        text += (
            f"phases of core programs{mark}, a core's mean\n{table([_phase(share, report.cycles) for share in shares])}"
        )
    return text + (_each(report, mark) if per_tile else "")


def _phase(share: PhaseShare, cycles: int) -> dict[str, str]:
    return {
        "phase": share.name, "cycles": f"{share.cycles:,.0f}", "share": f"{share.cycles / cycles:.1%}",
        "of_it_waiting": f"{share.waiting:,.0f}",
    }  # fmt: skip


def _cores(report: RunReport) -> dict[str, str]:
    cycles = report.cycles or 1
    ran = [core for core in report.cores if core.bundles] or list(report.cores)
    mean: dict[str, float] = {}
    for core in ran:
        for share in of_core(core, cycles):
            mean[share.text] = mean.get(share.text, 0.0) + share.cycles / cycles / len(ran)
    return {"number": str(len(ran)), **{name.replace(" ", "_"): f"{share:.1%}" for name, share in mean.items()}}


def _channels(report: RunReport) -> list[dict[str, str]]:
    cycles = report.cycles or 1
    rows = []
    for kind in ("shim", "memtile", "core"):
        for direction in geometry.DIRECTIONS:
            alike = [c for c in report.dma if geometry.tile_kind(c["row"]) == kind and c["direction"] == direction]
            if alike:
                rows.append({"tiles": kind, "direction": direction, **_of_channels(alike, cycles)})
    return rows


def _of_channels(alike: Sequence[dict[str, Any]], cycles: int) -> dict[str, str]:
    def mean(key: str) -> str:
        return f"{sum(c[key] for c in alike) / len(alike) / cycles:.1%}"

    busiest = max(alike, key=lambda c: c["busy"])
    where = f"{busiest['busy'] / cycles:.1%} at {busiest['col']},{busiest['row']} channel {busiest['channel']}"
    words = f"{sum(c['words'] for c in alike):,}"
    return {"channels": str(len(alike)), "words": words, "busy": mean("busy"), "starved": mean("starved"),
            "stall_lock": mean("stall_lock"), "busiest": where}  # fmt: skip


def _each(report: RunReport, mark: str) -> str:
    cycles = report.cycles or 1
    cores = [{**asdict(core), "mac_share": f"{core.mac_bundles / cycles:.1%}"} for core in report.cores]
    channels = [{**channel, "busy_share": f"{channel['busy'] / cycles:.1%}"} for channel in report.dma]
    text = f"each core{mark}\n{table(cores)}"
    return text + (f"each DMA channel{mark}\n{table(channels)}" if channels else "")
