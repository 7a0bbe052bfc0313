"""PyTorch's tensors to npuc's kernels and back, and PyTorch's own operation for what kernels do not take."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from npuc.compiler.diagnostics import BackendError, InputError, UnsupportedError
from npuc.runtime import dlpack, on_demand
from npuc.runtime.choices import AlignName, BackendName
from npuc.runtime.frameworks.limits import hides_a_row_by_numbers, limits_of
from npuc.runtime.frameworks.served import note
from npuc.runtime.notices import say_once
from npuc.runtime.statistics import RunReport

DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class Rules:
    """What an attention computes beside its tensors: PyTorch's names, and npuc's."""

    is_causal: bool = False
    scale: float | None = None
    enable_gqa: bool = False
    window: int | None = None
    softcap: float | None = None
    align: str = "top-left"


def why_not(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float = 0.0) -> str | None:
    """What of tensors, values unseen, makes an attention PyTorch's; None where npuc may serve it."""
    tensors = [query, key, value, *([] if mask is None else [mask])]
    if dropout != 0.0:
        return "dropout"
    if not all(isinstance(tensor, Tensor) for tensor in tensors):
        return "an argument is no tensor"
    for tensor in tensors:
        if tensor.device.type != "cpu":
            return f"tensors lie on {tensor.device.type}"
        if tensor.layout != torch.strided:
            return f"tensors are {tensor.layout}"
    if not torch.compiler.is_compiling() and any(map(_is_transformed, tensors)):
        return "tensors are those of a transformation of torch.func other than vmap"
    if query.dtype not in DTYPES or {key.dtype, value.dtype} != {query.dtype}:
        return f"tensors are {', '.join(str(tensor.dtype).removeprefix('torch.') for tensor in (query, key, value))}"
    if not 2 <= query.dim() <= 4:
        return f"tensors have {query.dim()} dimensions"
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors):
        return "gradients are needed (torch.no_grad() does without)"
    return None


def _is_transformed(tensor: Tensor) -> bool:
    functorch = torch._C._functorch
    while functorch.is_batchedtensor(tensor):
        tensor = functorch.get_unwrapped(tensor)
    return bool(functorch.is_functorch_wrapped_tensor(tensor))


def on_npuc(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules, backend: str
) -> tuple[Tensor, RunReport]:
    """The attention by npuc, tensors read where they lie where strides allow.

    Raises UnsupportedError and BackendError where PyTorch must serve it, InputError, UsageError.
    """
    q, k, v = (dlpack.as_numpy(n, t.detach()) for n, t in (("query", query), ("key", key), ("value", value)))
    limits: dict[str, Any] = {"causal": rules.is_causal, "window": rules.window, "align": rules.align}
    added = None if mask is None else dlpack.as_numpy("attn_mask", mask.detach())
    if added is not None:
        if hides_a_row_by_numbers(added):
            raise UnsupportedError("a row of the mask hides every key by finite numbers")
        found = _limits_of(added, q, k) if not (rules.is_causal or rules.window) else None
        if found is not None:
            k, v = (array[..., found.first : found.end, :] for array in (k, v))
            limits = {"causal": found.causal, "window": found.window, "align": "bottom-right"}
            added = None
    result = on_demand.attention(
        q,
        k,
        v,
        added,
        causal=limits["causal"],
        window=limits["window"],
        align=cast("AlignName", limits["align"]),
        scale=rules.scale,
        softcap=rules.softcap,
        enable_gqa=rules.enable_gqa,
        backend=cast("BackendName", backend),
        fallback=(),
    )
    return dlpack.like(query, result), on_demand.last_stats()


def _limits_of(mask: np.ndarray, q: np.ndarray, k: np.ndarray) -> Any:
    queries, keys = q.shape[-2], k.shape[-2]
    rows, columns = ((1, 1) + mask.shape)[-2:]
    if rows not in (1, queries) or columns not in (1, keys) or mask.ndim > 4:
        return None  # npuc.attention says what is wrong
    return limits_of(mask, queries, keys)


