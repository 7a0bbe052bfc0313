"""Values that kernels cannot represent are found in one pass, and served by the reference or refused; what a query does
not see takes no part in its row."""

from __future__ import annotations

import logging
import warnings
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_files import xclbin_of
from small_kernels import compiled

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.runtime import notices
from npuc.runtime.magnitudes import PIECE, largest_magnitude, magnitudes
from npuc.runtime.reference import attention as reference

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.float32, np.float16, np.float64, BF16]
ODD = [np.nan, np.inf, -np.inf]


@pytest.fixture(autouse=True)
def nothing_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "_said", set())


# the pass


@pytest.mark.parametrize("dtype", FLOATS, ids=lambda d: np.dtype(d).name)
@given(st.data())
def test_the_largest_magnitude_is_that_of_numpy(dtype, data):
    numbers = st.floats(width=16) | st.sampled_from([0.0, -0.0, *ODD, 1e-7, -65504.0, 65504.0])
    array = np.array(data.draw(st.lists(numbers, min_size=1, max_size=8)), np.float32).astype(dtype)
    wide = np.abs(array.astype(np.float64))
    assert largest_magnitude(array) == (wide.max() if np.isfinite(wide).all() else np.inf)


@pytest.mark.parametrize("dtype", [*FLOATS, np.int8])
def test_it_sees_every_element_of_arrays_of_any_size_and_strides(dtype, seed):
    r = np.random.default_rng(seed)
    for size in (1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5):
        array = r.integers(-50, 50, size).astype(dtype)
        array[r.integers(size)] = -60
        assert largest_magnitude(array) == 60
    array = r.integers(-50, 50, (4, 6, 8)).astype(dtype)
    array[3, 5, 7] = -60
    for view in (array, array.T, array[::-1], array[:, 1::2, 1::2], array.transpose(1, 0, 2)):
        assert largest_magnitude(view) == 60
    assert largest_magnitude(array[:0]) == 0


# calls


def inputs(seed: int, size: float = 1.0, dtype: Any = BF16) -> list[np.ndarray]:
    r = np.random.default_rng(seed)
    scales = (size, size, 1.0)
    return [(r.standard_normal((1, 1, 64, 64)) * factor).astype(dtype) for factor in scales]


@pytest.mark.parametrize("dtype", ["bf16", "f32"])
@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_values_that_are_not_finite_are_served_by_the_reference_or_refused(seed, which, value, dtype, caplog):
    arrays = inputs(seed, dtype=BF16 if dtype == "bf16" else np.float32)
    arrays[which][0, 0, 5, 3] = value
    exact = [x.astype(np.float64)[0, 0] for x in arrays]
    with np.errstate(all="ignore"):
        scores = exact[0] @ exact[1].T / 8
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        expected = weights @ exact[2] / weights.sum(-1, keepdims=True)
    name = "qkv"[which]
    data = compiled(dtype=dtype).xclbin
    with caplog.at_level(logging.WARNING, "npuc"), npuc.load(data, backend="emulator") as exe:
        for _ in range(2):
            out = exe(*arrays)
        assert exe.stats.backend == "reference"
        assert exe.warnings == [f"argument {name} holds values that are not finite"]
    np.testing.assert_allclose(out[0, 0].astype(np.float64), expected, atol=2e-2)
    assert sum("falling back to reference" in message for message in caplog.messages) == 1
    with npuc.load(data, backend="emulator", fallback=()) as exe:
        with pytest.raises(npuc.UnsupportedError, match=f"argument {name} holds values that are not finite"):
            exe(*arrays)
        with pytest.raises(npuc.UnsupportedError):
            npuc.load(data, backend="emulator", fallback=("emulator",))(*arrays)


@pytest.mark.parametrize("size", [1e3, 1e4, 10**4.5, 1e5, 1e6, 1e15])
def test_huge_scores_are_right_or_refused(seed, size):
    """A row of huge scores is the value row of its largest score."""
    q, k, v = inputs(seed, size)
    exact = [x.astype(np.float64)[0, 0] for x in (q, k, v)]
    scores = exact[0] @ exact[1].T / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights @ exact[2] / weights.sum(-1, keepdims=True)
    above = 0.125 * 64 * np.abs(exact[0]).max() * np.abs(exact[1]).max() > 1e9
    with npuc.load(compiled().xclbin, backend="emulator", fallback=()) as exe:
        if above:
            with pytest.raises(npuc.UnsupportedError, match="scores may be above 1e.09"):
                exe(q, k, v)
            with npuc.load(compiled().xclbin, backend="emulator") as served:
                out = served(q, k, v)
            assert served.stats.backend == "reference" and "scores may be above" in served.warnings[0]
        else:
            out = exe(q, k, v)
            assert exe.stats.backend == "emulator" and exe.warnings == []
    error = np.abs(out[0, 0].astype(np.float64) - expected).sum() / np.abs(expected).sum()
    assert error <= 1e-2


