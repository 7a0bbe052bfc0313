"""Every part of a design changed in turn: a run is right, or wrong data where locks no longer guard it, or an error.

The share of errors that name the tile of the change in their first line is printed, and at least 95 %.
"""

from __future__ import annotations

import random
from collections import Counter

import pytest
from design_mutants import Mutant, mutants
from wide_design import WideDesign

from npuc.runtime.distribute import in_order
from npuc.runtime.emulator.errors import EmulationError

LIMIT = 30_000_000  # no mutant needs a limit to end


def told(mutant: Mutant, strict: bool) -> str | None:
    """The first line of the error of a run, None where it ran to its end; CycleLimit is no EmulationError."""
    design = WideDesign()
    mutant.change(design)
    try:
        design.run(LIMIT, strict=strict)
    except EmulationError as error:
        return str(error)
    return None


def judged(mutant: Mutant) -> str:
    said = told(mutant, strict=False) or told(mutant, strict=True)
    if said is None:
        return "no error"
    assert "\n" not in said
    return "named" if mutant.tile_name in said else "not named"


def test_a_changed_part_never_crashes_a_run_or_leaves_it_hanging(seed):
    drawn = random.Random(seed).sample(mutants(), 30)
    verdicts = Counter(judged(mutant) for mutant in drawn)
    assert verdicts["named"] > verdicts["not named"], verdicts


def judged_by_number(number: int) -> str:
    return judged(mutants()[number])


@pytest.mark.slow
def test_the_tile_of_a_change_is_named_in_nineteen_of_twenty_errors(processes):
    drawn = mutants()
    found = list(zip(in_order(judged_by_number, range(len(drawn)), **processes), drawn, strict=True))
    verdicts = Counter(verdict for verdict, _ in found)
    print(verdicts, *(f"{m.tile_name} {m.what}" for verdict, m in found if verdict == "not named"), sep="\n")
    assert verdicts["named"] >= 0.95 * (verdicts["named"] + verdicts["not named"]), verdicts
