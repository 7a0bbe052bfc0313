"""The run on a time line: the runtime sequence, the shim's channels, the cores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from npuc.runtime.report.markup import Markup, bar, drawing, element, joined, legend, text_at
from npuc.runtime.report.subject import Subject
from npuc.runtime.trace import CONTROLLER_PROCESS, Span, Trace

LABEL, WIDTH, ROW, AXIS = 150, 800, 16, 22
KINDS = (
    ("c1", "register and descriptor writes"), ("c2", "waits for tokens"), ("c0", "words pass, programs run"),
    ("c4", "waiting for a lock"), ("c3", "waiting for the stream or memory"),
)  # fmt: skip
CLASS_OF = {"receiving": "c0", "sending": "c0", "lock stall": "c4", "memory backpressure": "c3", "starved": "c3"}
MOMENTS = frozenset({"descriptor started", "descriptor finished", "task finished"})


def section(subject: Subject) -> Markup:
    trace = subject.report.trace
    if trace is None or not trace.spans:
        return joined(element("p", "No timeline was recorded."))
    begin = min(span.start for span in trace.spans)
    rows = list(_rows(trace))
    step = subject.cycles / WIDTH
    drawn: list[Markup] = []
    for index, (name, spans) in enumerate(rows):
        y = AXIS + index * ROW
        drawn.append(text_at(LABEL - 6, y + 12, name, anchor="end", class_="small"))
        for class_, start, end in _merged(spans, step):
            x = LABEL + (start - begin) / step
            drawn.append(bar(round(x, 1), y + 2, round(max(0.5, (end - start) / step), 1), ROW - 4, class_))
    for part in range(6):
        x = LABEL + WIDTH * part / 5
        drawn.append(element("line", x1=x, x2=x, y1=AXIS - 4, y2=AXIS + len(rows) * ROW, class_="grid"))
        anchor = "middle" if part < 5 else "end"
        drawn.append(text_at(x, 12, f"{subject.cycles * part / 5:,.0f}", anchor=anchor, class_="small"))
    picture = drawing(LABEL + WIDTH, AXIS + len(rows) * ROW + 4, "What every unit did, in cycles", *drawn)
    lost = (element("p", f"{trace.dropped:,} later events were not kept."),) if trace.dropped else ()
    return joined(element("div", picture, class_="wide"), legend(KINDS), *lost)


def _rows(trace: Trace) -> Iterator[tuple[str, list[Span]]]:
    """The sequence, then channels of row 0, then cores, those that did something."""
    by_unit: dict[tuple[int, int], list[Span]] = {}
    for span in trace.spans:
        if span.name not in MOMENTS and span.category != "phase":
            by_unit.setdefault((span.process, span.thread), []).append(span)
    if (CONTROLLER_PROCESS, 1) in by_unit:
        yield "sequence", by_unit.pop((CONTROLLER_PROCESS, 1))
    named = {unit: f"{trace.processes.get(unit[0], '')} {trace.threads.get(unit, '')}" for unit in by_unit}
    for wanted in ("shim", "core"):
        for unit, name in sorted(named.items()):
            is_core = any(span.category in ("core", "stall") for span in by_unit[unit])
            if (name.startswith("shim") and wanted == "shim") or (is_core and wanted == "core"):
                yield name, by_unit[unit]


def _class(span: Span) -> str:
    if span.category == "sequence":
        return "c2" if span.name.startswith(("Sync", "Poll", "MaskPoll")) else "c1"
    if span.category == "stall":
        return "c4" if span.name.startswith(("acquire", "waiting")) else "c3"
    return CLASS_OF.get(span.name, "c0")


def _merged(spans: Iterable[Span], step: float) -> Iterator[tuple[str, float, float]]:
    """Neighbours of one colour as one where what lies between them is narrower than can be seen."""
    last: tuple[str, float, float] | None = None
    for span in sorted(spans, key=lambda span: span.start):
        class_ = _class(span)
        if last is not None and class_ == last[0] and span.start - last[2] < step / 2:
            last = class_, last[1], max(last[2], span.end)
            continue
        if last is not None and span.end - span.start < step / 4 and span.start - last[2] < step / 2:
            continue
        if last is not None:
            yield last
        last = class_, span.start, span.end
    if last is not None:
        yield last
