"""What a source computes by its own operations, in float64, with no notion of attention.

The reference of `--check`: linalg, arith, math, tensor and simple control flow, as upstream's lowerings of TOSA,
StableHLO and torch end in. A value that depends on no argument is computed in its own types, as a compiler that folds
constants would; everything else is float64, and conversions of it between floating types are the identity. Integers
wrap in their own width. Evaluation goes from the result back: `Source.part` computes a part of the result from the
parts of operands that it needs, cut so small that memory stays bounded.
"""

from __future__ import annotations

from npuc.runtime.evaluator.source import Source, load

__all__ = ["Source", "load"]
