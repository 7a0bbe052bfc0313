"""Scheduling and register allocation keep a program's meaning: random programs, replayed bundle by bundle."""

from __future__ import annotations

import pytest
from facts_tools import schedule_findings
from kernel_programs import random_loop, random_program
from kernel_replay import Expressions, pipelined, sequential

from npuc.passes.machine.codegen import generate

SEEDS = range(24)


def same_meaning(program) -> bool:
    expressions = Expressions()
    return sequential(program, expressions) == pipelined(program, expressions)


@pytest.mark.parametrize("seed", SEEDS)
def test_bundles_do_what_the_statements_say(seed):
    assert same_meaning(random_program(seed)), f"seed {seed}"


@pytest.mark.parametrize("count", range(1, 11))
def test_a_hardware_loop_of_any_trip_count_does_what_its_body_says(count):
    for seed in range(5):
        program = random_loop(1000 * count + seed, count, 2 + 3 * seed)
        assert same_meaning(program), f"seed {1000 * count + seed}, count {count}"


@pytest.mark.slow
def test_many_random_programs():
    for seed in range(1000, 3000):
        assert same_meaning(random_program(seed)), f"seed {seed}"


def test_code_obeys_the_schedule_facts():
    made = [generate(random_program(seed)) for seed in SEEDS]
    loops, errors = schedule_findings([(f"random{seed}", each.code) for seed, each in zip(SEEDS, made, strict=True)])
    assert not errors, errors[:3]
    assert loops == sum(each.hardware_loops for each in made)


def test_code_is_the_same_every_time():
    assert generate(random_program(7)).code == generate(random_program(7)).code
