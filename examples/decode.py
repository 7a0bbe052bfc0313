"""Token after token with a cache of keys and values: one kernel serves the prompt and every step.

pip install . && python examples/decode.py [emulator|xrt|amdxdna|reference|auto]

The cache is allocated once; the filled part is read where it lies. Heads of Q share K and V by two.
"""

from __future__ import annotations

import sys

import ml_dtypes
import numpy as np

import npuc

HEADS, KV_HEADS, HEAD_SIZE, CAPACITY, PROMPT, STEPS = 4, 2, 32, 64, 10, 3


def step(q: np.ndarray, keys: np.ndarray, values: np.ndarray, filled: int, backend: str) -> np.ndarray:
    """The last queries of a sequence of `filled` tokens, each seeing the tokens up to its own."""
    return npuc.attention(
        q, keys[:, :, :filled], values[:, :, :filled], causal=True, align="bottom-right", enable_gqa=True,
        backend=backend, fallback=(),
    )  # fmt: skip


def main(backend: str = "emulator") -> int:
    random = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(ml_dtypes.bfloat16)

    keys, values = np.zeros((2, 1, KV_HEADS, CAPACITY, HEAD_SIZE), ml_dtypes.bfloat16)
    queries, filled, worst = drawn(1, HEADS, PROMPT, HEAD_SIZE), PROMPT, 0.0
    keys[:, :, :filled], values[:, :, :filled] = drawn(2, 1, KV_HEADS, filled, HEAD_SIZE)
    for _ in range(1 + STEPS):
        out = step(queries, keys, values, filled, backend)
        print(f"{queries.shape[2]:3} queries, {filled:3} keys: {npuc.last_stats()}")
        difference = np.abs(
            out.astype(np.float64) - step(queries, keys, values, filled, "reference").astype(np.float64)
        )
        worst = max(worst, float(difference.max()))
        queries = drawn(1, HEADS, 1, HEAD_SIZE)  # what a model would make of `out`
        keys[:, :, filled], values[:, :, filled] = drawn(2, 1, KV_HEADS, HEAD_SIZE)
        filled += 1
    print(f"largest difference from the reference: {worst:.1e}")
    return 0 if worst < 3e-2 else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
