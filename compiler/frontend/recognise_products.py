"""The two contractions of attention: Q K^T over D, and probabilities times V over the keys.

They may be any linalg contraction (matmul, batch_matmul with or without transposes, contract, generic): only the
indexing maps count.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend.axes import GROUPS, Pairs, aligned, label, merged
from npuc.compiler.frontend.grouping import Pairing
from npuc.compiler.frontend.layouts import of_scores, of_values
from npuc.compiler.frontend.values import (
    BATCH,
    DEPTH,
    HEAD,
    LEFT,
    LENGTH,
    RIGHT,
    Atom,
    Attended,
    Axis,
    Exponentials,
    Opaque,
    Operand,
    OperandProduct,
    Probabilities,
    Product,
    Scores,
    Splat,
    Value,
    WeightedValues,
    describe,
)


def contract(operation: Any, product: OperandProduct, initial: Value, reduced: Collection[int]) -> Value:
    """Sum of a product over the loop dimensions `reduced`; axes of operands and result are those of the loop nest."""
    if not (isinstance(initial, Splat) and initial.is_float and initial.value == 0):
        start = f"{initial.value:g}" if isinstance(initial, Splat) else describe(initial)
        return Opaque(operation, f"its accumulator starts from {start}, not from zeros")
    left, right = product.left, product.right
    if len(reduced) != 1:
        return Opaque(operation, f"it sums over {len(reduced)} dimensions, not one")
    (dimension,) = reduced
    if isinstance(left, Operand) and isinstance(right, Operand):
        return _scores(operation, left, right, dimension)
    if isinstance(left, Operand):
        left, right = right, left
    if isinstance(left, Probabilities | Exponentials) and isinstance(right, Operand):
        return _attend(operation, left, right, dimension)
    return Opaque(operation, f"it multiplies {describe(left)} with {describe(right)}")


def score(operation: Any, left: Operand, right: Operand) -> Value:
    """The sum of products over the last loop dimension."""
    return _scores(operation, left, right, len(left.axes) - 1)


def attend(operation: Any, weights: Value, value: Operand) -> Value:
    """Weights times V, summed over the last loop dimension but one."""
    if not isinstance(weights, Probabilities | Exponentials):
        return Opaque(operation, f"it multiplies {describe(weights)} with V")
    return _attend(operation, weights, value, len(value.axes) - 2)


def _attend(operation: Any, weights: Probabilities | Exponentials, value: Operand, dimension: int) -> Value:
    weighted = _weighted(operation, weights, value, dimension)
    if isinstance(weights, Probabilities) and isinstance(weighted, WeightedValues):
        return attended(weighted)
    return weighted


def attended(weighted: WeightedValues) -> Attended:
    """Weighted values whose weights add up to one: the query axis is the length axis of the result."""
    query = LEFT if weighted.softmax.key == RIGHT else RIGHT
    axes = tuple(tuple(replace(a, label=LENGTH) if a.label == query else a for a in axis) for axis in weighted.axes)
    return Attended(axes, weighted.softmax, weighted.value, weighted.operation)


def _scores(operation: Any, left: Operand, right: Operand, dimension: int) -> Value:
    layouts = of_scores(left, right, dimension)
    if not _is(left.axes[dimension], DEPTH) or left.axes[dimension] != right.axes[dimension]:
        return replace(_not_along_depth(operation, left, right, dimension), layouts=layouts)
    pairing, lengths = Pairing(), [0, 0]
    walked: list[Pairs] = []
    for index, (a, b) in enumerate(zip(left.axes, right.axes, strict=True)):
        pairs = [] if index == dimension else aligned(a, b)
        if pairs is None:
            return replace(_unmatched(operation, left, a, right, b), layouts=layouts)
        walked.append(pairs)
        for x, y in pairs:
            if y is None and x is not None and x.label == LENGTH:
                lengths[0] += 1
            elif x is None and y is not None and y.label == LENGTH:
                lengths[1] += 1
            elif not pairing.add(x, y):
                return replace(_unmatched(operation, left, a, right, b), layouts=layouts)
    if not pairing.is_grouped or max(lengths) > 1:
        arguments = f"arguments {left.argument} and {right.argument}"
        return Opaque(operation, f"batch and head axes of {arguments} differ: {pairing}", GROUPS, layouts)
    axes = tuple(merged([_of_scores(x, y, pairing.more_right) for x, y in pairs]) for pairs in walked)
    factors = (*left.factors, *right.factors)
    return Scores(axes, Product(left.argument, right.argument, factors))


def _of_scores(x: Atom | None, y: Atom | None, more_right: bool) -> Atom:
    """The digit of the scores: the length of one operand, or heads of the operand that has more of them."""
    if x is not None and y is not None:
        return y if more_right else x
    one = y if x is None else x
    assert one is not None
    return replace(one, label=RIGHT if x is None else LEFT) if one.label == LENGTH else one


def _not_along_depth(operation: Any, left: Operand, right: Operand, dimension: int) -> Opaque:
    a, b = left.axes[dimension], right.axes[dimension]
    for operand in (left, right):
        if any("." in atom.label for axis in operand.axes for atom in axis):
            what = f"argument {operand.argument} has another rank than Q, K and V, which are [B, H, S, D] or less"
            return Opaque(operation, what)
    remedy = None
    if _is(a, DEPTH) and _is(b, LENGTH) or _is(a, LENGTH) and _is(b, DEPTH):
        turned = right if _is(a, DEPTH) else left
        remedy = f"if argument {turned.argument} is K transposed, give it as [B, H, Skv, D]"
    return Opaque(
        operation,
        f"it contracts axis {label(a)} of argument {left.argument} with axis {label(b)} of argument {right.argument}; "
        "Q and K of [B, H, S, D] meet along D",
        remedy,
    )


def _weighted(
    operation: Any, weights: Probabilities | Exponentials, value: Operand, dimension: int
) -> WeightedValues | Opaque:
    key = weights.softmax.key
    query = LEFT if key == RIGHT else RIGHT
    if value.factors:
        return Opaque(operation, f"argument {value.argument} was multiplied before it is used as V")
    if not _is(weights.axes[dimension], key):
        return Opaque(operation, "the softmax runs along another axis than the one that V is summed over")
    layouts = of_values(weights, value, dimension)
    if not _is(value.axes[dimension], LENGTH):
        what = f"axis {label(value.axes[dimension])} of argument {value.argument} as V, not over its length"
        return Opaque(operation, f"it sums over {what}", layouts=layouts)
    pairing = Pairing()
    result: list[Axis] = []
    for index, (a, b) in enumerate(zip(weights.axes, value.axes, strict=True)):
        pairs = [] if index == dimension else aligned(a, b)
        taken: list[Atom] = []
        for x, y in [(None, None)] if pairs is None else pairs:
            alone = (x is None and y is not None and y.label == DEPTH) or (
                y is None and x is not None and x.label == query
            )
            if not alone and not pairing.add(x, y):
                what = f"batch and head axes of V do not meet those of the scores: {_pair(a, b)}"
                return Opaque(operation, what, layouts=layouts)
            one = y if x is None else x
            assert one is not None
            taken.append(one)
        result.append(merged(taken))
    if not pairing.is_grouped or pairing.more_right:
        what = f"batch and head axes of V do not meet those of the scores: {pairing}"
        return Opaque(operation, what, GROUPS, layouts)
    if [atom.label for axis in value.axes for atom in axis].count(DEPTH) > 1:
        return Opaque(operation, f"heads of argument {value.argument} are in parts", layouts=layouts)
    return WeightedValues(tuple(result), weights.softmax, value.argument, operation)


def _is(axis: Axis, name: str) -> bool:
    return len(axis) == 1 and axis[0].label == name


def _pair(a: Axis, b: Axis) -> str:
    return f"{label(a)} against {label(b)}"


def _unmatched(operation: Any, left: Operand, a: Axis, right: Operand, b: Axis) -> Opaque:
    """Why two axes of Q and K do not go together, in a product along D."""
    arguments = f"arguments {left.argument} and {right.argument}"
    if {x.label for x in (*a, *b)} <= {BATCH, HEAD}:
        return Opaque(
            operation,
            f"batch and head axes of {arguments} differ: {_pair(a, b)}"
            " (grouped or repeated heads are not recognised in this form)",
            GROUPS,
        )
    if _is(a, LENGTH) and a == b:
        return Opaque(
            operation,
            f"{arguments} share axis S, as if it were heads: [B, H, S, D] is what arguments are read as",
            "where they are [B, S, H, D], give them transposed",
        )
    return Opaque(operation, f"axes of {arguments} do not pair up as Q K^T of [B, H, S, D]: {_pair(a, b)}")
