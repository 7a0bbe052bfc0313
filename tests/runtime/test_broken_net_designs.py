"""Every broken design of seven other kinds ends in an error whose first line names what is at fault; none hangs."""

from __future__ import annotations

import re

import net_designs
import numpy as np
import pytest
from broken_net_designs import CASES
from net_designs import SHIM, broadcast, push, relay

from npuc.runtime.emulator.errors import EmulationError

LIMIT = 30_000_000  # no case needs a limit to end
RESULTS = {  # from numpy; the relay sends the columns of each 8 x 8 block one after the other
    "relay": [(1, lambda a: a.reshape(8, 8, 8).swapaxes(1, 2).ravel() + 1)],
    "cascade": [(1, lambda a: a)],
    "broadcast": [(number, lambda a: a + 1) for number in (1, 2, 3)],
    "packets": [(1, lambda a: a + 1)],
    "streams": [(1, lambda a: a + 2)],
    "neighbour": [(1, lambda a: a + 1)],
    "control": [(1, lambda a: a + np.repeat(np.array([5, 9], np.uint32), 64))],
}


def first_line(net: net_designs.Net, strict: bool) -> str | None:
    try:
        net.run(LIMIT, strict=strict)
    except EmulationError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", CASES)
def test_the_first_line_names_the_fault(name):
    """Of the run, or where it goes through of the strict one."""
    case = CASES[name]
    told = first_line(case.made(), False) or first_line(case.made(), True)
    assert told is not None and "\n" not in told
    assert [pattern for pattern in case.patterns if not re.search(pattern, told)] == [], told


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("name", RESULTS)
def test_the_designs_are_right_as_they_stand(name, strict):
    net = getattr(net_designs, name)()
    sent = net.buffers[0].copy()
    assert net.run(strict=strict).warnings == ()
    for number, model in RESULTS[name]:
        assert np.array_equal(net.buffers[number], model(sent))


def test_a_descriptor_of_the_host_that_runs_both_ways_is_a_warning():
    """It overwrites its input, or sends its output: nothing stands still."""
    net = broadcast()
    net.operations[8] = push(SHIM, "s2mm", 1, 0, token=True)
    assert "descriptor 0 of shim(0,0) is run by S2MM 1 of shim(0,0) and by MM2S 0" in "".join(net.run().warnings)


def test_a_lock_that_is_written_beyond_its_six_bits_is_a_warning():
    """Lock_value holds 0..63 (facts/platform/device_npu1.md, "Locks")."""
    net = relay()
    net.locks[(0, 1), 5] = 64
    assert net.run().warnings == ("CDO command 7 writes 64 to lock 5 of memtile(0,1), which holds 0..63: it becomes 0",)
