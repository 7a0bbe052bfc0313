"""One call by a device's backend alone: nothing is tried twice, no other serves it."""

from __future__ import annotations

import numpy as np

from npuc.runtime.arguments import to_device
from npuc.runtime.backends import BackendSettings
from npuc.runtime.backends.amdxdna import AmdxdnaBackend
from npuc.runtime.backends.xrt import XrtBackend
from npuc.runtime.kernel_file import read_kernel
from npuc.runtime.strides import hold


def run_once(
    made: type[AmdxdnaBackend] | type[XrtBackend],
    kernel: bytes,
    arrays: dict[str, np.ndarray],
    time_limit: float | None = None,
) -> bytes:
    """The output's bytes. Raises what the backend raises, closed all the same."""
    read = read_kernel(kernel)
    buffers, held = hold(read, {a.name: to_device(a, arrays[a.name]) for a in read.inputs})
    backend = made(held, BackendSettings(time_limit=time_limit))
    try:
        backend.run(buffers, held)
        return bytes(buffers[-1])
    finally:
        backend.close()
