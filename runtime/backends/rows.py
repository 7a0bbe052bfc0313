"""Rows as the array computes with them: head sizes other than multiples of 8 get zeros behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.arguments import DEVICE_DTYPES, KernelArgument
from npuc.runtime.kernel_file import KernelFile


def padded(kernel: KernelFile, buffers: Sequence[bytearray]) -> list[bytearray]:
    """The buffers with rows as wide as the device has them: the same objects where that is no wider."""
    more = kernel.padded_head - kernel.attention.head_dim
    held = list(buffers)
    for argument in kernel.arguments if more else ():
        if argument.role != "mask":
            rows = _rows(argument, buffers[argument.buffer])
            held[argument.buffer] = bytearray(np.pad(rows, ((0, 0), (0, more))).tobytes())
    return held


def take_back(kernel: KernelFile, held: Sequence[bytearray], buffers: Sequence[bytearray]) -> None:
    """Fill the output buffers from those that `padded` gave."""
    for argument in kernel.outputs:
        wide, buffer = held[argument.buffer], buffers[argument.buffer]
        if wide is not buffer:
            rows = np.frombuffer(wide, DEVICE_DTYPES[argument.device_dtype]).reshape(-1, kernel.padded_head)
            buffer[:] = rows[:, : argument.shape[-1]].tobytes()


def _rows(argument: KernelArgument, buffer: bytearray) -> np.ndarray:
    return np.frombuffer(buffer, DEVICE_DTYPES[argument.device_dtype]).reshape(-1, argument.shape[-1])
