"""What a softmax of masked scores means: attributes of attn.sdpa, or why it has none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.call_arguments import LARGEST_SCALE
from npuc.compiler.frontend.positions import LONGEST
from npuc.compiler.frontend.values import (
    DEPTH,
    LEFT,
    LENGTH,
    RIGHT,
    Affine,
    Axes,
    Masking,
    MaskOperand,
    Product,
    numbers,
    scalings,
)

ROOM = 2.0**16
"""What the products of rows with one another take at most in front of the scale, where something rests on a number
that is finite: beyond that their scaled sums may be below it."""
HIDES = -1e9  # what is added at most to scores whose rows are hidden where all are
ROUNDED = 1 - 2.0**-8  # of HIDES, where a constant is of bf16
LOST = 1000.0  # the exponential of less is zero, whatever else is in its row
FACTOR_ROUNDING = 2.0**-21  # of log2(e), in float32


class MaskError(Exception):
    """Masked scores that attn.sdpa has no words for; the text says why."""

    def __init__(self, reason: str, remedy: str | None = None, layouts: Mapping[int, Axes] | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy
        self.layouts = layouts


def room(product: Product) -> float:
    """How far scores, masked ones that are to be seen too, may be from zero."""
    masking = product.masking
    if masking is None:
        return spread(product)
    added = -HIDES if masking.operand is not None and not masking.operand.keep else 0.0
    return (spread(product) + added) * math.prod(masking.later)


def spread(product: Product) -> float:
    """How far scores may be from zero before they are masked; a hyperbolic tangent is at most one."""
    given = LARGEST_SCALE if scalings(product.factors) else 1.0
    return (ROOM if product.capped is None else 1.0) * abs(numbers(product.factors)) * given


def attributes(product: Product, key: str, base: float) -> tuple[tuple[tuple[str, Any], ...], float]:
    """Causal and window attributes of a softmax along `key`, e to the power of `base` times the scores; and what the
    scale that a call gives may be at most.

    Raises MaskError.
    """
    masking = product.masking
    assert masking is not None
    operand, total = masking.operand, math.prod(masking.later) * base
    if not (math.isfinite(total) and total > 0):
        raise MaskError(f"the factors of the masked scores multiply to {total:g}")
    if operand is not None:
        if operand.queries == key or operand.keys not in (key, None):
            raise MaskError(
                f"argument {operand.argument} is a mask of [Skv, S], not of [S, Skv]",
                "give it transposed",
                _turned(operand),
            )
        if not operand.keep and abs(total - 1.0) > FACTOR_ROUNDING:
            raise MaskError(f"argument {operand.argument} is multiplied by {total:g} after it was added to the scores")
    left, right = masking.lengths
    band = Band.of(masking, key, *((right, left) if key == LEFT else (left, right)))
    most = _checked_hidden(product, masking, total, band) if masking.hidden > -math.inf else LARGEST_SCALE
    return band.attributes(), most


def _turned(operand: MaskOperand) -> dict[int, Axes]:
    """The layout of a mask whose queries are what was taken for its keys."""
    names = {LENGTH: DEPTH, DEPTH: LENGTH}
    axes = [[replace(atom, label=names.get(atom.label, atom.label)) for atom in axis] for axis in operand.source]
    return {operand.argument: tuple(map(tuple, axes))}


def _checked_hidden(product: Product, masking: Masking, total: float, band: Band) -> float:
    """What the scale that a call gives may be at most, so that a finite number hides scores as -inf does; where it
    hides a whole row it is at most HIDES. Raises MaskError where it does not."""
    added = -HIDES if masking.operand is not None and not masking.operand.keep else 0.0
    reach, room_left = 2 * spread(product) * total, -(masking.hidden + added) * total - LOST
    shown = masking.operand is None and band.shows_each_query_a_key()
    may_hide_rows = -masking.hidden * math.prod(masking.later) >= -HIDES * ROUNDED
    given = bool(scalings(product.factors))
    if (room_left <= 0 if given else room_left < reach) or not (may_hide_rows or shown):
        raise MaskError(f"{masking.hidden:g} does not hide a score for certain", "mask with -inf")
    return LARGEST_SCALE * min(1.0, room_left / reach) if given and reach > 0 else LARGEST_SCALE


class Band:
    """low <= j - i <= high over S queries i and Skv keys j; None where nothing is said."""

    def __init__(self, queries: Size, keys: Size, low: int | None, high: int | None) -> None:
        self.queries, self.keys, self.low, self.high = queries, keys, low, high

    @classmethod
    def of(cls, masking: Masking, key: str, queries: Size, keys: Size) -> Band:
        lows: list[int] = []
        highs: list[int] = []
        for form in masking.visible:
            side, at = _side(form, LEFT if key == RIGHT else RIGHT, key, queries, keys)
            if side:
                (lows if side > 0 else highs).append(at)
        return cls(queries, keys, max(lows, default=None), min(highs, default=None))

    def attributes(self) -> tuple[tuple[str, Any], ...]:
        if self.low is None and self.high is None:
            return ()
        if self.queries is None or self.keys is None:
            return self._from_corner(0, "top-left", self.low, self.high)
        first, last = 1 - self.queries, self.keys - 1
        low = None if self.low is None or self.low <= first else self.low
        high = last if self.high is None else min(self.high, last)
        if high < first or (low is not None and low > high):
            raise MaskError("no query sees a key")
        if low is None and high == last:
            return ()
        for corner, align in ((0, "top-left"), (self.keys - self.queries, "bottom-right")):
            if min(corner, last) == high:
                return self._from_corner(corner, align, low, corner)
        return self._from_corner(0, "top-left", low, high)

    def _from_corner(self, corner: int, align: str, low: int | None, high: int | None) -> tuple[tuple[str, Any], ...]:
        if high != corner:
            limit = "without end" if high is None else f"up to {high:+d}"
            raise MaskError(f"query i sees keys {limit} from i, which is neither causal from a corner nor a window")
        found: list[tuple[str, Any]] = [("causal", True)]
        if low is not None:
            if low > corner:
                raise MaskError("no query sees a key")
            found.append(("window", corner - low + 1))
        return (*found, *([("align", align)] if align != "top-left" else []))

    def shows_each_query_a_key(self) -> bool:
        if self.queries is None or self.keys is None:
            return self.low is None and (self.high is None or self.high >= 0)
        high = self.keys - 1 if self.high is None else self.high
        return high >= 0 and (self.low is None or (self.low <= high and self.queries - 1 + self.low <= self.keys - 1))


def _side(form: Affine, query: str, key: str, queries: Size, keys: Size) -> tuple[int, int]:
    """What form >= 0 says of j - i: (1, the least), (-1, the greatest), or (0, 0) where it always holds."""
    terms = dict(form.terms)
    i, j, constant = terms.get(query, 0), terms.get(key, 0), form.constant
    least = constant + sum(min(0, n * ((LONGEST if e is None else e) - 1)) for n, e in ((i, queries), (j, keys)))
    if least >= 0:
        return 0, 0
    if queries == 1:
        i = -j
    elif keys == 1:
        j = -i
    if j == 0 or i != -j:
        raise MaskError("a comparison of positions is not one of the query's with the key's")
    return (1, -(constant // j)) if j > 0 else (-1, constant // -j)
