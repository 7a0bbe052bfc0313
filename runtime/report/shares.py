"""Where the run's cycles went: of each core by cause, of each DMA channel by state."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.report.markup import Markup, bar, drawing, element, joined, legend, text_at
from npuc.runtime.report.subject import Subject
from npuc.runtime.verdict import Share, of_core

LABEL, BAR, ROW, PERCENT = 150, 520, 18, 60


def section(subject: Subject) -> Markup:
    cycles = subject.cycles
    cores = [(f"core {c.col},{c.row}", of_core(c, cycles)) for c in subject.report.cores]
    parts: list[Markup] = []
    if cores:
        entries = tuple((share.class_, share.text) for share in cores[0][1])
        parts += [_bars("Cores", cores, cycles), legend(entries)]
    channels = []
    for c in subject.report.dma:
        busy, locks, starved = c["busy"], c["stall_lock"], c["starved"]
        rest = max(0, cycles - busy - locks - starved)
        name = f"{c['col']},{c['row']} {c['direction'].upper()} {c['channel']}"
        channels.append((name, (
            Share("words pass", busy, "c0"), Share("waiting for locks", locks, "c4"),
            Share("waiting for the stream", starved, "c3"), Share("no task", rest, "c5"),
        )))  # fmt: skip
    outer = [row for row, c in zip(channels, subject.report.dma, strict=True) if c["row"] == geometry.SHIM_ROW]
    inner = [row for row, c in zip(channels, subject.report.dma, strict=True) if c["row"] != geometry.SHIM_ROW]
    if channels:
        parts += [element("h3", "DMA channels of the shim")]
        parts += [_bars("DMA channels of the shim that moved words", outer, cycles)] if outer else []
        parts += [legend(tuple((share.class_, share.text) for share in channels[0][1]))]
    if inner:
        drawn = _bars("DMA channels of memory tiles and cores that moved words", inner, cycles)
        parts.append(element("details", element("summary", f"{len(inner)} channels of memory tiles and cores"), drawn))
    return joined(*parts)


def _bars(title: str, rows: Sequence[tuple[str, Sequence[Share]]], cycles: int) -> Markup:
    drawn: list[Markup] = []
    for index, (name, shares) in enumerate(rows):
        y = index * ROW
        drawn.append(text_at(LABEL - 6, y + 13, name, anchor="end", class_="small"))
        at = float(LABEL)
        for share in shares:
            wide = BAR * min(1.0, share.cycles / cycles)
            wide = min(wide, LABEL + BAR - at)
            if wide > 0:
                hint = f"{name}: {share.text} {share.cycles:,.0f} cycles, {share.cycles / cycles:.1%}"
                drawn.append(bar(at, y + 2, wide, ROW - 4, share.class_, hint))
            at += wide
        first = shares[0].cycles / cycles
        drawn.append(text_at(LABEL + BAR + 6, y + 13, f"{first:.1%}", class_="small"))
    return drawing(LABEL + BAR + PERCENT, len(rows) * ROW + 2, title, *drawn)
