"""JAX: attention as a call that leaves the compiled program, for jit and vmap."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import numpy as np

from npuc.compiler.diagnostics import InputError, UnsupportedError
from npuc.runtime import on_demand
from npuc.runtime.choices import AlignName, BackendName, FallbackName
from npuc.runtime.executor import DEFAULT_FALLBACK


def attention(
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    *,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    align: AlignName = "top-left",
    backend: BackendName = "auto",
    fallback: Sequence[FallbackName] = DEFAULT_FALLBACK,
) -> jax.Array:
    """`npuc.attention` of JAX's arrays, [B, H, S, D], [H, S, D] or [S, D], also inside jax.jit and jax.vmap.

    All but the arrays are known when a function is traced. Arrays are on the CPU when the call runs. Inference only:
    a derivative raises UnsupportedError, wrong shapes InputError when they are traced.
    """
    arrays = tuple(jax.numpy.asarray(array) for array in (q, k, v, *([] if mask is None else [mask])))
    rules = {"causal": causal, "scale": scale, "window": window, "softcap": softcap, "align": align}
    call = functools.partial(
        _called, ranks=tuple(a.ndim for a in arrays), backend=backend, fallback=tuple(fallback), **rules
    )
    return _underived(lambda *given: jax.pure_callback(call, _result(*given), *given, vmap_method="expand_dims"))(
        *arrays
    )


def _result(q: jax.Array, k: jax.Array, v: jax.Array, *_: jax.Array) -> jax.ShapeDtypeStruct:
    if not (2 <= q.ndim <= 4 and on_demand.belong_together(q.shape, k.shape, v.shape)):
        raise InputError(f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} do not belong together")
    return jax.ShapeDtypeStruct((*q.shape[:-1], v.shape[-1]), q.dtype)


def _called(*arrays: Any, ranks: tuple[int, ...], **named: Any) -> np.ndarray:
    """One call for all that vmap added in front, as one more batch."""
    held = [np.asarray(array) for array in arrays]
    added = held[0].ndim - ranks[0]
    if not added:
        return on_demand.attention(*held, **named)
    outer = np.broadcast_shapes(*(array.shape[:added] for array in held))
    batch = held[0].shape[added] if ranks[0] == 4 else 1
    folded = [_folded(array, added, outer, ranks[0], batch) for array in held]
    out = on_demand.attention(*folded, **named)
    return out.reshape(*outer, *held[0].shape[added:-1], out.shape[-1])


def _folded(array: np.ndarray, added: int, outer: tuple[int, ...], rank: int, batch: int) -> np.ndarray:
    """[B, H, S, D] of an array, or a mask of fewer dimensions than `rank`, with `added` more in front."""
    shape = (1,) * (4 - (array.ndim - added)) + array.shape[added:]
    whole = np.broadcast_to(array.reshape(*array.shape[:added], *shape), (*outer, batch, *shape[1:]))
    return whole.reshape(math.prod(outer) * batch, *shape[1:])


def _underived(function: Any) -> Any:
    """A function that says why it has no derivative."""
    derived = jax.custom_jvp(function)
    derived.defjvp(_no_derivative)
    return derived


def _no_derivative(primals: Any, tangents: Any) -> NoReturn:
    raise UnsupportedError(
        "npuc's attention has no derivative: kernels compute inference only",
        remedy="use jax.nn.dot_product_attention where gradients are needed",
    )
