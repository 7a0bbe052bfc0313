"""`npuc.attention`: compiled on demand, one loaded kernel per shape class."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from npuc.compiler.attn_text import sdpa_module, tensor_type
from npuc.compiler.diagnostics import InputError
from npuc.runtime import executor
from npuc.runtime.arguments import BFLOAT16, INTERFACE_DTYPES
from npuc.runtime.backends import reference

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
    compiled on the first call of a shape class and kept. A kernel that npu1 cannot take is served by the reference
    with a logged reason where `fallback` names it, else InputError is raised. Raises InputError on arrays that do not
    belong together, BackendError.
    """
    arrays = [_as_interface(name, x) for name, x in (("q", q), ("k", k), ("v", v), ("mask", mask)) if x is not None]
    reference.check_shapes(*arrays[:3])
    rules = {"causal": causal or None, "scale": None if scale is None else float(scale), "window": window}
    rules |= {"softcap": None if softcap is None else float(softcap)}
    rules |= {"align": None if align == "top-left" else align}
    names = ("q", "k", "v", "mask")[: len(arrays)]
    types = [tensor_type(x.shape, MLIR_DTYPES[x.dtype]) for x in arrays]
    source = sdpa_module(
        "attention",
        list(zip(names, types, strict=True)),
        names,
        tensor_type((*arrays[0].shape[:3], arrays[2].shape[3]), MLIR_DTYPES[arrays[0].dtype]),
        rules,
    )
    try:
        kernel = _loaded(source, backend, tuple(fallback))
    except InputError as error:
        if "reference" not in fallback:
            raise
        logger.warning("npu1 cannot take this attention: %s; falling back to reference", error)
        result = reference.attention(
            *arrays, scale=scale, causal=causal, window=window, softcap=softcap, align=align, dtype=np.float32
        )
        return result.astype(arrays[0].dtype)
    return kernel(*arrays)


@functools.lru_cache(maxsize=KEPT)
def _loaded(source: str, backend: str, fallback: tuple[str, ...]) -> executor.Executable:
    return executor.compile(source).load(backend=backend, fallback=fallback)


def _as_interface(name: str, value: Any) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype not in MLIR_DTYPES or (array.dtype == np.bool_ and name != "mask"):
        expected = ", ".join(str(d) for d in (BFLOAT16, np.dtype(np.float16), np.dtype(np.float32)))
        raise InputError(f"{name} is {array.dtype}, expected {expected}{' or bool' if name == 'mask' else ''}")
    return array
