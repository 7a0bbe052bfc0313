"""Values of a program: each knows which parts of others a part of it needs, and how to compute it from them.

A node is one result of one operation, a tensor or a scalar (shape ()). `constant` says that it depends on no argument
of the function: such values are rounded in their own types at every operation, all others are float64 throughout.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from npuc.compiler.diagnostics import InputError, Place
from npuc.runtime.evaluator.arithmetic import Function, Signature, UndefinedError
from npuc.runtime.evaluator.elements import ElementType
from npuc.runtime.evaluator.regions import Region, count, lengths, take


@dataclass(frozen=True)
class Origin:
    """The operation a node comes from."""

    operation: str
    place: Place

    def error(self, reason: str, remedy: str | None = None) -> InputError:
        return InputError(f"{self.operation}: {reason}", place=self.place, remedy=remedy)


class Node(ABC):
    """One tensor or scalar. scratch: bytes that computing a part takes beside operands and result."""

    def __init__(self, origin: Origin, type_: ElementType, shape: Sequence[int], constant: bool) -> None:
        self.origin = origin
        self.type = type_
        self.shape = tuple(shape)
        self.constant = constant

    @abstractmethod
    def needs(self, region: Region) -> list[Request]:
        """The parts of other nodes that a part of this one is computed from, in the order `compute` takes them."""

    @abstractmethod
    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """The part, of shape lengths(region), from the arrays of `needs`. Raises InputError."""

    def scratch(self, region: Region) -> int:
        return 0

    def nbytes(self, region: Region) -> int:
        return count(region) * self.type.dtype.itemsize

    def apply(self, function: Function, arrays: Sequence[np.ndarray], signature: Signature) -> np.ndarray:
        """An elementwise function; a constant's result is rounded in its type. Raises InputError."""
        try:
            result = function(arrays, signature)
        except UndefinedError as error:
            raise self.origin.error(f"{error}, which has no defined result") from None
        return signature.result.rounded(result) if self.constant and signature.result.is_float else result


Request: TypeAlias = "tuple[Node, Region]"


class Given(Node):
    """An array that is there: an argument of the function or a literal, in its storage type."""

    def __init__(self, origin: Origin, type_: ElementType, array: np.ndarray, constant: bool) -> None:
        super().__init__(origin, type_, array.shape, constant)
        self._array = array

    def needs(self, region: Region) -> list[Request]:
        return []

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return take(self._array, region).astype(self.type.dtype, copy=False)


class Splat(Node):
    """One scalar everywhere (linalg.fill, tensor.splat): nothing is stored."""

    def __init__(self, origin: Origin, scalar: Node, shape: Sequence[int]) -> None:
        super().__init__(origin, scalar.type, shape, scalar.constant)
        self._scalar = scalar

    def needs(self, region: Region) -> list[Request]:
        return [(self._scalar, ())]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.broadcast_to(arrays[0], lengths(region))

    def nbytes(self, region: Region) -> int:
        return 0


class Uninitialised(Node):
    """Storage that nothing wrote yet (tensor.empty): it has a shape, but no element may be read."""

    def needs(self, region: Region) -> list[Request]:
        if count(region) == 0:
            return []
        raise self.origin.error("its elements are read before anything is written to them")

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.zeros(lengths(region), self.type.dtype)


class Failed(Node):
    """A result of an operation without a rule, or that has no defined result: harmless until it is needed."""

    def __init__(self, origin: Origin, type_: ElementType, shape: Sequence[int], error: InputError) -> None:
        super().__init__(origin, type_, shape, False)
        self._error = error

    def needs(self, region: Region) -> list[Request]:
        raise self._error

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        raise AssertionError("its needs raised")


class Elementwise(Node):
    """An operation of arith or math on scalars, or on whole tensors of one shape (a condition may be a scalar)."""

    def __init__(self, origin: Origin, function: Function, signature: Signature, operands: Sequence[Node]) -> None:
        shape = max((node.shape for node in operands), key=len)
        super().__init__(origin, signature.result, shape, all(node.constant for node in operands))
        self._function = function
        self._signature = signature
        self._operands = operands

    def needs(self, region: Region) -> list[Request]:
        return [(node, region if node.shape else ()) for node in self._operands]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(self.apply(self._function, arrays, self._signature))
