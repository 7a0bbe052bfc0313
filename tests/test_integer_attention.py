"""Random int8 calls over all features, from a description to the checked output of the strict emulated device.

Each image is loaded once and serves calls of other lengths, limits and factors.  20 calls run always, 60 more with
`pytest -m slow tests/test_integer_attention.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from integer_cases import Case, image

import npuc
from npuc.compiler.diagnostics import NpucError
from npuc.runtime import check
from npuc.runtime.checking import check_run
from npuc.runtime.executable import Executable

SHORT, SHORT_CALLS = 4, 5
LONG, LONG_CALLS = 12, 5
LARGEST_ERROR = {"fast": 1.2e-2, "balanced": 1.2e-2, "accurate": 6e-3}  # of normal inputs, at a result of bf16
FEW = 8192


def problems(executable: Executable, case: Case) -> Iterator[str]:
    """What is wrong with one call: the check of `--check`, errors beyond the recipe's, rows without keys."""
    attention, given = case.attention, case.arrays
    kernel = executable.kernel.computing(attention)
    call = executable.serve(given, attention)
    yield from call.warnings
    (output,) = kernel.outputs
    out = call.outputs[output.name]
    result = check_run(replace(kernel, source=None), given, out, seed=case.seed[1])
    if not result.passed:
        yield f"check: {result}"
    limit = LARGEST_ERROR[attention.recipe]
    exact = attention.argument("out").dtype == "bf16" and case.kind == "normal" and result.elements >= FEW
    if exact and result.mean_rel_l1 > limit:
        yield f"mean relative L1 {result.mean_rel_l1:.2e} of {result.elements} elements, allowed {limit:.2e}"
    heads, rows = out.reshape(attention.closed_shape("out")), np.arange(attention.lengths.query)
    for batch, head in np.ndindex(heads.shape[:2]):
        if heads[batch, head, check.hidden_rows(attention, given, batch, head, rows)].any():
            yield f"rows of head {batch}, {head} that see no key are not zero"


def failures(number: int, calls: int) -> list[str]:
    attention, cases = image(number, calls)
    found = []
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        for case in cases:
            try:
                found += [f"{case}\n    {problem}" for problem in problems(executable, case)]
            except NpucError as error:
                found.append(f"{case}\n    raised: {error}")
    return found


@pytest.mark.parametrize("number", range(SHORT))
def test_a_random_int8_call_is_right_in_the_strict_emulated_device(number: int) -> None:
    found = failures(number, SHORT_CALLS)
    assert not found, f"{len(found)} problems of image {number}:\n" + "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(SHORT, SHORT + LONG))
def test_many_random_int8_calls_are_right_in_the_strict_emulated_device(number: int) -> None:
    found = failures(number, LONG_CALLS)
    assert not found, f"{len(found)} problems of image {number}:\n" + "\n".join(found)
