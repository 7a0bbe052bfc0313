"""The profile's text and the energy model: their figures from counts and sums made here."""

from __future__ import annotations

import pytest

from npuc.runtime.emulator.timing import PHOENIX
from npuc.runtime.energy import modelled
from npuc.runtime.profile import profile_text
from npuc.runtime.statistics import CoreStatistics, RunReport


def channel(row, direction, number, words, busy):
    place = {"col": 1, "row": row, "direction": direction, "channel": number}
    return {**place, "words": words, "busy": busy, "starved": 100, "stall_lock": 50, "tasks": 1}


def report(**changes):
    cores = (CoreStatistics(0, 2, 600, 300, 100, 50, 0, 0), CoreStatistics(0, 3, 400, 100, 300, 50, 0, 0))
    dma = (channel(0, "mm2s", 0, 100, 200), channel(0, "mm2s", 1, 300, 400), channel(1, "s2mm", 2, 7, 10))
    return RunReport(
        "emulator", True, 1e-6, **{"cycles": 1000, "clock_hz": PHOENIX.clock_hz, "cores": cores, "dma": dma, **changes}
    )


def test_cores_and_channels_stand_by_class_of_tile():
    lines = profile_text(report(), PHOENIX).splitlines()
    assert lines[0].startswith("binds ") and lines[1].startswith("helps ")
    table = dict(zip(lines[3].split(), lines[4].split(), strict=True))
    # Means of two cores over 1,000 cycles: products (300 + 100) / 2, other bundles (300 + 300) / 2, and so on.
    assert table["number"] == "2" and table["products"] == "20.0%" and table["other_bundles"] == "30.0%"
    assert table["waiting_for_locks"] == "20.0%" and table["memory_stalls"] == "5.0%"
    rows = [line.split() for line in lines[7:]]
    # Two channels read DDR: 400 words, busy (200 + 400) / 2 of 1,000; the busiest is channel 1 of column 1.
    assert rows[0][:6] == ["shim", "mm2s", "2", "400", "30.0%", "10.0%"] and "40.0% at 1,0 channel 1" in lines[7]
    assert rows[1][:4] == ["memtile", "s2mm", "1", "7"] and len(rows) == 2


def test_every_unit_stands_where_it_is_asked_for():
    text = profile_text(report(), PHOENIX, per_tile=True)
    assert "each core (emulated)" in text and "60.0%" not in text.split("each core")[0]
    assert len(text.split("each core (emulated)\n")[1].splitlines()) == 1 + 2 + 1 + 1 + 3
    assert "each" not in profile_text(report(), PHOENIX)


def test_backends_that_count_nothing_have_none():
    assert profile_text(report(cycles=None, cores=()), PHOENIX).startswith("no profile")


def test_energy_is_power_times_time_at_both_ends():
    energy = modelled(2e-3, 10**9)
    assert energy is not None
    # 3.4 to 6 W (silicon.md section 8) for 2 ms; 2e9 operations in 2 ms are 1,000 GOPS.
    assert energy.joules == pytest.approx((6.8e-3, 12e-3)) and energy.gops == pytest.approx(1000)
    assert energy.gops_per_watt == pytest.approx((1000 / 6, 1000 / 3.4))
    assert modelled(0.0, 5) is None


def test_the_energy_of_a_run_stands_beside_its_operations_as_a_model():
    # 1,000 cycles at 1 GHz, 1e6 products: 2e6 operations in a microsecond are 2,000 GOPS; 3.4 to 6 uJ.
    line = profile_text(report(), PHOENIX, macs=10**6).splitlines()[2]
    assert line == (
        "energy       0.0034 to 0.006 mJ; 2,000 GOPS, 333 to 588 GOPS/W (a model: 3.4 to 6 W, not measured)"
    )
    assert "energy" not in profile_text(report(), PHOENIX)
