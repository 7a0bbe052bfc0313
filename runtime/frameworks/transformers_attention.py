"""npuc as an attention implementation of transformers, chosen by name as "sdpa" and "eager" are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from npuc.compiler.diagnostics import UnsupportedError
from npuc.runtime.choices import BackendName
from npuc.runtime.frameworks.torch_attention import Rules, note_torch, torchs_own, why_not
from npuc.runtime.frameworks.torch_operation import sdpa

NAME = "npuc"


def register(name: str = NAME, backend: BackendName = "auto") -> None:
    """Make `attn_implementation=name` of transformers' models npuc's attention on a backend.

    Its masks are those of "sdpa": of values, and boolean, so that those which are limits are recognised.
    """
    AttentionInterface.register(name, _forward_on(backend))
    AttentionMaskInterface.register(name, sdpa_mask)


def _forward_on(backend: BackendName) -> Callable[..., tuple[Tensor, None]]:
    def forward(
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        softcap: float | None = None,
        position_bias: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, None]:
        """[B, H, S, D] and [B, Hkv, Skv, D] -> [B, S, H, D], and no weights.

        softcap (Gemma 2) and position_bias (T5) are computed. Raises UnsupportedError for attention sinks.
        """
        if others.get("s_aux") is not None:
            raise UnsupportedError("attention sinks are not supported", remedy='use attn_implementation="eager"')
        if dropout:
            note_torch(_layer(module), "dropout", 0.0)
            more = {"is_causal": is_causal, "softcap": softcap, "position_bias": position_bias}
            return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **more, **others)
        queries, keys = query.shape[2], key.shape[2]
        causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
        causal = bool(queries > 1 and attention_mask is None and causal)
        if causal and keys > queries:  # the first call of a static cache: what lies behind is not filled yet
            key, value = key[:, :, :queries], value[:, :, :queries]
            position_bias = None if position_bias is None else position_bias[..., :queries]
        if position_bias is not None:
            attention_mask, causal = _biased(position_bias, attention_mask, queries if causal else None), False
        if query.shape[0] != key.shape[0]:
            query = query.expand(key.shape[0], -1, -1, -1)
        rules = Rules(causal, scaling, query.shape[1] != key.shape[1], softcap=softcap)
        out = _served(query, key, value, attention_mask, rules, backend, _layer(module))
        return out.transpose(1, 2).contiguous(), None

    return forward


def _served(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules, backend: str, layer: str
) -> Tensor:
    reason = why_not(query, key, value, mask)
    if reason is None:
        return sdpa(
            query,
            key,
            value,
            mask,
            is_causal=rules.is_causal,
            scale=rules.scale,
            enable_gqa=rules.enable_gqa,
            softcap=rules.softcap,
            backend=backend,
            layer=layer,
        )
    if not torch.compiler.is_compiling():
        note_torch(layer, reason, 0.0)
    return torchs_own(query, key, value, mask, rules)


def _biased(bias: Tensor, mask: Tensor | None, causal_queries: int | None) -> Tensor:
    """The mask that a bias of positions, another mask and causality are together."""
    if causal_queries is not None:
        mask = torch.ones(causal_queries, bias.shape[-1], dtype=torch.bool, device=bias.device).tril()
    if mask is None:
        return bias
    return torch.where(mask, bias, -torch.inf) if mask.dtype == torch.bool else bias + mask


def _layer(module: torch.nn.Module) -> str:
    """Statistics' name of a layer: its class, and its number where it has one."""
    number = getattr(module, "layer_idx", None)
    return type(module).__name__ if number is None else f"{type(module).__name__} {number}"
