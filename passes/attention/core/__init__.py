"""The attention core program: flash attention with an online softmax, written as machine IR.

`build` gives the program one core runs (`program`); the stages are in the modules beside it, in the order they run:
query (transpose Q once per work item), scores (K Q^T), softcap, adjust (one walk over the scores with mask, visibility
and the reference), rebase (rare: move the softmax reference), probabilities (2^t by the recipes of mantissas),
values (O += P V and row sums), normalise (O / row sums).  Without a mask, recipes fast and balanced keep scores as
16-bit numbers (fixed_scores, fixed_probabilities; capped with a softcap that is not very large), and do a block again
from scores in fp32 where they must.  `integer` is the program for int8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.passes.attention.core import integer, program
from npuc.passes.attention.core.program import KernelProgram

if TYPE_CHECKING:
    from npuc.passes.attention.plan import Plan


def build(plan: Plan, recipe: str = "balanced", softcap: bool = False) -> KernelProgram:
    """The program of every core of a plan."""
    if plan.precision == "int8":
        return integer.build(plan, recipe)
    return program.build(plan, recipe, softcap)


__all__ = ["KernelProgram", "build"]
