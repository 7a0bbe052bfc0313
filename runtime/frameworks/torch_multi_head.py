"""torch.nn.MultiheadAttention inside `on_npu`: what keeps modes of torch functions from seeing its attention."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import torch

SDPA = torch.nn.functional.scaled_dot_product_attention
MULTI_HEAD = torch.nn.functional.multi_head_attention_forward

_turn = threading.Lock()
_fast_paths_before: list[bool] = []
_replacing = 0
_here = threading.local()


@contextlib.contextmanager
def no_fast_paths() -> Iterator[None]:
    """MultiheadAttention calls scaled_dot_product_attention only where its fast path is off, a switch of the process:
    the first to enter turns it, the last to leave turns it back."""
    with _turn:
        _fast_paths_before.append(torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        with _turn:
            users = _fast_paths_before[0]  # all others found the switch turned
            _fast_paths_before.pop()
            if not _fast_paths_before:
                torch.backends.mha.set_fastpath_enabled(users)


@contextlib.contextmanager
def served_by(serve: Callable[..., Any]) -> Iterator[None]:
    """Calls of scaled_dot_product_attention by torch.nn.functional itself, in this thread, go to `serve`: no mode is
    active while one handles multi_head_attention_forward, which calls it."""
    global _replacing
    before = getattr(_here, "serve", None)
    _here.serve = serve
    with _turn:
        _replacing += 1
        torch.nn.functional.scaled_dot_product_attention = _by_thread
    try:
        yield
    finally:
        _here.serve = before
        with _turn:
            _replacing -= 1
            if not _replacing:
                torch.nn.functional.scaled_dot_product_attention = SDPA


def _by_thread(*args: Any, **kwargs: Any) -> Any:
    serve = getattr(_here, "serve", None)
    return SDPA(*args, **kwargs) if serve is None else serve(*args, **kwargs)
