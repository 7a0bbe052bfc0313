"""tm_tensor.scan: running sums and the like along one dimension."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from npuc.runtime.evaluator.arithmetic import reducer
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Failed, Node, Origin, Request
from npuc.runtime.evaluator.regions import Region, array_of


class Scan(Node):
    """Element i is the operation of all elements of the operand up to i, as TMTensorOps.cpp has it."""

    def __init__(self, origin: Origin, operand: Node, dimension: int, combine: np.ufunc) -> None:
        super().__init__(origin, operand.type, operand.shape, operand.constant)
        self._operand = operand
        self._dimension = dimension
        self._combine = combine

    def needs(self, region: Region) -> list[Request]:
        d = self._dimension
        last = max(region[d], default=-1)
        return [(self._operand, (*region[:d], range(last + 1), *region[d + 1 :]))]

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        axis = self._dimension
        found = np.take(self._combine.accumulate(arrays[0], axis=axis), array_of(region[axis]), axis=axis)
        if not self.type.is_float:
            return self.type.wrapped(found)
        return self.type.rounded(found) if self.constant else found


def scan(builder: Builder, operation: Any) -> list[Node]:
    """The running values, and the last of them, which nothing that is evaluated reads. Raises InputError."""
    origin = builder.origin(operation)
    operand, _, last = builder.operands(operation)
    steps = [view.operation for view in operation.regions[0].blocks[0].operations]
    combine = reducer(steps[0].name, operand.type) if len(steps) == 2 else None
    if combine is None or not operation.attributes["inclusive"].value:
        raise origin.error("only inclusive scans with one operation are evaluated")
    if set(steps[0].operands) != set(operation.regions[0].blocks[0].arguments):
        raise origin.error("its body is no operation of its two arguments")
    if steps[1].operands[0] != steps[0].results[0]:
        raise origin.error("its body does not give what it computes")
    unread = Failed(origin, last.type, last.shape, origin.error("the last value of a scan is not evaluated"))
    return [Scan(origin, operand, operation.attributes["dimension"].value, combine), unread]
