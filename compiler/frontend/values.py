"""What a tensor means to the matcher: which attention step it is, and which attention axis each dimension walks.

Recognition is an abstract execution of the function. Every SSA value gets one of the values below; they are plain
data and compare by structure, so "the same tensor" means "the same function of the arguments", through any number of
reshapes, transposes and float conversions. Operations outside the rules give an `Opaque`, which names them.

A dimension's axis is a tuple of atoms, outermost first: () for a dimension of one element, or along which the tensor
does not vary; two atoms where dimensions were collapsed, as (B, H).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from npuc.compiler.frontend.attention import Size
from npuc.compiler.frontend.call_arguments import LARGEST_SCALE
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS

BATCH, HEAD, LENGTH, DEPTH = "B", "H", "S", "D"
LABELS = BATCH + HEAD + LENGTH + DEPTH
LEFT, RIGHT = "L", "R"  # the length axes of a product of two arguments, before it is known which is Q
REPEAT = "*"  # what a tensor does not vary along, inside a dimension that it varies along


@dataclass(frozen=True)
class Atom:
    """A digit of an attention axis: its part of the coordinate is digit * step; extent: None where it is open.

    A whole axis is one digit of step 1. Heads that were split into groups are two: (H, groups, size of a group) and
    (H, size of a group, 1).  open: of an open extent, the dimension of an argument whose length it is, as "0.2".
    """

    label: str
    extent: Size
    step: int = 1
    open: str | None = field(default=None, compare=False)


Axis: TypeAlias = "tuple[Atom, ...]"
Axes: TypeAlias = "tuple[Axis, ...]"


@dataclass(frozen=True)
class Affine:
    """constant + the sum of coefficient * coordinate, exactly; terms: (label of an atom, coefficient), sorted."""

    terms: tuple[tuple[str, int], ...]
    constant: int


@dataclass(frozen=True)
class Scaling:
    """One number that a call gives, whatever its shape: argument `argument` to the power of `power`, times constant.

    rooted: by way of a root, so that it is no number where the argument is below zero.
    """

    argument: int
    power: float = 1.0
    constant: float = 1.0
    rooted: bool = False

    def times(self, factor: float) -> Scaling:
        return replace(self, constant=self.constant * factor)

    def to(self, power: float) -> Scaling | None:
        """A power of it; None where its constant has none."""
        whole = power == int(power)
        if self.constant == 0 or (self.constant < 0 and not whole):
            return None
        return Scaling(self.argument, self.power * power, self.constant**power, self.rooted or not whole)


# What a tensor was multiplied by: numbers of the source, and one that a call gives.
Factors: TypeAlias = "tuple[float | Scaling, ...]"


def numbers(factors: Factors) -> float:
    """The product of a source's factors."""
    return math.prod((f.constant if isinstance(f, Scaling) else f for f in factors), start=1.0)


def scalings(factors: Factors) -> tuple[Scaling, ...]:
    """The factors that a call gives, without constants; those of one argument together."""
    found: dict[int, Scaling] = {}
    for factor in factors:
        if isinstance(factor, Scaling):
            so_far = found.get(factor.argument, Scaling(factor.argument, 0.0))
            rooted = so_far.rooted or factor.rooted
            found[factor.argument] = replace(so_far, power=so_far.power + factor.power, rooted=rooted)
    return tuple(found.values())


@dataclass(frozen=True)
class MaskOperand:
    """An argument that masks the scores: i1, true = keep, or a number added to them.

    queries, keys: which length axis of the scores (LEFT, RIGHT) its last two dimensions walk, None for one element.
    inverted: true hides.
    """

    argument: int
    keep: bool
    queries: str | None
    keys: str | None
    source: Axes = field(default=(), compare=False)
    inverted: bool = False


