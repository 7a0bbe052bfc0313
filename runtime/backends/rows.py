"""Arguments as the array computes with them: wider rows, more of them, and the copy of a mask.

Head sizes other than multiples of 8 get zeros behind them. With a mask, where items have rows again, Q and the output
have the rows of all items, one item's behind the other's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.arguments import DEVICE_DTYPES, KernelArgument
from npuc.runtime.backends.masks import copied_mask, seen_keys
from npuc.runtime.kernel_file import KernelFile


def padded(kernel: KernelFile, buffers: Sequence[bytearray | memoryview]) -> list[bytearray | memoryview]:
    """The buffers as the device has them: the same objects where that is no different. Raises UnsupportedError."""
    held = list(buffers)
    for argument in kernel.arguments:
        buffer = buffers[argument.buffer]
        if argument.role == "mask":
            mask = np.frombuffer(buffer, DEVICE_DTYPES[argument.device_dtype]).reshape(argument.shape)
            copy = kernel.mask_copy
            mask = seen_keys(kernel.left, mask)
            if kernel.rows_apart:
                mask = np.broadcast_to(mask, (*mask.shape[:-2], copy.work.call.query_length, mask.shape[-1]))
            held[argument.buffer] = copied_mask(copy, mask)
            continue
        shape, order = _rows(argument), _order(kernel, argument)
        if order is None and shape[2] == kernel.padded_head:
            continue
        rows = np.frombuffer(buffer, DEVICE_DTYPES[argument.device_dtype]).reshape(shape)
        if order is not None:
            rows = rows[order]
        wide = np.zeros((*rows.shape[:-1], kernel.padded_head), rows.dtype)
        wide[..., : shape[2]] = rows
        held[argument.buffer] = bytearray(wide.tobytes())
    return held


def take_back(
    kernel: KernelFile, held: Sequence[bytearray | memoryview], buffers: Sequence[bytearray | memoryview]
) -> None:
    """Fill the output buffers from those that `padded` gave."""
    for argument in kernel.outputs:
        wide, buffer = held[argument.buffer], buffers[argument.buffer]
        if wide is not buffer:
            shape, order = _rows(argument), _order(kernel, argument)
            rows = np.frombuffer(wide, DEVICE_DTYPES[argument.device_dtype]).reshape(-1, kernel.padded_head)
            rows = rows[:, : shape[2]]
            if order is None:
                buffer[:] = rows.tobytes()
            else:
                found = np.empty(shape, rows.dtype)
                found[order] = rows
                buffer[:] = found.tobytes()


def _rows(argument: KernelArgument) -> tuple[int, int, int]:
    """(heads of all batches, rows, head size) of the caller's buffer."""
    *heads, rows, width = argument.shape
    return int(np.prod(heads, dtype=int)), rows, width


def _order(kernel: KernelFile, argument: KernelArgument) -> tuple[np.ndarray, np.ndarray] | None:
    """Head (of all batches) and query of each row that the device has, where they are those of items."""
    work = kernel.in_order if argument.role in ("q", "out") else None
    if work is None:
        return None
    head, query = np.array(work.in_order(work.rounds)).T
    heads = np.array(work.set_heads())[:, None] + head
    return heads.reshape(-1), np.tile(query, len(work.set_heads()))
