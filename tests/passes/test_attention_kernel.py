"""What the attention core program computes, operation by operation, against attention in float64."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import hypothesis
import ml_dtypes
import numpy as np
import pytest
from hypothesis import strategies
from sequential import Sequential, Stop

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call
from npuc.passes.attention.core import build
from npuc.passes.attention.core.parameters import MOST_BOUNDED, PARAMETER_BYTES, parameter_words, scale_words
from npuc.passes.attention.plan import Buffer, shared_out
from npuc.passes.attention.shares import shared_work
from npuc.passes.attention.streams import output_pieces
from npuc.passes.attention.work import Item, Work

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
    "m_empty": 9,
    "m_full": 10,
}
HIDES = 0xFF00  # in the first part of a mask's number
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


def plan(
    head_dim: int, queries: int, keys: int = KEYS, mask_parts: int = 0, split: bool = False, bounded: bool = False
) -> SimpleNamespace:
    block = keys * head_dim * 2
    sizes = {
        "params": PARAMETER_BYTES,
        "constants": 1024,
        "q": queries * head_dim * 2,
        "k0": block,
        "k1": block,
        "v0": block + keys * 8,
        "v1": block + keys * 8,
        "scores": queries * keys * 4,
        "o": queries // 4 * (head_dim // 4 + 1) * 64,
        "state": queries // 4 * 128,
    }
    if mask_parts:
        sizes |= {"m0": queries * keys * 2, "m1": queries * keys * 2}
    buffers, end = {}, 0
    for name, size in sizes.items():
        buffers[name] = Buffer(end, size)
        end += size
    return SimpleNamespace(
        query_block=queries,
        key_block=keys,
        head_dim=head_dim,
        core_buffers=buffers,
        core_locks=LOCKS,
        mask_parts=mask_parts,
        split=split,
        kept=0,
        group_columns=1,
        precision="bf16",
        bounded=bounded,
    )


class Streams:
    """Plays the DMA for one core: fills a buffer when its lock is acquired, in the layouts the memory tile makes.

    q [N, S, D], k and v [N, Skv, D]: of all heads.  Rows of blocks beyond the last key are rows of the same head.
    """

    def __init__(
        self,
        shape: SimpleNamespace,
        work: Work,
        lane_row: int,
        memory: np.ndarray,
        arrays: Arrays,
        mask: np.ndarray | None,
        ahead: bool,
    ) -> None:
        self.plan, self.work, self.lane_row, self.memory = shape, work, lane_row, memory
        self.q, self.k, self.v = arrays
        self.mask, self.ahead = mask, ahead
        self.items = list(work.of_group(0))
        self.blocks = {"k": self._blocks(0, self.k), "v": self._blocks(1, self.v)}
        self.rows_and_masks = self._rows_and_masks()
        self.parity = {"k": 0, "v": 0, "m": 0}
        self.taken = self.finished = 0  # items whose Q came as a whole, and pieces of outputs
        self.pieces = output_pieces(shape.query_block) if shape.split else 1
        self.started = False
        self.acquired: list[str] = []
        self.before_output: list[Counter[str]] = []
        self.output = np.full(self.q.shape, np.nan)

    def _blocks(self, channel: int, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Blocks of Q, where these come on the channel, and of K or V."""
        size, group = self.plan.key_block, len(self.q) // len(rows)
        here = shared_out(self.work.rows, size)
        for item in self.items:
            if self.plan.split:
                for block in range(sum(here[:channel]), sum(here[: channel + 1])):
                    yield self.q[self.places(item, range(block * size, (block + 1) * size))]
            for block in item.order:
                keys = np.arange(block * size, (block + 1) * size)
                yield rows[item.head // group][keys % rows.shape[1]]

    def _rows_and_masks(self) -> Iterator[np.ndarray]:
        """Blocks of Q's columns and of the mask, as the stream that is theirs brings them."""
        keys, dim = self.plan.key_block, self.plan.head_dim
        for item in self.items:
            rows = self.places(item)
            for chunk in range(-(-dim // keys)):
                first = min(chunk * keys, dim - keys)
                yield self.q[rows][:, first : first + keys]
            for block in item.order:
                columns = np.arange(block * keys, (block + 1) * keys)
                some = self.mask[rows][:, columns % self.mask.shape[2]]
                yield from in_parts(some, self.plan.mask_parts)

    def put(self, name: str, array: np.ndarray) -> None:
        data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        start = self.plan.core_buffers[name].address
        self.memory[start : start + data.size] = data

    def places(self, item: Item, rows: range | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Heads and queries of rows of an item: the core's own."""
        if rows is None:
            rows = range(self.lane_row, self.lane_row + self.plan.query_block)
        heads = np.array([item.head + self.work.place(row)[0] for row in rows])
        return heads, np.array([self.work.query(item, row) for row in rows])

    def __call__(self, number: int, value: int, acquire: bool) -> None:
        name = next(name for name, lock in LOCKS.items() if lock == number - 48)
        wanted = (-self.pieces if name == "o_empty" else -1) if acquire else 1
        assert value & 0xFFFFFFFF == wanted & 0xFFFFFFFF, (name, value)
        dim, keys = self.plan.head_dim, self.plan.key_block
        self.acquired += [name] * acquire
        if name == "start":
            if self.started:
                raise Stop
            self.started = True
            self.put(
                "params",
                np.array(
                    parameter_words(self.work, 0, self.lane_row, self.ahead, bounded=self.plan.bounded), np.uint32
                ),
            )
        elif name == "q_full":
            item = self.items[self.taken]
            self.taken += 1
            self.put("q", self.q[self.places(item)].reshape(-1, 4, dim // 8, 8).transpose(0, 2, 1, 3))
        elif name == "m_full":
            rows = next(self.rows_and_masks)
            self.put(f"m{self.parity['m'] % 2}", rows.reshape(-1, 4, keys // 8, 8).transpose(0, 2, 1, 3))
            self.parity["m"] += 1
        elif name == "k_full":
            place, rows = self._next("k")
            self.put(place, rows.reshape(2, keys // 2, dim // 8, 8).transpose(0, 2, 1, 3))
        elif name == "v_full":
            place, rows = self._next("v")
            self.put(place, rows.reshape(keys // 8, 8, dim // 4, 4).transpose(2, 0, 1, 3))
        elif name == "o_full":
            number, piece = divmod(self.finished, self.pieces)
            self.finished += 1
            count = self.plan.query_block // self.pieces
            start = self.plan.core_buffers["o"].address + 2 * piece * count * dim
            tiles = self.memory[start : start + 2 * count * dim].view(ml_dtypes.bfloat16)
            rows = tiles.reshape(-1, dim // 4, 4, 4).transpose(0, 2, 1, 3).reshape(-1, dim)
            first = self.lane_row + piece * count
            self.output[self.places(self.items[number], range(first, first + count))] = rows.astype(np.float64)
            self.before_output.append(Counter(self.acquired))

    def _next(self, which: str) -> tuple[str, np.ndarray]:
        place = f"{which}{self.parity[which] % 2}"
        self.parity[which] += 1
        return place, next(self.blocks[which])


def in_parts(mask: np.ndarray, parts: int) -> list[np.ndarray]:
    """bf16 numbers whose sum a mask's numbers are; what hides, in the first alone."""
    hidden = np.isneginf(mask)
    pieces = []
    rest = np.where(hidden, 0, mask).astype(np.float32)
    for _ in range(parts):
        pieces.append(rest.astype(ml_dtypes.bfloat16))
        rest = rest - pieces[-1].astype(np.float32)
    pieces[0].view(np.uint16)[hidden] = HIDES
    return pieces


def visible(call: Call) -> np.ndarray:
    """[S, Skv], from the meaning of the limits alone."""
    i, j = np.mgrid[: call.query_length, : call.key_length]
    return (j <= i + call.diagonal) & (j > i + call.diagonal - call.window)


def attention(call: Call, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | float = 0.0) -> np.ndarray:
    """float64; zero for queries that see nothing."""
    q, k, v = (a.astype(np.float64) for a in (q, k, v))
    k, v = (np.repeat(a, len(q) // len(a), axis=0) for a in (k, v))
    scores = q @ k.swapaxes(1, 2) * call.scale
    if call.softcap:
        scores = call.softcap * np.tanh(scores / call.softcap)
    scores = np.where(visible(call), scores + mask, -np.inf)
    top = scores.max(axis=2, keepdims=True)
    p = np.exp(scores - np.where(np.isfinite(top), top, 0))
    return p @ v / np.maximum(p.sum(axis=2, keepdims=True), 1e-300)


def run_call(
    call: Call,
    arrays: Arrays,
    shape: SimpleNamespace,
    lanes: int = 1,
    mask: np.ndarray | None = None,
    recipe: str = "fast",
    ahead: bool = False,
    before_output: list[Counter[str]] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What `lanes` cores make of a call, each on its own, and the reference; mask: [heads, S, Skv].

    before_output: where given, gets how often the last core had acquired each lock at each item's output.
    """
    q, k, v = (a.astype(np.float32).astype(ml_dtypes.bfloat16) for a in arrays)
    shape.rows_per_item = lanes * shape.query_block
    kernel = build(shape, recipe, softcap=bool(call.softcap))
    out = np.full(q.shape, np.nan)
    for lane in range(lanes):
        work = shared_work(
            call, shape.rows_per_item, shape.query_block, shape.key_block, 1, masked=bool(shape.mask_parts)
        )
        memory = np.random.default_rng(lane).integers(0, 256, 65536, np.uint8)  # what nobody wrote
        for offset, data in kernel.data:
            memory[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        streams = Streams(shape, work, lane * shape.query_block, memory, (q, k, v), mask, ahead)
        with np.errstate(all="ignore"):
            Sequential(memory, streams).run(kernel.program)
        assert streams.finished == len(streams.items) * streams.pieces
        assert not any(list(blocks) for blocks in streams.blocks.values())
        assert not shape.mask_parts or not list(streams.rows_and_masks)
        out = np.where(np.isnan(streams.output), out, streams.output)
        if before_output is not None:
            before_output[:] = streams.before_output
    return out, attention(call, q, k, v, 0.0 if mask is None else mask.astype(np.float64))


def run(arrays: Arrays, scale: float, recipe: str = "fast") -> tuple[np.ndarray, np.ndarray]:
    q, k, _ = arrays
    call = Call(1, 1, 1, len(q), len(k), scale)
    out, reference = run_call(call, tuple(a[None] for a in arrays), plan(q.shape[1], len(q)), recipe=recipe)
    return out[0], reference[0]


def assert_close(out: np.ndarray, reference: np.ndarray) -> None:
    error = np.abs(out - reference)
    assert np.all(error <= 1.6e-2 * np.abs(reference) + 2e-2)
    assert error.sum() <= 1e-2 * np.abs(reference).sum()


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


def far_apart(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    """Scores from thousands below the largest, where patterns of 16-bit scores wrap, to beside it; and some blocks with
    none near it."""
    q, k, v = normal(rng, queries, keys, dim)
    q[:, 0] = 64.0
    k[:, 0] = -math.sqrt(dim) / 64 * rng.choice([0, 50, 500, 2000, 3000, 4500, 7000, 9000, 20_000], keys)
    k[:8, 0] = -math.sqrt(dim) / 64 * 3000.0
    return q, k, v


def at_the_bound(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    """Scores of plus and minus 5e8 and more."""
    _, k, v = normal(rng, queries, keys, dim)
    size = math.sqrt(5.4e8 / math.sqrt(dim))
    return np.full((queries, dim), size), np.sign(k[:, :1]) * np.full((keys, dim), size), v


def levels_at_the_bound(rng: np.random.Generator, queries: int, keys: int, dim: int) -> Arrays:
    """Scores near 5e8 of some levels that fp32 holds exactly, each of several keys: the maximum rises from block to
    block, by little and by much beside a unit of fp32, and comes back."""
    q, _, v = at_the_bound(rng, queries, keys, dim)
    levels = rng.choice([-1.0, 0.5, 0.9375, 0.984375, 0.9921875, 1.0], keys) * rng.choice([1.0, 2.0**-9, 2.0**-14])
    return q, levels[:, None] * np.full((keys, dim), q[0, 0]), v


MAKERS = [
    normal,
    logits_to_60,
    equal_rows,
    outliers,
    growing,
    falling,
    far_apart,
    at_the_bound,
    levels_at_the_bound,
]


@pytest.mark.parametrize("recipe", ["fast", "balanced"])
@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("dim", "queries", "keys"), [(64, 8, 96), (128, 8, 64)])
def test_the_core_program_is_attention(
    make: Callable[..., Arrays], dim: int, queries: int, keys: int, recipe: str
) -> None:
    assert_close(*run(make(np.random.default_rng(1), queries, keys, dim), 1 / math.sqrt(dim), recipe))


@hypothesis.settings(max_examples=12)
@hypothesis.given(data=strategies.data())
def test_scores_near_the_bound_at_any_scale(data: strategies.DataObject) -> None:
    """Equal scores have equal probabilities, in whichever blocks they are, though units of fp32 are large there."""
    dim, keys = (
        data.draw(strategies.sampled_from([8, 16, 40]), "head size"),
        data.draw(strategies.integers(1, 100), "keys"),
    )
    make = data.draw(strategies.sampled_from([at_the_bound, levels_at_the_bound]), "values")
    q, k, v = make(np.random.default_rng(data.draw(strategies.integers(0, 1000), "seed")), 8, keys, dim)
    scale = data.draw(strategies.floats(1e-3, 100), "scale") * data.draw(strategies.sampled_from([1, -1]), "sign")
    size = math.sqrt(data.draw(strategies.floats(1e3, 9.5e8), "largest score") / (abs(scale) * dim))
    recipe = data.draw(strategies.sampled_from(["fast", "balanced", "accurate"]), "recipe")
    assert_close(*run((np.full_like(q, size), k / q[0, 0] * size, v), scale, recipe))


@pytest.mark.parametrize("scale", [2.0**-59, -0.3, 1.0, 2.0**59])
def test_sixteen_bit_scores_at_any_scale(scale: float) -> None:
    """Scores of the same spread, whatever power of two their factor has."""
    q, k, v = normal(np.random.default_rng(5), 8, 96, 16)
    assert_close(*run((q / math.sqrt(abs(scale)), k / math.sqrt(abs(scale)), v), scale))


@pytest.mark.parametrize(
    ("dim", "queries", "keys"), [(8, 8, 32), (40, 16, 32), (96, 16, 32), (256, 8, 16), (192, 8, 16)]
)
def test_head_sizes_and_tiles(dim: int, queries: int, keys: int) -> None:
    call = Call(1, 2, 1, queries + 3, 3 * keys - 5, 1 / math.sqrt(dim), diagonal=2)
    arrays = several(np.random.default_rng(dim), call, dim)
    assert_close(*run_call(call, arrays, plan(dim, queries, keys), lanes=2))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize(
    ("dim", "queries", "keys", "lanes", "scale"),
    [
        (8, 8, 32, 4, -0.1),
        (16, 64, 32, 1, 0.0),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(40, 24, 32, 4, 0.1), (256, 8, 16, 4, 0.1)]),
        (8, 40, 32, 8, 0.1),
    ],
)
def test_queries_come_in_blocks_of_keys_and_values(
    dim: int, queries: int, keys: int, lanes: int, scale: float, ahead: bool
) -> None:
    """A core's rows may be any part of them; a channel may have none, or more of them than parts of an output."""
    call = Call(1, 2, 1, lanes * queries - 5, keys + 7, scale, diagonal=2)
    shape = plan(dim, queries, keys, split=True)
    assert_close(*run_call(call, several(np.random.default_rng(dim), call, dim), shape, lanes=lanes, ahead=ahead))


def test_an_output_leaves_before_the_last_queries_of_the_next_item_come() -> None:
    """Waiting for these then hides its way out."""
    call = Call(1, 2, 1, 256, 64, 0.1)
    found: list[Counter[str]] = []
    arrays = several(np.random.default_rng(7), call, 8)
    assert_close(*run_call(call, arrays, plan(8, 64, 32, split=True), lanes=4, ahead=True, before_output=found))
    # On each channel four blocks of Q and two of keys or values an item; the second takes its own between.
    _, first, _, second = found  # by pieces, of which there are two
    assert first["k_full"] == first["v_full"] == 4 + 2 + 2
    assert second["k_full"] == second["v_full"] == 2 * (4 + 2)
    assert second["o_empty"] == 2


def several(rng: np.random.Generator, call: Call, dim: int, make: Callable[..., Arrays] = normal) -> Arrays:
    """q for all heads, k and v for all heads of keys."""
    made = [make(rng, call.query_length, call.key_length, dim) for _ in range(call.heads_in_all)]
    q, k, v = (np.stack([each[i] for each in made]) for i in range(3))
    group = call.heads // call.kv_heads
    return q, k[::group], v[::group]


LIMITS = {
    "all": (NO_DIAGONAL, NO_WINDOW),
    "causal": (0, NO_WINDOW),
    "causal, late": (37, NO_WINDOW),
    "causal, early": (-21, NO_WINDOW),
    "window 1": (0, 1),
    "window": (0, 20),
    "wide window, late": (30, 45),
    "window beyond the keys": (-70, 9),
}


@pytest.mark.parametrize("limits", ["causal, late", "wide window, late"])
@pytest.mark.parametrize(("heads", "queries"), [(2, 2), (5, 3), (2, 7), (3, 9), (4, 20)])
def test_limits_of_queries_of_several_heads(limits: str, heads: int, queries: int) -> None:
    """Rows of a core that are of one head or of several, and begin again in fours of rows, or behind some of them."""
    diagonal, window = LIMITS[limits]
    call = Call(1, heads, 1, queries, 70, 0.2, diagonal, window)
    arrays = several(np.random.default_rng(queries), call, 8)
    assert shared_work(call, 16, 8, 32, 1, masked=False).share.heads > 1 or heads * queries > 32
    assert_close(*run_call(call, arrays, plan(8, 8), lanes=2))


@pytest.mark.parametrize("limits", LIMITS)
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (5, 70), (33, 41)])
def test_limits_of_what_queries_see(limits: str, queries: int, keys: int) -> None:
    diagonal, window = LIMITS[limits]
    call = Call(1, 1, 1, queries, keys, 0.2, diagonal, window)
    make = MAKERS[(queries + keys + len(limits)) % len(MAKERS)]
    out, reference = run_call(call, several(np.random.default_rng(queries), call, 8, make), plan(8, 8), lanes=1)
    assert_close(out, reference)
    assert not out[:, ~visible(call).any(axis=1)].any()


@hypothesis.settings(max_examples=6)
@hypothesis.given(data=strategies.data())
def test_any_call(data: strategies.DataObject) -> None:
    length = strategies.integers(1, 40)
    groups = data.draw(strategies.integers(1, 3), "heads of keys")
    call = Call(
        data.draw(strategies.integers(1, 2), "batch"),
        groups * data.draw(strategies.sampled_from([1, 2, 3, 6]), "group"),
        groups,
        data.draw(length, "queries"),
        data.draw(length, "keys"),
        data.draw(strategies.sampled_from([0.0, -0.3, 0.125, 0.7]), "scale"),
        data.draw(strategies.just(NO_DIAGONAL) | strategies.integers(-45, 45), "diagonal"),
        data.draw(strategies.just(NO_WINDOW) | strategies.integers(1, 45), "window"),
    )
    make = data.draw(strategies.sampled_from(MAKERS), "values")
    rng = np.random.default_rng(data.draw(strategies.integers(0, 1000), "seed"))
    assert_close(*run_call(call, several(rng, call, 8, make), plan(8, 8), lanes=data.draw(strategies.integers(1, 2))))


@pytest.mark.parametrize("scale", [0.0, 1e-6, -1e-6, 0.0771516750, 0.3, -0.3, 1.7, -1.7, 40.0])
def test_scales_of_any_size_and_sign(scale: float) -> None:
    out, reference = run(normal(np.random.default_rng(3), 16, 64, 64), scale)
    assert np.all(np.abs(out - reference) <= 1.6e-2 * np.abs(reference) + 2e-2)


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize(
    ("softcap", "make"), [(0.5, normal), (5.0, growing), (5.0, falling), (50.0, outliers), (50.0, logits_to_60)]
)
def test_softcap(softcap: float, make: Callable[..., Arrays], bounded: bool) -> None:
    """Scores of some blocks, and of none, are so large that they come by way of fp32."""
    call = Call(1, 1, 1, 12, 40, 0.3, diagonal=30, softcap=softcap)
    shape = plan(16, 8, bounded=bounded)
    assert_close(*run_call(call, several(np.random.default_rng(5), call, 16, make), shape, lanes=2))


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("scale", [0.0, -0.2, 1e-5, 30.0])
def test_softcap_of_any_scale(scale: float, bounded: bool) -> None:
    call = Call(1, 1, 1, 8, 32, scale, softcap=20.0)
    assert_close(*run_call(call, several(np.random.default_rng(6), call, 16), plan(16, 8, bounded=bounded)))


@pytest.mark.parametrize("softcap", [1e-9, 1e-3, 1.0, MOST_BOUNDED])
@pytest.mark.parametrize("make", [normal, growing, falling, outliers])
def test_bounded_softcaps_of_any_size(softcap: float, make: Callable[..., Arrays]) -> None:
    call = Call(1, 1, 1, 8, 24, 0.3, softcap=softcap)
    arrays = several(np.random.default_rng(7), call, 16, make)
    assert_close(*run_call(call, arrays, plan(16, 8, bounded=True), recipe="balanced"))


@pytest.mark.parametrize(("recipe", "largest"), [("fast", 4e-3), ("balanced", 3e-3)])
@pytest.mark.parametrize(("softcap", "logits"), [(50.0, 5.0), (30.0, 5.0), (5.0, 5.0), (50.0, 45.0), (30.0, 300.0)])
def test_bounded_softcaps_cost_no_more_than_the_recipe(
    softcap: float, logits: float, recipe: str, largest: float
) -> None:
    """logits: the largest; the last ones so large that the hyperbolic tangent is flat, and come by way of fp32."""
    call = Call(1, 1, 1, 32, 256, 0.125, softcap=softcap)
    q, k, v = several(np.random.default_rng(8), call, 64)
    q *= logits / (0.125 * np.abs(q @ k.swapaxes(1, 2)).max())
    out, reference = run_call(call, (q, k, v), plan(64, 32, 32, bounded=True), recipe=recipe)
    assert np.abs(out - reference).sum() <= largest * np.abs(reference).sum()


@pytest.mark.parametrize("limits", LIMITS)
def test_limits_of_what_queries_see_with_a_bounded_softcap(limits: str) -> None:
    diagonal, window = LIMITS[limits]
    call = Call(1, 2, 1, 21, 41, 0.3, diagonal, window, softcap=5.0)
    make = MAKERS[len(limits) % len(MAKERS)]
    arrays = several(np.random.default_rng(len(limits)), call, 16, make)
    out, reference = run_call(call, arrays, plan(16, 8, bounded=True), lanes=2)
    assert_close(out, reference)
    assert not out[:, ~visible(call).any(axis=1)].any()


@pytest.mark.parametrize("softcap", [0.0, 50.0])
@pytest.mark.parametrize("scale", [*(pytest.param(s, marks=pytest.mark.slow) for s in (0.01, 0.03)), 0.125])
def test_the_accurate_recipe_costs_little_beside_the_rounding_of_its_output(scale: float, softcap: float) -> None:
    """One bf16 number to a probability costs 1.5 times as much, more where all are alike; a softcap's cubes of 15
    fraction bits 1.3 times."""
    call = Call(1, 1, 1, 32, 96, scale, softcap=softcap)
    arrays = several(np.random.default_rng(4), call, 64)
    out, reference = run_call(call, arrays, plan(64, 32), recipe="accurate")
    rounding = np.abs(reference.astype(ml_dtypes.bfloat16).astype(np.float64) - reference).sum()
    assert np.abs(out - reference).sum() <= 1.1 * rounding


def test_hidden_values_of_any_size_take_no_part() -> None:
    call = Call(1, 1, 1, 24, 64, 0.2, diagonal=0)
    q, k, v = several(np.random.default_rng(4), call, 8)
    v[:, 24:] = k[:, 24:] = 3e38
    assert_close(*run_call(call, (q, k, v), plan(8, 8), lanes=3))


@pytest.mark.parametrize("scale", [1e30, -1e30, 1e-30])
def test_a_scale_beyond_the_number_range_is_refused(scale: float) -> None:
    with pytest.raises(UnsupportedError, match="scale"):
        scale_words(scale)


def keep(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """What is hidden at random, all of a row now and then."""
    mask = np.where(rng.random(shape) < 0.7, 0.0, -np.inf)
    mask[:, rng.integers(shape[1])] = -np.inf
    return mask


def biases(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.standard_normal(shape) * 3


def padding(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.where(np.arange(shape[2]) < rng.integers(1, shape[2] + 1), 0.0, -np.inf), shape)


def large(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Far from zero, and far apart."""
    return rng.choice([40000.0, 39999.0, 39744.0, -50.0], shape)


def all_but_hidden(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Finite numbers that hide nearly all keys, of most rows the first block's too."""
    mask = np.where(rng.random(shape) < 0.02, 0.0, -9.9e8)
    mask[..., -1] = 0.0
    return mask


MASKS = [keep, biases, padding, large, all_but_hidden]


def rounded(mask: np.ndarray, parts: int) -> np.ndarray:
    """The mask as its parts hold it."""
    pieces = in_parts(mask, parts)
    return np.where(np.isneginf(mask), -np.inf, sum(piece.astype(np.float64) for piece in pieces))


@pytest.mark.parametrize("make", MASKS)
@pytest.mark.parametrize("parts", [1, 2])
def test_masks(make: Callable[..., np.ndarray], parts: int) -> None:
    call = Call(1, 2, 1, 21, 70, 0.25)
    rng = np.random.default_rng(parts)
    mask = rounded(make(rng, (2, 21, 70)), parts)
    out, reference = run_call(call, several(rng, call, 40), plan(40, 16, 32, parts), lanes=2, mask=mask)
    assert_close(out, reference)
    assert not out[np.isneginf(mask).all(axis=2)].any()


@pytest.mark.parametrize("scale", [0.0, -0.3, 1e-5, 30.0])
@pytest.mark.parametrize("softcap", [0.0, 20.0])
def test_masks_of_any_scale(scale: float, softcap: float) -> None:
    call = Call(1, 1, 1, 8, 64, scale, softcap=softcap)
    rng = np.random.default_rng(7)
    mask = rounded(biases(rng, (1, 8, 64)), 1)
    assert_close(*run_call(call, several(rng, call, 32), plan(32, 8, 32, 1), mask=mask))


@hypothesis.settings(max_examples=5)
@hypothesis.given(data=strategies.data())
def test_any_call_with_a_mask(data: strategies.DataObject) -> None:
    keys = data.draw(strategies.sampled_from([16, 32]), "key block")
    dim = keys + 8 * data.draw(strategies.integers(0, 5), "head size beyond it")
    groups = data.draw(strategies.integers(1, 2), "heads of keys")
    call = Call(
        1,
        groups * data.draw(strategies.sampled_from([1, 2, 3, 6]), "group"),
        groups,
        data.draw(strategies.integers(1, 30), "queries"),
        data.draw(strategies.integers(1, 80), "keys"),
        data.draw(strategies.sampled_from([0.0, -0.3, 0.125]), "scale"),
        data.draw(strategies.just(NO_DIAGONAL) | strategies.integers(-45, 45), "diagonal"),
        data.draw(strategies.just(NO_WINDOW) | strategies.integers(1, 45), "window"),
        softcap=data.draw(strategies.sampled_from([0.0, 5.0]), "softcap"),
    )
    parts = data.draw(strategies.sampled_from([1, 2]), "parts")
    rng = np.random.default_rng(data.draw(strategies.integers(0, 1000), "seed"))
    make = data.draw(strategies.sampled_from(MASKS), "mask")
    mask = rounded(make(rng, (call.heads, call.query_length, call.key_length)), parts)
    recipe = data.draw(strategies.sampled_from(["fast", "balanced", "accurate"]), "recipe")
    shape = plan(dim, 8, keys, parts)
    assert_close(*run_call(call, several(rng, call, dim), shape, lanes=1, mask=mask, recipe=recipe))
