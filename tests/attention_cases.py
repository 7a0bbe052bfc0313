"""Random attention over all features that kernels take: array images, calls of each, and inputs of several kinds.

What a feature is drawn from stands here; whether kernels take it, the planner's own predicate says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from npuc.compiler.diagnostics import UnsupportedError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.supported import check_supported

Arrays = dict[str, np.ndarray]
LENGTHS = (1, 17, 63, 65, 255, 257, 1000, 2047, 4097, 8192)
HEAD_SIZES = (8, 16, 20, 32, 40, 63, 64, 64, 72, 80, 96, 100, 128, 128, 160, 192, 200, 256)
WINDOWS = (1, 5, 31, 64, 100, 257, 1024)
SOFTCAPS = (5.0, 30.0, 50.0)
LARGEST_LOGIT, OUTLIER = 60.0, 30_000.0
LARGEST_BOUND = 5e8  # of |scale| D max|q| max|k|; kernels take 1e9
LARGEST_HELD = {"f16": 6.0e4}  # numbers that the arguments may have
HIDDEN = (-np.inf, -1e30, -2e9)  # what masks that are added hide keys with


@dataclass(frozen=True)
class Case:
    """One call. like_file: all but its lengths is as the file has it.  kind: of its inputs, drawn by `seed`."""

    attention: Attention
    like_file: bool
    kind: str
    seed: tuple[int, int]

    def __str__(self) -> str:
        a = self.attention
        limits = f"{' causal' if a.causal else ''}{f' window {a.window}' if a.window else ''} {a.align}"
        return (
            f"case {self.seed}: {self.kind}, B {a.batch} H {a.heads} on {a.kv_heads} S {a.query_length} "
            f"Skv {a.key_length} D {a.head_dim}{limits}, scale {a.scale:g}, softcap {a.softcap}, mask {a.mask} "
            f"{a.argument('mask').shape if a.mask else ''}, {a.argument('q').dtype}, {a.recipe}"
        )

    @property
    def arrays(self) -> Arrays:
        return inputs(self.attention, self.kind, np.random.default_rng(self.seed))


@dataclass(frozen=True)
class Image:
    """What is compiled, with lengths open or those of its first call, and calls of it in their order."""

    attention: Attention
    cases: tuple[Case, ...]


def image(number: int, calls: int, budget: float) -> Image:
    """The image of that number. budget: multiply-accumulates of a call, those of padding and hidden blocks included."""
    random = np.random.default_rng((9, number))
    kv_heads, group = int(random.choice((1, 1, 2, 3, 4))), int(random.choice((1, 1, 2, 3, 4, 8)))
    shared = dict(
        kv_heads=kv_heads,
        heads=kv_heads * group,
        head_dim=HEAD_SIZES[(number * 7 + 6) % len(HEAD_SIZES)],
        dtype=("bf16", "f32", "bf16", "f16")[number % 4],
        recipe=("balanced", "fast", "accurate")[number % 3],
        mask=(None, "keep", None, "add", None)[number % 5],
    )
    capped, opened, broadcast = number % 10 in (0, 3, 7), random.random() < 0.5, random.random(4) < 0.5
    first = _limits(random, shared["head_dim"], capped)
    while shared["heads"] > 1 and _cost(1, 257, 257, shared, first) > budget:
        kv_heads, group = (kv_heads, group // 2) if group > 1 else (kv_heads // 2, 1)
        shared |= dict(kv_heads=kv_heads, heads=kv_heads * group)
    lengths = list(_lengths(random, number, calls, shared, first, budget))
    if not opened:  # what is planned for few queries takes long for many
        lengths.insert(0, lengths.pop(max(range(calls), key=lambda at: lengths[at][1] * lengths[at][2])))
    described = []
    for at, (batch, queries, keys) in enumerate(lengths):
        limits = first if at < calls // 2 else _limits(random, shared["head_dim"], capped)
        sizes = dict(batch=batch, query_length=queries, key_length=keys)
        described.append(_masked(Attention.make(**shared, **limits, **sizes), broadcast))  # type: ignore[arg-type]
    compiled = described[0]
    if opened:
        shape = dict(batch=None, query_length=None, key_length=None)
        compiled = _masked(Attention.make(**shared, **first, **shape), broadcast)  # type: ignore[arg-type]
    kinds = random.permutation(np.array(list(KINDS)))
    cases = tuple(
        Case(one, opened and at < calls // 2 or at == 0, str(kinds[at % len(kinds)]), (number, at))
        for at, one in enumerate(described)
    )
    return Image(compiled, cases)


def _limits(random: np.random.Generator, head_dim: int, capped: bool) -> dict[str, object]:
    """What calls may differ in: causal, window, alignment, scale, the softcap's value."""
    usual = 1.0 / math.sqrt(head_dim)
    scales = (usual, usual, usual, 1.0 / math.sqrt(168), 0.0, -usual, 0.5 * usual, 0.3, -0.01)
    windowed = random.random() < 0.3
    return dict(
        causal=bool(random.random() < 0.5),
        window=int(random.choice(WINDOWS)) if windowed else None,
        align=str(random.choice(("top-left", "bottom-right"))),
        scale=float(random.choice(scales)) if not capped else float(random.choice(scales[:4])),
        softcap=float(random.choice(SOFTCAPS)) if capped else None,
    )


