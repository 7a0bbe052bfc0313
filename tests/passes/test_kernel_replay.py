"""Scheduling and register allocation keep a program's meaning: random programs, replayed bundle by bundle."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from kernel_programs import random_loop, random_program
from kernel_replay import Expressions, pipelined, sequential

from npuc.passes.kernel.codegen import generate

FACTS = Path(os.environ.get("NPUC_FACTS", Path(__file__).parents[3] / "shared" / "facts"))
SEEDS = range(40)


def same_meaning(program) -> bool:
    expressions = Expressions()
    return sequential(program, expressions) == pipelined(program, expressions)


@pytest.mark.parametrize("seed", SEEDS)
def test_bundles_do_what_the_statements_say(seed):
    assert same_meaning(random_program(seed)), f"seed {seed}"


@pytest.mark.parametrize("count", range(1, 11))
def test_a_hardware_loop_of_any_trip_count_does_what_its_body_says(count):
    for seed in range(8):
        program = random_loop(1000 * count + seed, count, 2 + 2 * seed)
        assert same_meaning(program), f"seed {1000 * count + seed}, count {count}"


@pytest.mark.slow
def test_many_random_programs():
    for seed in range(1000, 3000):
        assert same_meaning(random_program(seed)), f"seed {seed}"


def test_code_obeys_the_schedule_facts():
    tools = FACTS.parent / "tools"
    if not (tools / "schedule_code.py").exists():
        pytest.skip("no schedule checker beside the facts")
    sys.path.insert(0, str(tools))
    import check_isa_facts
    import check_schedule_facts
    import schedule_code

    model = check_schedule_facts.Model(str(FACTS / "schedule"))
    isa = check_isa_facts.Isa(str(FACTS / "isa"))
    for seed in SEEDS:
        program = generate(random_program(seed))
        _, loops, errors, _ = schedule_code.check(model, isa, [(f"random{seed}", 0, program.code)])
        assert not errors, f"seed {seed}: {errors[:3]}"
        assert loops == program.hardware_loops, f"seed {seed}"


def test_code_is_the_same_every_time():
    assert generate(random_program(7)).code == generate(random_program(7)).code
