"""PyTorch on a GPU in place of the device, in as many bits as the values need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import BackendError, UnsupportedError
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.backends.reference_backend import precision_for
from npuc.runtime.check import visibility
from npuc.runtime.kernel_file import DescribedKernel
from npuc.runtime.magnitudes import magnitudes
from npuc.runtime.statistics import RunReport


def _torch_with_gpu() -> Any:
    try:
        import torch
    except ImportError as error:
        raise BackendError("PyTorch cannot be imported", remedy="install torch") from error
    if not torch.cuda.is_available():
        raise BackendError("PyTorch finds no GPU")
    return torch


class GpuBackend:
    name = "gpu"

    def __init__(self, kernel: DescribedKernel) -> None:
        if any(argument.dtype == "i8" for argument in kernel.arguments):
            raise UnsupportedError("integer tensors are not served by PyTorch")
        self._torch = _torch_with_gpu()

    def compute(self, arrays: Mapping[str, np.ndarray], kernel: DescribedKernel) -> tuple[np.ndarray, RunReport]:
        """The output of inputs by name, both as the interface has them; seconds are wall time."""
        begin = time.perf_counter()
        (output,) = kernel.outputs
        dtype = precision_for(magnitudes(kernel.attention, arrays))
        try:
            result = self._attention(kernel.attention, arrays, dtype)
        except RuntimeError as error:
            raise BackendError(f"PyTorch failed: {str(error).splitlines()[0]}") from error
        seconds = time.perf_counter() - begin
        return result.reshape(output.shape), RunReport(self.name, emulated=False, seconds=seconds)

    def close(self) -> None:
        """Nothing is held."""

    def _attention(self, rules: Attention, arrays: Mapping[str, np.ndarray], dtype: Any) -> np.ndarray:
        torch = self._torch
        q, k, v = (
            torch.from_numpy(arrays[rules.argument(r).name].astype(dtype).reshape(rules.closed_shape(r))).cuda()
            for r in ("q", "k", "v")
        )
        group = rules.heads // rules.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = q @ k.transpose(-1, -2) * rules.scale
        if rules.softcap is not None:
            scores = rules.softcap * torch.tanh(scores / rules.softcap)
        mask = None if rules.mask is None else arrays[rules.argument("mask").name]
        scores = scores + torch.from_numpy(_bias(rules, mask)).cuda()
        top = scores.amax(-1, keepdim=True)
        blind = top == -np.inf  # a query that sees no key gives zeros, as in the reference
        weights = torch.exp(scores - torch.where(blind, 0.0, top))
        total = torch.where(blind, 1.0, weights.sum(-1, keepdim=True))
        return (weights @ v / total).cpu().numpy()


def _bias(rules: Attention, mask: np.ndarray | None) -> np.ndarray:
    """What is added to the scores: the mask, and -inf where causal and window limits hide a key."""
    limits = visibility(rules)
    low, high = limits.limits(0, limits.query_length)
    key = np.arange(limits.key_length)
    hidden = (key < low[:, None]) | (key >= high[:, None])
    bias = np.where(hidden, np.float32(-np.inf), np.float32(0))
    if mask is None:
        return bias
    added = np.where(mask, np.float32(0), np.float32(-np.inf)) if mask.dtype == np.bool_ else mask
    return bias + added.astype(np.float32)
