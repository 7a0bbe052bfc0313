"""What the rules of recognition take: one block of operations whose only effect is their results."""

from __future__ import annotations

from typing import Any

from npuc.compiler.frontend.guarded.reading import LINALG_REMEDY
from npuc.compiler.frontend.place import Blocked

# Dialects whose operations on tensors have no effect but their results: what does not reach the result is harmless.
PURE_DIALECTS = ("arith", "math", "linalg", "tensor", "attn", "tm_tensor")
# What does no more than end a function, or a run whose lengths do not fit (`interpret`).
ALSO = ("func.return", "cf.assert")
# What else a front end may hand over, and how it becomes linalg on tensors.
REMEDIES = {
    "memref": "give the module as it is before bufferization",
    "bufferization": "give the module as it is before bufferization",
    "cf": "export it with fixed lengths, or write attn.sdpa, whose types may leave them open",
}


def legalise(function: Any) -> Any:
    """The block of a func.func. Raises Blocked at control flow and at operations that may do more than compute."""
    blocks = list(function.regions[0].blocks)
    if len(blocks) != 1:
        raise Blocked(blocks[0].operations[len(blocks[0].operations) - 1], "control flow is not recognised")
    _refuse_effects(blocks[0])
    return blocks[0]


def _refuse_effects(block: Any) -> None:
    for operation in block.operations:
        dialect = operation.name.partition(".")[0]
        if dialect not in PURE_DIALECTS and operation.name not in ALSO:
            raise Blocked(
                operation,
                f"operations of the dialect {dialect} are not recognised",
                REMEDIES.get(dialect, LINALG_REMEDY),
            )
        for region in operation.regions:
            for inner in region.blocks:
                _refuse_effects(inner)