def _lengths(
    random: np.random.Generator, number: int, calls: int, shared: dict, limits: dict, budget: float
) -> Iterator[tuple[int, int, int]]:
    """Batch, queries and keys of each call: they grow, then shrink, and the last are those before once more."""
    drawn: list[tuple[int, int, int]] = []
    at = number * (calls - 1)
    while len(drawn) < calls - 1:
        queries, at = LENGTHS[at % len(LENGTHS)], at + 1
        fitting = [keys for keys in LENGTHS if _cost(1, queries, keys, shared, limits) <= budget]
        if not fitting:
            continue
        keys = fitting[max(random.integers(len(fitting), size=2))]  # more often the longer ones
        keys = queries if queries in fitting and random.random() < 0.5 else keys
        batches = [batch for batch in (1, 2, 3) if _cost(batch, queries, keys, shared, limits) <= budget]
        drawn.append((int(random.choice(batches)), queries, keys))
    drawn.sort(key=lambda sizes: sizes[1] * sizes[2])
    drawn = drawn[::2] + drawn[1::2][::-1]
    yield from (*drawn, drawn[-1])


def _cost(batch: int, queries: int, keys: int, shared: dict, limits: dict) -> float:
    rows = -(-queries // 256) * 256
    seen = keys if limits["window"] is None else min(keys, limits["window"] + 256)
    return 2.0 * batch * shared["heads"] * rows * max(seen, 64) * max(shared["head_dim"], 32)


def _masked(attention: Attention, broadcast: np.ndarray) -> Attention:
    """With a mask that is of one element where `broadcast` says so; without one where kernels take none of its kind."""
    if attention.mask is None:
        return attention
    mask = attention.argument("mask")
    full = (attention.batch, attention.heads, attention.query_length, attention.key_length)
    shape = tuple(1 if once else size for once, size in zip(broadcast, full, strict=True))
    dtype = mask.dtype if mask.dtype == "i1" or broadcast[0] else "f32"
    arguments = tuple(replace(mask, shape=shape, dtype=dtype) if one is mask else one for one in attention.arguments)
    masked = replace(attention, arguments=arguments)
    try:
        check_supported(masked)
    except UnsupportedError:
        return replace(masked, mask=None, arguments=tuple(one for one in arguments if one.role != "mask"))
    return masked


def inputs(attention: Attention, kind: str, random: np.random.Generator) -> Arrays:
    """Arrays by role, in float64 or bool."""
    arrays = {role: random.standard_normal(attention.closed_shape(role)) for role in ("q", "k", "v")}
    KINDS[kind](attention, arrays, random)
    if attention.mask is not None:
        arrays["mask"] = _mask(attention, random, rows_hidden=kind != "normal")
    return arrays


def normal(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """Standard normal numbers."""


def _scale_scores(attention: Attention, arrays: Arrays, largest: float) -> None:
    """Q scaled so that the largest scaled score of every head is +-largest."""
    for batch, head in np.ndindex(arrays["q"].shape[:2]):
        q, k = arrays["q"][batch, head], arrays["k"][batch, head // (attention.heads // attention.kv_heads)]
        scores = max(np.abs(q[rows : rows + 512] @ k.T).max() for rows in range(0, len(q), 512))
        q *= largest / (abs(attention.scale) * scores) if attention.scale and scores else 1.0
    bound = abs(attention.scale) * attention.head_dim * np.abs(arrays["q"]).max() * np.abs(arrays["k"]).max()
    held = np.abs(arrays["q"]).max() / LARGEST_HELD.get(attention.argument("q").dtype, math.inf)
    arrays["q"] /= max(1.0, held, bound / LARGEST_BOUND)  # of few queries and keys all scores may be near 0


def logits_to_60(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """Scores to +-60."""
    _scale_scores(attention, arrays, LARGEST_LOGIT)


def outliers(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """One large number in every row of K, scores to +-30,000; some values of +-30,000."""
    keys = arrays["k"].reshape(-1, attention.head_dim)
    keys[np.arange(len(keys)), random.integers(0, attention.head_dim, len(keys))] = 50.0 * random.standard_normal(
        len(keys)
    )
    _scale_scores(attention, arrays, OUTLIER)
    values = arrays["v"].reshape(-1)
    values[random.integers(0, values.size, max(1, values.size // 4096))] = OUTLIER * random.choice((-1.0, 1.0))


def _along_keys(attention: Attention, arrays: Arrays, random: np.random.Generator, sign: float) -> None:
    """Keys along one direction that every query has a share of: row maxima move from block to block."""
    direction = random.standard_normal(attention.head_dim)
    keys = arrays["k"].shape[2]
    arrays["q"] = 0.2 * arrays["q"] + direction
    slope = sign * np.arange(keys) / keys
    arrays["k"] = 0.1 * arrays["k"] + slope[:, None] * direction
    _scale_scores(attention, arrays, float(random.choice((30.0, 60.0, 600.0))))


def rising(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """Later keys have larger scores."""
    _along_keys(attention, arrays, random, 1.0 if attention.scale >= 0 else -1.0)


def falling(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """Later keys have smaller scores."""
    _along_keys(attention, arrays, random, -1.0 if attention.scale >= 0 else 1.0)


def equal(attention: Attention, arrays: Arrays, random: np.random.Generator) -> None:
    """Every query alike and every key alike: all scores of a head are equal."""
    for role in ("q", "k"):
        arrays[role][:] = arrays[role][:, :, :1, :]


KINDS: dict[str, Callable[[Attention, Arrays, np.random.Generator], None]] = {
    "normal": normal,
    "logits to 60": logits_to_60,
    "outliers": outliers,
    "rising": rising,
    "falling": falling,
    "equal": equal,
}


def _mask(attention: Attention, random: np.random.Generator, rows_hidden: bool) -> np.ndarray:
    """Keys here and there are hidden, but the first one; with `rows_hidden` any key, whole blocks and whole rows too.

    Masks that are added add normal numbers.
    """
    argument = attention.argument("mask")
    shape = (1,) * (4 - len(argument.shape)) + tuple(size or 1 for size in argument.shape)
    keep = random.random(shape) < 0.8
    if rows_hidden:
        for begin in range(0, shape[3], 64):
            keep[..., begin : begin + 64] &= random.random((*shape[:2], 1, 1)) < 0.7
        keep &= random.random((*shape[:3], 1)) < 0.9
    else:
        keep[..., 0] = True
    if argument.dtype == "i1":
        return keep.reshape(argument.shape)
    added = np.where(keep, random.standard_normal(shape), HIDDEN[random.integers(len(HIDDEN))])
    return added.reshape(argument.shape)
