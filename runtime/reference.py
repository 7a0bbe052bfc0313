"""Attention in plain numpy, blocked: the oracle that `--check` compares with, and a backend of last resort.

The rules are those of the attn dialect (README, "The attn dialect"): scores = scale * q k^T, then
softcap * tanh(s / softcap), then the mask (added, or i1 true = keep), then causal and window limits, softmax, times v.
A query that sees no key gives zeros. Keys and values at positions that a query does not see (limits, false or -inf in
the mask) take no part in its row, whatever they are; what it sees is computed as IEEE arithmetic has it, infinities and
NaN included.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError

# Scores held at one time: bounds memory at long sequences and keeps a block inside the caches.
SCORES_PER_BLOCK = 1 << 20


@dataclass(frozen=True)
class Visibility:
    """Which keys a query may see by position: causal and window limits on S queries and Skv keys."""

    query_length: int
    key_length: int
    causal: bool = False
    window: int | None = None
    align: str = "top-left"

    def limits(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Of queries first..last-1: the first visible key and one past the last, [rows] each, clipped to the keys."""
        return self.limits_at(np.arange(first, last, dtype=np.int64))

    def limits_at(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """`limits` of the queries at any positions."""
        if self.align == "bottom-right":
            position = position + (self.key_length - self.query_length)
        elif self.align != "top-left":
            raise InputError(f"align is {self.align!r}", remedy="give 'top-left' or 'bottom-right'")
        low = np.zeros_like(position) if self.window is None else position - self.window + 1
        bounded = self.causal or self.window is not None
        high = position + 1 if bounded else np.full_like(position, self.key_length)
        high = np.clip(high, 0, self.key_length)
        return np.minimum(np.clip(low, 0, self.key_length), high), high

    def pairs(self, keep: np.ndarray | None = None) -> int:
        """Visible (query, key) pairs of one head; with `keep` [S, Skv] only those it holds true."""
        low, high = self.limits(0, self.query_length)
        if keep is None:
            return int((high - low).sum())
        counted = np.zeros((self.query_length, self.key_length + 1), dtype=np.int64)
        np.cumsum(keep, axis=1, out=counted[:, 1:])
        rows = np.arange(self.query_length)
        return int((counted[rows, high] - counted[rows, low]).sum())


def _query_blocks(query_length: int, keys: int, group: int) -> Iterator[tuple[int, int]]:
    rows = max(1, min(query_length, SCORES_PER_BLOCK // max(1, keys * group)))
    for first in range(0, query_length, rows):
        yield first, min(first + rows, query_length)


def _softmax_times_v(scores: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """scores [G, rows, keys], -inf where hidden (which broadcasts to them), v [keys, D] -> [G, rows, D].

    Rows in which all is hidden give zeros.
    """
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(top == -np.inf, 0, top))
    total = weights.sum(axis=-1, keepdims=True)
    return _weighted_sum(weights, v, hidden) / np.where(total == 0, 1, total)


def _weighted_sum(weights: np.ndarray, v: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """weights @ v, in which a weight of zero cancels a hidden infinity or NaN."""
    odd = np.flatnonzero(~np.isfinite(v).all(axis=-1))
    if not odd.size:
        return weights @ v
    plain = v.copy()
    plain[odd] = 0
    result = weights @ plain
    hidden = np.broadcast_to(hidden, weights.shape)
    for key in odd:
        result += np.where(hidden[..., key, None], 0, weights[..., key, None] * v[key])
    return result


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    align: str = "top-left",
    dtype: Any = np.float64,
    positions: np.ndarray | None = None,
    query_length: int | None = None,
) -> np.ndarray:
    """Attention of q [B, H, S, D] over k and v [B, Hkv, Skv, D] -> [B, H, S, D] in `dtype`.

    Head h reads key head h // (H / Hkv). mask broadcasts to [B, H, S, Skv]: bool keeps, numbers are added.
    scale defaults to 1/sqrt(D). float64 is the oracle; float32 is the fast path. positions: where q's S queries stand
    among `query_length`, where they are not all of them in order.  Raises InputError on shapes that
    do not belong together.
    """
    check_shapes(q, k, v)
    q, k, v = (np.asarray(x).astype(dtype, copy=False) for x in (q, k, v))
    batch, heads, rows, head_dim = q.shape
    positions = np.arange(rows, dtype=np.int64) if positions is None else positions
    kv_heads, key_length = k.shape[1], k.shape[2]
    group = heads // kv_heads
    if scale is None:
        scale = head_dim**-0.5
    visibility = Visibility(rows if query_length is None else query_length, key_length, causal, window, align)
    full_mask = None if mask is None else broadcast_mask(mask, (batch, heads, rows, key_length))
    out = np.zeros((batch, heads, rows, v.shape[3]), dtype)
    with np.errstate(all="ignore"):
        for first, last in _query_blocks(rows, key_length, group):
            low, high = visibility.limits_at(positions[first:last])
            start, stop = int(low.min()), int(high.max())
            if start >= stop:
                continue
            key = np.arange(start, stop)
            beyond = (key < low[:, None]) | (key >= high[:, None])
            for b in range(batch):
                for kv in range(kv_heads):
                    members = slice(kv * group, (kv + 1) * group)
                    scores = q[b, members, first:last] @ k[b, kv, start:stop].T
                    scores = _capped(scores * np.asarray(scale, dtype), softcap)
                    hidden = beyond
                    if full_mask is not None:
                        scores, masked = _masked(scores, full_mask[b, members, first:last, start:stop])
                        hidden = beyond | masked
                    np.copyto(scores, -np.inf, where=hidden)
                    out[b, members, first:last] = _softmax_times_v(scores, v[b, kv, start:stop], hidden)
    return out


def _capped(scores: np.ndarray, softcap: float | None) -> np.ndarray:
    if softcap is None:
        return scores
    cap = np.asarray(softcap, scores.dtype)
    return cap * np.tanh(scores / cap)


def _masked(scores: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores with what a mask adds to them, and which of them it hides."""
    if mask.dtype == np.bool_:
        return scores, ~mask
    return scores + mask.astype(scores.dtype), mask == -np.inf


def broadcast_mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """mask as a view of [B, H, S, Skv]; missing leading dimensions count as one."""
    try:
        return np.broadcast_to(np.asarray(mask), shape)
    except ValueError:
        raise InputError(f"mask has shape {list(np.shape(mask))}, which does not broadcast to {list(shape)}") from None


def check_shapes(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    """Raises InputError where q [B, H, S, D] and k, v [B, Hkv, Skv, D] do not belong together."""
    for name, array in (("q", q), ("k", k), ("v", v)):
        if np.ndim(array) != 4:
            raise InputError(f"{name} has {np.ndim(array)} dimensions, expected 4: [batch, heads, length, head size]")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3] or k.shape[:3] != v.shape[:3]:
        raise InputError(f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} do not belong together")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise InputError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads")
