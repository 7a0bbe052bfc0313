"""The run on a time line: the runtime sequence, the shim's channels, the cores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from npuc.runtime.report.markup import Markup, element, joined, legend
from npuc.runtime.report.subject import Subject
from npuc.runtime.trace import CONTROLLER_PROCESS, Span, Trace

TITLE = "What every unit did, in cycles"
WIDTH, ROW = 800, 16
KINDS = (
    ("c1", "register and descriptor writes"), ("c2", "waits for tokens"), ("c0", "words pass, programs run"),
    ("c4", "waiting for a lock"), ("c3", "waiting for the stream or memory"),
)  # fmt: skip
CLASS_OF = {"receiving": "c0", "sending": "c0", "lock stall": "c4", "memory backpressure": "c3", "starved": "c3"}
NOTHING = ""
MOMENTS = frozenset({"descriptor started", "descriptor finished", "task finished"})


def section(subject: Subject) -> Markup:
    """Names, and beside them a drawing that takes the width there is; its rows are ROW pixels high at any width."""
    trace = subject.report.trace
    if trace is None or not trace.spans:
        return joined(element("p", "No timeline was recorded."))
    begin = min(span.start for span in trace.spans)
    rows = list(_rows(trace))
    step = subject.cycles / WIDTH
    drawn: list[Markup] = [element("title", TITLE)]
    for index, (_, spans) in enumerate(rows):
        drawn += _row(index * ROW + 2, _parts(spans, begin, step))
    height = len(rows) * ROW
    marks = []
    for cycle in ticks(subject.cycles):
        x = cycle / step
        drawn.append(element("line", x1=x, x2=x, y1=0, y2=height, class_="grid"))
        marks.append(element("b", short(cycle), style=f"left:{x / WIDTH:.2%}"))
    names = element("div", *(element("span", name) for name, _ in rows), class_="names")
    picture = element(
        "svg", *drawn, viewBox=f"0 0 {WIDTH} {height}", preserveAspectRatio="none", role="img",
        style=f"height:{height}px", xmlns="http://www.w3.org/2000/svg",
    )  # fmt: skip
    lost = (element("p", f"{trace.dropped:,} later events were not kept."),) if trace.dropped else ()
    line = element("div", names, element("div", element("div", *marks, class_="marks"), picture), class_="line")
    return joined(line, legend(KINDS), *lost)


def ticks(cycles: int) -> Iterator[int]:
    """Round numbers from 0 on, at most seven, the last one well before the end."""
    least = cycles / 7
    magnitude = 10 ** max(0, math.floor(math.log10(max(1.0, least))))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude >= least)
    yield from range(0, max(1, cycles * 97 // 100), step)


def short(cycle: int) -> str:
    """A round number: 500, 20k, 1.5M."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if cycle >= size:
            return f"{cycle / size:g}{letter}"
    return str(cycle)


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
                yield name.removesuffix(" core"), by_unit[unit]


def _class(span: Span) -> str:
    if span.category == "sequence":
        return "c2" if span.name.startswith(("Sync", "Poll", "MaskPoll")) else "c1"
    if span.category == "stall":
        return "c4" if span.name.startswith(("acquire", "waiting")) else "c3"
    return CLASS_OF.get(span.name, "c0")


def _row(y: int, parts: Sequence[tuple[str, int, int]]) -> Iterator[Markup]:
    """One path a colour."""
    for class_ in sorted({part[0] for part in parts}):
        boxes = (f"M{x} {y}h{wide}v{ROW - 4}h-{wide}z" for kind, x, wide in parts if kind == class_)
        yield element("path", d="".join(boxes), class_=class_)


def _parts(spans: Iterable[Span], begin: float, step: float) -> list[tuple[str, int, int]]:
    """(colour, first of WIDTH columns, how many): of each column the state that the drawing still owes most of.

    So states that change more often than can be drawn have their shares of the width, whatever the run's length.
    """
    covered: dict[str, list[float]] = {}
    for class_, start, end in _innermost(spans):
        first, last = (start - begin) / step, min((end - begin) / step, float(WIDTH))
        columns = covered.setdefault(class_, [0.0] * WIDTH)
        for column in range(max(0, int(first)), min(WIDTH, math.ceil(last))):
            columns[column] += max(0.0, min(last, column + 1) - max(first, column))
    owed = dict.fromkeys([NOTHING, *covered], 0.0)
    parts: list[tuple[str, int, int]] = []
    for column in range(WIDTH):
        shares = {class_: columns[column] for class_, columns in covered.items()}
        for class_, share in {**shares, NOTHING: max(0.0, 1.0 - sum(shares.values()))}.items():
            owed[class_] += share
        drawn = max(owed, key=lambda class_: owed[class_])
        owed[drawn] -= 1.0
        if parts and parts[-1][0] == drawn:
            parts[-1] = drawn, parts[-1][1], parts[-1][2] + 1
        else:
            parts.append((drawn, column, 1))
    return [part for part in parts if part[0] != NOTHING]


def _innermost(spans: Iterable[Span]) -> Iterator[tuple[str, float, float]]:
    """(colour, start, end) without overlaps: where spans lie over each other, that which began last."""
    open_spans: list[Span] = []
    at = -math.inf
    for span in [*sorted(spans, key=lambda span: (span.start, -span.end)), None]:
        start = math.inf if span is None else span.start
        while open_spans and at < start:
            end = min(start, open_spans[-1].end)
            if end > at:
                yield _class(open_spans[-1]), at, end
                at = end
            if open_spans[-1].end <= at:
                open_spans.pop()
        if span is not None:
            at = max(at, start)
            open_spans.append(span)
