"""Which function of a module is compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from npuc.compiler.diagnostics import InputError, Place, UsageError


@dataclass(frozen=True)
class Function:
    """A func.func with a body. path: names of the modules around it that have one, then its own."""

    path: tuple[str, ...]
    operation: Any

    @property
    def name(self) -> str:
        return self.path[-1]

    @property
    def private(self) -> bool:
        attributes = self.operation.attributes
        return "sym_visibility" in attributes and attributes["sym_visibility"].value == "private"

    def __str__(self) -> str:
        return "::".join(f"@{name}" for name in self.path)


def choose(module: Any, file: str, wanted: str | None) -> Function:
    """The function to compile: the one asked for, or the only one that is public.

    wanted: a name, or one with those of the modules around it (`inner::main`). Raises InputError where there is no
    function, or none is asked for and there are several; UsageError for one that is not there.
    """
    functions = list(_functions(module.body, ()))
    if not functions:
        raise InputError("holds no function with a body", place=Place(file), remedy="func.func is expected")
    if wanted is not None:
        path = tuple(wanted.replace("@", "").split("::"))
        found = [f for f in functions if f.name == wanted or f.path[-len(path) :] == path]
        if not found:
            raise UsageError(f"holds no function @{wanted}", place=file, remedy=f"it has {_names(functions)}")
    else:
        found = [f for f in functions if not f.private] or functions
    if len(found) > 1:
        raise InputError(f"holds {len(found)} functions: {_names(found)}", place=file, remedy="choose with --func")
    return found[0]


def _functions(block: Any, path: tuple[str, ...]) -> Iterator[Function]:
    """Those of a module's body and of the modules nested in it, in the order of the text."""
    for view in block.operations:
        operation = view.operation
        if operation.name not in ("func.func", "builtin.module"):
            continue
        attributes = operation.attributes
        own = (attributes["sym_name"].value,) if "sym_name" in attributes else ()
        blocks = list(operation.regions[0].blocks)
        if operation.name == "func.func" and blocks:
            yield Function((*path, *own), operation)
        elif operation.name == "builtin.module" and blocks:
            yield from _functions(blocks[0], (*path, *own))


def _names(functions: list[Function]) -> str:
    return ", ".join(map(str, functions))
