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
from integer_model import SIGNED_16, Model

import npuc
from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.core.integer.references import MARGIN, ORDINARY
from npuc.passes.attention.core.integer.unit import LOW, UNITS
from npuc.passes.attention.core.integer.visibility import HIDDEN
from npuc.passes.attention.integer_factors import POWER, WIDE_POWER, Power, Quantities, representable
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


def test_heads_of_zeros_among_floating_ones_are_served() -> None:
    """As those of a batch entry that is padding."""
    shape = dict(batch=2, heads=2, kv_heads=1, query_length=20, head_dim=64)
    attention = Attention.make(**shape, dtype="f32", precision="int8")  # type: ignore[arg-type]
    q, k, v = np.random.default_rng(3).standard_normal((3, 2, 2, 20, 64)).astype(np.float32)
    k, v = k[:, :1], v[:, :1]
    for one in (q, k, v):
        one[1] = 0
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        out = executable(q, k, v)
        q[1], v[1] = q[0], v[0]
        mean = executable(q, k, v)[1]
    assert not out[1].any() and out[0].any()
    assert np.abs(mean - v[1].mean(axis=1)).max() < 0.01


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


def test_the_power_is_one_of_two_and_nothing_far_below() -> None:
    def power(of: Power, t: np.ndarray) -> np.ndarray:
        return np.array([of.steps(one)[-1] for one in t])

    t = np.linspace(-10, 1, 1001)
    assert (np.abs(power(POWER, t) - 2.0**t) / (2.0**t + 2.0**-7.5)).max() < 7e-4
    assert (power(POWER, np.linspace(-500, -12, 100)) < 2.0**-11).all()
    t = np.linspace(-15, 3.8, 1001)
    assert (np.abs(power(WIDE_POWER, t) - 2.0**t) / (2.0**t + 2.0**-8)).max() < 1e-4
    assert (power(WIDE_POWER, np.linspace(-500, -16, 100)) < 2.0**-15).all()


COUNTS = [2.0**-places for places in np.arange(1.1, 20.0, 0.37)]  # what a score counts in base 2


