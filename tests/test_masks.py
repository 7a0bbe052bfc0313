"""Mask operands end to end: files and calls, every kind, shapes that broadcast, rows that see nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from guarded_memory import guarded_memory

import npuc
from npuc.compiler import cli
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.call import NO_DIAGONAL, NO_WINDOW, Call
from npuc.passes.attention.choose import make_plan
from npuc.passes.attention.masks import MaskCopy, mask_copy
from npuc.passes.attention.work import Work
from npuc.passes.options import Options
from npuc.runtime.backends import masks
from npuc.runtime.backends.masks import copied_mask, wants_rows_apart, what_is_left

TYPES = {"i1": np.bool_, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f16": np.float16}
HIDDEN = ml_dtypes.bfloat16(-(2.0**127))


def source(mask: str, queries: int = 40, keys: int = 70, attributes: str = "") -> str:
    q, kv = f"tensor<1x2x{queries}x32xbf16>", f"tensor<1x1x{keys}x32xbf16>"
    return (
        f"func.func @masked(%q: {q}, %k: {kv}, %v: {kv}, %m: tensor<{mask}>) -> {q} {{\n"
        f'  %o = "attn.sdpa"(%q, %k, %v, %m) {{{attributes}}} : ({q}, {kv}, {kv}, tensor<{mask}>) -> {q}\n'
        f"  return %o : {q}\n}}\n"
    )


def run(capsys: pytest.CaptureFixture[str], *words: object) -> dict:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", *(str(word) for word in words), "--backend", "emulator", "--json"])
    out, err = capsys.readouterr()
    assert not end.value.code, err
    return json.loads(out)


@pytest.mark.parametrize("mask", ["1x2x40x70xi1", "70xbf16", pytest.param("40x1xf32", marks=pytest.mark.slow)])
def test_files_with_masks_run_and_pass_their_check(
    mask: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "masked.mlir"
    file.write_text(source(mask, attributes="causal = true"))
    with guarded_memory(outputs=[4]):
        said = run(capsys, file, "--random", 3, "--check", "--strict")
    assert said["check"]["passed"] and said["check"]["reference"] and not said["warnings"]


def test_masks_come_from_npy_and_npz_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "masked.mlir"
    file.write_text(source("40x70xi1"))
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal((1, heads, n, 32)) for name, heads, n in (("q", 2, 40), ("k", 1, 70), ("v", 1, 70))
    }
    keep = random.random((40, 70)) < 0.5
    keep[7] = False
    np.savez(tmp_path / "all.npz", **arrays, mask=keep)
    for name, array in (*arrays.items(), ("mask", keep)):
        np.save(tmp_path / f"{name}.npy", array)
    singly = [word for name in (*arrays, "mask") for word in ("--input", f"{name}={tmp_path / name}.npy")]
    results = []
    for number, given in enumerate((["--input", tmp_path / "all.npz"], singly)):
        out = tmp_path / f"o{number}.npy"
        assert run(capsys, file, *given, "--check", "--output", f"o={out}")["check"]["passed"]
        results.append(np.load(out))
    assert np.array_equal(*results) and not results[0][:, :, 7].any() and results[0][:, :, 8].all()


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float64; rows that see nothing are 0."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask.astype(np.float64)
    seen = (scores > -9e8).any(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(seen, scores.max(axis=-1, keepdims=True), 0)) * seen
    result: np.ndarray = np.where(seen, weights, 0) @ v / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300)
    return result


CALLS = [
    (1, 70, (70,), "i1"),
    (33, 50, (33, 50), "f32"),
    (5, 257, (2, 1, 1, 257), "bf16"),
    (140, 40, (1, 3, 140, 1), "f16"),
    (1, 1, (), "i1"),
]
LOWEST = {"bf16": -1e9, "f32": -1e9, "f16": -np.inf}  # what hides keys, beside -inf


@pytest.mark.parametrize("queries,keys,shape,kind", CALLS, ids=str)
def test_calls_take_masks_by_pytorchs_name(queries: int, keys: int, shape: tuple[int, ...], kind: str) -> None:
    random = np.random.default_rng(queries)
    q = random.standard_normal((2, 3, queries, 16)).astype(ml_dtypes.bfloat16)
    k, v = random.standard_normal((2, 2, 3, keys, 16)).astype(ml_dtypes.bfloat16)
    if kind == "i1":
        mask = np.asarray(random.random(shape) < 0.6)
    else:
        lowest = random.choice((LOWEST[kind], -np.inf if kind == "f16" else float(ml_dtypes.finfo(TYPES[kind]).min)))
        drawn = np.where(
            random.random(shape) < 0.3, random.choice((-np.inf, lowest)), 3 * random.standard_normal(shape)
        )
        mask = drawn.astype(TYPES[kind])
    out = npuc.attention(q, k, v, attn_mask=mask, backend="emulator", fallback=()).astype(np.float64)
    expected = attended(q, k, v, mask)
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()
    assert not out[~expected.any(axis=-1)].any()


def copied(mask: np.ndarray, kind: str, queries: int, keys: int) -> tuple[np.ndarray, int]:
    """The copy as bf16 numbers [batch, heads, rows, blocks, parts, key_block], and how wide a column's rows are."""
    described = "keep" if kind == "i1" else "add"
    sizes = dict(heads=2, query_length=queries, key_length=keys, head_dim=32)
    dtype = "bf16" if kind == "i1" else kind
    plan = make_plan(Attention.make(mask=described, dtype=dtype, **sizes), Options(columns=1))  # type: ignore[arg-type]
    copy = mask_copy(plan, plan.call, mask.shape)
    numbers = np.frombuffer(copied_mask(copy, mask), ml_dtypes.bfloat16).reshape(copy.shape)
    return numbers, 4 * plan.query_block


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(2, 300, 70), (1, 70), (300, 1), (2, 1, 1)])
def test_the_copy_has_16_bits_of_the_mask_and_hides_keys_that_are_not_there(kind: str, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(shape))
    values = random.choice((0.0, 1.0, -0.3, 1e4, -60000.0), shape) * random.random(shape)
    mask = random.random(shape) < 0.5 if kind == "i1" else values.astype(TYPES[kind])
    numbers, lane_rows = copied(mask, kind, 300, 70)
    total = numbers.astype(np.float64).sum(axis=4).reshape(*numbers.shape[:3], -1)
    full = np.broadcast_to(mask, (1, *([1] * (3 - mask.ndim)), *mask.shape)[-4:]) if mask.ndim < 4 else mask
    rows = full.shape[-2]
    assert total.shape[2] >= (300 if rows > 1 else lane_rows) and total.shape[3] % 32 == 0
    wanted = np.broadcast_to(
        full[:, :, : rows if rows > 1 else 1],
        (*full.shape[:2], 300, 70) if rows > 1 else (*full.shape[:2], lane_rows, 70),
    )
    found = total[:, :, : wanted.shape[2], :70]
    if kind == "i1":
        assert np.array_equal(found, np.where(wanted, 0, float(HIDDEN)))
    else:
        exact = wanted.astype(np.float64)
        if kind == "f32":  # of how far they are below the row's largest
            found, exact = (x - x.max(axis=-1, keepdims=True) for x in (found, exact))
        assert np.all(np.abs(found - exact) <= (2.0**-16 if kind == "f32" else 0) * np.abs(exact))
    assert np.all(total[..., 70:] == float(HIDDEN))


