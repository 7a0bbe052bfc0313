"""Floating tensors on kernels of int8: each head's numbers as multiples of a scale, its largest magnitude over 127."""

from __future__ import annotations

import numpy as np

LARGEST = 127


def quantised(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 of an array [..., S, D], and the scales [...]: value = scale * integer nearly.  Heads of zeros count 1."""
    numbers = np.asarray(array, np.float64)
    largest = np.abs(numbers).max(axis=(-2, -1), initial=0.0)
    scales = np.where(largest > 0, largest / LARGEST, 1.0)
    integers = np.rint(numbers / scales[..., None, None])
    return np.clip(integers, -LARGEST, LARGEST).astype(np.int8), scales


def as_seen(array: np.ndarray) -> np.ndarray:
    """What the integers of an array stand for."""
    integers, scales = quantised(array)
    return integers * scales[..., None, None]