@pytest.mark.parametrize("wide", [False, True], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("unit", range(UNITS), ids=["fine", "middle", "coarse"])
@pytest.mark.parametrize("head_dim", [8, 128, 256])
def test_probabilities_are_powers_of_two_in_every_unit(head_dim: int, unit: int, wide: bool) -> None:
    """Of all scores, next to their exponent and far below; the model itself holds that nothing is beyond its range."""
    for score in COUNTS:
        if not representable(Quantities(score, 1.0), head_dim):
            continue
        model = Model(-score, head_dim, wide, unit)
        low = max(-SIGNED_16, round(-127 / model.unit)) if unit < UNITS - 1 else -(1 << 14)
        for exponent in (round(low * model.unit / 2), -5, 0, 1, 9, round(-low * model.unit / 3)):
            highest = math.floor(exponent / model.unit + 1e-9)
            if highest <= LOW[unit]:
                continue
            scores = np.arange(max(low, highest - 30_000), highest + 1)
            found = model.probabilities(scores, np.array([exponent]))
            ideal, largest = 2.0 ** (scores * model.unit - exponent + (14 if wide else 8)), 65535 if wide else 255
            near = (ideal > ideal[-1] / 16) & (found < largest)
            ratio = found[near].sum() / ideal[near].sum() if near.any() else 1.0
            # What P is short of its range is in all probabilities, as are half a unit that the bias is rounded by and
            # half a step of its factor, which is 2^14 or more.
            off = 0.5 * model.unit + abs(exponent) * 2.0**-15
            assert 0.98 * 2.0**-off < ratio < 1.001 * 2.0**off
            assert (np.abs(found - np.minimum(ratio * ideal, largest)) < 0.8 + 0.003 * ideal).all()
            assert (np.diff(found) >= 0).all()
        most = round(-low * model.unit)
        assert not model.probabilities(np.array([HIDDEN]), np.arange(-most, most + 1)).any()


@pytest.mark.parametrize("recipe", ["fast", "accurate"])
@pytest.mark.parametrize("score", [2.0**-14.2, -(2.0**-12.9), 2.0**-11.0, 2.0**-8.3])
def test_the_model_of_probabilities_is_the_emulated_core(score: float, recipe: str) -> None:
    """V shows each key's: 127 for it, else 0."""
    keys = head_dim = 64
    shape = dict(heads=1, kv_heads=1, query_length=32, key_length=keys, head_dim=head_dim, recipe=recipe)
    attention = described(
        False, q_scale=(1.0,), k_scale=(1.0,), v_scale=(1 / 127,), scale=score / math.log2(math.e), **shape
    )
    random = np.random.default_rng(3)
    given = {name: drawn("normal", (1, 1, rows, head_dim), random) for name, rows in (("q", 32), ("k", keys))}
    given["v"] = np.diag(np.full(keys, 127, np.int8))[None, None]
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        out = executable.serve(given, attention).outputs["o"].astype(np.float64)[0, 0]
    products = given["q"][0, 0].astype(np.int64) @ given["k"][0, 0].astype(np.int64).T
    for unit, low in enumerate(LOW):
        model = Model(score, head_dim, recipe == "accurate", unit)
        largest = model.scores(products).max(-1)
        if largest.max() < SIGNED_16 and largest.min() > low:
            break
    scores = model.scores(products)
    exponents = model.exponents(scores.max(-1))[:, None]
    if recipe == "accurate":
        exponents = np.where(exponents <= ORDINARY, exponents + MARGIN, exponents)
    expected = model.probabilities(scores, exponents)
    found = out * expected.sum(-1, keepdims=True)
    assert (np.abs(found - expected) <= 1.01 * 2.0**-8 * expected).all()  # what rounding to bf16 may be off, and others


ROWS, BLOCKS, SCORE = 32, 5, 2.0**-10
BEYOND = {6: 1, 32: 2}
"""Dimensions of largest products, and in how many units these are beyond the range."""
BELOW = {-30: 1, -100: 2}
"""Numbers of eight dimensions of keys, and in how many units scores are too low for the range of biases."""


@pytest.mark.parametrize("recipe", ["fast", "accurate"])
@pytest.mark.parametrize("loud", BEYOND)
def test_blocks_in_a_coarser_unit_and_in_the_fine_one_follow_each_other(recipe: str, loud: int) -> None:
    """Some keys of every other block are loud to the first queries; the others see all keys much alike."""
    given, keys = _small(), np.arange(64 * BLOCKS)
    given["q"][..., :loud] = np.where(np.arange(ROWS) < ROWS // 2, 127, 0)[:, None]
    given["k"][..., :loud] = np.where((keys // 64 % 2 == 1) & (keys % 5 == 0), 127, 0)[:, None]
    highest = [Model(SCORE, 64, unit=unit).scores(np.array([loud * 127 * 127]))[0] for unit in range(UNITS)]
    assert [number == SIGNED_16 for number in highest] == [unit < BEYOND[loud] for unit in range(UNITS)]
    _holds(given, recipe)


@pytest.mark.parametrize("recipe", ["fast", "accurate"])
@pytest.mark.parametrize("low", BELOW)
def test_blocks_whose_scores_are_all_far_below_zero(recipe: str, low: int) -> None:
    """To the first queries, and in the middle blocks."""
    given = _small()
    given["q"][..., :8] = np.where(np.arange(ROWS) < ROWS // 2, 127, 0)[:, None]
    given["k"][..., 64:256, :8] = low
    found = [Model(SCORE, 64, unit=unit).scores(np.array([8 * 127 * low]))[0] for unit in range(UNITS)]
    assert [number <= LOW[unit] for unit, number in enumerate(found)] == [unit < BELOW[low] for unit in range(UNITS)]
    _holds(given, recipe)
    given["k"][..., :8] = low
    _holds(given, recipe)


def _small() -> dict[str, np.ndarray]:
    random = np.random.default_rng(9)
    given = {name: drawn("small", (1, 1, rows, 64), random) for name, rows in (("q", ROWS), ("k", 64 * BLOCKS))}
    return given | {"v": drawn("normal", (1, 1, 64 * BLOCKS, 64), random)}


def _holds(given: dict[str, np.ndarray], recipe: str) -> None:
    shape = dict(heads=1, kv_heads=1, query_length=ROWS, key_length=64 * BLOCKS, head_dim=64, recipe=recipe)
    factors = dict(q_scale=(1.0,), k_scale=(1.0,), v_scale=(1 / 127,), scale=SCORE / math.log2(math.e))
    attention = described(False, **shape, **factors)
    with npuc.load(attention, backend="emulator", fallback=(), strict=True) as executable:
        call = executable.serve(given, attention)
        result = check_run(replace(executable.kernel, source=None), given, call.outputs["o"], seed=0)
    assert not call.warnings
    assert result.passed and result.mean_rel_l1 < 1.2e-2, result