@dataclass(frozen=True)
class Masking:
    """What hides scores, after all of their product's factors.

    visible: forms over LEFT and RIGHT, a score is hidden where one is below zero.  hidden: the most that is added to a
    hidden score, or stands in its place.  later: factors of all of it.  lengths: extents of LEFT and RIGHT.
    """

    lengths: tuple[Size, Size]
    operand: MaskOperand | None = None
    visible: tuple[Affine, ...] = ()
    hidden: float = -math.inf
    later: tuple[float, ...] = ()


@dataclass(frozen=True)
class Product:
    """Q K^T or K Q^T: arguments by number, their products summed over D, times every factor, and then masked.

    capped: the factors in front of a hyperbolic tangent, which `factors` come after.
    """

    left: int
    right: int
    factors: Factors
    masking: Masking | None = None
    capped: Factors | None = None

    def times(self, factor: float | Scaling) -> Product:
        if self.masking is None or isinstance(factor, Scaling):
            return replace(self, factors=(*self.factors, factor))
        return replace(self, masking=replace(self.masking, later=(*self.masking.later, factor)))


@dataclass(frozen=True)
class Softmax:
    """A softmax of a product over the length axis `key` (LEFT or RIGHT), with the exponential's base folded in.

    scale: what the bare product of the arguments is multiplied by under the natural exponential, and by `scaling`,
    which a call gives, whose magnitude is `most` at most.  limits: attributes
    of attn.sdpa that say which keys a query sees by their positions.
    """

    product: Product
    key: str
    scale: float
    limits: tuple[tuple[str, Any], ...] = ()
    scaling: Scaling | None = None
    most: float = LARGEST_SCALE


@dataclass(frozen=True)
class Splat:
    """One number everywhere, of a float type, an integer type (with its sign: i1 true is -1) or index."""

    value: float | int
    type: str

    @property
    def is_float(self) -> bool:
        return self.type in FLOAT_FORMATS


@dataclass(frozen=True)
class Length:
    """An integer that is affine in open lengths; terms: by the dimension of an argument, as "0.2"."""

    form: Affine
    type: str

    @property
    def single(self) -> str | None:
        """The length that it is; None where it is computed from some."""
        return self.form.terms[0][0] if self.form.constant == 0 and self.form.terms[1:] == () and self._whole else None

    @property
    def _whole(self) -> bool:
        return bool(self.form.terms) and self.form.terms[0][1] == 1


@dataclass(frozen=True)
class LengthTest:
    """i1: whether a form in open lengths is zero."""

    form: Affine


@dataclass(frozen=True)
class Shape:
    """A tensor of one dimension of integers, one after the other."""

    sizes: tuple[Any, ...]


