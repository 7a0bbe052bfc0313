"""Arrays of any strides that descriptors can follow are read where they lie, and nothing beside them is touched."""

from __future__ import annotations

from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

import npuc
from npuc.compiler.frontend.attention import Attention
from npuc.runtime import strides
from npuc.runtime.arguments import to_buffer
from npuc.runtime.executable import Executable

BF16 = ml_dtypes.bfloat16
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 32


@pytest.fixture(scope="module")
def loaded() -> Iterator[Executable]:
    lengths = dict(batch=None, query_length=None, key_length=None)
    attention = Attention.make(heads=HEADS, kv_heads=KV_HEADS, head_dim=HEAD_DIM, **lengths)  # type: ignore[arg-type]
    with npuc.load(npuc.compile(attention), backend="emulator", fallback=(), strict=True) as executable:
        yield executable


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the arguments that are copied."""
    names: list[str] = []
    monkeypatch.setattr(strides, "to_buffer", lambda a, array: (names.append(a.name), to_buffer(a, array))[1])
    return names


def poisoned(*shape: int) -> np.ndarray:
    return np.full(shape, np.nan, BF16)


def random(seed: int, *shape: int) -> np.ndarray:
    print("seed", seed)
    return np.random.default_rng(seed).standard_normal(shape).astype(BF16)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """float64."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, HEADS // KV_HEADS, axis=1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(HEAD_DIM)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    result: np.ndarray = (weights / weights.sum(axis=-1, keepdims=True)) @ v
    return result


def check(loaded: Executable, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> None:
    result, expected = loaded(q, k, v).astype(np.float64), attended(q, k, v)
    assert np.abs(result - expected).sum() <= 1e-2 * np.abs(expected).sum()


def test_heads_behind_rows_are_read_without_a_copy(loaded: Executable, copies: list[str]) -> None:
    """[B, S, H, D], seen as [B, H, S, D]."""
    q, k, v = (random(1, 2, n, h, HEAD_DIM).swapaxes(1, 2) for n, h in ((40, HEADS), (50, KV_HEADS), (50, KV_HEADS)))
    check(loaded, q, k, v)
    assert not copies


def test_the_filled_part_of_a_cache_is_read_without_a_copy_and_the_rest_is_not(
    loaded: Executable, copies: list[str]
) -> None:
    """K and V in one cache of 128 rows, of which 70 are filled; what lies between and behind is NaN."""
    cache = poisoned(2, 128, 2, KV_HEADS, HEAD_DIM)
    cache[:, :70] = random(2, 2, 70, 2, KV_HEADS, HEAD_DIM)
    k, v = (cache[:, :70, part].swapaxes(1, 2) for part in range(2))
    before = cache.tobytes()
    check(loaded, random(3, 2, HEADS, 5, HEAD_DIM), k, v)
    assert not copies and cache.tobytes() == before


def test_rows_and_heads_with_something_between_them_are_read_without_a_copy(
    loaded: Executable, copies: list[str]
) -> None:
    wide = poisoned(1, HEADS + 1, 43, HEAD_DIM + 2)
    wide[:, :HEADS, :41, :HEAD_DIM] = random(4, 1, HEADS, 41, HEAD_DIM)
    k, v = random(5, 2, 1, KV_HEADS, 33, HEAD_DIM)
    check(loaded, wide[:, :HEADS, :41, :HEAD_DIM], k, v)
    assert not copies


def test_heads_that_are_one_in_memory_are_read_without_a_copy(loaded: Executable, copies: list[str]) -> None:
    k, v = (np.broadcast_to(random(seed, 2, 1, 40, HEAD_DIM), (2, KV_HEADS, 40, HEAD_DIM)) for seed in (6, 7))
    check(loaded, random(8, 2, HEADS, 20, HEAD_DIM), k, v)
    assert not copies


def test_other_strides_are_copied_and_right(loaded: Executable, copies: list[str]) -> None:
    """Rows an odd number of elements apart; backwards; elements apart."""
    q = poisoned(1, HEADS, 40, HEAD_DIM + 1)
    q[..., :HEAD_DIM] = random(9, 1, HEADS, 40, HEAD_DIM)
    k = random(10, 1, KV_HEADS, 40, HEAD_DIM)[:, :, ::-1]
    v = random(11, 1, KV_HEADS, 40, 2 * HEAD_DIM)[..., ::2]
    check(loaded, q[..., :HEAD_DIM], k, v)
    assert copies == ["q", "k", "v"]


def test_read_only_arrays_are_taken(loaded: Executable) -> None:
    arrays = [random(seed, 1, heads, 33, HEAD_DIM) for seed, heads in ((12, HEADS), (13, KV_HEADS), (14, KV_HEADS))]
    for array in arrays:
        array.setflags(write=False)
    check(loaded, *arrays)