@pytest.mark.parametrize("dtype", [np.float32, BF16])
def test_the_reference_is_right_for_huge_scores_and_values(seed, dtype):
    """In float32 alone, scores near 1e8 differ by tens from what they are."""
    q, k, v = inputs(seed, 1e4, dtype)
    v = (v.astype(np.float64) * 1e37).astype(dtype)
    exact = [x.astype(np.float64)[0, 0] for x in (q, k, v)]
    scores = exact[0] @ exact[1].T / 8
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights @ exact[2] / weights.sum(-1, keepdims=True)
    out = npuc.attention(q, k, v, backend="reference")[0, 0].astype(np.float64)
    assert np.abs(out - expected).sum() / np.abs(expected).sum() <= (1e-5 if dtype is np.float32 else 4e-3)


def test_float32_that_bf16_cannot_hold_is_not_given_to_a_kernel(seed):
    q, k, v = inputs(seed, dtype=np.float32)
    v[0, 0, :, 0] = 3.4e38
    with npuc.load(compiled(dtype="f32").xclbin, backend="emulator") as exe:
        out = exe(q, k, v)
        assert exe.stats.backend == "reference" and "bf16 rounds to infinity" in exe.warnings[0]
    np.testing.assert_allclose(out[0, 0, :, 0], 3.4e38, rtol=1e-6)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        ([0.0, -np.inf], None),
        ([0.0, -3.4e38], None),
        ([0.0, 5.0], None),
        ([0.0, np.nan], "the mask holds NaN"),
        ([0.0, np.inf], "the mask holds NaN or values above"),
        ([0.0, 2e9], "the mask holds NaN or values above"),
    ],
    ids=str,
)
def test_masks_hide_by_minus_infinity_and_by_nothing_else_that_is_odd(mask, says):
    attention = Attention.make(heads=1, query_length=1, key_length=2, head_dim=4, mask="add", dtype="f32")
    ones = np.ones((1, 1, 2, 4), np.float32)
    arrays = {"q": ones[:, :, :1], "k": ones, "v": ones, "mask": np.array(mask, np.float32).reshape(1, 1, 1, 2)}
    problem = magnitudes(attention, arrays).problem
    assert problem is None if says is None else says in problem


@pytest.mark.parametrize("softcap", [None, 20.0, 64.0])
@pytest.mark.parametrize("exponent", [-110, -100, -90, -40, -30, -20])
def test_tiny_values_are_right_or_refused(seed, exponent, softcap):
    """Scores are far below zero, so that with a softcap all probabilities are as small as they get."""
    r = np.random.default_rng(seed)
    q, k, v = (r.uniform(1, 2, (1, 1, 64, 64)), -r.uniform(1, 2, (1, 1, 64, 64)) * 20, r.uniform(-1, 1, (1, 1, 64, 64)))
    q, k, v = (x.astype(BF16) for x in (q, k, v * 2.0**exponent))
    exact = [x.astype(np.float64)[0, 0] for x in (q, k, v)]
    scores = exact[0] @ exact[1].T / 8
    scores = scores if softcap is None else softcap * np.tanh(scores / softcap)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights @ exact[2] / weights.sum(-1, keepdims=True)
    refused = exponent < {None: -104, 20.0: -91, 64.0: -27}[softcap]
    settings = {"softcap": softcap, "backend": "emulator"}
    if refused:
        with pytest.raises(npuc.UnsupportedError, match="argument v holds values so small"):
            npuc.attention(q, k, v, **settings, fallback=())
    out = npuc.attention(q, k, v, **settings)[0, 0].astype(np.float64)
    assert npuc.last_stats().backend == ("reference" if refused else "emulator")
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()


def test_values_of_zero_are_not_too_small(seed):
    q, k, _ = inputs(seed)
    assert not npuc.attention(q, k, np.zeros_like(k), softcap=64.0, backend="emulator", fallback=()).any()


def test_integers_count_with_what_they_stand_for():
    attention = Attention.make(
        heads=2,
        query_length=1,
        head_dim=8,
        dtype="i8",
        precision="int8",
        q_scale=(0.5, 2.0),
        k_scale=(4.0,),
        o_scale=(1.0,),
        scale=1.0,
    )
    arrays = {name: np.array([-100, 3], np.int8) for name in "qkv"}
    found = magnitudes(attention, arrays)
    assert (found.q, found.k) == (200, 400) and found.score == 8 * 200 * 400


