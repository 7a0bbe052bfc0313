"""Floating tensors on kernels of int8: each head's numbers as multiples of a scale, its largest magnitude over 127."""

from __future__ import annotations

import numpy as np

LARGEST = 127
OF_ZEROS = 2.0**-40
"""Any scale is that of a head of zeros; with a small one its scores are within what kernels represent."""


def quantised(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of an array [..., S, D], and the scales [...]: value = scale * integer nearly."""
    numbers = np.asarray(array, np.float64)
    largest = np.abs(numbers).max(axis=(-2, -1), initial=0.0)
    scales = np.where(largest > 0, largest / LARGEST, OF_ZEROS)
    integers = np.rint(numbers / scales[..., None, None])
    return np.clip(integers, -LARGEST, LARGEST).astype(np.int8), scales


def as_seen(array: np.ndarray) -> np.ndarray:
    """What the integers of an array stand for."""
    integers, scales = quantised(array)
    return integers * scales[..., None, None]
