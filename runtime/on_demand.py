"""`npuc.attention`: compiled on demand, one loaded kernel per shape class."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Argument, Attention, default_scale
from npuc.passes.attention.supported import check_supported
from npuc.runtime import executor, reference
from npuc.runtime.arguments import BFLOAT16, INTERFACE_DTYPES

logger = logging.getLogger("npuc")

# Loaded kernels kept; an emulated array holds a few megabytes.
KEPT = 8
MLIR_DTYPES = {dtype: name for name, dtype in INTERFACE_DTYPES.items() if name != "i8"}


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
    align: str = "top-left",
    backend: str = "auto",
    fallback: Sequence[str] = executor.DEFAULT_FALLBACK,
) -> np.ndarray:
    """softmax(scale q k^T) v for q [B, H, S, D] and k, v [B, Hkv, Skv, D] -> [B, H, S, D] in q's float type.

    float64 is taken as float32. mask: bool (true = keep) or float (added), broadcast to [B, H, S, Skv]. The kernel is
    compiled on the first call of a shape class (heads, head size, element type) and kept for calls of all lengths. A
    kernel that npu1 cannot take is served by the reference with a logged reason where `fallback` names it, else
    InputError is raised. Raises InputError on arrays that do not
    belong together, BackendError.
    """
    arrays = [_as_interface(name, x) for name, x in (("q", q), ("k", k), ("v", v), ("mask", mask)) if x is not None]
    reference.check_shapes(*arrays[:3])
    scale, softcap = (None if factor is None else float(factor) for factor in (scale, softcap))
    rules = (scale, bool(causal), window, softcap, align)
    try:
        call = _described(tuple((x.shape, MLIR_DTYPES[x.dtype]) for x in arrays), rules)
        check_supported(call)
        kernel = _loaded(_class_of(call), backend, tuple(fallback))
    except InputError as error:
        if "reference" not in fallback:
            raise
        logger.warning("npu1 cannot take this attention: %s; falling back to reference", error)
        result = reference.attention(
            *arrays, scale=scale, causal=causal, window=window, softcap=softcap, align=align, dtype=np.float32
        )
        return result.astype(arrays[0].dtype)
    return kernel.compute(call, *arrays)


@functools.lru_cache(maxsize=KEPT)
def _loaded(attention: Attention, backend: str, fallback: tuple[str, ...]) -> executor.Executable:
    return executor.compile(attention).load(backend=backend, fallback=fallback)


def _class_of(attention: Attention) -> Attention:
    """What a kernel is compiled for: lengths, limits of what queries see and scale are parameters of its calls."""
    open_sizes = {"q": (0, 2), "k": (0, 2), "v": (0, 2), "out": (0, 2), "mask": (0, 2, 3)}
    arguments = tuple(
        replace(a, shape=tuple(None if n in open_sizes[a.role] else size for n, size in enumerate(a.shape)))
        for a in attention.arguments
    )
    sizes: dict[str, Any] = {"batch": None, "query_length": None, "key_length": None}
    limits: dict[str, Any] = {"causal": False, "window": None, "align": "top-left", "scale": 1.0}
    return replace(attention, arguments=arguments, **sizes, **limits)


def _described(tensors: tuple[tuple[tuple[int, ...], str], ...], rules: tuple[Any, ...]) -> Attention:
    """tensors: shape and dtype of q, k, v and perhaps the mask; rules: scale, causal, window, softcap, align."""
    (q, q_dtype), (k, _), (v, _) = tensors[:3]
    if v[3] != q[3]:
        raise InputError(f"heads of V are {v[3]} wide, of Q {q[3]}", remedy="pad the narrower one with zeros")
    names = ("q", "k", "v", "mask")
    arguments = [Argument(name, dtype, shape, name) for name, (shape, dtype) in zip(names, tensors, strict=False)]
    mask = None if len(tensors) == 3 else "keep" if tensors[3][1] == "i1" else "add"
    scale, causal, window, softcap, align = rules
    return Attention(
        function="attention",
        arguments=(*arguments, Argument("o", q_dtype, q, "out")),
        batch=q[0],
        heads=q[1],
        kv_heads=k[1],
        query_length=q[2],
        key_length=k[2],
        head_dim=q[3],
        scale=default_scale(q[3]) if scale is None else scale,
        causal=causal,
        window=window,
        softcap=softcap,
        align=align,
        mask=mask,
    )


def _as_interface(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype not in MLIR_DTYPES or (array.dtype == np.bool_ and name != "mask"):
        expected = ", ".join(str(d) for d in (BFLOAT16, np.dtype(np.float16), np.dtype(np.float32)))
        raise InputError(f"{name} is {array.dtype}, expected {expected}{' or bool' if name == 'mask' else ''}")
    return array
