"""`npuc.attention`: compiled on demand, one loaded kernel per shape class."""

from __future__ import annotations

import functools
import operator
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np

from npuc.compiler.diagnostics import InputError, UsageError
from npuc.compiler.frontend.attention import Argument, Attention, Sizes, default_scale
from npuc.runtime import dlpack, executor
from npuc.runtime.arguments import BFLOAT16, INTERFACE_DTYPES, to_interface
from npuc.runtime.choices import AlignName, BackendName, FallbackName
from npuc.runtime.statistics import RunReport

# Loaded kernels kept; an emulated array holds a few megabytes.
KEPT = 8
MLIR_DTYPES = {dtype: name for name, dtype in INTERFACE_DTYPES.items() if name != "i8"}
RANKS = {2: "[length, head size]", 3: "[heads, length, head size]", 4: "[batch, heads, length, head size]"}

_here = threading.local()


@overload
def attention(
    q: np.ndarray,
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
    fallback: Sequence[FallbackName] = executor.DEFAULT_FALLBACK,
    attn_mask: Any = None,
    is_causal: bool = False,
    enable_gqa: bool | None = None,
    dropout_p: float = 0.0,
) -> np.ndarray: ...


@overload
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
    fallback: Sequence[FallbackName] = executor.DEFAULT_FALLBACK,
    attn_mask: Any = None,
    is_causal: bool = False,
    enable_gqa: bool | None = None,
    dropout_p: float = 0.0,
) -> Any: ...


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
    fallback: Sequence[FallbackName] = executor.DEFAULT_FALLBACK,
    attn_mask: Any = None,
    is_causal: bool = False,
    enable_gqa: bool | None = None,
    dropout_p: float = 0.0,
) -> Any:
    """softmax(scale q k^T) v for q [B, H, S, D] and k, v [B, Hkv, Skv, D] -> [B, H, S, D] in q's float type.

    Leading dimensions may be left out, [H, S, D] or [S, D], of all three alike. Arrays are numpy's (ml_dtypes bfloat16
    too) or another library's that gives them out by DLPack, on the CPU; the result is of q's kind. float64 is taken as
    float32. mask: bool (true = keep) or float (added), of any shape that broadcasts to [B, H, S, Skv].
    attn_mask, is_causal, enable_gqa (False: refuse fewer heads of k and v than of q) and dropout_p (0 only) are
    PyTorch's names.

    The kernel is compiled on the first call of a shape class (heads, head size, element types) and kept for calls of
    all lengths. What kernels do not support is served by `fallback` with a logged reason, or raises UnsupportedError.
    `last_stats` tells what served the call. Raises InputError on arrays or values that do not belong together,
    TypeError on values of another kind, UsageError, BackendError.
    """
    if mask is not None and attn_mask is not None:
        raise UsageError("mask and attn_mask are two names of one argument")
    masked = mask if mask is not None else attn_mask
    values = {"q": q, "k": k, "v": v, **({} if masked is None else {"mask": masked})}
    arrays = {name: _as_interface(name, value) for name, value in values.items()}
    if _number("dropout_p", dropout_p) != 0:
        raise InputError(f"dropout_p is {dropout_p}", remedy="npuc computes inference, without dropout")
    description = _described(
        arrays,
        scale=None if scale is None else _number("scale", scale),
        causal=_flag("causal", causal) or _flag("is_causal", is_causal),
        window=None if window is None else _whole("window", window),
        softcap=None if softcap is None else _number("softcap", softcap),
        align=align,
    )
    width = arrays["v"].shape[-1]
    if enable_gqa is not None and not _flag("enable_gqa", enable_gqa) and description.heads != description.kv_heads:
        raise InputError(
            f"{description.heads} heads of q and {description.kv_heads} of k and v", remedy="give enable_gqa=True"
        )
    kernel = _loaded(_class_of(description), backend, fallback if isinstance(fallback, str) else tuple(fallback))
    call = kernel.call({name: _fitted(description, name, array) for name, array in arrays.items()}, description)
    remember(call.report)
    (output,) = kernel.kernel.outputs
    result = to_interface(output, call.outputs[output.name])
    return dlpack.like(q, result if width == description.head_dim else result[..., :width].copy())


def last_stats() -> RunReport:
    """What served this thread's last call of `attention`, and what it took. Raises UsageError before the first."""
    report: RunReport | None = getattr(_here, "report", None)
    if report is None:
        raise UsageError("npuc.attention was not called in this thread yet")
    return report


def remember(report: RunReport) -> None:
    """What `last_stats` gives in this thread from now on."""
    _here.report = report


