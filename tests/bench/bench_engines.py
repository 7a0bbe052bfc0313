"""Bundles a second of both engines on loops, measured alternately in one run; and what a first translation takes.

    python tests/bench/bench_engines.py [SECONDS]

SECONDS: processor time for each measurement (default 1). Times are those of the thread, so that other work on the
machine does not count.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "runtime"))

import numpy as np
from core_programs import Cores, machine_code

from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.core_unit import SLICE
from npuc.runtime.emulator.engines import core_class
from npuc.runtime.emulator.memory import DataMemory

BODY = 16
# Target bundles a second of native code, on one thread.
LOOPS = {
    "bf16 MAC and two loads a bundle": (
        10e6,
        [
            f"vlda.2d w{'lh'[i & 1]}{i // 2 % 4}, [p0], d0; vldb.2d w{'lh'[i & 1]}{4 + i // 2 % 4}, [p1], d1; "
            f"vmac.f bml{i % 8}, bml{i % 8}, x{i % 4}, x{4 + i % 4}, r0"
            for i in range(BODY)
        ],
    ),
    "int8 MAC and two loads a bundle": (
        30e6,
        [
            f"vlda.2d w{'lh'[i & 1]}{i // 2 % 4}, [p0], d0; vldb.2d w{'lh'[i & 1]}{4 + i // 2 % 4}, [p1], d1; "
            f"vmac cm{i % 8}, cm{i % 8}, x{i % 4}, x{4 + i % 4}, r1"
            for i in range(BODY)
        ],
    ),
    "scalar arithmetic": (
        50e6,
        [
            (
                "add r2, r2, r3; mov r5, r2",
                "xor r4, r4, r2; mov r6, r4",
                "lshl r7, r4, r3; mova r8, #3",
                "mul r9, r7, r8; mov r10, r9",
            )[i % 4]
            for i in range(BODY)
        ],
    ),
    "scalar loads, stores, arithmetic": (
        50e6,
        [
            (
                "lda r2, [p2, #0]; add r3, r3, #1",
                "st r3, [p3, #4]; sub r4, r4, r2",
                "mul r5, r2, r3",
                "or r6, r5, r4; mov r7, r6",
            )[i % 4]
            for i in range(BODY)
        ],
    ),
}
REGISTERS = {
    "p0": OWN_MEMORY,
    "p1": OWN_MEMORY + 0x4000,
    "p2": OWN_MEMORY + 0x8000,
    "p3": OWN_MEMORY + 0xC000,
    "r0": 28,
    "r1": 0x308,
    "r3": 5,
    "ls": 0,
    "le": 16 * (BODY - 1),
    "lc": 0xFFFFFFFF,
    **{
        f"{file}{number}": value
        for number in (0, 1)
        for file, value in (("dn", 63), ("dj", 32), ("dc", 0), ("m", 0x100000 - 63 * 32))
    },
}


def prepared(engine: str, lines: list[str], registers: dict[str, Any]) -> Core:
    """A core at the start of a loop over data of ordinary size."""
    memory = DataMemory()
    random = np.random.default_rng(1)
    memory.data.view(np.uint16)[:] = random.integers(0x3E00, 0x4000, memory.size // 2)
    core = core_class(engine)(machine_code("\n".join(lines)), memory)
    for name, value in registers.items():
        core.registers.write(name, value)
    return core


class Measured:
    """One engine on one loop."""

    def __init__(self, engine: str, lines: list[str], slice_cycles: int) -> None:
        self.core, self.slice = prepared(engine, lines, REGISTERS), slice_cycles
        self.core.run(0, slice_cycles)  # translates
        self.best = 0.0

    def go(self, seconds: float) -> None:
        """Runs slices for that long and keeps the best rate."""
        end = time.thread_time() + seconds
        while (start := time.thread_time()) < end:
            before = self.core.bundles
            self.core.run(self.core.cycle, self.core.cycle + self.slice)
            self.best = max(self.best, (self.core.bundles - before) / (time.thread_time() - start))


def rates(seconds: float) -> None:
    """The table of loops."""
    print(f"{'loop':36} {'interpreter':>12} {'native':>14} {'ratio':>7} {'target':>12}")
    for name, (target, lines) in LOOPS.items():
        engines = [Measured("interpreter", lines, 400), Measured("native", lines, 1_000_000)]
        for _ in range(3):
            for each in engines:
                each.go(seconds / 3)
        slow, fast = (each.best for each in engines)
        verdict = "met" if fast >= target else "missed"
        print(f"{name:36} {slow:10,.0f}/s {fast:12,.0f}/s {fast / slow:7,.0f} {target:10,.0f}/s {verdict}")


def straight_line(bundles: int) -> list[str]:
    """A program of different bundles, as a kernel has them."""
    kinds = [line for _, lines in LOOPS.values() for line in lines]
    return [kinds[(5 * i + i // len(kinds)) % len(kinds)] for i in range(bundles - 1)] + ["done"]


def first_run(bundles: int = 1000) -> None:
    """Prints what this process spends on running a program once, less one it has run before."""
    registers = REGISTERS | {"lc": 0}
    prepared("native", ["done"], registers).run(0, 100)  # imports, LLVM
    start = time.process_time()
    prepared("native", straight_line(bundles), registers).run(0, 10_000_000)
    print(f"{time.process_time() - start:.3f}")


def translation() -> None:
    """Times of a first and a later process on a program of 1,000 bundles."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NPUC_CACHE_DIR": folder}
        times = [
            float(
                subprocess.run(
                    [sys.executable, __file__, "--first-run"],
                    env=environment,
                    check=True,
                    capture_output=True,
                    text=True,
                ).stdout
            )
            for _ in range(3)
        ]
    print(
        f"a program of 1,000 bundles, run once: {times[0]:.3f} s first (target 1.5), {min(times[1:]):.3f} s later "
        "(target 0.05)"
    )


def independent_cores(slices: int = 60) -> None:
    """Wall time of an array whose cores do not interact, on one thread and on all."""
    best: dict[str, float] = {}
    for _ in range(3):
        for threads in ("1", ""):
            environment = {**os.environ, "NPUC_THREADS": threads}
            out = subprocess.run(
                [sys.executable, __file__, "--array", str(slices)],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            best[threads] = min(best.get(threads, 1e9), float(out))
    print(
        f"8 independent cores, {slices} slices of 50,000 cycles: {best['1']:.2f} s on one thread, {best['']:.2f} s "
        f"on {os.cpu_count()} processors, ratio {best['1'] / best['']:.2f}"
    )


def array_run(slices: int) -> None:
    """Prints the seconds that the slices take."""
    cores = Cores(2)
    for place in [(column, row) for column in range(2) for row in range(2, 6)]:
        cores.load(*place, "\n".join(LOOPS["bf16 MAC and two loads a bundle"][1]), **REGISTERS)
    cores.start()
    clock = cores.array.clock
    for until in (3, slices):
        start = time.perf_counter()
        while (due := clock.next_cycle()) is not None and due < until * SLICE:
            clock.step()
    print(f"{time.perf_counter() - start:.3f}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--first-run"]:
        first_run()
    elif sys.argv[1:2] == ["--array"]:
        array_run(int(sys.argv[2]))
    else:
        rates(float(sys.argv[1]) if sys.argv[1:] else 1.0)
        translation()
        independent_cores()
