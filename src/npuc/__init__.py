"""npuc: attention compiler, binary tools and emulator for AMD's Phoenix NPU (npu1, AIE2).

Public names: compile, load, attention, last_stats, Attention, Kernel, Executable, Pool, RunReport, and the errors of
npuc.compiler.diagnostics. The submodules npuc.torch, npuc.transformers and npuc.jax are there where these libraries
are; npuc.pyxrt (XRT's Python module over the emulator) and npuc.metrics always.
They are imported on first use, for numpy and the compiler take longer to import than `npuc --help` should.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# In a source tree the three packages are symbolic links, which zip archives and some clones turn into text files.
if not os.path.isdir(os.path.join(os.path.dirname(__file__), "compiler")):
    raise ImportError(
        "this source tree has no symbolic links (src/npuc/compiler): install it with pip, or clone with links"
    )

if TYPE_CHECKING:
    from npuc.compiler.diagnostics import (
        BackendError,
        CheckFailed,
        InputError,
        InternalError,
        NpucError,
        ResourceError,
        UnsupportedError,
        UsageError,
    )
    from npuc.compiler.frontend.attention import Attention
    from npuc.runtime.executable import Executable
    from npuc.runtime.executor import Kernel, compile, load
    from npuc.runtime.on_demand import attention, last_stats
    from npuc.runtime.pool import Pool
    from npuc.runtime.statistics import RunReport

_HOMES = {
    "Attention": "npuc.compiler.frontend.attention",
    "Executable": "npuc.runtime.executable",
    "Kernel": "npuc.runtime.executor",
    "Pool": "npuc.runtime.pool",
    "attention": "npuc.runtime.on_demand",
    "compile": "npuc.runtime.executor",
    "last_stats": "npuc.runtime.on_demand",
    "load": "npuc.runtime.executor",
    "RunReport": "npuc.runtime.statistics",
    "BackendError": "npuc.compiler.diagnostics",
    "CheckFailed": "npuc.compiler.diagnostics",
    "InputError": "npuc.compiler.diagnostics",
    "InternalError": "npuc.compiler.diagnostics",
    "NpucError": "npuc.compiler.diagnostics",
    "ResourceError": "npuc.compiler.diagnostics",
    "UnsupportedError": "npuc.compiler.diagnostics",
    "UsageError": "npuc.compiler.diagnostics",
}

_MODULES = ("jax", "metrics", "pyxrt", "torch", "transformers")

__all__ = [
    "Attention",
    "BackendError",
    "CheckFailed",
    "Executable",
    "InputError",
    "InternalError",
    "Kernel",
    "NpucError",
    "Pool",
    "ResourceError",
    "RunReport",
    "UnsupportedError",
    "UsageError",
    "__version__",
    "attention",
    "compile",
    "last_stats",
    "load",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"npuc.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'npuc' has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def __dir__() -> list[str]:
    return __all__