def serve(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules, backend: str, layer: str
) -> Tensor:
    """The attention by npuc, or by PyTorch where npuc cannot, with the reason logged once and in the statistics.

    Row-major, new memory. Raises InputError, UsageError.
    """
    with torch.no_grad():  # a gradient is refused where one is asked for
        reason = why_not(query, key, value, mask)
    if reason is None:
        try:
            result, report = on_npuc(query, key, value, mask, rules, backend)
            note(layer, report)
            return result
        except (UnsupportedError, BackendError) as error:
            reason = error.message
    begin = time.perf_counter()
    result = torchs_own(query, key, value, mask, rules)
    note_torch(layer, reason, time.perf_counter() - begin)
    return result


def note_torch(layer: str, reason: str, seconds: float) -> None:
    """PyTorch served a call: for who collects, for `npuc.last_stats()`, and once for the log."""
    report = RunReport("torch", emulated=False, seconds=seconds)
    on_demand.remember(report)
    note(layer, report, reason)
    say_once(f"npuc cannot serve an attention: {reason}; PyTorch computes it", f"torch: {reason}")


def torchs_own(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules) -> Tensor:
    """The same attention by PyTorch's operations; a query that sees no key gives zeros, as everywhere."""
    plain = rules.window is None and rules.softcap is None
    top_left = rules.align == "top-left" or query.shape[-2] == key.shape[-2]
    own = torch.nn.functional.scaled_dot_product_attention
    if plain and (not rules.is_causal or (mask is None and top_left)):
        result = own(query, key, value, mask, is_causal=rules.is_causal, scale=rules.scale, enable_gqa=rules.enable_gqa)
        return result.contiguous()
    bias = _bias(query, key, mask, rules)
    if rules.softcap is None:
        result = own(query, key, value, bias, scale=rules.scale, enable_gqa=rules.enable_gqa)
        return result.contiguous()
    return _with_softcap(query, key, value, bias, rules)


def _bias(query: Tensor, key: Tensor, mask: Tensor | None, rules: Rules) -> Tensor:
    """Mask and limits as one mask, of numbers to add where the mask is, else boolean."""
    queries, keys = query.shape[-2], key.shape[-2]
    shift = keys - queries if rules.align == "bottom-right" else 0
    ahead = torch.arange(keys, device=query.device) - torch.arange(queries, device=query.device)[:, None] - shift
    keep = torch.ones_like(ahead, dtype=torch.bool)
    if rules.is_causal or rules.window is not None:
        keep = ahead <= 0
    if rules.window is not None:
        keep = keep & (ahead > -rules.window)
    if mask is None:
        return keep
    return mask & keep if mask.dtype == torch.bool else mask.masked_fill(~keep, -torch.inf)


def _with_softcap(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, rules: Rules) -> Tensor:
    """In float32 at least, as PyTorch's own kernels sum."""
    wide = torch.float64 if query.dtype == torch.float64 else torch.float32
    q, k, v = (tensor.to(wide) for tensor in (query, key, value))
    if rules.enable_gqa and q.dim() > 2:
        k, v = (tensor.repeat_interleave(q.shape[-3] // tensor.shape[-3], dim=-3) for tensor in (k, v))
    assert rules.softcap is not None
    scale = q.shape[-1] ** -0.5 if rules.scale is None else rules.scale
    scores = rules.softcap * torch.tanh(q @ k.transpose(-1, -2) * scale / rules.softcap)
    scores = scores.masked_fill(~bias, -torch.inf) if bias.dtype == torch.bool else scores + bias
    weights = torch.softmax(scores, dim=-1).masked_fill((scores == -torch.inf).all(-1, keepdim=True), 0.0)
    return (weights @ v).to(query.dtype).contiguous()


def require_attention(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raises InputError where the tensors' shapes are not those of one attention."""
    q, k, v = (tuple(tensor.shape) for tensor in (query, key, value))
    if not (2 <= len(q) <= 4 and on_demand.belong_together(q, k, v)):
        raise InputError(f"query {list(q)}, key {list(k)} and value {list(v)} do not belong together")
