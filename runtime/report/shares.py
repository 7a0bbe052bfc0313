"""Where the run's cycles went: of each core by cause, of each DMA channel by state."""

from __future__ import annotations

from collections.abc import Sequence

from npuc.compiler.target.npu1 import geometry
from npuc.runtime.report.markup import Markup, element, joined, legend
from npuc.runtime.report.subject import Subject
from npuc.runtime.verdict import Share, of_core


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
    """A row a unit: its name, its shares beside each other, and the first of them as a figure."""
    cells: list[Markup] = [element("span"), element("span"), element("span", rows[0][1][0].text, class_="n")]
    for name, shares in rows:
        pieces, left = [], 1.0
        for share in shares:
            part = min(left, share.cycles / cycles)
            if part > 0:
                hint = f"{name}: {share.text} {share.cycles:,.0f} cycles, {share.cycles / cycles:.1%}"
                pieces.append(element("i", class_=share.class_, style=f"width:{part:.3%}", title=hint))
            left -= part
        first = f"{shares[0].cycles / cycles:.1%}"
        cells += [element("span", name), element("div", *pieces), element("span", first, class_="n")]
    return element("div", *cells, class_="bars", role="group", aria_label=title)
