"""From a function's operations to nodes.

The arguments' values are known, so every shape and loop bound is a number: loops are unrolled, branches taken. What an
operation without a rule gives is an error only where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.place import place_of
from npuc.runtime.evaluator import schedule
from npuc.runtime.evaluator.arithmetic import FUNCTIONS, Signature
from npuc.runtime.evaluator.elements import INDEX, ElementType, element_type
from npuc.runtime.evaluator.literals import literal
from npuc.runtime.evaluator.nodes import Elementwise, Failed, Given, Node, Origin

DEEPEST_CALL = 64
MOST_ITERATIONS = 1 << 14  # of a loop that is unrolled
MOST_OPERATIONS = 1 << 18  # with loops unrolled and calls in line: minutes of building

Rule = Callable[["Builder", Any], "list[Node]"]


class Builder:
    """Nodes of the values seen so far. functions: by name, for calls. resource: see literals.literal."""

    def __init__(self, file: str, functions: Mapping[str, Any], resource: Callable[[str], bytes]) -> None:
        self.file = file
        self.values: dict[Any, Node] = {}
        self._functions = functions
        self._resource = resource
        self._depth = 0
        self._operations = 0

    def origin(self, operation: Any) -> Origin:
        return Origin(operation.name, place_of(operation.location, self.file))

    def run(self, function: Any, arguments: Sequence[Node]) -> list[Node]:
        """What a func.func returns. Raises InputError."""
        blocks = list(function.regions[0].blocks)
        if len(blocks) != 1:
            raise self.origin(function).error("branches between blocks are not evaluated")
        return self.block(blocks[0], arguments)

    def block(self, block: Any, arguments: Sequence[Node]) -> list[Node]:
        """The operands of a block's terminator."""
        self.values.update(zip(block.arguments, arguments, strict=True))
        operations = [operation.operation for operation in block.operations]
        self._operations += len(operations)
        if self._operations > MOST_OPERATIONS:
            raise self.origin(operations[-1]).error(
                f"with loops and calls there are over {MOST_OPERATIONS:,} operations"
            )
        for operation in operations[:-1]:
            self.values.update(zip(operation.results, self.results_of(operation), strict=True))
        return self.operands(operations[-1])

    def operands(self, operation: Any) -> list[Node]:
        return [self.values[operand] for operand in operation.operands]

    def results_of(self, operation: Any) -> list[Node]:
        """What an operation gives."""
        try:
            return self._rule(operation)(self, operation)
        except InputError as error:
            types = [self.type_of(result.type) for result in operation.results]
            if not types or any(t is None or min(t[1], default=0) < 0 for t in types):
                raise
            origin = self.origin(operation)
            return [Failed(origin, *known, error) for known in types if known is not None]

    def _rule(self, operation: Any) -> Rule:
        from npuc.runtime.evaluator.rules import RULES

        dialect = operation.name.partition(".")[0]
        if operation.name in RULES:
            return RULES[operation.name]
        if operation.name in FUNCTIONS and len(operation.results) == 1:
            return _elementwise
        if dialect == "linalg":
            from npuc.runtime.evaluator.build_linalg import structured

            return structured
        raise self.origin(operation).error("the evaluator has no rule for it")

    # --- types and numbers ----------------------------------------------------------------------------------------
    def type_of(self, type_: Any) -> tuple[ElementType, tuple[int, ...]] | None:
        """Element type and shape, () for scalars, -1 for lengths that are not known; None for other types."""
        from torch_mlir import ir

        if isinstance(type_, ir.RankedTensorType):
            element = element_type(str(type_.element_type))
            shape = tuple(-1 if type_.is_dynamic_dim(d) else size for d, size in enumerate(type_.shape))
            return None if element is None else (element, shape)
        element = element_type(str(type_))
        return None if element is None else (element, ())

    def known_type(self, operation: Any, type_: Any) -> tuple[ElementType, tuple[int, ...]]:
        """`type_of`, or an InputError."""
        found = self.type_of(type_)
        if found is None:
            raise self.origin(operation).error(f"values of type {type_} are not evaluated")
        return found

    def integer(self, value: Any) -> int:
        """The number that an integer scalar is."""
        node = self.values[value]
        return int(node.type.signed(schedule.evaluate(node)))

    def mixed(self, operation: Any, attribute: str, dynamic: list[Any]) -> list[int]:
        """A list of numbers of which some stand in an attribute and the others are operands, taken off `dynamic`."""
        from torch_mlir import ir

        unknown = ir.ShapedType.get_dynamic_stride_or_offset()
        unknown_size = ir.ShapedType.get_dynamic_size()
        static = operation.attributes[attribute]
        return [self.integer(dynamic.pop(0)) if n in (unknown, unknown_size) else int(n) for n in static]

    def shape(self, operation: Any, dynamic: Sequence[Any]) -> tuple[int, ...]:
        """The shape of an operation's result whose unknown lengths are the operands `dynamic`."""
        _, shape = self.known_type(operation, operation.results[0].type)
        lengths = iter(dynamic)
        found = tuple(self.integer(next(lengths)) if size < 0 else size for size in shape)
        if min(found, default=0) < 0:
            raise self.origin(operation).error(f"its shape is {list(found)}")
        return found

    def number(self, operation: Any, value: int, type_: ElementType = INDEX) -> Node:
        """A scalar constant."""
        return Given(self.origin(operation), type_, type_.wrapped(np.array(value, np.int64)), True)

    def constant(self, operation: Any) -> Node:
        """An arith.constant."""
        type_, shape = self.known_type(operation, operation.results[0].type)
        array = literal(operation.attributes["value"], type_, shape, self._resource)
        if array is None:
            raise self.origin(operation).error("this kind of constant is not evaluated")
        return Given(self.origin(operation), type_, array, True)

    def signature(self, operation: Any) -> Signature:
        """The element types of an operation of arith or math."""
        types = [self.known_type(operation, operand.type)[0] for operand in operation.operands]
        result, _ = self.known_type(operation, operation.results[0].type)
        predicate = operation.attributes["predicate"].value if "predicate" in operation.attributes else 0
        return Signature(tuple(types), result, predicate)

    # --- calls ----------------------------------------------------------------------------------------------------
    def call(self, operation: Any) -> list[Node]:
        """A func.call: the callee's operations in place of it."""
        name = operation.attributes["callee"].value
        function = self._functions.get(name)
        if function is None or not function.regions[0].blocks:
            raise self.origin(operation).error(f"@{name} has no body here")
        if self._depth >= DEEPEST_CALL:
            raise self.origin(operation).error(f"calls are nested deeper than {DEEPEST_CALL}")
        self._depth += 1
        results = self.run(function, self.operands(operation))
        self._depth -= 1
        return results


def _elementwise(builder: Builder, operation: Any) -> list[Node]:
    signature = builder.signature(operation)
    operands = builder.operands(operation)
    shapes = {node.shape for node in operands if node.shape}
    if len(shapes) > 1:
        raise builder.origin(operation).error(f"its operands have different shapes: {sorted(shapes)}")
    return [Elementwise(builder.origin(operation), FUNCTIONS[operation.name], signature, operands)]
