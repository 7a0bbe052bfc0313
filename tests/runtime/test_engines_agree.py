"""Interpreter and native code give the same registers, memory, cycles, counters, requests and errors.

NPUC_ENGINE_OPERATIONS: how many random instructions the first test executes on both (default: a few seconds of them).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core_programs import machine_code
from engine_programs import Flow, Pair, Program, State, core_with, difference, run, straight_line

from npuc.passes.machine.codegen import generate
from npuc.runtime.emulator.core import OWN_MEMORY, Core
from npuc.runtime.emulator.native import blocks, effects, machine, modules, program
from npuc.runtime.emulator.suspension import LockRequest

OPERATIONS = int(os.environ.get("NPUC_ENGINE_OPERATIONS", "3000"))
RUNS = 30
MODES = 10  # runs with the same modes and configuration words


def test_random_instructions_give_the_same_on_both_engines(seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(seed)
    operations = bundles = native = programs = 0
    while operations < OPERATIONS:
        pair = Pair(straight_line(random, int(random.integers(4, 30))))
        for number in range(RUNS):
            modes = np.random.default_rng([seed, programs, number // MODES])
            found = pair.compare(State(random, modes), 2000)
            assert found is None, f"seed {seed}, program {programs}, run {number}: {found}"
        programs += 1
        operations += pair.operations
        bundles += pair.executed
        native += pair.cores[1].native_bundles  # type: ignore[attr-defined]
    with capsys.disabled():
        print(f"\n{operations} random instructions in {programs} programs on both engines: 0 differences")
    assert native > 0.6 * bundles, "too little of it was translated"


def test_random_control_flow_gives_the_same_on_both_engines(seed: int) -> None:
    random = np.random.default_rng(seed)
    bundles = native = 0
    for number in range(5):
        pair = Pair(Flow(random).program())
        for repeat in range(4):
            # Stopped and continued in the middle, too: the rest of a slice is interpreted.
            slices = int(random.choice([0, 0, 100, 300]))
            found = pair.compare(State(random, np.random.default_rng([seed, number])), 20_000, slices)
            assert found is None, f"seed {seed}, program {number}, run {repeat}, slices of {slices}: {found}"
        bundles += pair.executed
        native += pair.cores[1].native_bundles  # type: ignore[attr-defined]
    assert native > 0.7 * bundles


@pytest.mark.slow
def test_much_random_control_flow_gives_the_same_on_both_engines(seed: int) -> None:
    for more in range(50):
        test_random_control_flow_gives_the_same_on_both_engines(seed + 1 + more)


@pytest.mark.parametrize("bundles", [1, 2, 5])
def test_blocks_of_any_length_give_the_same(seed: int, bundles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short blocks hand over to each other what is under way far more often."""
    monkeypatch.setattr(blocks, "MAXIMUM_BUNDLES", bundles)
    monkeypatch.setenv("NPUC_CACHE_DIR", os.devnull)  # objects of usual blocks are of no use
    random = np.random.default_rng(seed + bundles)
    pair = Pair(Flow(random).program())
    for _ in range(3):
        found = pair.compare(State(random, np.random.default_rng(seed)), 3000, 40)
        assert found is None, f"seed {seed}: {found}"