@pytest.mark.parametrize(("dtype", "size"), [("bf16", 3e38), ("f32", 3e38), ("f16", 60000.0)])
def test_a_result_that_overflows_is_warned_of(seed, dtype, size, caplog, monkeypatch):
    """Infinite where the inputs are finite, whoever computed it."""
    from npuc.runtime.backends.reference_backend import ReferenceBackend

    given_dtype = {"bf16": BF16, "f32": np.float32, "f16": np.float16}[dtype]
    q, k, v = inputs(seed, dtype=given_dtype)
    compute = ReferenceBackend.compute

    def larger(self: Any, arrays: Any, kernel: Any) -> Any:
        result, report = compute(self, arrays, kernel)
        return result.astype(np.float64) * size * 10, report

    monkeypatch.setattr(ReferenceBackend, "compute", larger)
    described = Attention.make(heads=1, query_length=64, head_dim=64, dtype=dtype)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING, "npuc"):
        warnings.simplefilter("error")
        with npuc.load(xclbin_of(described), backend="reference") as exe:
            out = exe(q, k, v)
    assert not np.isfinite(out.astype(np.float32)).all()
    (warning,) = exe.warnings
    assert "output o overflows" in warning and warning in caplog.text


def test_a_kernel_whose_sums_overflow_says_so(seed):
    q, k, v = inputs(seed)
    v[:] = np.float32(3e38)
    with npuc.load(compiled().xclbin, backend="emulator", fallback=()) as exe:
        out = exe(q, k, v)
    right = np.isfinite(out.astype(np.float32)).all()
    assert right or "output o overflows" in exe.warnings[0]


# positions that are not seen


HIDING: dict[str, tuple[dict[str, Any], Any]] = {
    "causal": ({"causal": True}, None),
    "window": ({"window": 2}, None),
    "bottom-right": ({"causal": True, "align": "bottom-right"}, None),
    "boolean mask": ({}, np.array([[True, True, False, True, False, True, True, False]] * 5)),
    "added mask": ({}, np.where([[True, True, False, True, False, True, True, False]] * 5, 0.5, -np.inf)),
    "mask by row": ({}, np.arange(8) <= np.arange(5)[:, None]),
    "mask and causal": ({"causal": True}, np.array([False, *[True] * 7])),
}


def hidden_positions(rules: dict[str, Any], mask: Any) -> np.ndarray:
    """[5, 8]: which keys a query does not see."""
    i, j = np.arange(5)[:, None], np.arange(8)
    at = i + (3 if rules.get("align") == "bottom-right" else 0)
    hidden = np.zeros((5, 8), bool)
    hidden |= (j > at) if rules.get("causal") or "window" in rules else hidden
    hidden |= (j <= at - rules["window"]) if "window" in rules else hidden
    if mask is not None:
        hidden |= ~np.broadcast_to(mask, (5, 8)) if mask.dtype == bool else np.broadcast_to(mask == -np.inf, (5, 8))
    return hidden


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("where", ["k", "v"])
@pytest.mark.parametrize("name", HIDING)
def test_what_a_query_does_not_see_takes_no_part_in_its_row(seed, name, where, value, dtype):
    rules, mask = HIDING[name]
    hidden = hidden_positions(rules, mask)
    r = np.random.default_rng(seed)
    q = r.standard_normal((1, 4, 5, 6)).astype(dtype)
    k, v = (r.standard_normal((1, 2, 8, 6)).astype(dtype) for _ in range(2))
    clean = reference(q, k, v, mask, **rules, dtype=dtype)
    for key in range(8):
        spoiled = {"k": k.copy(), "v": v.copy()}
        spoiled[where][:, :, key, 2] = value
        out = reference(q, spoiled["k"], spoiled["v"], mask, **rules, dtype=dtype)
        blind = hidden[:, key]
        np.testing.assert_allclose(out[:, :, blind], clean[:, :, blind], rtol=1e-5, atol=1e-6)
        assert not np.isfinite(out[:, :, ~blind]).all(-1).any() or where == "k", "who sees it has it"


def test_a_call_with_hidden_nan_is_finite(seed):
    """As in a cache of keys and values that is longer than what was written."""
    r = np.random.default_rng(seed)
    q = r.standard_normal((1, 2, 4, 64)).astype(np.float32)
    k, v = (r.standard_normal((1, 2, 64, 64)).astype(np.float32) for _ in range(2))
    k[:, :, 10:], v[:, :, 10:] = np.nan, np.nan
    mask = np.arange(64) < 10
    out = npuc.attention(q, k, v, mask)
    expected = npuc.attention(q, k[:, :, :10], v[:, :, :10], backend="reference")
    np.testing.assert_allclose(out, expected, atol=1e-5)
