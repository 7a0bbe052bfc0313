"""Arrays as the source has them, and as [B, H, S, D], which kernels, references and checks take: views of one another.

A layout is that of `npuc.compiler.frontend.attention.Argument`: for each dimension, the axes that it walks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from npuc.compiler.argument_layout import AXES, Layout

if TYPE_CHECKING:
    from npuc.runtime.kernel_file import DescribedKernel


def inward(layout: Layout, array: np.ndarray) -> np.ndarray:
    """An array that is laid out so, as [B, H, S, D]; without a copy where its strides allow."""
    if not layout:
        return array
    digits = _digits(layout, array.shape)
    order = [n for name in AXES for n, (axis, _) in enumerate(digits) if axis == name]
    parted = array.reshape([size for _, size in digits])
    sizes = [math.prod(size for axis, size in digits if axis == name) for name in AXES]
    return parted.transpose(order).reshape(sizes)


def outward(layout: Layout, array: np.ndarray) -> np.ndarray:
    """The inverse of `inward`, row-major."""
    if not layout:
        return array
    walked = dict(zip(AXES, array.shape, strict=True))
    open_ = [tuple((axis, size or walked[axis]) for axis, size in dimension) for dimension in layout]
    digits = [pair for dimension in open_ for pair in dimension]
    order = [n for name in AXES for n, (axis, _) in enumerate(digits) if axis == name]
    parted = array.reshape([digits[n][1] for n in order])
    shape = [math.prod(size for _, size in dimension) for dimension in open_]
    return np.ascontiguousarray(parted.transpose(np.argsort(order)).reshape(shape))


def all_inward(kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Those of a call's arrays, by argument name, that the kernel takes, each as [B, H, S, D]."""
    layouts = {argument.name: argument.layout for argument in kernel.arguments}
    return {name: inward(layouts[name], array) for name, array in arrays.items() if name in layouts}


def head_part(layout: Layout, batch: int, head: int, rows: np.ndarray, width: int) -> list[Sequence[int]]:
    """Indices along each dimension of a result that is laid out so, of some rows of one head (`head_rows`)."""
    chosen = {"B": (batch,), "H": (head,), "S": tuple(int(row) for row in rows), "D": tuple(range(width))}
    steps: dict[int, dict[int, int]] = {}
    below = {"B": 1, "H": 1, "S": 1, "D": 1}
    for d, dimension in reversed(list(enumerate(layout))):
        for n, (axis, size) in reversed(list(enumerate(dimension))):
            steps.setdefault(d, {})[n] = below[axis]
            below[axis] *= size or 1
    part: list[Sequence[int]] = []
    for d, dimension in enumerate(layout):
        indices = [0]
        for n, (axis, size) in enumerate(dimension):
            along = [index // steps[d][n] % size if size else index for index in chosen[axis]]
            indices = [before * (size or 1) + index for before in indices for index in along]
        part.append(indices)
    return part


def is_whole(layout: Layout) -> bool:
    """Whether rows and the elements of a head are one digit each, which `head_part` presupposes."""
    walked = [axis for dimension in layout for axis, _ in dimension]
    return walked.count("S") <= 1 and walked.count("D") <= 1


def head_rows(layout: Layout, part: np.ndarray, rows: int, width: int) -> np.ndarray:
    """What `head_part` chose, as [rows, D]."""
    walked = [axis for dimension in layout for axis, _ in dimension if axis in "SD"]
    if walked == ["D", "S"]:
        return part.reshape(width, rows).T
    return part.reshape(rows, width)


def _digits(layout: Layout, shape: Sequence[int]) -> list[tuple[str, int]]:
    """Axes and extents, outermost first; what is open in a layout is what is left of its dimension."""
    found = []
    for dimension, size in zip(layout, shape, strict=True):
        known = math.prod(own for _, own in dimension if own is not None)
        found += [(axis, size // known if own is None else own) for axis, own in dimension]
    return found
