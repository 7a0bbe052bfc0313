"""Which operations of a large function may be steps of an attention: those about an exponential or a softmax.

From there back through one contraction (Q K^T) and what moves its operands, and on through one contraction (with V)
and what moves its result. What is farther need not be looked at, however long the function is.
"""

from __future__ import annotations

from typing import Any

from npuc.compiler.dialects.attn import SDPA
from npuc.compiler.frontend.loop_nest import REDUCTION

# What softmax is made of, and operations that are attention by themselves.
SOFTMAX = ("math.exp", "math.exp2", "linalg.softmax")
POWER = "math.powf"  # of a number: an exponential
WHOLE = (SDPA, "tm_tensor.attention")
# What depends on nothing, or on lengths.
CONSTANTS = ("arith.constant", "tensor.empty", "linalg.fill", "tensor.dim", "tensor.splat", "arith.index_cast")
DEEPEST_CONSTANT = 6  # operations between a constant and what it is repeated to
MOST = 1000  # operations about one exponential
FEW = 500  # of a function that is looked at whole

_MOVES = (
    "tensor.collapse_shape", "tensor.expand_shape", "tensor.cast", "tensor.extract_slice", "tensor.insert_slice",
    "tensor.reshape", "linalg.transpose", "linalg.broadcast",
)  # fmt: skip


def near(block: Any, operations: list[Any], places: dict[Any, int]) -> list[int]:
    """Places of the operations of a block that are to be looked at, ascending. places: of the results."""
    last = len(operations) - 1  # the terminator
    if len(operations) <= FEW:
        return list(range(last))
    found: set[int] = set()
    for anchor in _anchors(block, operations, places):
        whole = operations[anchor].name in WHOLE
        found |= _about(anchor, operations, places, past=whole)
    return sorted(place for place in found if place < last)


def contracts(operation: Any) -> bool:
    """Whether a linalg operation sums products of two tensors."""
    if not operation.name.startswith("linalg.") or len(operation.operands) != 3 or len(operation.results) != 1:
        return False
    if "iterator_types" in operation.attributes:
        return REDUCTION in [str(kind) for kind in operation.attributes["iterator_types"]]
    return any(word in operation.name for word in ("matmul", "contract", "matvec", "vecmat", "dot"))


def _anchors(block: Any, operations: list[Any], places: dict[Any, int]) -> list[int]:
    from torch_mlir import ir

    found: set[int] = set()
    names = {*SOFTMAX, *WHOLE}

    def visit(operation: Any) -> Any:
        if operation.name in names or (operation.name == POWER and _of_a_number(operation, operations, places)):
            at = operation
            while at.block != block:
                at = at.parent
            found.add(places[at.results[0]])
        return ir.WalkResult.ADVANCE

    block.owner.walk(visit)
    return sorted(found)


def _of_a_number(power: Any, operations: list[Any], places: dict[Any, int]) -> bool:
    """Whether a constant is raised to a power, in the body of an operation or outside one."""
    base = power.operands[0]
    if base in list(power.block.arguments):
        base = power.parent.operands[list(power.block.arguments).index(base)]
    made_inside = getattr(getattr(base.owner, "operation", base.owner), "name", None) == "arith.constant"
    return made_inside or _constant(base, operations, places)


def _about(anchor: int, operations: list[Any], places: dict[Any, int], past: bool) -> set[int]:
    """past: whether its operands and its results are beyond the contractions already."""
    found = {anchor}
    waiting = [(anchor, forward, past) for forward in (False, True)]
    seen = set(waiting)

    def go(place: int, forward: bool, beyond: bool) -> None:
        operation = operations[place]
        if beyond and not _moves(operation, operations, places):
            return
        found.add(place)
        state = (place, forward, beyond or contracts(operation))
        if state not in seen and len(found) < MOST:
            seen.add(state)
            waiting.append(state)

    while waiting:
        place, forward, beyond = waiting.pop()
        operation = operations[place]
        for operand in operation.operands:
            if operand in places:
                go(places[operand], False, beyond or (forward and contracts(operation)))
        if forward:
            for result in operation.results:
                for use in result.uses:
                    user = _outermost(use.owner, operation)
                    if user is not None and user.results and user.results[0] in places:
                        go(places[user.results[0]], True, beyond)
    return found


def _outermost(user: Any, beside: Any) -> Any:
    """The operation of the same block that a use is in."""
    at = getattr(user, "operation", user)
    while at is not None and at.block != beside.block:
        at = at.parent
    return at


def _moves(operation: Any, operations: list[Any], places: dict[Any, int]) -> bool:
    """Whether it gives one tensor on, moved, converted or times a constant."""
    if operation.name in _MOVES or operation.name in CONSTANTS:
        return True
    if not operation.name.startswith(("linalg.", "arith.")) or len(operation.results) != 1:
        return False
    given = [operand for operand in operation.operands if not _constant(operand, operations, places)]
    return len(given) <= 1 and not contracts(operation)


def _constant(value: Any, operations: list[Any], places: dict[Any, int]) -> bool:
    """Whether a value is a constant, or one that is repeated or reshaped."""
    for _ in range(DEEPEST_CONSTANT):
        if value not in places:
            return False
        operation = operations[places[value]]
        if operation.name in CONSTANTS:
            return True
        if not (operation.name.startswith("linalg.") or operation.name in _MOVES) or not operation.operands:
            return False
        value = operation.operands[0]
    return False
