"""MLIR text to Attention: parse, choose the function, recognise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from npuc.compiler.diagnostics import InputError, Place, UsageError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.parser_guard import abort_error, survives
from npuc.compiler.frontend.place import Blocked, place_of


def load(text: str, file: str, function: str | None = None) -> tuple[Attention, ...]:
    """The attention that `text` describes; `file` names it in messages.

    function: which one, where there are several. The result has one element. Raises InputError (file:line:col) for
    text that is no MLIR and for functions that are not attention, naming the operation that says so; UsageError for a
    function that is not there.
    """
    if not text.strip():
        raise InputError("is empty", place=file, remedy="a module with one attention function is expected")
    from mlir import ir

    from npuc.compiler.dialects.attn import load_dialect
    from npuc.compiler.frontend.describe import attention_of

    with ir.Context() as context:
        context.enable_multithreading(False)
        context.allow_unregistered_dialects = True
        load_dialect(context)
        module = _parse(text, file)
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


def _parse(text: str, file: str) -> Any:
    from mlir import ir

    try:
        # Bytes, so that text no encoder accepts is refused here and not inside the bindings.
        data = text.encode("utf-8")
        if not survives(lambda: ir.Module.parse(data)):
            raise abort_error(text, file)
        return ir.Module.parse(data)
    except UnicodeEncodeError:
        raise InputError("is not text", place=file, remedy="MLIR text is expected") from None
    except ir.MLIRError as error:
        raise _syntax_error(error, file) from None
    except ValueError as error:
        raise InputError(_one_line(str(error)), place=file, remedy="MLIR text is expected") from None


def _syntax_error(error: Any, file: str) -> InputError:
    if not error.error_diagnostics:
        return InputError(_one_line(str(error)), place=file)
    diagnostic = error.error_diagnostics[0]
    message = _one_line(diagnostic.message) or "is not MLIR"
    remedy = None
    if message.startswith("Dialect `"):
        dialect, operation = message.split("`")[1].split("'")[0], message.split("'")[-2]
        message = f"{operation}: operations of the dialect {dialect} are not recognised"
        remedy = "lower the module to linalg on tensors, or write attn.sdpa"
    return InputError(message, place=place_of(diagnostic.location, file), remedy=remedy)


def _one_line(text: str) -> str:
    return " ".join(text.split())


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
