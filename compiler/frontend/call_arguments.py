"""Arguments of a function that no kernel takes: the scale of a call, and what has no part in the attention."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from npuc.compiler.argument_layout import Sizes
from npuc.compiler.diagnostics import InputError

SCALE, UNUSED = "scale", "unused"
LARGEST_SCALE = 2.0**16
"""What the scale that a call gives is at most, where nothing else bounds it: its power by the argument, without the
source's constants. Beyond that scores are no scores, and a number that hides some might not."""
SCALE_DTYPES = ("bf16", "f16", "f32", "f64")


@dataclass(frozen=True)
class CallArgument:
    """place: its number among the function's arguments.  scalar: of no tensor type.

    Of a scale, which has one element: the scores are multiplied by it to the power of `power`, whose magnitude is
    `most` at most.  rooted: and the argument is not below zero.
    """

    place: int
    name: str
    dtype: str
    shape: Sizes
    role: str
    scalar: bool = False
    power: float = 1.0
    most: float = LARGEST_SCALE
    rooted: bool = False

    @property
    def source_shape(self) -> Sizes:
        return self.shape

    @property
    def type_text(self) -> str:
        """Its type as MLIR writes it."""
        if self.scalar:
            return self.dtype
        return f"tensor<{''.join('?x' if size is None else f'{size}x' for size in self.shape)}{self.dtype}>"

    def factor(self, value: Any) -> float:
        """What a call's scores are multiplied by. Raises InputError for what is no number, or too large."""
        given = float(value.item() if hasattr(value, "item") else value)
        try:
            found = given**self.power
        except (ZeroDivisionError, OverflowError):
            found = math.inf
        if self.rooted and given < 0:
            raise InputError(f"argument {self.name} is {given:g}, of which the source takes a root")
        if isinstance(found, complex) or not math.isfinite(found):
            what = f"argument {self.name} is {given:g}, of which the power {self.power:g} is no finite number"
            raise InputError(what if self.power != 1 else f"argument {self.name} is {given:g}, which is no scale")
        if abs(found) > self.most:
            what = f"argument {self.name} is {given:g}: it multiplies scores by {abs(found):g}, which is more than"
            remedy = "what hides scores in the source might not hide them then"
            raise InputError(f"{what} {self.most:g}", remedy=remedy if self.most < LARGEST_SCALE else None)
        return found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CallArgument:
        """Raises TypeError for unknown or missing fields."""
        return cls(**{**data, "shape": tuple(data["shape"])})


def problems_of(arguments: tuple[CallArgument, ...], count: int, names: set[str]) -> list[str]:
    """What contradicts itself in them; count: of the function's arguments, names: of the others."""
    found = []
    for argument in arguments:
        if argument.role not in (SCALE, UNUSED):
            found.append(f"argument {argument.name} plays the role {argument.role}, not {SCALE} or {UNUSED}")
        if argument.role == SCALE and (argument.dtype not in SCALE_DTYPES or set(argument.shape) - {1}):
            found.append(f"argument {argument.name} is {argument.type_text}, not one number that is a scale")
        if not (math.isfinite(argument.power) and argument.power != 0 and argument.most > 0):
            found.append(f"argument {argument.name} is taken to the power of {argument.power:g}")
        if argument.name in names:
            found.append("two arguments have one name")
    places = [argument.place for argument in arguments]
    if places != sorted(set(places)) or not all(0 <= place < count for place in places):
        found.append(f"arguments are in the places {places} of {count}")
    if [argument.role for argument in arguments].count(SCALE) > 1:
        found.append("two arguments are the scale")
    return found
