"""Every seeded defect is found at its place with its severity, and the program without it is clean."""

from __future__ import annotations

import lint_defects_structure  # noqa: F401 (registers cases)
import pytest
from lint_defects import DEFECTS
from lint_programs import assemble, lint

VARIANTS = 3


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_at_its_place_and_its_absence_is_clean(name: str, seed: int) -> None:
    case = DEFECTS[name]
    for variant in range(VARIANTS):
        good = assemble(case.program(seed + variant, wrong=False))
        kinds = {
            finding.kind for finding in lint(good.code) if finding.severity == "error" or finding.kind == case.kind
        }
        assert not kinds, lint(good.code)
        bad = assemble(case.program(seed + variant, wrong=True))
        found = {(finding.kind, finding.severity, finding.address) for finding in lint(bad.code)}
        assert (case.kind, case.severity, bad.labels["bad"]) in found, found


def test_there_are_at_least_thirty_kinds_of_defects() -> None:
    assert len(DEFECTS) >= 60
    assert len({case.kind for case in DEFECTS.values()}) >= 20
