"""The attention core program: flash attention with an online softmax, written as machine IR.

`build` gives the program one core runs; the stages are in the modules beside it, in the order they run:
query (transpose Q once per work item), scores (K Q^T and block maximum), rebase (rare: move the softmax reference),
probabilities (2^t), values (O += P V and row sums), normalise (O / row sums).
"""

from npuc.passes.attention.core.program import KernelProgram, build

__all__ = ["KernelProgram", "build"]
