"""Products a cycle against products a byte of DDR, with this run's point and the machine's bounds."""

from __future__ import annotations

import math

from npuc.runtime.report.markup import Markup, drawing, element, joined, text_at
from npuc.runtime.report.subject import Subject

WIDTH, HEIGHT, LEFT, BOTTOM, RIGHT, TOP = 500, 290, 58, 42, 16, 16


def section(subject: Subject) -> Markup:
    """Nothing where the kernel's products are not known."""
    read, written = subject.ddr_bytes("mm2s"), subject.ddr_bytes("s2mm")
    if subject.macs is None or subject.peak is None or not read + written or not subject.macs:
        return joined(element("p", "Only attention has a count of products; this run has no point."))
    macs, peak, machine = subject.macs, subject.peak, subject.machine
    intensity, reached = macs / (read + written), macs / subject.cycles
    # Both directions at once: the one that takes longer bounds.
    ddr = max(read / machine.ddr_read_bytes, written / machine.ddr_write_bytes)
    slope = (read + written) / ddr  # bytes a cycle, in this run's mix
    low, high = min(intensity, peak / slope) / 8, max(intensity, peak / slope) * 8
    floor, top = min(reached, slope * low) / 2, peak * 2
    box = _Box(low, high, floor, top)
    knee = peak / slope
    roof = [box.at(max(low, floor / slope), slope * max(low, floor / slope)), box.at(knee, peak), box.at(high, peak)]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in roof)
    x, y = box.at(intensity, reached)
    bound = min(peak, slope * intensity)
    drawn = [
        *box.axes("products a byte of DDR", "products a cycle"),
        element("polyline", points=points, class_="roof"),
        text_at(LEFT + 6, box.at(low, peak)[1] - 5, f"{peak:,} products a cycle of 16 cores", class_="small"),
        element("circle", cx=x, cy=y, r=5, class_="c0"),
        _under(x, y, f"{reached:,.3g} a cycle, {reached / bound:.1%} of the bound here"),
    ]
    title = f"Roofline: {reached:,.0f} products a cycle at {intensity:,.0f} products a byte"
    about = (
        f"{macs:,} products, {read:,} bytes read from DDR and {written:,} written; by the machine table DDR alone "
        f"would take {ddr:,.0f} cycles, products alone {macs / peak:,.0f}, the run took {subject.cycles:,} (emulated)."
    )
    return joined(drawing(WIDTH, HEIGHT, title, *drawn), element("p", about))


def _under(x: float, y: float, text: str) -> Markup:
    """Text below a point, or above it at the lower edge, that ends inside the drawing."""
    anchor = "start" if x < WIDTH / 3 else "end" if x > WIDTH * 2 / 3 else "middle"
    return text_at(x, y + 20 if y + 24 < HEIGHT - BOTTOM else y - 10, text, anchor=anchor, class_="halo")


class _Box:
    """Logarithmic axes."""

    def __init__(self, low: float, high: float, floor: float, top: float) -> None:
        self.x, self.y = (math.log10(low), math.log10(high)), (math.log10(floor), math.log10(top))

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - self.x[0]) / (self.x[1] - self.x[0])
        up = (math.log10(y) - self.y[0]) / (self.y[1] - self.y[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - BOTTOM - TOP)

    def axes(self, below: str, beside: str) -> list[Markup]:
        drawn = []
        for value in _round_numbers(*self.x):
            x, _ = self.at(value, 10 ** self.y[0])
            drawn.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
            drawn.append(text_at(x, HEIGHT - BOTTOM + 14, f"{value:,g}", anchor="middle", class_="small"))
        for value in _round_numbers(*self.y):
            _, y = self.at(10 ** self.x[0], value)
            drawn.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            drawn.append(text_at(LEFT - 6, y + 4, f"{value:,g}", anchor="end", class_="small"))
        drawn.append(text_at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below, anchor="middle"))
        drawn.append(element("text", beside, transform=f"translate(14 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)",
                             text_anchor="middle"))  # fmt: skip
        return drawn


def _round_numbers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten between two logarithms; the powers alone where those are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    factors = (1, 2, 5) if high - low <= 3 else (1,)
    values = [factor * 10.0**power for power in powers for factor in factors]
    return [value for value in values if low <= math.log10(value) <= high]
