"""The reference against attention written out one query at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npuc.compiler.diagnostics import InputError
from npuc.runtime import reference
from npuc.runtime.reference import Visibility, attention


def one_query_at_a_time(q, k, v, mask=None, *, scale=None, causal=False, window=None, softcap=None, align="top-left"):
    batch, heads, queries, size = q.shape
    keys = k.shape[2]
    group = heads // k.shape[1]
    out = np.zeros((batch, heads, queries, v.shape[3]))
    for b in range(batch):
        for h in range(heads):
            for i in range(queries):
                at = i + (keys - queries if align == "bottom-right" else 0)
                scores = []
                for j in range(keys):
                    hidden = (causal and j > at) or (window is not None and not at - window < j <= at)
                    s = math.fsum(q[b, h, i] * k[b, h // group, j]) * (scale or 1 / math.sqrt(size))
                    s = softcap * math.tanh(s / softcap) if softcap else s
                    if mask is not None:
                        m = mask[min(b, mask.shape[0] - 1), min(h, mask.shape[1] - 1), i, j]
                        s, hidden = (s, hidden or not m) if mask.dtype == bool else (s + m, hidden)
                    scores.append(-math.inf if hidden else s)
                weights = [math.exp(s - max(scores)) if s > -math.inf else 0.0 for s in scores]
                for w, row in zip(weights, v[b, h // group], strict=True):
                    out[b, h, i] += w * row / (math.fsum(weights) or 1)
    return out


def draw(seed, batch=1, heads=2, kv_heads=2, queries=7, keys=9, size=4):
    r = np.random.default_rng(seed)
    q = r.standard_normal((batch, heads, queries, size)) * 2
    k, v = (r.standard_normal((batch, kv_heads, keys, size)) for _ in range(2))
    return q, k, v


CASES = {
    "plain": ({}, {}),
    "scale": ({}, {"scale": 0.3}),
    "causal": ({}, {"causal": True}),
    "causal, fewer keys": ({"queries": 9, "keys": 5}, {"causal": True}),
    "causal bottom-right": ({}, {"causal": True, "align": "bottom-right"}),
    "causal bottom-right, blind queries": ({"queries": 9, "keys": 5}, {"causal": True, "align": "bottom-right"}),
    "window": ({}, {"window": 3}),
    "window past the keys": ({"queries": 9, "keys": 3}, {"window": 2}),
    "window bottom-right": ({}, {"window": 2, "align": "bottom-right"}),
    "softcap": ({}, {"softcap": 1.5}),
    "grouped heads, two batches": ({"batch": 2, "heads": 6}, {"causal": True}),
    "one query": ({"queries": 1}, {"causal": True, "align": "bottom-right"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("block", [1, 40, 1 << 20])
def test_equals_the_written_out_sum(name, block, seed, monkeypatch):
    monkeypatch.setattr(reference, "SCORES_PER_BLOCK", block)
    shape, rules = CASES[name]
    q, k, v = draw(seed, **shape)
    np.testing.assert_allclose(attention(q, k, v, **rules), one_query_at_a_time(q, k, v, **rules), atol=1e-12)


@pytest.mark.parametrize("lead", [(1, 1), (2, 1), (2, 2)])
@pytest.mark.parametrize("kind", ["keep", "add"])
def test_masks_broadcast_and_combine_with_causal(lead, kind, seed):
    q, k, v = draw(seed, batch=2)
    drawn = np.random.default_rng(seed).standard_normal((*lead, 7, 9))
    mask = drawn > -0.5 if kind == "keep" else drawn
    expected = one_query_at_a_time(q, k, v, mask, causal=True)
    np.testing.assert_allclose(attention(q, k, v, mask, causal=True), expected, atol=1e-12)


def test_a_query_that_sees_no_key_gives_zeros(seed):
    q, k, v = draw(seed)
    keep = np.ones((1, 1, 7, 9), bool)
    keep[..., 3, :] = False
    out = attention(q, k, v, keep)
    assert not out[:, :, 3].any() and out[:, :, 2].all()


def test_float32_is_close_and_large_scores_stay_finite(seed):
    q, k, v = draw(seed)
    fast = attention(q * 1e3, k, v, dtype=np.float32)
    assert fast.dtype == np.float32
    np.testing.assert_allclose(fast, attention(q * 1e3, k, v), atol=1e-3)


def test_nan_stays_visible(seed):
    q, k, v = draw(seed)
    q[0, 0, 2, 1] = np.nan
    out = attention(q, k, v)
    assert np.isnan(out[0, 0, 2]).all() and np.isfinite(out[0, 1]).all()


@pytest.mark.parametrize("rules", [{}, {"causal": True}, {"window": 3}, {"causal": True, "align": "bottom-right"}])
def test_visible_pairs_are_counted(rules, seed):
    keep = np.random.default_rng(seed).random((7, 9)) < 0.6
    limits = Visibility(7, 9, **rules)
    low, high = limits.limits(0, 7)
    key = np.arange(9)
    seen = (key >= low[:, None]) & (key < high[:, None])
    assert limits.pairs() == seen.sum()
    assert limits.pairs(keep) == (seen & keep).sum()


@pytest.mark.parametrize(
    ("shapes", "says"),
    [
        ([(1, 2, 7), (1, 2, 9, 4), (1, 2, 9, 4)], "q has 3 dimensions"),
        ([(1, 2, 7, 4), (1, 2, 9, 5), (1, 2, 9, 5)], "do not belong together"),
        ([(1, 2, 7, 4), (1, 2, 9, 4), (1, 2, 8, 4)], "do not belong together"),
        ([(1, 3, 7, 4), (1, 2, 9, 4), (1, 2, 9, 4)], "not a multiple"),
    ],
)
def test_shapes_that_do_not_belong_together_are_refused(shapes, says):
    with pytest.raises(InputError, match=says):
        attention(*(np.zeros(shape) for shape in shapes))


def test_a_mask_that_does_not_broadcast_is_refused(seed):
    with pytest.raises(InputError, match="does not broadcast"):
        attention(*draw(seed), np.ones((3, 1, 7, 9), bool))
