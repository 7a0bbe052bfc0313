"""Scores that are masked: a tensor is added to them, or some are replaced by a number that hides them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from npuc.compiler.frontend.axes import aligned, label
from npuc.compiler.frontend.layouts import of_mask
from npuc.compiler.frontend.positions import affine, both, opposite
from npuc.compiler.frontend.values import (
    BATCH,
    DEPTH,
    HEAD,
    LEFT,
    LENGTH,
    RIGHT,
    Affine,
    Axes,
    Axis,
    Conjunction,
    Inverted,
    MaskBias,
    Masking,
    MaskOperand,
    Opaque,
    Operand,
    Predicate,
    Scores,
    Splat,
    Value,
)

REMEDY = "attn.sdpa with causal, window or a mask operand says it; --backend reference runs that where no kernel does"
_Kept = Operand | Inverted | Predicate


def add(operation: Any, left: Value, right: Value) -> Value | None:
    """Scores plus a mask."""
    if not isinstance(left, Scores):
        left, right = right, left
    if not isinstance(left, Scores):
        return None
    if isinstance(right, Opaque):
        return right
    if isinstance(right, MaskBias):
        return _hidden(operation, left, right)
    if isinstance(right, Operand):
        if right.factors:
            return Opaque(operation, f"argument {right.argument} was multiplied before it is added to the scores")
        return _with_operand(operation, left, right, keep=False)
    return Opaque(operation, "it adds to the scores what is no mask that is recognised", REMEDY)


def select(operation: Any, condition: Value, left: Value, right: Value) -> Value | None:
    """Scores or a number that hides them, 0 or that number, or a condition and a constant."""
    if any(isinstance(v, Scores) for v in (left, right)):
        blocked = next((v for v in (condition, left, right) if isinstance(v, Opaque)), None)
        if blocked is not None:
            return blocked
    if isinstance(condition, Conjunction):
        return _where_both(operation, condition, left, right)
    if not isinstance(condition, _Kept):
        return _unknown(operation, left, right)
    if isinstance(left, Predicate) and right == Splat(0, "i1") and isinstance(condition, Predicate):
        return both(condition, left)
    if isinstance(right, Splat) and isinstance(left, Scores | Splat):
        kept, hidden, where = left, right, condition
        if isinstance(left, Splat) and left.value != 0:
            kept, hidden, where = right, left, opposite(condition)
    elif isinstance(left, Splat) and isinstance(right, Scores):
        kept, hidden, where = right, left, opposite(condition)
    else:
        return _unknown(operation, left, right)
    if not hidden.is_float:
        return _of_truths(condition, left, right)
    bias = _bias(operation, where, float(hidden.value))
    if isinstance(bias, Opaque):
        return bias
    if isinstance(kept, Scores):
        return _hidden(operation, kept, bias)
    return bias if isinstance(kept, Splat) and kept.value == 0 else None


def raised(scores: Scores, least: float) -> Scores | None:
    """The maximum of masked scores and a number: it stands for those that are hidden (`limits` says whether it hides
    them, as any that is put in their place)."""
    hides = scores.product.masking
    if hides is None or hides.later:
        return None
    return _masked(scores, replace(hides, hidden=max(hides.hidden, least)))


def _where_both(operation: Any, condition: Conjunction, left: Value, right: Value) -> Value | None:
    """Scores where an argument is true and a comparison holds: hidden by one, and by the other."""
    if not isinstance(left, Scores):
        return _unknown(operation, left, right)
    kept = select(operation, condition.predicate, left, right)
    return select(operation, condition.operand, kept, right) if isinstance(kept, Scores) else kept


def _unknown(operation: Any, left: Value, right: Value) -> Opaque | None:
    if isinstance(left, Scores) or isinstance(right, Scores):
        return Opaque(operation, "it replaces some scores by what is no mask that is recognised", REMEDY)
    return None


def _of_truths(condition: Value, left: Value, right: Value) -> Value | None:
    """select(c, true, false) is c, select(c, false, true) the opposite."""
    if isinstance(left, Splat) and isinstance(right, Splat) and left.type == right.type == "i1":
        assert isinstance(condition, _Kept)
        if left.value != right.value:
            return condition if left.value else opposite(condition)
    return None


def _bias(operation: Any, visible: _Kept, hidden: float) -> MaskBias | Opaque:
    if not hidden < 0:
        return Opaque(operation, f"it puts {hidden:g} where scores are masked, which does not hide them", REMEDY)
    if isinstance(visible, Operand):
        return MaskBias(visible.axes, visible.argument, (), hidden, visible.source)
    if isinstance(visible, Predicate) and not visible.negated:
        return MaskBias(visible.axes, None, visible.holds, hidden)
    if isinstance(visible, Inverted):
        return MaskBias(visible.axes, visible.argument, (), hidden, visible.source, inverted=True)
    return Opaque(operation, "it hides scores where several comparisons of positions hold", REMEDY)


def _hidden(operation: Any, scores: Scores, bias: MaskBias) -> Value:
    if bias.argument is not None:
        operand = Operand(bias.axes, bias.argument, source=bias.source)
        return _with_operand(operation, scores, operand, True, bias.hidden, bias.inverted)
    visible = _over_lengths(scores.axes, bias.axes, bias.visible)
    if visible is None:
        return Opaque(operation, "it masks the scores by positions along other axes than queries and keys", REMEDY)
    masking = _masking(scores)
    if masking.later:
        return Opaque(operation, "it masks scores that are masked already", REMEDY)
    most = bias.hidden if scores.product.masking is None else max(masking.hidden, bias.hidden)
    return _masked(scores, replace(masking, visible=(*masking.visible, *visible), hidden=most))


def _with_operand(
    operation: Any,
    scores: Scores,
    mask: Operand,
    keep: bool,
    hidden: float = float("-inf"),
    inverted: bool = False,
) -> Value:
    argument, axes, source = mask.argument, mask.axes, mask.source
    walks: dict[str, str] = {}
    for own, other in zip(axes, scores.axes, strict=True):
        pairs = aligned(own, other)
        for x, y in [(own[0], None)] if pairs is None else pairs:
            if x is None or (x == y and x.label in (BATCH, HEAD)):
                continue
            if y is None or y.label not in (LEFT, RIGHT) or x.label not in (LENGTH, DEPTH):
                what = f"its axis {label(own)} meets {label(other)} of the scores"
                layouts = of_mask(scores, axes, source, argument)
                return Opaque(operation, f"argument {argument} is no mask of [B, H, S, Skv]: {what}", layouts=layouts)
            walks[x.label] = y.label
    masking = _masking(scores)
    finite = max(hidden, masking.hidden) > float("-inf")
    if masking.operand is not None or masking.later or (not keep and finite):
        return Opaque(operation, "it masks scores that are masked already", REMEDY)
    operand = MaskOperand(argument, keep, walks.get(LENGTH), walks.get(DEPTH), source, inverted)
    return _masked(scores, replace(masking, operand=operand, hidden=max(hidden, masking.hidden)))


def _is_length(axis: Axis) -> bool:
    return len(axis) == 1 and axis[0].label in (LEFT, RIGHT)


def _masking(scores: Scores) -> Masking:
    extents = {atom.label: atom.extent for axis in scores.axes for atom in axis}
    return scores.product.masking or Masking((extents.get(LEFT, 1), extents.get(RIGHT, 1)))


def _masked(scores: Scores, masking: Masking) -> Scores:
    return Scores(scores.axes, replace(scores.product, masking=masking))


def _over_lengths(scores: Axes, axes: Axes, forms: tuple[Affine, ...]) -> tuple[Affine, ...] | None:
    """Forms over the scores' length axes; None where they depend on another axis."""
    names: dict[str, str] = {}
    for own, other in zip(axes, scores, strict=True):
        if own == ():
            continue
        if len(own) != 1 or not _is_length(other) or own[0].extent != other[0].extent:
            return None
        names[own[0].label] = other[0].label
    return tuple(affine({names[name]: n for name, n in form.terms}, form.constant) for form in forms)
