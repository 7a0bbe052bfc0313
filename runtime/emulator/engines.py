"""What executes core programs: the interpreter, or native code that is translated from them (native/README.md)."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UsageError

if TYPE_CHECKING:
    from npuc.runtime.emulator.core import Core

ENGINES = ("native", "interpreter")
VARIABLE = "NPUC_ENGINE"
"""The environment variable that names the engine where nothing else does."""

log = logging.getLogger("npuc.emulator")


def chosen(engine: str | None) -> str:
    """The engine of that name, or the default: NPUC_ENGINE, else native. Raises UsageError for an unknown name."""
    name = engine or os.environ.get(VARIABLE) or ENGINES[0]
    if name not in ENGINES:
        raise UsageError(f"engine {name!r} is unknown", remedy=f"one of {', '.join(ENGINES)}")
    return name


def core_class(engine: str | None) -> type[Core]:
    """The class of cores. A machine for which LLVM has no code generator has the interpreter's."""
    from npuc.runtime.emulator.core import Core

    if chosen(engine) == "interpreter":
        return Core
    try:
        from npuc.runtime.emulator.native.engine import NativeCore
        from npuc.runtime.emulator.native.machine import host_identity

        host_identity()
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("core programs are interpreted, not translated: %s", error)
        return Core
    return NativeCore
