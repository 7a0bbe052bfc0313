"""Arrays that devices read where they lie: any strides that descriptors can follow, without a copy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from npuc.runtime.arguments import LARGEST_ARGUMENT, KernelArgument, to_buffer
from npuc.runtime.backends.masks import seen_keys, wants_rows_apart, what_is_left
from npuc.runtime.kernel_file import KernelFile, Strides

WORD_BYTES = 4


class Held(NamedTuple):
    """The buffers of a call's inputs by argument, outputs empty, and the kernel that says how they are laid out."""

    buffers: list[bytearray | memoryview]
    kernel: KernelFile


def hold(kernel: KernelFile, arrays: Mapping[str, np.ndarray]) -> Held:
    """arrays: by name, in interface types.  What cannot be read where it lies is copied, row-major."""
    buffers: list[bytearray | memoryview] = [bytearray() for _ in range(kernel.buffer_count)]
    strides: dict[str, Strides] = {}
    for argument in kernel.inputs:
        if argument.role == "mask":
            mask = arrays[argument.name]
            kernel = replace(kernel, left=what_is_left(mask), rows_apart=False)
            kernel = replace(kernel, rows_apart=wants_rows_apart(kernel.mask_copy, seen_keys(kernel.left, mask)))
    for argument in kernel.inputs:
        array = arrays[argument.name]
        found = _strides(kernel, argument, array)
        if found is None:
            buffers[argument.buffer] = to_buffer(argument, array)
        else:
            buffers[argument.buffer] = memory_of(array)
            strides[argument.role] = found
    for argument in kernel.outputs:
        buffers[argument.buffer] = bytearray(argument.nbytes)
    kernel = kernel.laid_out(strides)
    if any(argument.quantised for argument in kernel.inputs):
        kernel = kernel.quantised_as(arrays)
    return Held(buffers, kernel)


def _strides(kernel: KernelFile, argument: KernelArgument, array: np.ndarray) -> Strides | None:
    """Of an array that can stay where it is, in words; None where it must be copied.

    Its type is the device's, its rows are as wide and as many as the device's, elements of a row lie one behind the
    other, and all other steps are whole words that a descriptor can take.
    """
    if array.dtype != kernel.row_dtype or not kernel.keeps(argument):
        return None
    *outer, along = array.strides
    steps = [0 if size == 1 else step for size, step in zip(array.shape, outer, strict=False)]
    if along != array.itemsize or any(step < 0 or step % WORD_BYTES for step in steps):
        return None
    if sum((size - 1) * step for size, step in zip(array.shape, steps, strict=False)) > LARGEST_ARGUMENT:
        return None
    row = steps[-1] // WORD_BYTES if array.shape[-2] > 1 else array.shape[-1] * array.itemsize // WORD_BYTES
    batch, head = ([0, 0, *(step // WORD_BYTES for step in steps[:-1])])[-2:]
    return Strides(batch, head, row) if 0 < row <= kernel.longest_row_step else None


def memory_of(array: np.ndarray) -> memoryview:
    """Read-only, the bytes from an array's first element to its last, with all that lies between."""
    last = sum((size - 1) * step for size, step in zip(array.shape, array.strides, strict=True))
    count = last // array.itemsize + 1
    flat = np.lib.stride_tricks.as_strided(array, (count,), (array.itemsize,), writeable=False)
    return flat.view(np.uint8).data.toreadonly()
