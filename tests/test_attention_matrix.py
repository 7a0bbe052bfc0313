"""400 random calls over all features, from a description to the checked output of the strict emulated device.

Every array lies in guarded memory. Each image is loaded once and serves calls whose lengths grow, shrink and repeat.
The first 40 run always, all with `pytest -m slow tests/test_attention_matrix.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from attention_cases import KINDS, LENGTHS, Case, image
from guarded_memory import guarded_memory

import npuc
from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.passes.attention.predict import predicted_cycles
from npuc.runtime import check
from npuc.runtime.arguments import from_user, to_device
from npuc.runtime.checking import check_run
from npuc.runtime.executable import Executable
from npuc.runtime.kernel_file import KernelFile

SHORT, SHORT_CALLS, SHORT_BUDGET = 4, 10, 3e7
LONG, LONG_CALLS, LONG_BUDGET = 72, 5, 4e8
# sum |out - ref| / sum |ref| of standard normal inputs, at any scale; of few elements it scatters.
LARGEST_ERROR = {"fast": 4e-3, "balanced": 3e-3, "accurate": 2.3e-3}
FEW = 8192
PREDICTED = 0.2  # by how much predicted cycles may be off, on inputs whose maxima settle


def problems(executable: Executable, case: Case) -> Iterator[str]:
    """What is wrong with one call: the check of `--check`, errors beyond the recipe's, rows without keys."""
    attention = case.attention
    kernel = executable.kernel.computing(attention)
    given = {attention.argument(role).name: array for role, array in case.arrays.items()}
    call = executable.serve(given, None if case.like_file else attention)
    yield from call.warnings
    (output,) = kernel.outputs
    out = call.outputs[output.name]
    seen = {a.name: to_device(a, from_user(a, given[a.name])) for a in kernel.inputs}
    described = kernel if case.like_file else replace(kernel, source=None)
    result = check_run(described, seen, out, seed=case.seed[1])
    if not result.passed:
        yield f"check: {result}"
    limit = LARGEST_ERROR[attention.recipe] * (2.0 if result.elements < FEW else 1.0)
    if case.kind == "normal" and result.mean_rel_l1 > limit:
        yield f"mean relative L1 {result.mean_rel_l1:.2e} of {result.elements} elements, allowed {limit:.2e}"
    heads, rows = out.reshape(attention.closed_shape("out")), np.arange(attention.lengths.query)
    for batch, head in np.ndindex(heads.shape[:2]):
        if heads[batch, head, check.hidden_rows(attention, seen, batch, head, rows)].any():
            yield f"rows of head {batch}, {head} that see no key are not zero"
    if case.kind == "normal":
        yield from misprediction(executable, case)


def misprediction(executable: Executable, case: Case) -> Iterator[str]:
    """How far the planner's cycles are from those of the run that just ended, where that is too far."""
    kernel = executable.kernel.computing(case.attention)
    assert isinstance(kernel, KernelFile) and executable.stats.cycles is not None
    predicted, cycles = predicted_cycles(kernel.plan, case.attention), executable.stats.cycles
    print(f"predicted {predicted / cycles:.2f} of {cycles:,} cycles: {case}")
    if abs(predicted / cycles - 1) > PREDICTED:
        yield f"predicted {predicted:,} of {cycles:,} cycles"


def serve_all(number: int, calls: int, budget: float) -> None:
    """Every call of an image, on one load."""
    drawn, found = image(number, calls, budget), []
    kernel = npuc.compile(to_attn_module(drawn.attention))
    settings = dict(backend="emulator", fallback=(), strict=True)
    with guarded_memory(outputs=[len(drawn.attention.inputs)]), npuc.load(kernel, **settings) as executable:
        for case in drawn.cases:
            try:
                found += [f"{case}: {problem}" for problem in problems(executable, case)]
            except (NpucError, AssertionError) as error:
                found.append(f"{case}: {error}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize("number", range(SHORT))
def test_forty_calls(number: int) -> None:
    serve_all(number, SHORT_CALLS, SHORT_BUDGET)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SHORT, SHORT + LONG))
def test_three_hundred_and_sixty_more(number: int) -> None:
    serve_all(number, LONG_CALLS, LONG_BUDGET)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(1000, 1040))
def test_cycles_are_predicted(number: int) -> None:
    """200 calls on standard normal inputs."""
    drawn = image(number, LONG_CALLS, LONG_BUDGET)
    kernel = npuc.compile(to_attn_module(drawn.attention))
    with npuc.load(kernel, backend="emulator", fallback=()) as executable:
        found = []
        for drawn_case in drawn.cases:
            case = replace(drawn_case, kind="normal")
            given = {case.attention.argument(role).name: array for role, array in case.arrays.items()}
            executable.serve(given, case.attention)
            found += [f"{case}: {problem}" for problem in misprediction(executable, case)]
    assert not found, "\n".join(found)


def test_every_length_and_kind_of_input_is_among_the_400() -> None:
    cases = [case for number in range(SHORT) for case in image(number, SHORT_CALLS, SHORT_BUDGET).cases]
    assert len(cases) == 40 and {case.kind for case in cases} == set(KINDS)
    cases += [c for n in range(SHORT, SHORT + LONG) for c in image(n, LONG_CALLS, LONG_BUDGET).cases]
    assert len(cases) == 400
    for name in ("query_length", "key_length"):
        assert set(LENGTHS) <= {getattr(case.attention, name) for case in cases}
    attended = [case.attention for case in cases]
    assert {a.recipe for a in attended} == set(LARGEST_ERROR)
    assert {a.argument("q").dtype for a in attended} == {"bf16", "f16", "f32"}
    assert {(a.causal, a.align, a.window is None, a.softcap is None) for a in attended} >= {
        (causal, align, window, cap)
        for causal in (False, True)
        for align in ("top-left", "bottom-right")
        for window in (False, True)
        for cap in (False, True)
    }
