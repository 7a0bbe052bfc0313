"""Energy of a run by a model, not measured: npu1 has no power rail that software can read.

Basis (facts/silicon/silicon.md section 8, "Clock and power"): while a detection network ran at 30 frames a second,
package power rose by 3.4 to 6 W above idle. How much of that time the array worked is not published, so its power while
it works may be higher; what the host and DDR took of it is not, so it may be lower. The interval is that of the
measurement, nothing more.
"""

from __future__ import annotations

from dataclasses import dataclass

LEAST_WATTS, MOST_WATTS = 3.4, 6.0
OPERATIONS_PER_MAC = 2


@dataclass(frozen=True)
class Energy:
    """joules: low and high end. gops: 1e9 operations a second, two a product. gops_per_watt: low and high end."""

    joules: tuple[float, float]
    gops: float
    gops_per_watt: tuple[float, float]


def modelled(seconds: float, macs: int) -> Energy | None:
    """Of a run of that length with that many products; None for a run of no time."""
    if seconds <= 0:
        return None
    gops = OPERATIONS_PER_MAC * macs / seconds / 1e9
    joules = seconds * LEAST_WATTS, seconds * MOST_WATTS
    return Energy(joules, gops, (gops / MOST_WATTS, gops / LEAST_WATTS))


def energy_line(energy: Energy) -> str:
    """One line that says what it is."""
    low, high = (f"{1e3 * joules:.2g}" for joules in energy.joules)
    least, most = (three_digits(each) for each in energy.gops_per_watt)
    what = f"{three_digits(energy.gops)} GOPS, {least} to {most} GOPS/W"
    return f"energy       {low} to {high} mJ; {what} (a model: {LEAST_WATTS:g} to {MOST_WATTS:g} W, not measured)\n"


def three_digits(value: float) -> str:
    """Three digits, and all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
