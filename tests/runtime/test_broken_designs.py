"""Every broken design ends at once in an error that names tile, unit and cause; none hangs."""

from __future__ import annotations

import json
import time

import pytest
from broken_designs import CASES
from small_design import Design

from npuc.compiler.cli import error_json
from npuc.runtime.emulator.errors import Deadlock, EmulationError

# No case needs a limit to end: a run that reaches it was not diagnosed.
LIMIT = 30_000_000


@pytest.mark.parametrize("name", CASES)
def test_a_broken_design_is_diagnosed_with_tile_unit_and_cause(name):
    case, design = CASES[name], Design()
    case.change(design)
    begin = time.perf_counter()
    with pytest.raises(EmulationError) as caught:
        design.run(LIMIT, strict=case.strict)
    error = caught.value
    seconds = time.perf_counter() - begin
    text = "\n".join([str(error), *error.details])
    print(f"{name} ({seconds:.2f} s):\n{text}")
    assert "\n" not in str(error)
    assert [word for word in case.root if word.lower() not in str(error).lower()] == [], str(error)
    assert [word for word in case.names if word.lower() not in text.lower()] == [], text
    assert "(0," in text or name in ("patch_of_a_buffer_that_is_not_there", "sync_waits_for_a_column_that_is_not_there",
                                     "sequence_leaves_the_partition")
    told = json.loads(json.dumps(error_json(error)))
    assert told["exit_code"] == 4
    if isinstance(error, Deadlock):
        assert told["diagnosis"]["units"] and told["diagnosis"]["chain"]


def test_the_design_is_right_as_it_stands():
    design = Design()
    assert design.run(strict=True).warnings == ()
    assert (design.buffers[1] == design.buffers[0] + 1).all()


def test_there_are_25_kinds():
    assert len(CASES) >= 25