@dataclass(frozen=True)
class Empty:
    """Storage without contents. open: for each dimension, which open length it has."""

    open: tuple[str | None, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class Opaque:
    """Not understood: the operation that blocked and why."""

    operation: Any
    reason: str
    remedy: str | None = None
    layouts: Mapping[int, Axes] | None = field(default=None, compare=False)  # under which it may be understood


@dataclass(frozen=True)
class Operand:
    """A function argument, reshaped, transposed, converted between float types, multiplied by factors.

    source: the axes of the argument as it comes.
    """

    axes: Axes
    argument: int
    factors: Factors = ()
    source: Axes = field(default=(), compare=False)


@dataclass(frozen=True)
class Inverted:
    """i1: where an argument is false."""

    axes: Axes
    argument: int
    source: Axes = field(default=(), compare=False)


@dataclass(frozen=True)
class Positions:
    """Integers of `type` that are affine in where they lie; an axis' atoms have labels that occur once.

    The labels tie form and axes together, and say nothing beyond one value: where it lies now, its axes say.
    """

    axes: Axes
    form: Affine
    type: str


@dataclass(frozen=True)
class Predicate:
    """i1: where no form is below zero; negated: where one is."""

    axes: Axes
    holds: tuple[Affine, ...]
    negated: bool = False


@dataclass(frozen=True)
class Conjunction:
    """i1: where an argument is true and a comparison of positions holds, both over the same dimensions."""

    operand: Operand
    predicate: Predicate

    @property
    def axes(self) -> Axes:
        return self.operand.axes


@dataclass(frozen=True)
class MaskBias:
    """Zero where argument `argument` (i1) is true (`inverted`: false), or where no form is below zero, and `hidden`
    elsewhere."""

    axes: Axes
    argument: int | None
    visible: tuple[Affine, ...]
    hidden: float
    source: Axes = field(default=(), compare=False)
    inverted: bool = False


@dataclass(frozen=True)
class OperandProduct:
    """Elementwise product inside a contraction's body, before it is summed."""

    left: Operand | Scores | Exponentials | Probabilities
    right: Operand | Scores | Exponentials | Probabilities


@dataclass(frozen=True)
class Scores:
    axes: Axes
    product: Product


@dataclass(frozen=True)
class RowMaximum:
    """The scores' maximum over the axis `key`."""

    axes: Axes
    product: Product
    key: str


@dataclass(frozen=True)
class Shifted:
    """Scores less their row maximum, then multiplied by further factors.

    by: the masked scores whose maximum it was, where these are not masked; what is hidden in them is to be taken out.
    """

    axes: Axes
    product: Product
    key: str
    by: Product | None = None


@dataclass(frozen=True)
class Unhidden:
    """Exponentials of a Shifted that has `by`: some may be infinite, and are to be replaced by zeros."""

    axes: Axes
    product: Product
    by: Product
    key: str
    binary: bool


@dataclass(frozen=True)
class Exponentials:
    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class RowSum:
    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class LogSum:
    """The natural logarithm of RowSum."""

    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class LogSumExp:
    """LogSum and the row maximum: the logarithm of the sum of the exponentials of the scores themselves."""

    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class LogProbabilities:
    """Scores less LogSumExp."""

    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class RowReciprocal:
    """1 / RowSum."""

    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class Probabilities:
    axes: Axes
    softmax: Softmax


@dataclass(frozen=True)
class IsNoNumber:
    """i1: which probabilities are not numbers, those of rows that see no key."""

    axes: Axes
    softmax: Softmax

    @property
    def probabilities(self) -> Probabilities:
        return Probabilities(self.axes, self.softmax)


@dataclass(frozen=True)
class StartLessMaximum:
    """What a running maximum starts from, less the maximum of a row: at most zero."""

    axes: Axes


@dataclass(frozen=True)
class Correction:
    """Its exponential, a finite number: by it, one-block online updates multiply what was accumulated before."""

    axes: Axes


@dataclass(frozen=True)
class WeightedValues:
    """Exponentials times V, summed over the keys; not yet divided by the row sum. The query axis is LEFT or RIGHT."""

    axes: Axes
    softmax: Softmax
    value: int
    operation: Any = field(compare=False, repr=False)


@dataclass(frozen=True)
class ScoreIsMinusInfinity:
    """i1: which scores are -inf, or, where `negated`, which are not."""

    axes: Axes
    product: Product
    negated: bool = False


@dataclass(frozen=True)
class RowIsMinusInfinity:
    """i1: rows that are -inf all along the axis `key`, or, where `negated`, the others."""

    axes: Axes
    product: Product
    key: str
    negated: bool = False


@dataclass(frozen=True)
class AbsoluteRowMaximum:
    """|RowMaximum|, to test whether it is a number."""

    axes: Axes
    product: Product
    key: str


@dataclass(frozen=True)
class AboveStart:
    """i1: whether a row maximum is above a number that is never above it; start_first: whether the number is above."""

    axes: Axes
    product: Product
    key: str
    start_first: bool


@dataclass(frozen=True)
class ScoreAbove:
    """i1: which masked scores are above a number; number_first: which the number is above of."""

    axes: Axes
    product: Product
    number: float
    number_first: bool


@dataclass(frozen=True)
class RowTest:
    """i1: which row maxima are infinite, or, where `finite`, which are not."""

    axes: Axes
    product: Product
    key: str
    finite: bool


@dataclass(frozen=True)
class Attended:
    """softmax(scale Q K^T) V; arguments by number. operation: the one that made it, for messages."""

    axes: Axes
    softmax: Softmax
    value: int
    operation: Any = field(compare=False, repr=False)


@dataclass(frozen=True)
class Sdpa:
    """The result of an attn.sdpa operation; arguments by number, attributes as verified. inverted: its mask is."""

    axes: Axes
    query: int
    key: int
    value: int
    mask: int | None
    attributes: tuple[tuple[str, Any], ...]
    scaling: Scaling | None
    inverted: bool
    operation: Any = field(compare=False, repr=False)


Value: TypeAlias = (
    "Splat | Scaling | Length | LengthTest | Shape | Empty | Opaque | Operand | Inverted | Positions | Predicate"
    " | Conjunction | MaskBias | OperandProduct | Scores | RowMaximum | Shifted | Unhidden | Exponentials | RowSum"
    " | LogSum | LogSumExp | LogProbabilities | RowReciprocal | StartLessMaximum | Correction | Probabilities"
    " | IsNoNumber | WeightedValues | ScoreIsMinusInfinity"
    " | RowIsMinusInfinity | AbsoluteRowMaximum | AboveStart | ScoreAbove | RowTest | Attended | Sdpa"
)

_NAMES = {
    Splat: "a constant",
    Scaling: "a number that is an argument",
    Length: "a length",
    LengthTest: "a comparison of lengths",
    Shape: "a shape",
    Empty: "an uninitialised tensor",
    Operand: "an argument",
    Inverted: "an argument turned round",
    Positions: "positions",
    Predicate: "a comparison of positions",
    Conjunction: "an argument and a comparison of positions",
    MaskBias: "a mask",
    OperandProduct: "a product of two tensors",
    Scores: "the scores",
    RowMaximum: "the row maximum of the scores",
    Shifted: "the scores less their row maximum",
    Unhidden: "exponentials of scores that are yet to be masked",
    Exponentials: "the exponentials",
    RowSum: "the row sum of the exponentials",
    LogSum: "the logarithm of the row sum",
    LogSumExp: "the logarithm of the sum of the exponentials",
    LogProbabilities: "the logarithm of the probabilities",
    RowReciprocal: "the reciprocal of the row sum",
    Probabilities: "the probabilities",
    IsNoNumber: "the test for probabilities that are no numbers",
    StartLessMaximum: "the start of the row maximum less the maximum",
    Correction: "the correction of what was accumulated before",
    WeightedValues: "the exponentials times V without the division by their row sum",
    ScoreIsMinusInfinity: "the test for scores of -inf",
    RowIsMinusInfinity: "the test for rows of -inf",
    AbsoluteRowMaximum: "the size of the row maximum",
    AboveStart: "the test for a row maximum above a number",
    ScoreAbove: "the test for scores above a number",
    RowTest: "the test for a row maximum that is no number",
    Attended: "the attention result",
    Sdpa: "the attention result",
}


def describe(value: Value) -> str:
    """The value in the words of an error message."""
    return _NAMES.get(type(value), "a tensor that is not understood")


def axes_of(value: Value) -> Axes | None:
    """The axes, or None for values that are the same whatever their shape."""
    return getattr(value, "axes", None)


def with_axes(value: Any, axes: Axes) -> Any:
    return replace(value, axes=axes) if axes_of(value) is not None else value


def moved(value: Any, move: Callable[[Axes], Axes]) -> Any:
    """The value with its axes moved; what `move` raises goes through."""
    if isinstance(value, Conjunction):
        return Conjunction(moved(value.operand, move), moved(value.predicate, move))
    axes = axes_of(value)
    return value if axes is None else replace(value, axes=move(axes))
