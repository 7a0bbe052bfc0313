"""What instructions compute: one function per instruction over lane values, found by `effect`."""

from npuc.runtime.emulator.semantics import convert, memory, multiply, permute, scalar, vector_alu
from npuc.runtime.emulator.semantics.lanes import NUMPY, NumpyLanes
from npuc.runtime.emulator.semantics.registry import Access, Address, Effect, effect, missing

__all__ = ["NUMPY", "Access", "Address", "Effect", "NumpyLanes", "convert", "effect", "memory", "missing", "multiply",
           "permute", "scalar", "vector_alu"]
