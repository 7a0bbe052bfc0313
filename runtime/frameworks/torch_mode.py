"""A context in which PyTorch's scaled_dot_product_attention is npuc's, where npuc can serve it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from npuc.compiler.diagnostics import BackendError, InputError, UnsupportedError
from npuc.runtime.choices import BackendName
from npuc.runtime.frameworks.served import Statistics, collect, note
from npuc.runtime.frameworks.torch_attention import Rules, note_torch, on_npuc, why_not
from npuc.runtime.frameworks.torch_multi_head import MULTI_HEAD, SDPA, no_fast_paths, served_by
from npuc.runtime.frameworks.torch_operation import sdpa


@contextlib.contextmanager
def on_npu(backend: BackendName = "auto") -> Iterator[Statistics]:
    """Inside the `with`, scaled_dot_product_attention of this thread runs on npuc's backend; gives the statistics.

    What npuc cannot serve (gradients, dropout, other devices and types, what kernels do not support) is PyTorch's own,
    with the reason in the statistics.
    """
    with collect() as statistics, no_fast_paths(), _Mode(backend):
        yield statistics


class _Mode(TorchFunctionMode):
    def __init__(self, backend: str) -> None:
        super().__init__()
        self._backend = backend

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is SDPA:
            return self._serve(*args, **kwargs)
        if func is MULTI_HEAD and not torch.compiler.is_compiling():
            with served_by(self._serve):
                return func(*args, **kwargs)
        return func(*args, **kwargs)

    def _serve(self, *args: Any, **kwargs: Any) -> Any:
        try:
            given = _given(*args, **kwargs)
        except TypeError:
            return SDPA(*args, **kwargs)  # which says what is wrong
        return (_traced if torch.compiler.is_compiling() else _called)(self._backend, *given)


def _given(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Any, Any, Any, Any, float, Rules]:
    """The arguments of SDPA, which is built in and tells no signature."""
    return query, key, value, attn_mask, dropout_p, Rules(is_causal, scale, enable_gqa)


def _called(
    backend: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, rules: Rules
) -> Tensor:
    reason = _why_not(query, key, value, mask, dropout, rules)
    if reason is None and any(map(_is_batched, (query, key, value, mask))):
        return sdpa(query, key, value, mask, rules.is_causal, rules.scale, rules.enable_gqa, backend=backend)
    if reason is None:
        try:
            result, report = on_npuc(query, key, value, mask, rules, backend)
            note("", report)
            return result
        except (UnsupportedError, BackendError, InputError) as error:
            reason = error.message
    begin = time.perf_counter()
    result = _own(query, key, value, mask, dropout, rules)
    note_torch("", reason, time.perf_counter() - begin)
    return result


def _traced(
    backend: str, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, rules: Rules
) -> Tensor:
    """In a function that is being compiled: as one operation, which compilers keep."""
    if _why_not(query, key, value, mask, dropout, rules) is not None:
        return _own(query, key, value, mask, dropout, rules)
    return sdpa(query, key, value, mask, rules.is_causal, rules.scale, rules.enable_gqa, backend=backend)


def _why_not(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, rules: Rules
) -> str | None:
    if rules.is_causal and mask is not None:
        return "is_causal beside a mask"
    return why_not(query, key, value, mask, dropout)


def _is_batched(tensor: Tensor | None) -> bool:
    """Whether it is one of many that torch.vmap computes together."""
    return tensor is not None and torch._C._functorch.is_batchedtensor(tensor)


def _own(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float, rules: Rules) -> Tensor:
    return SDPA(query, key, value, mask, dropout, rules.is_causal, scale=rules.scale, enable_gqa=rules.enable_gqa)