@pytest.mark.parametrize("kind", ["f32", "bf16"])
@pytest.mark.parametrize("value", [-np.inf, -1e9, -3e38])
def test_what_hides_a_key_is_one_number_in_the_copy(value: float, kind: str) -> None:
    mask = np.zeros((40, 70), TYPES[kind])
    mask[3] = value  # bf16 rounds 1e9 to less
    numbers, _ = copied(mask, kind, 40, 70)
    assert np.all(numbers[0, 0, 3, :2, 0] == HIDDEN) and not numbers[0, 0, 3, :, 1:].any()
    assert not numbers[0, 0, 4, :2].any()


def test_one_loaded_kernel_serves_masks_of_all_shapes_and_lengths() -> None:
    lengths = dict(batch=None, query_length=None, key_length=None)
    attention = Attention.make(heads=2, head_dim=24, mask="add", dtype="f32", causal=True, **lengths)  # type: ignore[arg-type]
    random = np.random.default_rng(1)
    with npuc.load(npuc.compile(attention), backend="emulator", fallback=(), strict=True) as loaded:
        for batch, queries, keys in ((1, 40, 90), (2, 1, 33), (1, 150, 65), (1, 40, 90)):
            q = random.standard_normal((batch, 2, queries, 24)).astype(np.float32)
            k, v = random.standard_normal((2, batch, 2, keys, 24)).astype(np.float32)
            mask = random.standard_normal((batch, 1, queries, keys)).astype(np.float32)
            limits = np.where(np.arange(keys) <= np.arange(queries)[:, None], mask, -np.inf)
            expected = attended(*(x.astype(ml_dtypes.bfloat16) for x in (q, k, v)), limits)
            out = loaded(q, k, v, mask).astype(np.float64)
            assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("first,end", [(0, 37), (70, 131), (299, 300)])
