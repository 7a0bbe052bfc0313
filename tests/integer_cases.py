"""Random int8 attention: array images, and calls of each over lengths, limits, factors and kinds of inputs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from npuc.compiler.frontend.attention import Attention

Arrays = dict[str, np.ndarray]
HEAD_SIZES = (64, 128, 8, 40, 72, 96, 20, 160, 256, 16, 100, 192)
HEADS = ((1, 1), (2, 1), (2, 2), (4, 2), (3, 3), (8, 1))  # of queries, of K and V
LENGTHS = (1, 3, 17, 40, 64, 65, 100, 129, 200, 257, 300)
WINDOWS = (1, 5, 31, 64, 100)
RECIPES = ("fast", "balanced", "accurate")
KINDS = ("normal", "normal", "small", "outliers", "extreme", "equal")


@dataclass(frozen=True)
class Case:
    """One call. kind: of its inputs, drawn by `seed`."""

    attention: Attention
    kind: str
    seed: tuple[int, int]

    def __str__(self) -> str:
        a = self.attention
        limits = f"{' causal' if a.causal else ''}{f' window {a.window}' if a.window else ''} {a.align}"
        return (
            f"case {self.seed}: {self.kind}, B {a.batch} H {a.heads} on {a.kv_heads} S {a.query_length} "
            f"Skv {a.key_length} D {a.head_dim}{limits}, scale {a.scale:g}, q {a.q_scale} k {a.k_scale} v {a.v_scale} "
            f"o {a.o_scale} {a.argument('out').dtype}, {a.recipe}"
        )

    @property
    def arrays(self) -> Arrays:
        random = np.random.default_rng(self.seed)
        return {a.name: drawn(self.kind, self.attention.closed_shape(a.role), random) for a in self.attention.inputs}


def drawn(kind: str, shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """int8 of that kind."""
    if kind == "equal":
        return np.full(shape, random.choice((-128, -1, 0, 3, 127)), np.int8)
    if kind == "extreme":
        return random.choice((-128, 127), shape).astype(np.int8)
    numbers = random.standard_normal(shape) * {"normal": 32.0, "small": 5.0, "outliers": 6.0}[kind]
    if kind == "outliers":
        numbers = np.where(random.random(shape) < 0.01, 40 * numbers, numbers)
    return np.clip(np.rint(numbers), -127, 127).astype(np.int8)


def image(number: int, calls: int) -> tuple[Attention, tuple[Case, ...]]:
    """What is compiled, with lengths open, and calls of it."""
    random = np.random.default_rng((8, number))
    heads, kv_heads = HEADS[int(random.integers(len(HEADS)))]
    integers = bool(number % 2)
    shared = dict(heads=heads, kv_heads=kv_heads, head_dim=HEAD_SIZES[number % len(HEAD_SIZES)])
    shared |= dict(recipe=RECIPES[number % 3])
    open_lengths = described(integers, batch=None, query_length=None, key_length=None, **shared)
    return open_lengths, tuple(_calls(random, number, calls, integers, shared))


def described(integers: bool, **sizes: object) -> Attention:
    """integers: of int8 results, else of bf16."""
    attention = Attention.make(dtype="i8", precision="int8", **{"o_scale": (1 / 32,), **sizes})  # type: ignore[arg-type]
    if integers:
        return attention
    arguments = tuple(replace(a, dtype="bf16") if a.role == "out" else a for a in attention.arguments)
    return replace(attention, arguments=arguments, o_scale=None)


def _calls(
    random: np.random.Generator, number: int, calls: int, integers: bool, shared: dict[str, int]
) -> Iterator[Case]:
    for call in range(calls):
        queries, keys = (int(random.choice(LENGTHS)) for _ in range(2))
        kind = str(random.choice(KINDS))
        limits = dict(causal=bool(random.random() < 0.5), align=str(random.choice(("top-left", "bottom-right"))))
        if random.random() < 0.3:
            limits["window"] = int(random.choice(WINDOWS))
        scale = float(random.choice((1.0, 1.0, 0.3, 3.0, -1.0)) / math.sqrt(shared["head_dim"]))
        factors = {}
        for name, size in (("q", "heads"), ("k", "kv_heads"), ("v", "kv_heads")):
            if random.random() < 0.6:
                count = shared[size] if random.random() < 0.5 else 1
                factors[f"{name}_scale"] = tuple(float(2.0 ** random.uniform(-7, -4)) for _ in range(count))
        if integers:
            # Means of V are small, and what recipe fast is off must be little beside a step.
            largest = max(factors.get("v_scale", (1 / 32,)))
            count, steps = shared["heads"] if random.random() < 0.5 else 1, 4 if shared["recipe"] == "fast" else 0
            factors["o_scale"] = tuple(
                float(largest * 2.0 ** random.uniform(-3 - steps, 0.5 - steps)) for _ in range(count)
            )
        sizes = dict(batch=int(random.choice((1, 1, 2))), query_length=queries, key_length=keys)
        attention = described(integers, scale=scale, **sizes, **limits, **factors, **shared)
        yield Case(attention, kind, (number, call))
