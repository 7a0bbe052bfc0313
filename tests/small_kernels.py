"""Really compiled kernels, each compiled once a session."""

from __future__ import annotations

import functools

from npuc.compiler import driver
from npuc.compiler.driver import Compiled, Settings
from npuc.compiler.frontend.attention import Attention


@functools.cache
def compiled(columns: int | None = 1, **shape: int | str) -> Compiled:
    """The kernel of an attention; shape as Attention.make takes it (default: one head of 64 x 64, on one column)."""
    described = {"heads": 1, "query_length": 64, "head_dim": 64, **shape}
    return driver.compile_description(Attention.make(**described), Settings(columns=columns))  # type: ignore[arg-type]
