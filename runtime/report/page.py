"""The page: one HTML file with nothing from elsewhere, light or dark as the reader's system is, from 360 pixels on."""

from __future__ import annotations

from importlib.resources import files

from npuc import __version__
from npuc.compiler.target.npu1 import geometry
from npuc.runtime.energy import LEAST_WATTS, MOST_WATTS, modelled, three_digits
from npuc.runtime.phase_shares import phase_shares
from npuc.runtime.report import array_picture, loops, roofline, shares, timeline
from npuc.runtime.report.markup import Markup, element, joined, table
from npuc.runtime.report.subject import Subject
from npuc.runtime.verdict import verdict

LOOPS = (
    "Bundles of an iteration beside the instructions of its fullest slot, which bind it: where both are equal no "
    "schedule is shorter."
)


def page(subject: Subject) -> bytes:
    """The file's content, UTF-8, the same for the same run."""
    said = verdict(subject.report, subject.machine)
    body = joined(
        element("h1", subject.name),
        element("p", f"{subject.what}; npuc {__version__}", class_="dim"),
        element("p", element("b", f"What binds: {said.binds}."), f" {said.why[0].upper()}{said.why[1:]}. ",
                f"What would help: {said.help}."),
        _figures(subject),
        *(element("p", f"Warning: {warning}") for warning in subject.report.warnings),
        element("h2", "Where the cycles went"), shares.section(subject),
        *_phases(subject),
        *_predicted(subject),
        element("h2", "Products and bytes"), roofline.section(subject),
        element("h2", "On the time line"), timeline.section(subject),
        element("h2", "The array"), array_picture.section(subject),
        element("h2", "Loops of the core programs"),
        element("p", LOOPS, class_="dim"),
        loops.section(subject.file),
    )  # fmt: skip
    head = joined(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"{subject.name}: npuc report"),
        element("style", Markup(files("npuc.runtime.report").joinpath("style.css").read_text("utf-8"))),
    )
    return f"<!doctype html>\n{element('html', element('head', head), element('body', body), lang='en')}\n".encode()


def _phases(subject: Subject) -> tuple[Markup, ...]:
    """Where core programs have known phases."""
    found = phase_shares(subject.report.trace) if subject.report.trace is not None else []
    if not found:
        return ()
    rows = [
        (each.name, f"{each.cycles:,.0f}", f"{each.cycles / subject.cycles:.1%}", f"{each.waiting:,.0f}")
        for each in found
    ]
    heading = element("h3", "Phases of the core programs, the mean of the cores")
    return heading, table(("phase", "cycles", "of the run", "of them waiting"), rows)


def _predicted(subject: Subject) -> tuple[Markup, ...]:
    """What the cost model says of the run beside what the emulator counted, where there is a plan."""
    if not subject.predicted:
        return ()
    report, terms = subject.report, subject.terms
    code = max((c.bundles + c.stall_memory + c.stall_stream for c in report.cores), default=0)
    into = (c["busy"] for c in report.dma if c["row"] in geometry.CORE_ROWS and c["direction"] == "s2mm")
    counted = [
        ("the run", subject.predicted, subject.cycles),
        ("code of the busiest core", terms.get("compute", 0), code),
        ("words into the busiest core, on one channel", terms.get("streams", 0), round(max(into, default=0))),
    ]
    rows = [(what, f"{a:,}", f"{b:,}", f"{b / a - 1:+.1%}") for what, a, b in counted if a]
    heading = element("h3", "Predicted by the planner's cost model, and emulated, in cycles")
    return heading, table(("", "predicted", "emulated", "off by"), rows)


def _figures(subject: Subject) -> Markup:
    report, cycles = subject.report, subject.cycles
    clock = "" if report.clock_hz is None else f" at {report.clock_hz / 1e9:g} GHz"
    figures = [
        (f"{cycles:,}", "cycles (emulated)"),
        (f"{report.seconds * 1e3:.4g} ms", f"on {subject.machine.name}{clock} (emulated)"),
    ]
    share = None if subject.macs is None or subject.peak is None else subject.macs / (cycles * subject.peak)
    if share is not None:
        figures.append((f"{share:.1%}" if share >= 0.01 else f"{share:.3%}", "of what 16 cores could multiply"))
    if subject.predicted:
        off = cycles / subject.predicted - 1
        figures.append((f"{subject.predicted:,}", f"cycles predicted, the run {off:+.1%}"))
    figures.append(
        (
            f"{subject.ddr_bytes('mm2s') / 1e6:.3g} MB",
            f"read from DDR, {subject.ddr_bytes('s2mm') / 1e6:.3g} MB written",
        )
    )
    energy = None if subject.macs is None else modelled(report.seconds, subject.macs)
    if energy is not None:
        low, high = (1e3 * joules for joules in energy.joules)
        least, most = energy.gops_per_watt
        watts = f"{LEAST_WATTS} to {MOST_WATTS:g} W above idle"
        basis = f"a model, not measured: {watts}; {three_digits(least)} to {three_digits(most)} GOPS/W"
        figures.append((f"{three_digits(energy.gops)} GOPS", "two operations a product (emulated)"))
        figures.append((f"{low:.2g} to {high:.2g} mJ", basis))
    return element("div", *(element("div", element("b", a), element("span", b)) for a, b in figures), class_="tiles")
