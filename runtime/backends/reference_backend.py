"""The reference as a backend: numpy in place of the device, in as many bits as the values need."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from npuc.runtime.check import expected
from npuc.runtime.kernel_file import DescribedKernel
from npuc.runtime.magnitudes import Magnitudes, magnitudes
from npuc.runtime.statistics import RunReport

SINGLE_SCORE = 4096.0
"""Scores up to this differ from exact ones by some 1e-3 at most in float32; those above are computed in float64."""
SINGLE_VALUE = 1e34
"""A weighted sum of values up to this, over any number of keys there can be, is far from float32's largest."""


def precision_for(found: Magnitudes) -> Any:
    """The type in which an attention of these magnitudes is right."""
    return np.float32 if found.score <= SINGLE_SCORE and found.v <= SINGLE_VALUE else np.float64


class ReferenceBackend:
    name = "reference"

    def __init__(self, kernel: DescribedKernel) -> None:
        pass

    def compute(self, arrays: Mapping[str, np.ndarray], kernel: DescribedKernel) -> tuple[np.ndarray, RunReport]:
        """The output of inputs by name, both as the interface has them; seconds are wall time."""
        begin = time.perf_counter()
        dtype = precision_for(magnitudes(kernel.attention, arrays))
        result = expected(kernel.attention, arrays, dtype=dtype)
        return result, RunReport(self.name, emulated=False, seconds=time.perf_counter() - begin)

    def close(self) -> None:
        """Nothing is held."""
