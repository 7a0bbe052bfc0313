"""One field of one register write changed: a run is right, or wrong data, or an error whose first line names the tile.

Of the errors at least 95 % name it; the shares are printed.
"""

from __future__ import annotations

import functools
import random
import re
from collections import Counter

import pytest
from net_designs import CORE, UPPER, packets
from register_mutants import RegisterMutant, mutants

from npuc.runtime.distribute import in_order
from npuc.runtime.emulator.errors import Deadlock, EmulationError

LIMIT = 3_000_000  # CycleLimit is no EmulationError: no mutant needs a limit to end


def judged(mutant: RegisterMutant) -> str:
    for strict in (False, True):
        try:
            mutant.run(LIMIT, strict)
        except EmulationError as error:
            assert "\n" not in str(error)
            return "named" if re.search(mutant.names, str(error)) else "not named"
    return "no error"


def judged_by_number(number: int) -> str:
    return judged(every_mutant()[number])


every_mutant = functools.cache(mutants)


def check(found: list[tuple[str, RegisterMutant]], share: float) -> None:
    verdicts = Counter(verdict for verdict, _ in found)
    print(
        verdicts, *(f"{m.base} {m.part} {m.at}: {m.what}" for verdict, m in found if verdict == "not named"), sep="\n"
    )
    assert verdicts["named"] >= share * (verdicts["named"] + verdicts["not named"]), verdicts


def test_a_changed_field_never_crashes_a_run_or_leaves_it_hanging(seed):
    check([(judged(mutant), mutant) for mutant in random.Random(seed).sample(mutants(), 50)], 0.8)


@pytest.mark.slow
def test_the_tile_of_a_changed_field_is_named_in_nineteen_of_twenty_errors(processes):
    drawn = every_mutant()
    check(list(zip(in_order(judged_by_number, range(len(drawn)), **processes), drawn, strict=True)), 0.95)


def test_a_receiver_that_waits_for_its_first_packet_is_said_to():
    """It has run no descriptor yet; packets name them."""
    net = packets()
    for tile in (CORE, UPPER):
        net.locks[tile, 0] = 0
    with pytest.raises(Deadlock) as caught:
        net.run()
    assert "S2MM 0 of memtile(0,1) at its first packet: waits for a packet's header" in "\n".join(caught.value.details)


def test_a_receiver_that_waits_for_its_next_packet_is_said_to():
    net = packets()
    del net.operations[8]
    with pytest.raises(Deadlock) as caught:
        net.run()
    assert "after descriptor 4: waits for a packet's header from MM2S 0 of core(0,2)" in "\n".join(caught.value.details)
    assert "MM2S 0 of shim(0,0): has no task" in str(caught.value)