@pytest.mark.parametrize("bytes_of_a_register", [16, 32, 64])
def test_hosts_with_registers_of_any_width_give_the_same(
    seed: int, bytes_of_a_register: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a block only moves is split into as many pieces as the host's registers make of it."""
    monkeypatch.setattr(machine, "register_bytes", lambda: bytes_of_a_register)
    monkeypatch.setattr(effects, "_families", {})
    monkeypatch.setattr(modules, "_functions", {})
    monkeypatch.setenv("NPUC_CACHE_DIR", os.devnull)  # objects of this host's width are of no use
    effects.types_of.cache_clear()
    random = np.random.default_rng(seed + bytes_of_a_register)
    try:
        pair = Pair(straight_line(random, 30))
        for number in range(5):
            found = pair.compare(State(random, np.random.default_rng([seed, number])), 2000)
            assert found is None, f"seed {seed}, run {number}: {found}"
        assert pair.cores[1].native_bundles > 0.6 * pair.executed  # type: ignore[attr-defined]
    finally:
        effects.types_of.cache_clear()


def test_compiled_random_programs_give_the_same_on_both_engines(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "passes")
    from kernel_programs import random_program

    random = np.random.default_rng(seed)
    for number in range(5):
        code = bytearray.fromhex("0100") * 8192
        made = generate(random_program(number)).code
        code[: len(made)] = made
        pair = Pair(Program(code, []))
        found = pair.compare(State(random, np.random.default_rng(seed)), 5000)
        assert found is None, f"program {number}: {found}"


# what lies between the engines


def _cores(text: str, **registers: int) -> list[Core]:
    cores = [core_with(engine, machine_code(text)) for engine in ("interpreter", "native")]
    for core in cores:
        for name, value in registers.items():
            core.registers.write(name, value)
    return cores


LOOP = "\n".join(
    [
        "lda r2, [p0, #0]; add r3, r3, #1",
        "mul r4, r2, r3; vlda wl0, [p1], #32",
        "vshuffle x2, x0, x0, r5",
        "st r3, [p0, #4]",
        "j #0",
        *["add r6, r6, r4"] * 5,
    ]
)


@pytest.mark.parametrize("slices", [1, 7, 50, 1000])
@pytest.mark.parametrize("often", [0, 1_000_000])
def test_a_run_in_slices_is_the_same_run(slices: int, often: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way to a limit that no block fits before is interpreted, or goes bundle by bundle in native code."""
    monkeypatch.setattr(program, "OFTEN", often)
    cores = _cores(LOOP, p0=OWN_MEMORY + 64, p1=OWN_MEMORY)
    assert run(cores[0], 4000, slices) == run(cores[1], 4000, slices)
    assert difference(*cores) is None


def _calls_of_a_loop(calls: int, after: str) -> tuple[str, int]:
    """Twenty rounds of calls of a function that runs a hardware loop over the bundles from r6 to r7, with what is done
    after each call; the address of the bundles that may be looped over."""
    slots = "\n" * 5
    round_ = f"jl #{{function}}\n{slots}{after}\n" * calls
    main = f"mova r31, #20\n{round_}add r31, r31, #-1\njnz r31, #16\n{slots}done\n"
    function = f"mov ls, r6\nmov le, r7\nmov lc, r5\n{slots}{slots}"
    start = 16 * (main + function).count("\n")
    body = "add r1, r1, #1\nadd r2, r2, r1\nadd r3, r3, r2\nadd r4, r4, r3\nadd r1, r1, r4\n"
    text = (main + function + body).replace("{function}", str(16 * main.count("\n"))) + f"ret lr\n{slots}"
    return text, start


@pytest.mark.parametrize("changes", [False, True])
def test_native_code_goes_on_by_itself_where_it_went_before_and_nowhere_else(
    changes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind the start of a loop with other bundles each time, and behind the return to another place each time."""
    swap = "mov r10, r6\nmov r6, r8\nmov r8, r10\nmov r11, r7\nmov r7, r9\nmov r9, r11"
    text, first = _calls_of_a_loop(2, swap) if changes else _calls_of_a_loop(1, "")
    asked: list[int] = []
    found = program.Program._found

    def counted(self: program.Program, place: int, *rest: Any) -> Any:
        asked.append(place)
        return found(self, place, *rest)

    monkeypatch.setattr(program.Program, "_found", counted)
    cores = _cores(text, r5=7, r6=first, r7=first + 16, r8=first + 32, r9=first + 64)
    assert run(cores[0], 100_000, 0) == run(cores[1], 100_000, 0)
    assert difference(*cores) is None
    assert cores[1].native_bundles > 0.9 * cores[1].bundles  # type: ignore[attr-defined]
    times = max(map(asked.count, asked))
    assert times > 15 if changes else times < 3


def test_registers_may_be_read_and_written_while_native_code_is_suspended() -> None:
    text = "mova r1, #5\nacq #48, r2\n" + "add r3, r3, #1\n" * 20 + "acq #49, r3\n" + "\n" * 3 + "done"
    cores = _cores(text, r2=0x7F)
    for core in cores:
        first = core.run(0, 1000)
        assert isinstance(first, LockRequest) and core.registers.read("r1") == 5
        core.registers.write("r3", 100)
        second = core.run(first.cycle + 3, 1000)
        assert isinstance(second, LockRequest) and second.value == 120
    assert difference(*cores) is None


def test_a_program_that_changes_is_translated_anew() -> None:
    cores = _cores("mova r1, #5\n" * 3 + "done")
    for core in cores:
        core.run(0, 100)
        core.program_memory[:] = machine_code("mova r1, #7\n" * 3 + "done")
        core.program_changed()
        core.reset()
        core.run(0, 100)
        assert core.registers.read("r1") == 7


def test_the_counter_is_that_of_the_array_on_both_engines() -> None:
    cores = _cores("lda r2, [p0, #0]; vldb wl0, [p0, #32]\n" * 9 + "mov r17:r16, cntr\n\n\n\ndone", p0=OWN_MEMORY)
    for core in cores:
        core.timer_origin = 40  # nine bundles and five bank conflicts after cycle 1000
        core.run(1000, 5000)
    assert cores[0].registers.read("r16") == cores[1].registers.read("r16") == 974
    assert difference(*cores) is None


def test_errors_name_the_same_bundle_and_leave_the_same_state() -> None:
    text = "add r3, r3, #1\n" * 10 + "lda r2, [p0, #0]\n" + "add r3, r3, #1\n" * 20
    cores = _cores(text, p0=OWN_MEMORY + 2)
    seen = [run(core, 100) for core in cores]
    assert seen[0] == seen[1] and "not aligned" in seen[0][0] and "bundle 0xe0" in seen[0][0]
    assert difference(*cores) is None


@pytest.mark.parametrize("use", ["mov p6, srCarry", "adc r2, r1, r1", "sbc r2, r1, r1"])
def test_a_carry_that_no_fact_tells_is_an_error_where_it_is_used(use: str) -> None:
    text = "add r3, r3, #1\n" * 10 + f"abs r4, r3\nmova r5, #1\n{use}\n" + "add r3, r3, #1\n" * 20
    cores = _cores(text)
    seen = [run(core, 100) for core in cores]
    assert seen[0] == seen[1] and "the carry that abs and jnzd leave in srCarry is not known" in seen[0][0]
    assert "bundle 0xc0" in seen[0][0]


UNALIGNED = "\n".join(
    ["vlda wl0, [p0, #0]", *[""] * 6, "vst wl0, [p1], #32", *["add r3, r3, #1"] * 20, "j #0", *[""] * 5]
)


def test_vector_loads_ignore_the_low_bits_of_their_address_with_one_warning() -> None:
    """facts/platform/device_npu1.md, last section; native code goes on by itself after the warning."""
    cores = _cores(UNALIGNED, p0=OWN_MEMORY + 0x44, p1=OWN_MEMORY + 0x100, r3=0)
    for core in cores:
        core.data_memory.data[:0x80] = np.arange(0x80)
        run(core, 3000)
        assert core.data_memory.read(0x140, 32) == bytes(range(0x40, 0x60))
        (warning,) = core.warnings
        assert warning.address == 0 and "a vector load at 0x70044 is not aligned to 32 bytes" in warning.text
    assert difference(*cores) is None
    assert cores[1].native_bundles > 0.9 * cores[1].bundles  # type: ignore[attr-defined]


def test_stores_and_scalar_loads_that_are_not_aligned_are_refused() -> None:
    for text in ("vst wl0, [p0, #0]", "st q0, [p0, #0]", "st r0, [p0, #0]", "lda r0, [p0, #0]", "lda.s16 r0, [p0, #0]"):
        for core in _cores(text + "\n" * 9 + "done", p0=OWN_MEMORY + 0x41):
            (error, *_) = run(core, 100)
            assert "is not aligned: facts/schedule/aie2_hazards.md section 3 does not say what it does" in error


# strict mode


@pytest.mark.parametrize("enough", [0, 1 << 40], ids=["all is tracked", "nothing is tracked"])
def test_random_instructions_leave_the_same_undefined_on_both_engines(
    enough: int, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(program, "ENOUGH", enough)
    monkeypatch.setattr(program, "OFTEN", 1)
    random = np.random.default_rng(seed)
    bundles = native = 0
    for number in range(3):
        pair = Pair(straight_line(random, int(random.integers(4, 30))), strict=True)
        for repeat in range(8):
            found = pair.compare(State(random, np.random.default_rng([seed, number])), 2000)
            assert found is None, f"seed {seed}, program {number}, run {repeat}: {found}"
        bundles += pair.executed
        native += pair.cores[1].native_bundles  # type: ignore[attr-defined]
    assert native > (0.1 if enough else 0.3) * bundles
    assert not caplog.records, "the translator failed"


@pytest.mark.parametrize("enough", [0, 1 << 40], ids=["all is tracked", "nothing is tracked"])
def test_random_control_flow_leaves_the_same_undefined_on_both_engines(
    enough: int, seed: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(program, "ENOUGH", enough)
    monkeypatch.setattr(program, "OFTEN", 1)
    random = np.random.default_rng(seed)
    for number in range(2):
        pair = Pair(Flow(random).program(), strict=True)
        for repeat in range(3):
            slices = int(random.choice([0, 0, 100]))
            found = pair.compare(State(random, np.random.default_rng([seed, number])), 20_000, slices)
            assert found is None, f"seed {seed}, program {number}, run {repeat}, slices of {slices}: {found}"
    assert not caplog.records, "the translator failed"
