"""Results of linalg operations with indexing maps and a body (all but softmax, pack and the like).

A result element is computed in one of four ways, each exact but for the order of float sums: by the one iteration that
writes it, by the last of those that overwrite it, by a reduction with an associative operation, or by running the
iterations that write it one after the other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from npuc.runtime.evaluator import schedule
from npuc.runtime.evaluator.access import Access, Loops, Output, full_range, output_of
from npuc.runtime.evaluator.arithmetic import FUNCTIONS, reducer
from npuc.runtime.evaluator.body import (
    Body,
    Compute,
    Gather,
    Gathered,
    Input,
    Leaf,
    Leaves,
    Outer,
    Position,
    Running,
    gathered_region,
    position_array,
)
from npuc.runtime.evaluator.contraction import CONVERSIONS, Contraction, contraction_of
from npuc.runtime.evaluator.nodes import Node, Origin, Request
from npuc.runtime.evaluator.regions import Indices, Region, count, everything

ONE_BY_ONE = 1 << 20  # iterations that are run one after the other; more would take minutes
ARRAYS_AT_ONCE = 3  # how many arrays of the size of a block a body has at one time, about


@dataclass(frozen=True)
class Nest:
    """A linalg operation. inputs and inits as the maps read them; parallel: by loop dimension."""

    origin: Origin
    extents: tuple[int, ...]
    parallel: tuple[bool, ...]
    inputs: tuple[Access, ...]
    inits: tuple[Access, ...]
    body: Body

    @cached_property
    def outputs(self) -> tuple[Output, ...]:
        found = []
        for init in self.inits:
            output = output_of(init.map)
            if output is None:
                raise self.origin.error("a result's indexing map is neither loop dimensions nor fixed indices")
            found.append(output)
        return tuple(found)

    def along(self, value: int) -> frozenset[int]:
        """The loop dimensions that a value of the body may vary along."""
        found: set[int] = set()
        for number in self.body.needed([value]):
            leaf = self.body.values[number]
            if isinstance(leaf, Input):
                found |= self.inputs[leaf.operand].dimensions
            elif isinstance(leaf, Running):
                found |= self.inits[leaf.result].dimensions
            elif isinstance(leaf, Position):
                found.add(leaf.dimension)
        return frozenset(found)

    def running(self, result: int) -> frozenset[int]:
        """The results whose running values decide the value of one."""
        found: set[int] = set()
        waiting = {result}
        while waiting:
            needed = self.body.needed([self.body.yields[waiting.pop()]])
            leaves = {leaf.result for leaf in map(self.body.values.__getitem__, needed) if isinstance(leaf, Running)}
            waiting |= leaves - found
            found |= leaves
        return frozenset(found)

    def folded(self, result: int) -> frozenset[int]:
        """The loop dimensions of more than one iteration whose iterations write the same element of a result."""
        return frozenset(d for d, n in enumerate(self.extents) if n > 1 and d not in self.outputs[result].dimensions)


@dataclass(frozen=True)
class _Plan:
    """How a region is computed. own: the loops that write into it; loops: the iterations that are run for it."""

    own: dict[int, Indices]
    loops: Loops
    leaves: tuple[tuple[Leaf, Access | None], ...]
    gathers: tuple[int, ...]
    requests: list[Request]


class StructuredResult(Node):
    """One result of a nest."""

    def __init__(self, nest: Nest, result: int) -> None:
        self.nest = nest
        self.result = result
        init = nest.inits[result].node
        self._running = nest.running(result)
        self._involved = sorted(self._running | {result})
        constant = self._all_constant() and (init.constant or nest.outputs[result].covers(init.shape))
        super().__init__(nest.origin, init.type, init.shape, constant)
        self._output = nest.outputs[result]
        self._constants = nest.body.constants(self._leaf_constant)
        self._folded = frozenset().union(*(nest.folded(k) for k in self._involved))
        self._combiner = self._find_combiner()
        self._product = self._find_product()
        self._planned: tuple[Region, _Plan] | None = None

    # --- what kind of computation it is ---------------------------------------------------------------------------
    def _leaf_constant(self, leaf: Leaf) -> bool:
        if isinstance(leaf, Input):
            return self.nest.inputs[leaf.operand].node.constant
        if isinstance(leaf, Outer):
            return leaf.node.constant
        return self._all_constant() if isinstance(leaf, Running) else True

    def _all_constant(self) -> bool:
        body = self.nest.body
        needed = body.needed(body.yields[k] for k in self._involved)
        for value in map(body.values.__getitem__, needed):
            if isinstance(value, Gather) and not value.tensor.constant:
                return False
            if isinstance(value, Input) and not self.nest.inputs[value.operand].node.constant:
                return False
            if isinstance(value, Outer) and not value.node.constant:
                return False
        return all(self.nest.inits[k].node.constant for k in self._running)

    def _find_combiner(self) -> tuple[Compute, int] | None:
        """running value (operation) value, with an associative operation: the operation and the value."""
        body = self.nest.body
        step = body.values[self._unconverted(body.yields[self.result])]
        if not self._folded or self._running != {self.result} or not isinstance(step, Compute):
            return None
        if len(step.operands) != 2 or reducer(step.name, step.type) is None:
            return None
        rounds = step.type.is_float and step.type.name != "f64" and step.name in ("arith.addf", "arith.mulf")
        if self._all_constant() and rounds:
            return None
        for own, other in (step.operands, step.operands[::-1]):
            needed = map(body.values.__getitem__, body.needed([other]))
            if body.values[self._unconverted(own)] == Running(self.result) and not any(
                isinstance(v, Running) for v in needed
            ):
                return step, other
        return None

    def _unconverted(self, value: int) -> int:
        """What a value is a conversion of: of data, one between floating types is the identity."""
        step = self.nest.body.values[value]
        while isinstance(step, Compute) and step.name in CONVERSIONS and value not in self._constants:
            (value,) = step.operands
            step = self.nest.body.values[value]
        return value

    def _find_product(self) -> Contraction | None:
        if self._combiner is None or self._combiner[0].name not in ("arith.addf", "arith.addi"):
            return None
        return contraction_of(self.nest.body, self._combiner[1], self.nest.along, self._constants)

    @property
    def _sequential(self) -> bool:
        return bool(self._folded) and bool(self._running) and self._combiner is None

    def _wanted(self) -> list[int]:
        """The values of the body that are computed at every iteration."""
        if self._product is not None:
            return [*self._product.left, *self._product.right]
        if self._combiner is not None:
            return [self._combiner[1]]
        results = self._involved if self._sequential else [self.result]
        return [self.nest.body.yields[k] for k in results]

    # --- which iterations and operands ----------------------------------------------------------------------------
    def _loops(self, own: dict[int, Indices]) -> Loops:
        kept = frozenset.intersection(*(self.nest.outputs[k].dimensions for k in self._involved))
        loops: list[Indices] = []
        for d, extent in enumerate(self.nest.extents):
            if d in own and (d in kept or not self._sequential):
                loops.append(own[d])
            elif self._combiner is None and not self._sequential:
                loops.append(range(extent - 1, extent))  # the last iteration's value stays
            else:
                loops.append(range(extent))
        return tuple(loops)

    def _plan(self, region: Region) -> _Plan:
        if self._planned is None or self._planned[0] != region:
            self._planned = region, self._make_plan(region)
        return self._planned[1]

    def _make_plan(self, region: Region) -> _Plan:
        nest, body = self.nest, self.nest.body
        for d in self._folded:
            if nest.parallel[d]:
                raise nest.origin.error(f"loop dimension {d} is parallel, but a result does not vary along it")
        init: Request = (nest.inits[self.result].node, region)
        if 0 in nest.extents or count(self._output.written(region)) == 0:
            return _Plan({}, (), (), (), [init])
        own = self._output.loops(region)
        loops = self._loops(own)
        requests = [] if self._output.covers(self.shape) else [init]
        wanted = self._wanted()
        leaves: list[tuple[Leaf, Access | None]] = []
        if self._combiner is not None:
            leaves.append((Running(self.result), nest.inits[self.result]))
        gathers = []
        for number in body.needed(wanted):
            value = body.values[number]
            if isinstance(value, Input):
                leaves.append((value, nest.inputs[value.operand]))
            elif isinstance(value, Running):
                leaves.append((value, nest.inits[value.result]))
            elif isinstance(value, Outer | Position):
                leaves.append((value, None))
            elif isinstance(value, Gather):
                gathers.append(number)
        for leaf, access in leaves:
            if access is not None:
                requests.append((access.node, access.region(loops, nest.origin)))
            elif isinstance(leaf, Outer):
                requests.append((leaf.node, ()))
        requests += [(self._gather(number).tensor, self._gathered(number, loops)) for number in gathers]
        return _Plan(own, loops, tuple(leaves), tuple(gathers), requests)

    def _gather(self, number: int) -> Gather:
        step = self.nest.body.values[number]
        assert isinstance(step, Gather)
        return step

    def _gathered(self, number: int, loops: Loops) -> Region:
        """What a gather reads: exactly, where no data decide its indices, else all."""
        step, body = self._gather(number), self.nest.body
        leaves: dict[Leaf, np.ndarray] = {}
        for value in map(body.values.__getitem__, body.needed(step.operands)):
            if isinstance(value, Input | Running | Gather):
                return everything(step.tensor.shape)
            if isinstance(value, Outer):
                leaves[value] = schedule.evaluate(value.node)
            elif isinstance(value, Position):
                leaves[value] = position_array(loops[value.dimension], value.dimension, len(loops))
        with np.errstate(all="ignore"):
            return gathered_region(step, body.run(step.operands, leaves, self._constants, {}))

    def needs(self, region: Region) -> list[Request]:
        return self._plan(region).requests

    def scratch(self, region: Region) -> int:
        if 0 in self.nest.extents:
            return 0
        loops = self._loops(self._output.loops(region))
        if self._product is None:
            return count(loops) * self.type.dtype.itemsize * ARRAYS_AT_ONCE
        sides = (self._product.left_along, self._product.right_along)
        return sum(8 * math.prod(len(loops[d]) for d in along) for along in sides)

    # --- values ---------------------------------------------------------------------------------------------------
    def compute(self, region: Region, arrays: Sequence[np.ndarray]) -> np.ndarray:
        plan = self._plan(region)
        if not plan.loops and self.nest.extents:
            return arrays[0]
        covered = self._output.covers(self.shape)
        leaves, gathered = self._operands(plan, arrays[0 if covered else 1 :])
        values = self._values(plan, leaves, gathered)
        if covered:
            return self._output.gather(values, plan.own)
        out = np.array(arrays[0])
        self._output.scatter(out, region, values, plan.own)
        return out

    def _operands(self, plan: _Plan, arrays: Sequence[np.ndarray]) -> tuple[Leaves, Gathered]:
        """Requested arrays by leaf, with one axis a loop dimension; and what gathers read."""
        leaves: dict[Leaf, np.ndarray] = {}
        remaining = iter(arrays)
        for leaf, access in plan.leaves:
            if access is not None:
                leaves[leaf] = access.spread(next(remaining), access.region(plan.loops, self.origin), plan.loops)
            elif isinstance(leaf, Position):
                leaves[leaf] = position_array(plan.loops[leaf.dimension], leaf.dimension, len(plan.loops))
            else:
                leaves[leaf] = next(remaining)
        gathered = {n: (self._gathered(n, plan.loops), next(remaining)) for n in plan.gathers}
        return leaves, gathered

    def _values(self, plan: _Plan, leaves: Leaves, gathered: Gathered) -> np.ndarray:
        """The yielded values over the loops, of length one along those that are folded."""
        rank = len(self.nest.extents)
        if self._sequential:
            value = self._one_by_one(plan, leaves, gathered)
        else:
            found = self.nest.body.run(self._wanted(), leaves, self._constants, gathered)
            value = found[0] if self._combiner is None else self._reduced(plan, found, leaves)
        value = np.asarray(value)
        return value if value.ndim == rank else value.reshape([1] * rank)

    def _reduced(self, plan: _Plan, found: list[np.ndarray], leaves: Leaves) -> np.ndarray:
        assert self._combiner is not None
        step = self._combiner[0]
        extents = {d: len(plan.loops[d]) for d in self._folded}
        if self._product is not None:
            sides = len(self._product.left)
            total = self._product.summed(found[:sides], found[sides:], extents)
        else:
            total = self._fold(found[0], plan, step)
        operands = [leaves[Running(self.result)], total]
        return self.apply(FUNCTIONS[step.name], operands, step.signature)

    def _fold(self, value: np.ndarray, plan: _Plan, step: Compute) -> np.ndarray:
        ufunc = reducer(step.name, step.type)
        assert ufunc is not None
        rank = len(plan.loops)
        value = value if value.ndim == rank else value.reshape([1] * rank)
        full = [len(plan.loops[d]) if d in self._folded else value.shape[d] for d in range(rank)]
        value = np.broadcast_to(value, full)
        axes = tuple(sorted(self._folded))
        if step.type.is_float or step.type.width == 1:
            return ufunc.reduce(value, axis=axes, keepdims=True)
        return step.type.wrapped(ufunc.reduce(step.type.signed(value), axis=axes, keepdims=True))

    def _one_by_one(self, plan: _Plan, leaves: Leaves, gathered: Gathered) -> np.ndarray:
        """The iterations in order along the folded dimensions, all others at once."""
        nest, loops, rank = self.nest, plan.loops, len(plan.loops)
        steps = math.prod(len(loops[d]) for d in self._folded)
        if steps > ONE_BY_ONE:
            raise self.origin.error(f"its running values go through {steps:,} iterations one by one")
        state: dict[int, np.ndarray] = {}
        for k in self._involved:
            shape = [len(loops[d]) if d in nest.outputs[k].dimensions else 1 for d in range(rank)]
            state[k] = np.empty(shape, nest.inits[k].node.type.dtype)
            if k in self._running:
                state[k][...] = leaves[Running(k)]
        order = sorted(self._folded)
        for at in itertools.product(*(range(len(loops[d])) for d in order)):
            now = dict(zip(order, at, strict=True))
            here = {leaf: _slice(array, now) for leaf, array in leaves.items()}
            here.update({Running(k): _slice(state[k], now) for k in self._involved})
            after = [np.array(v) for v in nest.body.run(self._wanted(), here, self._constants, gathered)]
            for k, value in zip(self._involved, after, strict=True):
                _slice(state[k], now)[...] = value
        return self._own_part(state[self.result], plan)

    def _own_part(self, state: np.ndarray, plan: _Plan) -> np.ndarray:
        for d, indices in plan.own.items():
            if plan.loops[d] != indices:
                state = full_range(state, d, indices)
        return state


def _slice(array: np.ndarray, now: dict[int, int]) -> np.ndarray:
    """One step along some axes, which stay with length one; axes of length one are the same at every step."""
    if array.ndim == 0:
        return array
    at = [slice(None)] * array.ndim
    for axis, index in now.items():
        if array.shape[axis] > 1:
            at[axis] = slice(index, index + 1)
    return array[tuple(at)]
