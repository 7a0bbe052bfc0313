"""A function of a module with its arguments' values, ready to be evaluated in parts."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.runtime.evaluator import schedule
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Given, Node
from npuc.runtime.evaluator.regions import Indices, Region, index_set


@dataclass(frozen=True)
class Source:
    """What a function returns, not yet computed."""

    results: tuple[Node, ...]
    _cuts: dict[int, schedule.Cuts] = field(default_factory=dict, repr=False)

    def whole(self, result: int = 0) -> np.ndarray:
        """A result, floats in float64. Raises InputError at an operation without a rule or a defined result."""
        return schedule.evaluate(self.results[result], None, self._cuts.setdefault(result, {}))

    def part(self, indices: Sequence[Sequence[int] | range | np.ndarray], result: int = 0) -> np.ndarray:
        """The part of a result at the product of index sets, one a dimension, each ascending."""
        region: Region = tuple(_indices(i) for i in indices)
        return schedule.evaluate(self.results[result], region, self._cuts.setdefault(result, {}))


def _indices(indices: Sequence[int] | range | np.ndarray) -> Indices:
    return indices if isinstance(indices, range) and indices.step == 1 else index_set(np.asarray(indices, np.int64))


def load(text: str, file: str, function: str, arrays: Sequence[np.ndarray]) -> Source:
    """The function @`function` of MLIR text on `arrays`, in the order of its arguments, of any float or integer type.

    file: named in messages. Raises InputError (file:line:col) for text that is no MLIR, a function that is not there,
    arrays that do not fit, and control flow that is not evaluated.
    """
    from npuc.compiler.frontend.parse import parse

    module = parse(text, file)
    with module.context:
        return of_module(module, file, function, arrays)


def of_module(
    module: Any, file: str, function: str, arrays: Sequence[np.ndarray], build: type[Builder] = Builder
) -> Source:
    """`load` of a module that is parsed. build: another way from operations to nodes."""
    functions = dict(_functions(module.operation))
    if function not in functions:
        raise InputError(f"holds no function @{function}", place=file)
    builder = build(file, functions, _resources(module))
    return Source(tuple(builder.run(functions[function], _arguments(builder, functions[function], arrays))))


def _functions(operation: Any) -> Iterator[tuple[str, Any]]:
    """The functions of a module and of modules in it, by name; of one name the outermost."""
    inner: list[Any] = []
    for step in operation.regions[0].blocks[0].operations:
        if step.operation.name == "func.func":
            yield step.operation.attributes["sym_name"].value, step.operation
        elif step.operation.name == "builtin.module":
            inner.append(step.operation)
    for module in inner:
        yield from _functions(module)


def _arguments(builder: Builder, function: Any, arrays: Sequence[np.ndarray]) -> list[Node]:
    arguments = function.regions[0].blocks[0].arguments
    origin = builder.origin(function)
    if len(arguments) != len(arrays):
        raise origin.error(f"it takes {len(arguments)} arguments, not {len(arrays)}")
    nodes: list[Node] = []
    for number, (argument, array) in enumerate(zip(arguments, arrays, strict=True)):
        type_, shape = builder.known_type(function, argument.type)
        if len(shape) != array.ndim or any(n not in (-1, m) for n, m in zip(shape, array.shape, strict=True)):
            raise origin.error(f"argument {number} has shape {list(array.shape)}, its type is {argument.type}")
        nodes.append(Given(origin, type_, array, False))
    return nodes


def _resources(module: Any) -> Callable[[str], bytes]:
    """Dense resources by name. The bindings do not hand them out; the printed module has them at its end."""
    found: Mapping[str, str] = {}

    def resource(name: str) -> bytes:
        nonlocal found
        if not found:
            text = str(module.operation)
            found = dict(re.findall(r'"?([^\s",:{]+)"?: "0x([0-9A-Fa-f]*)"', text[text.rfind("{-#") :]))
        if name.strip('"') not in found:
            raise InputError(f"the module holds no contents of the resource {name}")
        return bytes.fromhex(found[name.strip('"')])

    return resource
