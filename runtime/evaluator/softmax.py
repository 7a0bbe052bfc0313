"""linalg.softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from npuc.runtime.evaluator.nodes import Node, Origin, Request
from npuc.runtime.evaluator.regions import Region, array_of, count


class Softmax(Node):
    """exp(x - max x) / sum exp(x - max x) along one dimension; NaN where all of it is -inf."""

    def __init__(self, origin: Origin, operand: Node, dimension: int) -> None:
        super().__init__(origin, operand.type, operand.shape, operand.constant)
        self._operand = operand
        self._dimension = dimension

    def _rows(self, region: Region) -> Region:
        d = self._dimension
        return (*region[:d], range(self.shape[d]), *region[d + 1 :])

    def needs(self, region: Region) -> list[Request]:
        return [(self._operand, self._rows(region))]

    def scratch(self, region: Region) -> int:
        return 8 * count(self._rows(region))

    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        axis = self._dimension
        powers = arrays[0] - arrays[0].max(axis=axis, keepdims=True)
        np.exp(powers, out=powers)
        powers /= powers.sum(axis=axis, keepdims=True)
        if region[axis] != range(self.shape[axis]):
            powers = np.take(powers, array_of(region[axis]), axis=axis)
        return self.type.rounded(powers) if self.constant else powers
