"""Arguments as the array computes with them: wider rows, more of them, and the copy of a mask.

Head sizes other than multiples of 8 get zeros behind them. With a mask, where an item has more rows than there are
queries, Q and the output have as many rows as an item.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.arguments import DEVICE_DTYPES, KernelArgument
from npuc.runtime.backends.masks import copied_mask
from npuc.runtime.kernel_file import KernelFile


def padded(kernel: KernelFile, buffers: Sequence[bytearray | memoryview]) -> list[bytearray | memoryview]:
    """The buffers as the device has them: the same objects where that is no different. Raises UnsupportedError."""
    held = list(buffers)
    for argument in kernel.arguments:
        buffer = buffers[argument.buffer]
        if argument.role == "mask":
            mask = np.frombuffer(buffer, DEVICE_DTYPES[argument.device_dtype]).reshape(argument.shape)
            if kernel.left is not None and mask.shape[-1] > 1:
                mask = mask[..., kernel.left.first : kernel.left.end]
            held[argument.buffer] = copied_mask(kernel.mask_copy, mask)
            continue
        shape, wanted = _rows(argument), _rows_held(kernel, argument)
        if shape != wanted:
            rows = np.zeros(wanted, DEVICE_DTYPES[argument.device_dtype])
            rows[:, : shape[1], : shape[2]] = np.frombuffer(buffer, rows.dtype).reshape(shape)
            held[argument.buffer] = bytearray(rows.tobytes())
    return held


def take_back(
    kernel: KernelFile, held: Sequence[bytearray | memoryview], buffers: Sequence[bytearray | memoryview]
) -> None:
    """Fill the output buffers from those that `padded` gave."""
    for argument in kernel.outputs:
        wide, buffer = held[argument.buffer], buffers[argument.buffer]
        if wide is not buffer:
            _, length, width = _rows(argument)
            rows = np.frombuffer(wide, DEVICE_DTYPES[argument.device_dtype]).reshape(_rows_held(kernel, argument))
            buffer[:] = rows[:, :length, :width].tobytes()


def _rows(argument: KernelArgument) -> tuple[int, int, int]:
    """(heads of all batches, rows, head size) of the caller's buffer."""
    *heads, rows, width = argument.shape
    return int(np.prod(heads, dtype=int)), rows, width


def _rows_held(kernel: KernelFile, argument: KernelArgument) -> tuple[int, int, int]:
    """The same of the device's."""
    heads, rows, _ = _rows(argument)
    return heads, max(rows, kernel.rows_held if argument.role in ("q", "out") else 0), kernel.padded_head