@functools.lru_cache(maxsize=KEPT)
def _loaded(description: Attention, backend: BackendName, fallback: Sequence[FallbackName]) -> executor.Executable:
    return executor.load(description, backend=backend, fallback=fallback)


def _class_of(attention: Attention) -> Attention:
    """What a kernel is compiled for: lengths, limits of what queries see, scale and the softcap, but for its being very
    large, are parameters of its calls."""
    from npuc.passes.attention.image_class import usual_softcap

    arguments = tuple(replace(a, shape=_open_shape(a)) for a in attention.arguments)
    batch = None if len(attention.argument("q").shape) == 4 else 1
    sizes: dict[str, Any] = {"batch": batch, "query_length": None, "key_length": None}
    limits: dict[str, Any] = {"causal": False, "window": None, "align": "top-left", "scale": 1.0}
    limits["softcap"] = usual_softcap(attention)
    return replace(attention, arguments=arguments, **sizes, **limits)


def _open_shape(argument: Argument) -> Sizes:
    """An argument's shape with its batch and lengths open; a mask's sizes of 1 stay, they are broadcast."""
    lengths = (0, 2, 3) if argument.role == "mask" else (0, 2)
    places = enumerate(argument.shape, 4 - len(argument.shape))
    return tuple(
        None if place in lengths and not (argument.role == "mask" and size == 1) else size for place, size in places
    )


def belong_together(q: Sequence[int], k: Sequence[int], v: Sequence[int]) -> bool:
    """Whether shapes are those of one attention: they agree but for heads, the two lengths, and the width of v."""
    return len({len(q), len(k), len(v)}) == 1 and q[:-3] == k[:-3] and q[-1] == k[-1] and k[:-1] == v[:-1]


def _described(arrays: dict[str, np.ndarray], *, scale: float | None, **rules: Any) -> Attention:
    """The attention of these arrays; heads of different widths are padded to the wider ones (`_fitted`)."""
    q, k, v = (arrays[name].shape for name in ("q", "k", "v"))
    for name, shape in (("q", q), ("k", k), ("v", v)):
        if len(shape) not in RANKS:
            raise InputError(f"{name} has {len(shape)} dimensions", remedy=f"expected {' or '.join(RANKS.values())}")
    if not belong_together(q, k, v):
        raise InputError(f"q {list(q)}, k {list(k)} and v {list(v)} do not belong together")
    if 0 in (*q, *k, *v):
        raise InputError(f"q {list(q)}, k {list(k)} or v {list(v)} is empty")
    width = max(q[-1], v[-1])
    arguments = [
        Argument(
            name, MLIR_DTYPES[array.dtype], (*array.shape[:-1], width) if name != "mask" else array.shape or (1,), name
        )
        for name, array in arrays.items()
    ]
    kind = None if "mask" not in arrays else "keep" if arrays["mask"].dtype == np.bool_ else "add"
    _, heads, queries, size = (1,) * (4 - len(q)) + q
    batch, groups, keys, _ = (1,) * (4 - len(k)) + k
    return Attention(
        function="attention",
        arguments=(*arguments, Argument("o", arguments[0].dtype, (*q[:-1], width), "out")),
        batch=batch,
        heads=heads,
        kv_heads=groups,
        query_length=queries,
        key_length=keys,
        head_dim=width,
        scale=default_scale(size) if scale is None else scale,
        mask=kind,
        **rules,
    )


def _fitted(description: Attention, name: str, array: np.ndarray) -> np.ndarray:
    """An array in the description's shape: heads padded with zeros, which change no score and no other value."""
    if name == "mask":
        return array if array.ndim else array.reshape(1)
    missing = description.head_dim - array.shape[-1]
    return np.pad(array, [(0, 0)] * (array.ndim - 1) + [(0, missing)]) if missing else array


def _as_interface(name: str, value: Any) -> np.ndarray:
    array = dlpack.as_numpy(name, value) if dlpack.is_foreign(value) else np.asarray(value)
    if array.dtype == np.float64:
        with np.errstate(over="ignore"):
            array = array.astype(np.float32)
    if array.dtype not in MLIR_DTYPES or (array.dtype == np.bool_ and name != "mask"):
        expected = ", ".join(str(d) for d in (BFLOAT16, np.dtype(np.float16), np.dtype(np.float32)))
        raise InputError(f"{name} is {array.dtype}, expected {expected}{' or bool' if name == 'mask' else ''}")
    return array


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} is {value!r}, expected True or False")
    return bool(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, str | bytes | bool | np.bool_):
        raise TypeError(f"{name} is {value!r}, expected a number")
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} is {value!r}, expected a number") from error


def _whole(name: str, value: Any) -> int:
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}, expected a whole number") from None
