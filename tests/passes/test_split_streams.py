"""K and V on a channel each, Q in blocks before them: calls of many lengths on one loaded kernel."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import npuc
from npuc.compiler.frontend.attention import Attention

LENGTHS = ((1, 96, 160), (1, 1, 40), (2, 130, 1), (1, 200, 100), (1, 1, 1), (1, 31, 33), (1, 257, 64))
# columns, columns of a group, queries a core, style of the sequence, head size, whether memory tiles keep K and V
WAYS = [
    (1, 1, 24, "plain", 24, False),
    (2, 2, 40, "default", 64, False),
    (1, 1, 16, "default", 32, True),
    pytest.param(2, 2, 8, "plain", 24, True, marks=pytest.mark.slow),
    pytest.param(4, 1, 32, "default", 128, True, marks=pytest.mark.slow),
    pytest.param(4, 4, 8, "plain", 24, False, marks=pytest.mark.slow),
    pytest.param(4, 2, 16, "default", 256, False, marks=pytest.mark.slow),
]


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """float64, causal and aligned to the last keys; heads share keys, rows that see none are 0."""
    q, k, v = (x.astype(ml_dtypes.bfloat16).astype(np.float64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    hidden = np.arange(k.shape[2]) > np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2]
    scores = np.where(hidden, -np.inf, scores)
    weights = np.exp(scores - np.maximum(scores.max(-1, keepdims=True), -1e300))
    return weights @ v / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


@pytest.mark.parametrize(("columns", "group_columns", "query_block", "style", "head_dim", "kept"), WAYS, ids=str)
def test_lengths_grow_shrink_and_repeat(
    columns: int, group_columns: int, query_block: int, style: str, head_dim: int, kept: bool
) -> None:
    options = dict(split="1", query_block=str(query_block), group_columns=str(group_columns), sequence=style)
    options["kept"] = str(int(kept))
    sizes = dict(batch=None, heads=3, kv_heads=1, query_length=None, key_length=None, head_dim=head_dim)
    attention = Attention.make(**sizes, causal=True, align="bottom-right")  # type: ignore[arg-type]
    random = np.random.default_rng(query_block)
    with npuc.compile(attention, columns=columns, options=options).load(
        backend="emulator", fallback=(), strict=True
    ) as executable:
        for batch, queries, keys in LENGTHS:
            shapes = ((3, queries), (1, keys), (1, keys))
            q, k, v = (random.standard_normal((batch, heads, rows, head_dim)) for heads, rows in shapes)
            out, expected = executable(q, k, v).astype(np.float64), attended(q, k, v)
            assert np.abs(out - expected).sum() <= 5e-3 * np.abs(expected).sum()
            assert not out[:, :, : max(0, queries - keys)].any(), "queries that see no key"
