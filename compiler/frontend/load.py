"""MLIR text to Attention: parse, choose the function, recognise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npuc.compiler.diagnostics import InputError, Place, UsageError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.place import Blocked


def load(text: str, file: str, function: str | None = None) -> tuple[Attention, ...]:
    """The attention that `text` describes; `file` names it in messages.

    function: which one, where there are several. The result has one element. Raises InputError (file:line:col) for
    text that is no MLIR and for functions that are not attention, naming the operation that says so; UsageError for a
    function that is not there.
    """
    module = parse(text, file)
    from npuc.compiler.frontend.describe import attention_of

    with module.context:
        name, operation = _choose(module, file, function)
        try:
            return (attention_of(name, operation, file),)
        except Blocked as blocked:
            raise blocked.error(file) from None


def load_file(path: str | Path, function: str | None = None) -> tuple[Attention, ...]:
    """`load` of a file of MLIR text. Raises InputError where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", place=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("is not text", place=str(path), remedy="MLIR text is expected, not bytecode") from None
    return load(text, str(path), function)


def _choose(module: Any, file: str, wanted: str | None) -> tuple[str, Any]:
    """The function to compile: the one asked for, or the only one that is public and has a body."""
    functions: dict[str, Any] = {}
    private = set()
    for operation in module.body.operations:
        if operation.operation.name != "func.func" or not operation.operation.regions[0].blocks:
            continue
        name = operation.operation.attributes["sym_name"].value
        functions[name] = operation.operation
        if _is_private(operation.operation):
            private.add(name)
    if not functions:
        raise InputError("holds no function with a body", place=Place(file), remedy="func.func is expected")
    if wanted is not None:
        if wanted not in functions:
            raise UsageError(f"holds no function @{wanted}", place=file, remedy=f"it has {_names(functions)}")
        return wanted, functions[wanted]
    public = {name: operation for name, operation in functions.items() if name not in private} or functions
    if len(public) > 1:
        raise InputError(f"holds {len(public)} functions: {_names(public)}", place=file, remedy="choose with --func")
    return next(iter(public.items()))


def _is_private(operation: Any) -> bool:
    attributes = operation.attributes
    return "sym_visibility" in attributes and attributes["sym_visibility"].value == "private"


def _names(functions: dict[str, Any]) -> str:
    return ", ".join(f"@{name}" for name in functions)
