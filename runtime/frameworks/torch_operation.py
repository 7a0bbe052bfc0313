"""The custom operation `npuc::sdpa`: attention that compilers of PyTorch keep whole."""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch import Tensor

from npuc.compiler.diagnostics import UnsupportedError
from npuc.runtime.frameworks.torch_attention import Rules, require_attention, serve


@torch.library.custom_op("npuc::sdpa", mutates_args=())
def sdpa(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: int | None = None,
    softcap: float | None = None,
    align: str = "top-left",
    backend: str = "auto",
    layer: str = "",
) -> Tensor:
    """softmax(scale Q K^T) V of [B, H, S, D], [H, S, D] or [S, D], as torch.nn.functional.scaled_dot_product_attention.

    window, softcap, align and backend as npuc.attention has them. layer: the name under which statistics count it.
    What npuc cannot serve PyTorch computes, with the reason logged once and in the statistics. bf16, f16 and f32 are
    multiplied as bf16 with sums in f32. Raises InputError, UsageError.
    """
    require_attention(query, key, value)
    rules = Rules(is_causal, scale, enable_gqa, window, softcap, align)
    return serve(query, key, value, attn_mask, rules, backend, layer)


@sdpa.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> Tensor:
    require_attention(query, key, value)
    return query.new_empty((*query.shape[:-1], value.shape[-1]))


@sdpa.register_vmap
def _(
    info: Any, dims: tuple[int | None, ...], query: Tensor, key: Tensor, value: Tensor, *rest: Any, **named: Any
) -> Any:
    """One call for the whole of a new dimension, as heads of one more batch."""
    mask, rest = (rest[0], rest[1:]) if rest else (named.pop("attn_mask", None), ())
    rank = query.dim() - (dims[0] is not None)
    tensors = [_front(t, d, info.batch_size) for t, d in zip((query, key, value), dims, strict=False)]
    batch = tensors[0].shape[1] if rank == 4 else 1
    if mask is not None:
        front = mask[None] if len(dims) < 4 or dims[3] is None else mask.movedim(dims[3], 0)
        front = front.reshape(front.shape[0], *(1,) * (rank + 1 - front.dim()), *front.shape[1:])
        mask = _folded(front.expand(info.batch_size, batch, *front.shape[2:]) if rank == 4 else front)
    out = sdpa(*map(_folded, tensors), mask, *rest, **named)
    return (out.squeeze(1) if rank == 2 else out if rank == 3 else out.unflatten(0, (info.batch_size, batch))), 0


def _front(tensor: Tensor, dim: int | None, size: int) -> Tensor:
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


def _folded(tensor: Tensor) -> Tensor:
    """[B, H, S, D] of a tensor with one dimension more than an attention has."""
    return tensor.unsqueeze(1) if tensor.dim() == 3 else tensor if tensor.dim() == 4 else tensor.flatten(0, 1)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Nothing is kept, there is no gradient."""


def _backward(ctx: Any, gradient: Tensor) -> NoReturn:
    raise UnsupportedError(
        "npuc::sdpa has no gradient: kernels compute inference only, and keep nothing that a gradient needs",
        remedy="run it under torch.no_grad(), or train with PyTorch's scaled_dot_product_attention",
    )


sdpa.register_autograd(_backward, setup_context=_keep)
