"""Every broken design of two columns ends in an error whose first line names what is at fault; none hangs."""

from __future__ import annotations

import re

import pytest
from broken_wide_designs import CASES
from wide_design import WideDesign

from npuc.runtime.emulator.errors import EmulationError

LIMIT = 30_000_000  # no case needs a limit to end


@pytest.mark.parametrize("name", CASES)
def test_the_first_line_names_the_fault(name):
    case, design = CASES[name], WideDesign()
    case.change(design)
    with pytest.raises(EmulationError) as caught:
        design.run(LIMIT, strict=case.strict)
    told = str(caught.value)
    assert "\n" not in told
    assert [pattern for pattern in case.root if not re.search(pattern, told)] == [], told


@pytest.mark.parametrize("strict", [False, True])
def test_the_design_is_right_as_it_stands(strict):
    design = WideDesign()
    first, second = design.buffers[0], design.buffers[2]
    assert design.run(strict=strict).warnings == ()
    assert (design.buffers[1] == first + 1).all()
    assert (design.buffers[3] == second + 2).all()
