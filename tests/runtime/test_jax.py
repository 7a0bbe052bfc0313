"""npuc.jax: attention inside jit and vmap, against JAX's own."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npuc

jax = pytest.importorskip("jax", reason="JAX is not installed (npuc[jax])")

import npuc.jax  # noqa: E402
from npuc.runtime import on_demand  # noqa: E402

jnp = jax.numpy

REPOSITORY = Path(__file__).resolve().parent.parent.parent


def draw(seed: int, *leading: int, s: int = 6, keys: int = 9, groups: int | None = None, dtype: Any = None) -> Any:
    r = np.random.default_rng(seed)
    shared = leading if groups is None else (*leading[:-1], groups)
    shapes = (*leading, s, 16), (*shared, keys, 16), (*shared, keys, 16)
    return [jnp.asarray(r.standard_normal(shape), dtype or jnp.float32) for shape in shapes]


def own(q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False) -> np.ndarray:
    """By jax.nn, which has [B, S, H, D]."""
    q, k, v = (jnp.asarray(x, jnp.float32).reshape((1,) * (4 - x.ndim) + x.shape) for x in (q, k, v))
    whole = None if mask is None else jnp.broadcast_to(mask, (*q.shape[:3], k.shape[2]))
    turned = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
    return np.asarray(jax.nn.dot_product_attention(*turned, mask=whole, is_causal=causal).transpose(0, 2, 1, 3))


def close(ours: Any, theirs: np.ndarray, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(ours, np.float64), theirs.reshape(ours.shape), atol=atol)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["f32", "bf16"])
@pytest.mark.parametrize("leading", [(), (3,), (2, 4)], ids=str)
@pytest.mark.parametrize("compiled", [False, True])
def test_it_computes_what_jax_does(seed, leading, dtype, compiled):
    q, k, v = draw(seed, *leading, groups=leading[-1] // 2 if len(leading) == 2 else None, dtype=dtype)
    call = lambda *x: npuc.jax.attention(*x, causal=True, backend="reference")  # noqa: E731
    ours = (jax.jit(call) if compiled else call)(q, k, v)
    assert isinstance(ours, jax.Array) and ours.dtype == dtype and ours.shape == q.shape
    close(ours, own(q, k, v, causal=True), 1e-5 if dtype == jnp.float32 else 2e-2)


def test_the_emulator_serves_a_compiled_function(seed):
    q, k, v = draw(seed, 1, 2, dtype=jnp.bfloat16)
    ours = jax.jit(lambda *x: npuc.jax.attention(*x, backend="emulator", fallback=()) * 2)(q, k, v)
    close(ours, 2 * own(q, k, v), 4e-2)


@pytest.mark.parametrize("rank", [2, 3, 4])
@pytest.mark.parametrize("masked", [None, "each", "shared"])
def test_vmap_is_one_call(seed, rank, masked, monkeypatch):
    leading = (2, 4)[4 - rank :]
    (q, _, _), (_, k, v) = draw(seed, 3, *leading), draw(seed + 1, *leading)
    v = jnp.stack([v, -v, 2 * v], axis=1)
    mask = np.random.default_rng(seed).random((3, 6, 9) if masked == "each" else (6, 9)) < 0.7
    calls: list[int] = []
    real = on_demand.attention
    monkeypatch.setattr(on_demand, "attention", lambda *a, **n: (calls.append(1), real(*a, **n))[1])

    def one(*arrays: Any) -> Any:
        return npuc.jax.attention(*arrays, backend="reference")

    arrays = (q, k, v) if masked is None else (q, k, v, jnp.asarray(mask))
    axes = (0, None, 1) if masked is None else (0, None, 1, 0 if masked == "each" else None)
    ours = jax.jit(jax.vmap(one, in_axes=axes))(*arrays)
    ours.block_until_ready()
    assert len(calls) == 1
    for i in range(3):
        here = None if masked is None else mask[i] if masked == "each" else mask
        close(ours[i], own(q[i], k, v[:, i], here))


def test_two_vmaps(seed):
    q, k, v = draw(seed, 2, 3, 1, 2)
    both = jax.vmap(jax.vmap(lambda *x: npuc.jax.attention(*x, backend="reference"), in_axes=(0, None, 0)))
    ours = both(q, k[:, 0], v)
    for i in range(2):
        for j in range(3):
            close(ours[i, j], own(q[i, j], k[i, 0], v[i, j]))


def test_derivatives_and_wrong_shapes_are_refused_with_the_reason(seed):
    q, k, v = draw(seed, 1, 2)
    with pytest.raises(npuc.UnsupportedError, match="has no derivative: kernels compute inference only"):
        jax.grad(lambda x: npuc.jax.attention(x, k, v, backend="reference").sum())(q)
    with pytest.raises(npuc.InputError, match="do not belong together"):
        jax.jit(lambda *x: npuc.jax.attention(*x, backend="reference"))(q, k[..., :8], v)


def test_arrays_of_some_megabytes_leave_a_compiled_program_too(seed):
    q, k, v = draw(seed, 2, 8, s=512, keys=512)
    ours = jax.jit(lambda *x: npuc.jax.attention(*(y + 0.0 for y in x), backend="reference").sum(axis=-1))(q, k, v)
    close(ours, own(q, k, v).sum(axis=-1), 1e-3)


def test_the_example_agrees(capsys):
    spec = importlib.util.spec_from_file_location("jax_attention", REPOSITORY / "examples" / "jax_attention.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    assert example.main("emulator") == 0
    assert capsys.readouterr().out.startswith("largest difference")
