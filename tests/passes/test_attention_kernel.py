"""What the attention core program computes, operation by operation, against attention in float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
from sequential import Sequential, Stop

from npuc.compiler.diagnostics import InputError
from npuc.passes.attention.call import Call
from npuc.passes.attention.core import build
from npuc.passes.attention.core.parameters import parameter_words
from npuc.passes.attention.plan import Buffer
from npuc.passes.attention.work import Work

KEYS = 32
LOCKS = {
    "k_empty": 0,
    "k_full": 1,
    "v_empty": 2,
    "v_full": 3,
    "q_empty": 4,
    "q_full": 5,
    "o_empty": 6,
    "o_full": 7,
    "start": 8,
}
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def plan(head_dim: int, queries: int) -> SimpleNamespace:
    block = KEYS * head_dim * 2
    sizes = {
        "params": 64,
        "constants": 1024,
        "q": queries * head_dim * 2,
        "k0": block,
        "k1": block,
        "v0": block + KEYS * 8,
        "v1": block + KEYS * 8,
        "scores": queries * KEYS * 4,
        "o": queries // 4 * (head_dim // 4 + 1) * 64,
        "state": queries // 4 * 192,
    }
    buffers, end = {}, 0
    for name, size in sizes.items():
        buffers[name] = Buffer(end, size)
        end += size
    return SimpleNamespace(
        query_block=queries, key_block=KEYS, head_dim=head_dim, core_buffers=buffers, core_locks=LOCKS
    )


class Streams:
    """Plays the DMA: fills a buffer when its lock is acquired, in the layouts the memory tile makes."""

    def __init__(self, shape: SimpleNamespace, memory: np.ndarray, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
        self.plan, self.memory, self.q, self.k, self.v = shape, memory, q, k, v
        self.taken = {"k": 0, "v": 0}
        self.started = False
        self.output: np.ndarray | None = None

    def put(self, name: str, array: np.ndarray) -> None:
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        start = self.plan.core_buffers[name].address
        self.memory[start : start + data.size] = data

    def __call__(self, number: int, value: int, acquire: bool) -> None:
        name = next(name for name, lock in LOCKS.items() if lock == number - 48)
        assert value & 0xFFFFFFFF == (0xFFFFFFFF if acquire else 1), (name, value)
        dim = self.plan.head_dim
        if name == "start":
            if self.started:
                raise Stop
            self.started = True
            call = Call(1, 1, 1, len(self.q), len(self.k), 1.0)
            work = Work(call, self.plan.query_block, KEYS, 1)
            self.put("params", np.array(parameter_words(work, 0, 0), np.uint32))
        elif name == "q_full":
            self.put("q", self.q.reshape(-1, 4, dim // 8, 8).transpose(0, 2, 1, 3))
        elif name == "k_full":
            block = self._next("k", self.k)
            self.put(block[0], block[1].reshape(KEYS // 16, 16, dim // 8, 8).transpose(0, 2, 1, 3))
        elif name == "v_full":
            block = self._next("v", self.v)
            self.put(block[0], block[1].reshape(KEYS // 8, 8, dim // 4, 4).transpose(2, 0, 1, 3))
        elif name == "o_full":
            start = self.plan.core_buffers["o"].address
            tiles = self.memory[start : start + self.q.nbytes].view(ml_dtypes.bfloat16)
            self.output = tiles.reshape(-1, dim // 4, 4, 4).transpose(0, 2, 1, 3).reshape(self.q.shape)

    def _next(self, which: str, rows: np.ndarray) -> tuple[str, np.ndarray]:
        n = self.taken[which]
        self.taken[which] += 1
        return f"{which}{n % 2}", rows[n * KEYS : (n + 1) * KEYS]


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float) -> np.ndarray:
    scores = q.astype(np.float64) @ k.astype(np.float64).T * scale
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True) @ v.astype(np.float64)


def run(arrays: Arrays, scale: float) -> tuple[np.ndarray, np.ndarray]:
    q, k, v = (a.astype(np.float32).astype(ml_dtypes.bfloat16) for a in arrays)
    shape = plan(q.shape[1], len(q))
    kernel = build(shape, SimpleNamespace(scale=scale))
    memory = np.zeros(65536, np.uint8)
    for offset, data in kernel.data:
        memory[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
    streams = Streams(shape, memory, q, k, v)
    with np.errstate(all="ignore"):
        Sequential(memory, streams).run(kernel.program)
    assert streams.output is not None
    return streams.output.astype(np.float64), attention(q, k, v, scale)


def normal(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    return rng.standard_normal((queries, dim)), rng.standard_normal((keys, dim)), rng.standard_normal((keys, dim))


def logits_to_60(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    q, k, v = normal(rng, queries, keys, dim)
    return q * 60 * math.sqrt(dim) / np.abs(q @ k.T).max(), k, v


def equal_rows(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    return np.ones((queries, dim)), np.full((keys, dim), 3.0), rng.standard_normal((keys, dim))


def outliers(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    arrays = normal(rng, queries, keys, dim)
    for rows in arrays[:2]:
        rows[np.arange(len(rows)), rng.integers(0, dim, len(rows))] = 300.0
    return arrays


def growing(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    """Every block beats the one before by far: the reference moves up again and again."""
    q, k, v = normal(rng, queries, keys, dim)
    q, k = np.abs(q), np.abs(k) * (1 + np.arange(keys))[:, None] / 16
    return q, k, v


def falling(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    """All scores far below zero."""
    q, k, v = normal(rng, queries, keys, dim)
    return np.abs(q) * 4, -np.abs(k) * 4, v


@pytest.mark.parametrize("make", [normal, logits_to_60, equal_rows, outliers, growing, falling])
@pytest.mark.parametrize(("dim", "queries", "keys"), [(64, 16, 96), (128, 16, 64)])
def test_the_core_program_is_attention(make: Callable[..., Arrays], dim: int, queries: int, keys: int) -> None:
    for seed in (1, 2):
        print(f"seed {seed}")
        out, reference = run(make(np.random.default_rng(seed), queries, keys, dim), 1 / math.sqrt(dim))
        error = np.abs(out - reference)
        assert np.all(error <= 1.6e-2 * np.abs(reference) + 2e-2)
        assert error.sum() <= 1e-2 * np.abs(reference).sum()


def test_scales_from_small_to_large_are_applied_exactly() -> None:
    for scale in (1e-6, 0.0771516750, 0.3, 1.7, 40.0):
        out, reference = run(normal(np.random.default_rng(3), 16, 64, 64), scale)
        assert np.all(np.abs(out - reference) <= 1.6e-2 * np.abs(reference) + 2e-2), scale


def test_a_scale_beyond_the_number_range_is_refused() -> None:
    with pytest.raises(InputError, match="scale"):
        build(plan(64, 16), SimpleNamespace(scale=1e30))
