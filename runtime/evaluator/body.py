"""The body of a structured operation: what one iteration computes, run on whole blocks of iterations at a time.

Values are numbered; leaves come from outside an iteration (an element of an operand, a running value of a result, the
iteration's position, a value of the surrounding function), steps compute one value from others. Arrays of values have
one axis a loop dimension, of length one where a value does not vary along it, or no axis at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.runtime.evaluator import affine
from npuc.runtime.evaluator.arithmetic import Function, Signature, UndefinedError
from npuc.runtime.evaluator.elements import INDEX, ElementType
from npuc.runtime.evaluator.nodes import Node, Origin
from npuc.runtime.evaluator.regions import Region, array_of, index_set, positions


@dataclass(frozen=True)
class Input:
    """The element that an input operand has at the iteration."""

    operand: int


@dataclass(frozen=True)
class Running:
    """The value that result `result` has before the iteration."""

    result: int


@dataclass(frozen=True)
class Position:
    """The iteration's index along a loop dimension."""

    dimension: int


@dataclass(frozen=True)
class Outer:
    """A scalar of the surrounding function."""

    node: Node


Leaf: TypeAlias = "Input | Running | Position | Outer"


@dataclass(frozen=True)
class Compute:
    """An operation of arith or math."""

    origin: Origin
    name: str
    function: Function
    signature: Signature
    operands: tuple[int, ...]

    @property
    def type(self) -> ElementType:
        return self.signature.result


@dataclass(frozen=True)
class Affine:
    """An affine.apply of `index` values."""

    origin: Origin
    expression: affine.Expression
    dimensions: int
    operands: tuple[int, ...]
    type: ElementType = INDEX


@dataclass(frozen=True)
class Gather:
    """A tensor.extract: an element of a tensor of the surrounding function at computed indices."""

    origin: Origin
    tensor: Node
    operands: tuple[int, ...]

    @property
    def type(self) -> ElementType:
        return self.tensor.type


@dataclass(frozen=True)
class Asserted:
    """A value, the first operand, where a cf.assert of the second holds in all iterations."""

    origin: Origin
    message: str
    operands: tuple[int, int]


Value: TypeAlias = "Leaf | Compute | Affine | Gather | Asserted"
# What the leaves are, and the part of each gathered tensor that is there.
Leaves: TypeAlias = Mapping[Leaf, np.ndarray]
Gathered: TypeAlias = Mapping[int, "tuple[Region, np.ndarray]"]


@dataclass(frozen=True)
class Body:
    """values: operands before their uses. yields: the value of each result."""

    values: tuple[Value, ...]
    yields: tuple[int, ...]

    def needed(self, wanted: Iterable[int]) -> list[int]:
        """The values that `wanted` are computed from, themselves included, in order."""
        needed = set(wanted)
        for number in range(len(self.values) - 1, -1, -1):
            value = self.values[number]
            if number in needed and isinstance(value, Compute | Affine | Gather | Asserted):
                needed.update(value.operands)
        return sorted(needed)

    def constants(self, constant_leaf: Callable[[Leaf], bool]) -> frozenset[int]:
        """The values that depend on no argument of the function, given which leaves do not."""
        found: set[int] = set()
        for number, value in enumerate(self.values):
            if isinstance(value, Compute | Affine | Asserted):
                constant = all(operand in found for operand in value.operands)
            elif isinstance(value, Gather):
                constant = value.tensor.constant and all(operand in found for operand in value.operands)
            else:
                constant = constant_leaf(value)
            if constant:
                found.add(number)
        return frozenset(found)

    def run(
        self, wanted: Sequence[int], leaves: Leaves, constants: frozenset[int], gathered: Gathered
    ) -> list[np.ndarray]:
        """The arrays of `wanted`. Raises InputError where a step has no defined result."""
        needed = self.needed(wanted)
        last: dict[int, int] = {}
        for number in needed:
            value = self.values[number]
            if isinstance(value, Compute | Affine | Gather | Asserted):
                last.update(dict.fromkeys(value.operands, number))
        arrays: dict[int, np.ndarray] = {}
        for number in needed:
            value = self.values[number]
            if isinstance(value, Compute | Affine | Gather | Asserted):
                operands = [arrays[operand] for operand in value.operands]
                arrays[number] = _step(value, operands, number in constants, gathered.get(number))
                for operand in set(value.operands):
                    if last[operand] == number and operand not in wanted:
                        del arrays[operand]
            else:
                arrays[number] = leaves[value]
        return [arrays[number] for number in wanted]


def _step(
    step: Compute | Affine | Gather | Asserted,
    operands: list[np.ndarray],
    constant: bool,
    tensor: tuple[Region, np.ndarray] | None,
) -> np.ndarray:
    try:
        if isinstance(step, Compute):
            result = step.function(operands, step.signature)
            return step.type.rounded(result) if constant and step.type.is_float else result
        if isinstance(step, Affine):
            return affine.evaluate(step.expression, operands[: step.dimensions], operands[step.dimensions :])
        if isinstance(step, Asserted):
            value, holds = operands
            if not np.all(holds):
                raise step.origin.error(f"does not hold: {step.message}")
            return value
        assert tensor is not None
        have, array = tensor
        check_inside(step, operands)
        return array[tuple(positions(h, i) for h, i in zip(have, operands, strict=True))]
    except UndefinedError as error:
        raise step.origin.error(f"{error}, which has no defined result") from None
    except ZeroDivisionError as error:
        raise step.origin.error(f"{error}, which has no defined result") from None


def check_inside(step: Gather, indices: Sequence[np.ndarray]) -> None:
    """Raises InputError for indices outside the tensor that a gather reads."""
    for dimension, (index, size) in enumerate(zip(indices, step.tensor.shape, strict=True)):
        if index.size and (index.min() < 0 or index.max() >= size):
            wrong = int(index.min() if index.min() < 0 else index.max())
            raise outside(step.origin, dimension, wrong, size)


def gathered_region(step: Gather, indices: Sequence[np.ndarray]) -> Region:
    """The part of its tensor that a gather reads. Raises InputError for indices outside the tensor."""
    check_inside(step, indices)
    return tuple(map(index_set, indices))


def outside(origin: Origin, dimension: int, index: int, size: int) -> InputError:
    return origin.error(f"index {index} lies outside dimension {dimension} of {size} elements")


def position_array(indices: Sequence[int] | range, dimension: int, rank: int) -> np.ndarray:
    """The indices of a loop along its axis."""
    shape = [1] * rank
    shape[dimension] = len(indices)
    return array_of(indices if isinstance(indices, range) else tuple(indices)).reshape(shape)
