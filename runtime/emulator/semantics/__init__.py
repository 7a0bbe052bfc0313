"""What instructions compute: one function per instruction over lane values, found by `effect`."""

from npuc.runtime.emulator.semantics import convert, memory, multiply, permute, ports, scalar, vector_alu
from npuc.runtime.emulator.semantics.lanes import NUMPY, NumpyLanes
from npuc.runtime.emulator.semantics.registry import (
    UNALIGNED,
    WARNINGS,
    Access,
    Address,
    Doubt,
    Effect,
    effect,
    missing,
    missing_fact,
)

__all__ = [
    "NUMPY",
    "UNALIGNED",
    "WARNINGS",
    "Access",
    "Address",
    "Doubt",
    "Effect",
    "NumpyLanes",
    "convert",
    "effect",
    "memory",
    "missing",
    "missing_fact",
    "multiply",
    "permute",
    "ports",
    "scalar",
    "vector_alu",
]
