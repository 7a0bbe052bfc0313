"""Predictions beside runs on machines other than the one that kernels are planned for."""

from __future__ import annotations

import re

import pytest

import npuc
from npuc.compiler.bench_cases import CASES
from npuc.passes.array.target import NPU1
from npuc.passes.attention.choose import candidates, make_plan
from npuc.passes.options import Options
from npuc.runtime import tuning
from npuc.runtime.arguments import draw
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.emulator import machine_of
from npuc.runtime.emulator.timing import MACHINES, PHOENIX
from npuc.runtime.predictions import costs_of, prediction
from npuc.runtime.report.of_run import of_executable
from npuc.runtime.report.page import page

DECODE = next(case.attention for case in CASES if case.name == "decode-h8-kv4")


def test_the_planner_reckons_with_the_costs_that_the_emulator_has_of_phoenix() -> None:
    assert costs_of(PHOENIX) == NPU1.costs


@pytest.mark.parametrize("machine", MACHINES)
def test_of_another_machine_only_what_differs_in_its_table_differs(machine: str) -> None:
    costs = costs_of(MACHINES[machine])
    assert costs.ddr_bytes == MACHINES[machine].ddr_read_bytes
    assert costs.push_gap == NPU1.costs.push_gap and costs.word == NPU1.costs.word


@pytest.mark.parametrize("machine, clock", [("phoenix", None), ("8945hs", None), ("8700g", None), ("phoenix", 2.0)])
def test_a_page_has_the_prediction_for_its_machine_at_its_clock(machine: str, clock: float | None) -> None:
    settings = BackendSettings(machine=machine, clock=clock, trace=True)
    with npuc.compile(DECODE).load(backend="emulator", fallback=(), machine=machine, clock=clock, trace=True) as one:
        given = one.prepare(draw(one.kernel.inputs, 0))
        subject = of_executable(one, given, one.serve(given).report, settings)
        expected = prediction(one.kernel, machine_of(settings)).total
    assert subject.predicted == expected and abs(expected / subject.cycles - 1) < 0.1
    (shown,) = re.findall(r"<b>([\d,]+)</b><span>cycles predicted", page(subject).decode())
    assert int(shown.replace(",", "")) == expected


@pytest.mark.parametrize("machine", MACHINES)
def test_tuning_tells_what_is_predicted_for_its_machine(machine: str) -> None:
    """The planner's order stays: kernels are planned for one machine."""
    (first, *others) = tuning.tune(DECODE, 2, machine, told=lambda trial: None)
    assert first.cycles and abs(first.candidate.predicted / first.cycles - 1) < 0.1
    here = candidates(DECODE, 2)
    assert [t.candidate.options for t in (first, *others)] == [candidate.options for candidate in here]
    assert (first.candidate.predicted == make_plan(DECODE, Options()).estimate.total) == (machine == "phoenix")
