"""The reference as a backend: float32 numpy in place of the device."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from npuc.runtime.arguments import from_buffer, to_buffer
from npuc.runtime.check import expected
from npuc.runtime.kernel_file import DescribedKernel
from npuc.runtime.statistics import RunReport


class ReferenceBackend:
    name = "reference"

    def __init__(self, kernel: DescribedKernel) -> None:
        pass

    def run(self, buffers: Sequence[bytearray], kernel: DescribedKernel) -> RunReport:
        """Compute the output buffers from the input buffers; seconds are wall time."""
        begin = time.perf_counter()
        arrays = {a.name: from_buffer(a, buffers[a.buffer]) for a in kernel.inputs}
        (output,) = kernel.outputs
        result = expected(kernel.attention, arrays, dtype=np.float32)
        buffers[output.buffer][:] = to_buffer(output, result)
        return RunReport(self.name, emulated=False, seconds=time.perf_counter() - begin)

    def close(self) -> None:
        """Nothing is held."""
