"""Cores that do not interact run on several threads; results and cycles are those of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from core_programs import Cores
from small_kernels import compiled

import npuc
from npuc.runtime.emulator import core_unit
from npuc.runtime.emulator.core import OWN_MEMORY
from npuc.runtime.emulator.native import ahead, calls, program

# A loop that changes memory and registers for good; each core has its own numbers.
LOOP = (
    """\
lda r2, [p0, #0]; add r3, r3, #1
mul r4, r2, r3
xor r5, r5, r4
vlda wl0, [p1, #0]; add r6, r6, r5
st r5, [p0], #4
and r7, r3, r8
jnz r7, #0
"""
    + "add r6, r6, r4\n" * 5
    + "movxm p0, #0x70000\n\n\nj #0\n"
    + "\n" * 5
)
PLACES = [(column, row) for column in range(2) for row in range(2, 6)]
SLICES = 6
CYCLES = 20_000


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how many threads there are."""
    monkeypatch.setattr(core_unit, "SLICE", CYCLES)
    monkeypatch.setattr(program, "OFTEN", 0)
    return lambda count: monkeypatch.setattr(ahead, "threads", lambda: count)


def after_slices(disturb: bool = False) -> tuple[list[Any], int]:
    """What can be seen of all cores after SLICES slices, and how many runs were taken over."""
    cores = Cores(2)
    units = [
        cores.load(*place, LOOP, r8=7, r3=number, p0=OWN_MEMORY, p1=OWN_MEMORY + 64)
        for number, place in enumerate(PLACES)
    ]
    cores.start()
    clock = cores.array.clock
    while (due := clock.next_cycle()) is not None and due < SLICES * CYCLES:
        clock.step()
        if disturb and units[-1].core.bundles > 2 * CYCLES:
            # Between the turns of cores something else writes the memory of one whose next run may be made already.
            units[-1].core.data_memory.write(0x10, b"\x55\xaa\x55\xaa")
    seen = [
        (
            unit.core.cycle,
            unit.core.pc,
            unit.core.bundles,
            unit.core.stall_memory,
            list(unit.core.registers.scalar),
            unit.core.registers.plain.tobytes(),
            unit.core.data_memory.data.tobytes(),
        )
        for unit in units
    ]
    return seen, sum(unit.core.taken_over for unit in units)  # type: ignore[attr-defined]


def test_independent_cores_end_alike_on_any_number_of_threads(threads: Any) -> None:
    threads(1)
    alone, taken = after_slices()
    assert taken == 0 and all(bundles > 4 * CYCLES / 2 for _, _, bundles, *_ in alone)
    threads(2)
    together, taken = after_slices()
    assert together == alone
    assert taken > len(PLACES) * (SLICES - 2) / 2, "hardly anything was run ahead"


def test_a_run_ahead_of_a_change_is_dropped(threads: Any) -> None:
    threads(1)
    alone, _ = after_slices(disturb=True)
    threads(3)
    together, _ = after_slices(disturb=True)
    assert together == alone
    assert alone != after_slices()[0], "the change mattered"


# tables of native entries


def use(mode: str, out: str) -> str:
    return f"mov crRnd, {mode}\n\n\n\n\nvsrs.s16.s32 {out}, bml0, s0\n\n\n\n\n"


# Converts with two rounding modes in turn, and sums up what comes out of each.
TWO_MODES = (
    use("r0", "wl0")
    + use("r1", "wl2")
    + "vst wl0, [p0, #0]\nvst wl2, [p0, #32]\n\n\n\n\n\n\nlda r2, [p0, #0]\nlda r4, [p0, #32]\n\n\n\n\n\n\n"
    + "add r3, r3, r2\nadd r5, r5, r4\nmul r3, r3, r9\nmul r5, r5, r9\n\n\nj #0\n"
    + "\n" * 5
)


def two_modes(cores: Cores, modes: list[tuple[int, int]], until: int) -> list[Any]:
    """What cores with these pairs of modes and numbers of their own have summed up."""
    units = []
    for number, (place, pair) in enumerate(zip(PLACES, modes, strict=False)):
        unit = cores.load(*place, TWO_MODES, r0=pair[0], r1=pair[1], r3=1, r5=1, r9=2654435761, p0=OWN_MEMORY, s0=7)
        vectors = unit.core.registers.plain
        words = np.random.default_rng(number).integers(-8000, 8000, vectors.size // 4) * 128 + 64
        content = words.astype(np.int32).view(np.uint8)
        vectors[: content.size] = content
        unit.core.registers.bypassed[:] = vectors
        units.append(unit)
    cores.start()
    clock = cores.array.clock
    while (due := clock.next_cycle()) is not None and due < until:
        clock.step()
    return [(u.core.cycle, u.core.registers.read("r3"), u.core.registers.read("r5")) for u in units]


def list_of(key: int) -> int:
    return ((key * calls.HASH) & (1 << 64) - 1) >> 60


def colliding_modes() -> tuple[int, int]:
    """Two rounding modes whose keys share a list; a key has the sign in its low 16 bits, then the mode."""
    lists: dict[int, int] = {}
    for mode in (*range(4), *range(8, 14)):
        index = list_of(mode << 16)
        if index in lists:
            return lists[index], mode
        lists[index] = mode
    raise AssertionError("no two modes collide")


def test_values_that_share_a_list_are_made_once_each_and_all_stay(
    threads: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads(1)
    asked: list[tuple[int, ...]] = []
    resolve = program.Program._resolve

    def noted(self: Any, *arguments: int) -> int | None:
        asked.append(arguments)
        return resolve(self, *arguments)

    monkeypatch.setattr(program.Program, "_resolve", noted)
    two_modes(Cores(1), [colliding_modes()], 5_000)
    assert len(asked) >= 2 and len({list_of(key) for _, _, key in asked}) == 1
    assert len(set(asked)) == len(asked), "an entry was lost to another"


def test_threads_that_share_a_program_find_their_own_entries(threads: Any) -> None:
    """Half of the cores use other modes, whose keys share a list; run after run on 1 and 4 threads."""
    first, second = colliding_modes()
    modes = [(first, second if number % 2 else first) for number in range(len(PLACES))]
    threads(1)
    alone = two_modes(Cores(2), modes, 60_000)
    threads(4)
    for _ in range(3):
        assert two_modes(Cores(2), modes, 60_000) == alone


def test_kernels_called_from_several_threads_at_once_are_right(seed: int) -> None:
    """Each thread has its executable, all share one program; one executable is shared by two threads."""
    generator = np.random.default_rng(seed)
    sets = [[generator.standard_normal((1, 1, 64, 64)).astype(np.float32) for _ in range(3)] for _ in range(4)]
    data = compiled().xclbin
    with npuc.load(data, backend="emulator", fallback=()) as exe:
        right = [exe(*arrays) for arrays in sets]
        wrong: list[object] = []

        def work(number: int, mine: npuc.Executable) -> None:
            try:
                for turn in range(6):
                    chosen = (number + turn) % len(sets)
                    if not np.array_equal(mine(*sets[chosen]), right[chosen]):
                        wrong.append((number, turn))
            except Exception as error:
                wrong.append(error)

        others = [npuc.load(data, backend="emulator", fallback=()) for _ in range(2)]
        running = [Thread(target=work, args=each) for each in enumerate([exe, exe, *others])]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        for other in others:
            other.close()
    assert not wrong


FORKED = """
import os, sys, threading
import numpy as np
import npuc
from small_kernels import compiled
from npuc.runtime.emulator.native import ahead, program
from core_programs import Cores
import test_threads

threads = 3
ahead.threads = lambda: threads
test_threads.core_unit.SLICE = test_threads.CYCLES
program.OFTEN = 0
before = test_threads.after_slices()
assert before[1], "no thread of the pool was used"
arrays = [np.random.default_rng(n).standard_normal((1, 1, 64, 64)).astype("f4") for n in range(3)]
exe = npuc.load(compiled().xclbin, backend="emulator", fallback=())
right = exe(*arrays)
stop = threading.Event()

def busy():  # the fork comes while another thread is in the middle of a run
    while not stop.is_set():
        exe(*arrays)

other = threading.Thread(target=busy)
other.start()
for _ in range(3):
    child = os.fork()
    if not child:
        same = np.array_equal(exe(*arrays), right) and test_threads.after_slices()[0] == before[0]
        os._exit(0 if same and exe.stats.emulated else 1)
    assert os.waitpid(child, 0)[1] == 0, "the child failed"
stop.set()
other.join()
assert np.array_equal(exe(*arrays), right)
print("right")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_process_forked_after_and_during_a_run_runs_too() -> None:
    folder = Path(__file__).parent
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(folder), str(folder.parent)])}
    command = [sys.executable, "-W", "ignore", "-c", FORKED]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.returncode) == ("right\n", 0), done.stderr