def test_keys_before_and_behind_those_that_a_mask_leaves_are_not_read(first: int, end: int, causal: bool) -> None:
    """A cache that is filled in part; sentences that are padded on the left."""
    random = np.random.default_rng(end)
    q = random.standard_normal((1, 2, 300 if causal else 5, 32)).astype(ml_dtypes.bfloat16)
    k, v = random.standard_normal((2, 1, 2, 300, 32)).astype(ml_dtypes.bfloat16)
    mask = np.zeros((1, 1, 1, 300), np.float32)
    mask[..., :first] = mask[..., end:] = -np.inf
    limits = np.where(np.arange(300) <= np.arange(300)[:, None], mask, -np.inf) if causal else mask
    out = npuc.attention(q, k, v, mask, causal=causal, backend="emulator", fallback=()).astype(np.float64)
    expected = attended(q, k, v, limits)
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()
    words = {c["channel"]: 0 for c in npuc.last_stats().dma if c["row"] == 0 and c["direction"] == "mm2s"}
    for c in npuc.last_stats().dma:
        if c["row"] == 0 and c["direction"] == "mm2s":
            words[c["channel"]] += c["words"]
    items, blocks = 2 * (3 if causal else 1) * 4, -(-(end - first) // 32)
    assert 0 < words[0] <= items * 2 * blocks * 32 * 16


@pytest.mark.parametrize("kind", ["f32", "bf16", "i1"])
def test_what_a_mask_leaves_is_between_the_first_and_the_last_key_seen(kind: str) -> None:
    keep = np.zeros((2, 3, 100, 400), bool)
    keep[1, 0, 20, 70:90] = keep[0, 2, 40, 300] = True
    mask = keep if kind == "i1" else np.where(keep, 0, -1e9).astype(TYPES[kind])
    assert what_is_left(mask) == (70, 301, 50, 260)
    assert what_is_left(mask[:1]) == (300, 301, 260, 260) and what_is_left(mask[0, 0]) == (0, 1, None, None)
    assert what_is_left(mask[:, :, 20:21]) == (70, 90, None, None)
    assert what_is_left(mask[..., :1]) is None and what_is_left(np.ones((300, 300), bool)) is None
    assert what_is_left(mask[1, 0, 20:21, 60:100]) is None, "not worth another sequence"


@pytest.mark.parametrize("keys", [31, 32, 33, 64])
def test_a_mask_that_hides_all_of_a_block_of_keys_gives_zeros(keys: int) -> None:
    q, k = np.ones((1, 1, 3, 16), ml_dtypes.bfloat16), np.ones((1, 1, keys, 16), ml_dtypes.bfloat16)
    for mask in (np.zeros((1, keys), bool), np.full((3, keys), -np.inf, np.float32)):
        assert not npuc.attention(q, k, k, mask, backend="emulator", fallback=()).any()


def seen_by(call: Call, query: int) -> set[int]:
    """Keys by CONTRACT's words: i - window < j <= i, i along the diagonal."""
    here = query + call.diagonal
    return {key for key in range(call.key_length) if here - call.window < key <= here}


@pytest.mark.parametrize("seed", range(40))
def test_a_call_with_the_limits_of_its_mask_sees_what_it_saw_of_what_the_mask_leaves(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(masks, "WORTH", 1)
    random = np.random.default_rng(seed)
    queries, keys = (int(n) for n in random.integers(1, 14, 2))
    diagonal = int(random.choice((NO_DIAGONAL, 0, keys - queries)))
    window = NO_WINDOW if diagonal == NO_DIAGONAL else int(random.choice((NO_WINDOW, 1, 3, 20)))
    call = Call(1, 1, 1, queries, keys, 1.0, diagonal=diagonal, window=window)
    band = np.arange(keys) - np.arange(queries)[:, None]
    mask = (band >= random.integers(-14, 3)) & (band <= random.integers(-3, 14)) & (random.random(band.shape) < 0.8)
    mask[:, : random.integers(0, 3)] = False
    left = what_is_left(mask)
    changed = call if left is None else call.leaving(left)
    first = 0 if left is None else left.first
    for query in range(queries):
        wanted = {key for key in seen_by(call, query) if mask[query, key]}
        now = {key + first for key in seen_by(changed, query)}
        assert {key for key in now if mask[query, key]} == wanted


@pytest.mark.parametrize("window", [None, 90])
def test_a_mask_that_is_a_limit_costs_what_the_limit_costs(window: int | None) -> None:
    band = np.arange(1500)[:, None] - np.arange(1500)
    left = what_is_left((band >= 0) & (band < (window or 1500)))
    call = Call(1, 1, 1, 1500, 1500, 1.0)
    assert left is not None
    limited = replace(call, diagonal=0, window=window or NO_WINDOW)
    works = [Work(one, 128, 32, 1) for one in (call.leaving(left), limited, call)]
    blocks = [sum(item.end - item.first for item in work.of_group(0)) for work in works]
    assert blocks[0] == blocks[1] < 0.6 * blocks[2]


@pytest.mark.parametrize("low,high", [(-200, 0), (-30, 25), (40, 70)])
def test_masks_that_are_bands_are_right(low: int, high: int) -> None:
    random = np.random.default_rng(high)
    q, k, v = random.standard_normal((3, 1, 1, 200, 32)).astype(ml_dtypes.bfloat16)
    band = np.arange(200) - np.arange(200)[:, None]
    mask = (band >= low) & (band <= high) & (random.random((200, 200)) < 0.9)
    out = npuc.attention(q, k, v, mask, backend="emulator", fallback=()).astype(np.float64)
    expected = attended(q, k, v, mask)
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()
    assert not out[~expected.any(axis=-1)].any()


@pytest.mark.parametrize("offset", [-9e8, -70000.0, 9e8])
def test_large_numbers_added_to_whole_rows_change_nothing(offset: float) -> None:
    random = np.random.default_rng(2)
    q, k, v = random.standard_normal((3, 1, 1, 40, 32)).astype(ml_dtypes.bfloat16)
    mask = random.choice((0.0, 64.0, 128.0, -1e3), (40, 40)).astype(np.float32)
    mask[::2] += np.float32(offset)
    out = npuc.attention(q, k, v, mask, backend="emulator", fallback=()).astype(np.float64)
    expected = attended(q, k, v, mask)
    assert np.abs(out - expected).sum() <= 1e-2 * np.abs(expected).sum()


SEED = 20
OFFSETS = [sign * size for size in (1e2, 3e3, 6e3, 2e4, 6e4, 1e5, 1e6) for sign in (1, -1)]
LIMITS: list[dict[str, Any]] = [{}, {"causal": True}, {"causal": True, "align": "bottom-right"}, {"window": 9}]


def masks_with_offsets(random: np.random.Generator, kind: str, rows: str) -> np.ndarray:
    """f32 or bf16 numbers of 40 queries and 70 keys with offsets of rows, of keys, or of both."""
    shape = {"all": (1, 40, 70), "keys": (1, 1, 70), "heads": (2, 1, 70)}[rows]
    mask = random.choice((0.1, 1.0, 5.0)) * random.standard_normal(shape) + random.choice(OFFSETS)
    if rows == "all":
        mask += random.choice((0.0, random.choice(OFFSETS)), (1, 40, 1))
    if random.random() < 0.5:
        mask += random.choice((0.0, random.choice(OFFSETS)), (1, 1, 70))
    mask = np.where(random.random(shape) < 0.1, random.choice((-np.inf, -1e9, -3e38)), mask)
    return mask.astype(TYPES[kind])


@pytest.mark.parametrize("kind,most", [("f32", 2.0**-7), ("bf16", 1e-4)])
@pytest.mark.parametrize("limits", LIMITS, ids=str)
def test_weights_are_those_of_the_mask_whatever_rows_have_in_common(
    kind: str, most: float, limits: dict[str, Any]
) -> None:
    """The softmax of the copy, as the device has it, and of the mask, in float64."""
    sizes = dict(heads=2, query_length=40, key_length=70, head_dim=32)
    attention = Attention.make(mask="add", dtype=kind, **sizes, **limits)  # type: ignore[arg-type]
    plan = make_plan(attention, Options(columns=1))
    seen = np.array([[key in plan.call.keys(query) for key in range(70)] for query in range(40)])
    for seed in range(SEED, SEED + 40):
        random = np.random.default_rng(seed)
        mask = masks_with_offsets(random, kind, str(random.choice(("all", "keys", "heads"))))
        if wants_rows_apart(mask_copy(plan, plan.call, mask.shape), mask):
            mask = np.broadcast_to(mask, (len(mask), 40, 70))
        copy = mask_copy(plan, plan.call, mask.shape)
        numbers = np.frombuffer(copied_mask(copy, mask), ml_dtypes.bfloat16).reshape(copy.shape)
        total = numbers.astype(np.float64).sum(axis=4).reshape(*copy.shape[1:3], -1)[..., :70]
        total = total[:, :40] if copy.per_query else total[:, :1]
        hidden = ~seen | (mask <= mask.dtype.type(-1e9))
        weights, expected = (softmax(np.where(hidden, -np.inf, x.astype(np.float64))) for x in (total, mask))
        errors = np.abs(weights - expected).sum(axis=-1)
        assert errors.max() <= most, f"seed {seed}: {errors.max():.1e}"


def softmax(scores: np.ndarray) -> np.ndarray:
    """Rows that see nothing are 0."""
    most = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isfinite(most), most, 0))
    return np.asarray(weights / np.maximum(weights.sum(axis=-1, keepdims=True), 1e-300))


