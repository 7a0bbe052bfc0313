"""Random int8 calls over all features, from a description to the checked output of the strict emulated device.

Each image is loaded once and serves calls of other lengths, limits and factors.  20 calls run always, 60 more with
`pytest -m slow tests/test_integer_attention.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from integer_cases import Case, described, drawn, image

import npuc
from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.integer_factors import FINE_POWER, POWER
from npuc.runtime import check
from npuc.runtime.arguments import to_device
from npuc.runtime.checking import check_run
from npuc.runtime.executable import Executable

SHORT, SHORT_CALLS = 4, 5
LONG, LONG_CALLS = 12, 5
LARGEST_ERROR = {"fast": 1.2e-2, "balanced": 3e-3, "accurate": 3e-3}  # of normal inputs, at a result of bf16
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


def test_floating_tensors_are_quantised_head_by_head() -> None:
    shape = dict(batch=2, heads=4, kv_heads=2, query_length=40, key_length=70, head_dim=24)
    attention = Attention.make(**shape, dtype="f32", precision="int8", causal=True, align="bottom-right")  # type: ignore[arg-type]
    random, sizes = np.random.default_rng(3), np.array([1.0, 20.0, 0.1, 3.0])
    given = {}
    for argument in attention.inputs:
        numbers = random.standard_normal(argument.shape) * sizes[: argument.shape[1], None, None]
        given[argument.name] = numbers.astype(np.float32)
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        out = executable.serve(given).outputs["o"]
        seen = {a.name: to_device(a, given[a.name]) for a in executable.kernel.inputs}
        result = check_run(replace(executable.kernel, source=None), seen, out, seed=0)
    assert result.passed and result.mean_rel_l1 < 5e-3, result
    apart = np.abs(seen["k"] - given["k"]).max(axis=(-2, -1)) / np.abs(given["k"]).max(axis=(-2, -1))
    assert (apart <= 0.5 / 127 * 1.001).all() and apart.max() > 0


KEYS, HEAD_DIM = 1024, 16
LEVELS = {
    "equal": lambda key: 0 * key,
    "one far above": lambda key: np.where(key == 0, 6, -3),
    "one far above, last": lambda key: np.where(key == KEYS - 1, 6, -3),
    "rising": lambda key: key // 60,
    "falling": lambda key: -(key // 60),
    "by turns": lambda key: np.where(key // 64 % 2, 9, 0),
    "far apart": lambda key: np.where(key // 64 % 3 == 1, 127, -127),
}
"""Scores in base 2, nearly, by the number of their key."""


@pytest.mark.parametrize("lowest", [False, True], ids=["", "V of least numbers"])
@pytest.mark.parametrize("levels", LEVELS)
def test_sums_of_blocks_with_other_scores_are_exact(levels: str, lowest: bool) -> None:
    random, level = np.random.default_rng(5), LEVELS[levels](np.arange(KEYS))
    q = np.full((1, 1, 32, HEAD_DIM), 64, np.int8)
    q[..., 0] = random.integers(-64, 64, (1, 1, 32))
    k = np.repeat(level[None, None, :, None], HEAD_DIM, -1)
    k[..., 0] = np.clip(k[..., 0] + 4 * random.integers(-2, 3, KEYS), -127, 127)
    v = np.full((1, 1, KEYS, HEAD_DIM), -128, np.int8) if lowest else drawn("normal", k.shape, random)
    v[..., level == 6, :] = 0  # what outweighs the others leaves all of the result to them
    shape = dict(heads=1, kv_heads=1, query_length=32, key_length=KEYS, head_dim=HEAD_DIM, recipe="accurate")
    factors = dict(q_scale=(1.0,), k_scale=(1.0,), v_scale=(1.0,), scale=math.log(2) / (64 * HEAD_DIM))
    attention = described(False, **shape, **factors)
    given = {"q": q, "k": k.astype(np.int8), "v": v}
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        call = executable.serve(given, attention)
        result = check_run(replace(executable.kernel, source=None), given, call.outputs["o"], seed=0)
    assert not call.warnings
    assert result.mean_rel_l1 < 4e-3, result


# What it is in units of the probabilities' last bit, half of which counts as nothing.
POWERS = {"8 bits": (POWER, 2.0**8, -15), "16 bits": (FINE_POWER, 2.0**16, -17)}


@pytest.mark.parametrize("name", POWERS)
def test_the_power_is_one_of_two_and_nothing_far_below(name: str) -> None:
    fit, units, nothing = POWERS[name]

    def power(t: np.ndarray) -> np.ndarray:
        y = np.maximum(fit.slope * t + fit.intercept, 0)
        for constant in fit.constants:
            y = np.maximum(y * y + constant, 0)
        return y

    t = np.linspace(-10, 0, 1001)
    ratio = power(t) / 2.0**t
    near = ratio[t > -7]
    assert power(t).max() < 1 and near.max() / near.min() < 1.006
    assert np.abs(power(t) - near.mean() * 2.0**t).max() < 2e-3
    assert (power(np.linspace(-500, nothing, 100)) * units < 0.5).all()
