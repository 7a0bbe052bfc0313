"""Masks that are limits are recognised by their values; all others stay masks."""

from __future__ import annotations

import numpy as np
import pytest

from npuc.runtime.frameworks.limits import Limits, hides_a_row_by_numbers, limits_of

LOWEST = float(np.finfo(np.float32).min)


def by_comparison(queries: int, keys: int, offset: int, window: int | None, first: int, end: int) -> np.ndarray:
    """Query i stands at position i + offset, and sees what is not behind it."""
    i, j = np.arange(queries)[:, None] + offset, np.arange(keys)
    return (j <= i) & (j > i - (window or 1 << 30)) & (j >= first) & (j < end)


def seen_by(limits: Limits, queries: int, keys: int) -> np.ndarray:
    """A cell at a time, from the attn dialect's own rules on the keys that are left."""
    seen = np.zeros((queries, keys), bool)
    for i in range(queries):
        for j in range(limits.first, limits.end):
            place = i + (limits.end - limits.first) - queries  # bottom-right
            key = j - limits.first
            ahead = key <= place or not limits.causal
            seen[i, j] = ahead and (limits.window is None or key > place - limits.window)
    return seen


@pytest.mark.parametrize("queries", [1, 2, 7])
@pytest.mark.parametrize("keys", [1, 7, 12])
def test_every_band_is_limits_that_mean_the_same(queries, keys):
    found = 0
    for offset in range(-1, keys + 2):
        for window in (None, 1, 2, 5, 40):
            for end in {keys, max(1, keys - 3)}:
                mask = by_comparison(queries, keys, offset, window, 0, end)
                limits = limits_of(mask, queries, keys)
                if limits is None:
                    # A row that sees nothing, or several that see up to an end which is not theirs.
                    blind = not mask.any(1).all()
                    assert blind or (queries > 1 and offset + queries > end), (offset, window, end)
                    continue
                np.testing.assert_array_equal(seen_by(limits, queries, keys), mask)
                found += 1
    assert found >= 5


def test_what_frameworks_hand():
    causal = np.tril(np.ones((5, 5), bool))
    assert limits_of(causal, 5, 5) == Limits(0, 5, causal=True)
    assert limits_of(causal & ~np.tril(causal, -3), 5, 5) == Limits(0, 5, causal=True, window=3)
    assert limits_of(np.ones((1, 1, 5, 5), bool), 5, 5) == Limits(0, 5)
    assert limits_of(np.ones((), bool), 5, 9) == Limits(0, 9)
    # A cache of 8 with 5 filled; then one more token, alone.
    filled = np.pad(causal, ((0, 0), (0, 3)))
    assert limits_of(filled, 5, 8) == Limits(0, 5, causal=True)
    assert limits_of(np.arange(8)[None] < 6, 1, 8) == Limits(0, 6)
    assert limits_of((np.arange(8) >= 2) & (np.arange(8) < 6), 7, 8) == Limits(2, 6)
    for hidden in (-np.inf, LOWEST, -1e9):
        added = np.where(causal, 0, hidden).astype(np.float32)
        assert limits_of(added[None, None], 5, 5) == Limits(0, 5, causal=True)


def test_planes_that_are_alike_count_as_one():
    causal = np.tril(np.ones((5, 5), bool))
    for planes in (np.broadcast_to(causal, (3, 2, 5, 5)), np.tile(causal, (3, 2, 1, 1)), causal[None]):
        assert limits_of(planes, 5, 5) == Limits(0, 5, causal=True)
    other = np.tile(causal, (3, 2, 1, 1))
    other[2, 1, 3, 0] = False
    assert limits_of(other, 5, 5) is None
    assert limits_of(np.broadcast_to(other[:, 1:], (3, 4, 5, 5)), 5, 5) is None


def test_near_misses_stay_masks(seed):
    causal = np.tril(np.ones((6, 6), bool))
    for i in range(6):
        for j in range(6):
            changed = causal.copy()
            changed[i, j] ^= True
            limits = limits_of(changed, 6, 6)
            assert limits is None or (seen_by(limits, 6, 6) == changed).all(), (i, j)
    padded = causal & (np.arange(6) >= 2)  # two rows see nothing
    assert limits_of(padded, 6, 6) is None
    assert limits_of(np.zeros((6, 6), bool), 6, 6) is None and limits_of(np.zeros((1, 6), bool), 6, 6) is None
    assert limits_of(np.zeros((6, 1), bool), 6, 6) is None
    assert limits_of(np.where(causal, 0.5, -np.inf), 6, 6) is None, "numbers are added"
    assert limits_of(np.where(causal, 0, -1e8), 6, 6) is None, "too small to hide a key"
    assert limits_of(np.where(causal, np.nan, -np.inf), 6, 6) is None
    r = np.random.default_rng(seed)
    for _ in range(300):
        queries, keys = (int(n) for n in r.integers(1, 5, 2))
        mask = r.random((queries, keys)) < 0.6
        limits = limits_of(mask, queries, keys)
        assert limits is None or (seen_by(limits, queries, keys) == mask).all()


def test_rows_that_are_hidden_by_numbers_are_told():
    mask = np.zeros((2, 1, 3, 4), np.float32)
    assert not hides_a_row_by_numbers(mask)
    mask[1, 0, 2] = -np.inf
    assert not hides_a_row_by_numbers(mask), "softmax and kernels agree: nothing is seen"
    mask[1, 0, 2] = LOWEST
    assert hides_a_row_by_numbers(mask)
    mask[1, 0, 2, 1:] = -np.inf
    assert hides_a_row_by_numbers(mask)
    mask[1, 0, 2, 0] = 0
    assert not hides_a_row_by_numbers(mask) and not hides_a_row_by_numbers(np.zeros((2, 2), bool))
