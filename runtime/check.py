"""What a recognised attention computes, which rows it leaves without keys, and the work it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.masks import HIDES
from npuc.runtime import reference
from npuc.runtime.reference import Visibility

INTEGER_SCALE = 1.0 / 32.0  # what an integer of q, k and v stands for where the source does not say


def expected(attention: Attention, arrays: Mapping[str, np.ndarray], dtype: Any = np.float64) -> np.ndarray:
    """The reference result, shaped as the output, from device arrays by argument name."""
    heads, groups = np.arange(attention.heads), np.arange(attention.kv_heads)
    q, k, v = (
        real(attention, role, arrays[attention.argument(role).name].reshape(attention.closed_shape(role)), which)
        for role, which in (("q", heads), ("k", groups), ("v", groups))
    )
    mask = None if attention.mask is None else arrays[attention.argument("mask").name]
    result = reference.attention(q, k, v, mask, **_rules(attention), dtype=dtype)
    return _stored(attention, result, heads).reshape(attention.argument("out").shape)


def expected_rows(
    attention: Attention, arrays: Mapping[str, np.ndarray], batch: int, head: int, rows: np.ndarray
) -> np.ndarray:
    """Some rows of one head of `expected`, [rows, D] in float64."""
    kv = head // (attention.heads // attention.kv_heads)
    q, k, v = (
        head_values(attention, arrays, role, batch, number)[None, None]
        for role, number in (("q", head), ("k", kv), ("v", kv))
    )
    mask = mask_rows(attention, arrays, batch, head, rows)
    rules = {**_rules(attention), "positions": rows, "query_length": attention.lengths.query}
    result = reference.attention(q[:, :, rows], k, v, None if mask is None else mask[None, None], **rules)
    return _stored(attention, result, np.array([head]))[0, 0]


def _rules(attention: Attention) -> dict[str, Any]:
    return {name: getattr(attention, name) for name in ("scale", "causal", "window", "softcap", "align")}


def head_values(attention: Attention, arrays: Mapping[str, np.ndarray], role: str, batch: int, head: int) -> np.ndarray:
    """What the numbers of one head of q, k or v stand for, [S, D] in float64."""
    whole = arrays[attention.argument(role).name].reshape(attention.closed_shape(role))
    one = whole[batch : batch + 1, head : head + 1]
    return real(attention, role, one, np.array([head]))[0, 0].astype(np.float64)


def real(attention: Attention, role: str, array: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """What the numbers of q, k or v [B, heads, S, D] stand for: integers for multiples of their scale."""
    if array.dtype != np.int8:
        return array
    return array.astype(np.float64) * _factors(getattr(attention, f"{role}_scale") or (INTEGER_SCALE,), heads)


def _factors(scales: tuple[float, ...], heads: np.ndarray) -> np.ndarray:
    """Scales of heads, one for all or one each, against [B, heads, S, D]."""
    return np.asarray(scales)[heads if len(scales) > 1 else np.zeros_like(heads)][None, :, None, None]


def _stored(attention: Attention, result: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """The result [B, heads, S, D] as the output holds it."""
    if attention.argument("out").dtype != "i8":
        return result
    if attention.o_scale is None:
        problem = "the result has integers, but o_scale does not say what they stand for"
        raise InputError(f"attention @{attention.function}: {problem}", place=attention.place)
    return np.clip(np.rint(result / _factors(attention.o_scale, heads)), -128, 127)


def mask_rows(
    attention: Attention, arrays: Mapping[str, np.ndarray], batch: int, head: int, rows: np.ndarray
) -> np.ndarray | None:
    """The mask of some rows of one head, [rows, Skv]; None where there is none."""
    if attention.mask is None:
        return None
    sizes = attention.lengths
    mask = arrays[attention.argument("mask").name]
    return reference.broadcast_mask(mask, (sizes.batch, attention.heads, sizes.query, sizes.key))[batch, head, rows]


def hides(mask: np.ndarray) -> np.ndarray:
    """Which values of an added mask hide their key."""
    with np.errstate(over="ignore"):
        return np.asarray(mask <= mask.dtype.type(HIDES))


def hidden_rows(
    attention: Attention, arrays: Mapping[str, np.ndarray], batch: int, head: int, rows: np.ndarray
) -> np.ndarray:
    """Which rows of one head see no key: limits, a boolean mask, or an added mask of at most -1e9 hides them all."""
    low, high = visibility(attention).limits_at(rows)
    mask = mask_rows(attention, arrays, batch, head, rows)
    if mask is None:
        return np.asarray(low >= high)
    key = np.arange(attention.lengths.key)
    seen = (key >= low[:, None]) & (key < high[:, None])
    seen &= mask if attention.mask == "keep" else ~hides(mask)
    return np.logical_not(np.any(seen, axis=1))


def visibility(attention: Attention) -> Visibility:
    """The causal and window limits of an attention."""
    lengths = attention.lengths
    return Visibility(lengths.query, lengths.key, attention.causal, attention.window, attention.align)


def multiply_accumulates(attention: Attention, arrays: Mapping[str, np.ndarray]) -> int:
    """Multiply-accumulates of QK^T and PV that causal, window and a boolean mask leave."""
    limits = visibility(attention)
    if attention.mask != "keep":
        pairs = attention.lengths.batch * attention.heads * limits.pairs()
    else:
        batch, queries, keys = attention.lengths
        shape = (batch, attention.heads, queries, keys)
        keep = reference.broadcast_mask(arrays[attention.argument("mask").name], shape)
        pairs = sum(limits.pairs(keep[b, h]) for b in range(batch) for h in range(attention.heads))
    return 2 * pairs * attention.head_dim
