"""The validation page's figures: those that the programs give now, and near what hardware measured."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import REPOSITORY

from npuc.runtime.validation.figures import Figure, figures

RECORDED = REPOSITORY / "docs" / "validation.json"


@pytest.fixture(scope="module")
def made():
    return list(figures())


def test_the_page_has_the_figures_that_the_command_makes(made):
    shown = [asdict(figure) for figure in made]
    assert shown == json.loads(RECORDED.read_text()), "python -m npuc.runtime.validation >docs/validation.json"


def test_core_code_takes_the_cycles_that_were_measured(made):
    cycles = [figure for figure in made if figure.unit == "cycles"]
    assert len(cycles) == 3 and all(figure.off == 0 for figure in cycles)


def test_copies_are_within_three_percent(made):
    rates = [figure for figure in made if figure.unit.startswith("GB/s")]
    assert len(rates) == 3 and all(abs(figure.off) < 0.03 for figure in rates)


def test_what_a_call_took_beside_the_array_is_the_hosts_part(made):
    """0.1 to 0.3 ms: what all published designs have left (facts/silicon/silicon.md section 10)."""
    calls = [figure for figure in made if figure.unit == "ms"]
    assert len(calls) == 2
    for figure in calls:
        assert 0.1 < figure.lowest - figure.emulated and figure.highest - figure.emulated < 0.3


def test_measured_values_are_those_of_the_fact_sheet(made):
    facts = Path(os.environ.get("NPUC_FACTS", REPOSITORY / ".." / "shared" / "facts")) / "silicon" / "silicon.md"
    if not facts.exists():
        pytest.skip(f"no {facts}")
    sections = {part.split(".")[0]: part for part in facts.read_text().split("\n## ")[1:]}
    for figure in made:
        for value in (figure.lowest, figure.highest):
            assert f"{value:g}" in sections[figure.section], figure.what


def test_a_value_inside_what_was_measured_is_not_off():
    inside, above = (Figure("", "", value, 2.0, 4.0, "1", "") for value in (3.0, 5.0))
    assert inside.off == 0 and above.off == 0.25