@pytest.mark.parametrize(
    "heads,rows,causal", [(1, 40, False), (1, 40, True), (4, 40, True), (1, 1, True), (4, 1, True)]
)
def test_rows_of_any_offset_are_as_exact_as_without(heads: int, rows: int, causal: bool) -> None:
    random = np.random.default_rng(SEED)
    q = random.standard_normal((1, heads, 40, 32)).astype(ml_dtypes.bfloat16)
    k, v = random.standard_normal((2, 1, 1, 40, 32)).astype(ml_dtypes.bfloat16)
    mask = random.standard_normal((rows, 40)).astype(np.float32)
    if rows == 1:  # what each query sees is far below what those see that come later
        mask += np.float32(8000.0) * (np.arange(40) // 8).astype(np.float32)
    else:
        mask += np.resize(OFFSETS, (40, 1)).astype(np.float32)
        mask += np.where(np.triu(np.ones((40, 40), bool), 1) & causal, np.float32(2e4), np.float32(0))
    grouped = {"enable_gqa": True} if heads > 1 else {}
    out = npuc.attention(q, k, v, mask, causal=causal, backend="emulator", fallback=(), **grouped).astype(np.float64)
    limits = np.where(np.tri(40, dtype=bool) | (not causal), mask, -np.inf)
    expected = attended(q, k, v, limits)
    assert np.abs(out - expected).sum() <= 5e-3 * np.abs(expected).sum()


def test_a_row_that_all_queries_share_is_copied_for_each_only_where_limits_tell_them_apart() -> None:
    sizes = dict(heads=2, query_length=40, key_length=70, head_dim=32, mask="add", dtype="f32")
    whole, causal = (
        make_plan(Attention.make(causal=limited, **sizes), Options(columns=1))  # type: ignore[arg-type]
        for limited in (False, True)
    )
    slopes = np.float32(1 / 3) * np.arange(70, dtype=np.float32)
    padding = np.where(np.arange(70) < 30, np.float32(-1e4), np.float32(0))
    for mask, apart in ((slopes, False), (500 * slopes, True), (padding, False), (padding + slopes, True)):
        assert not wants_rows_apart(mask_copy(whole, whole.call, mask.shape), mask)
        assert wants_rows_apart(mask_copy(causal, causal.call, mask.shape), mask) == apart


def test_a_mask_whose_copy_no_argument_holds_is_not_supported() -> None:
    work = Work(Call(64, 64, 64, 8192, 8192, 1.0), 256, 32, 1)
    copy = MaskCopy(64, 64, 8192, 256, 1, 32, 8192, per_query=True, by_rows=False, work=work)
    with pytest.raises(npuc.UnsupportedError, match="549,755,813,888 bytes.*4,294,967,296.*heads or batch share"):
        copied_mask(copy, np.zeros((1, 1, 1, 1), bool))
