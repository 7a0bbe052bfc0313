"""What callers choose from, as types that checkers know and tuples that messages print."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

BackendName: TypeAlias = Literal["auto", "xrt", "amdxdna", "emulator", "reference", "gpu"]
FallbackName: TypeAlias = Literal["gpu", "reference", "emulator"]
MachineName: TypeAlias = Literal["phoenix", "8945hs", "8700g"]
EngineName: TypeAlias = Literal["native", "interpreter"]
AlignName: TypeAlias = Literal["top-left", "bottom-right"]
PrecisionName: TypeAlias = Literal["bf16", "int8"]

BACKEND_NAMES: tuple[str, ...] = get_args(BackendName)
FALLBACK_NAMES: tuple[str, ...] = get_args(FallbackName)
