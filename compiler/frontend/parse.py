"""MLIR text to a verified module, by torch-mlir's bindings.

The context is fresh each time: it knows upstream's dialects, torch, StableHLO and attn, and lets operations of unknown
dialects pass in their generic form.
"""

from __future__ import annotations

from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.parser_guard import abort_error, survives
from npuc.compiler.frontend.place import place_of

LINALG_REMEDY = "lower the module to linalg on tensors, or write attn.sdpa"


def parse(text: str | bytes, file: str) -> Any:
    """The `ir.Module` of MLIR text, verified; `file` names it in messages.

    It lives in its own context (`with module.context:` for what needs one). Raises InputError (file:line:col).
    """
    # Bytes, so that text no encoder accepts is refused here and not inside the bindings.
    data = _utf8(text, file)
    if not data.strip():
        raise InputError("is empty", place=file, remedy="a module with one attention function is expected")
    from torch_mlir import ir

    context = new_context()
    try:
        with context:
            if not survives(lambda: ir.Module.parse(data)):
                raise abort_error(data.decode("utf-8"), file)
            return ir.Module.parse(data)
    except ir.MLIRError as error:
        raise _syntax_error(error, file) from None
    except ValueError as error:
        raise InputError(_one_line(str(error)), place=file, remedy="MLIR text is expected") from None


def new_context() -> Any:
    """An `ir.Context` with the dialects that a source may hold."""
    from torch_mlir import ir
    from torch_mlir._mlir_libs import _stablehlo, _torchMlir

    from npuc.compiler.dialects.attn import load_dialect

    context = ir.Context()
    context.enable_multithreading(False)
    context.allow_unregistered_dialects = True
    _torchMlir.register_dialect(context)
    _stablehlo.register_dialect(context)
    load_dialect(context)
    return context


def _utf8(text: str | bytes, file: str) -> bytes:
    try:
        if isinstance(text, str):
            return text.encode("utf-8")
        text.decode("utf-8")
        return text
    except UnicodeError:
        raise InputError("is not text", place=file, remedy="MLIR text is expected") from None


def _syntax_error(error: Any, file: str) -> InputError:
    if not error.error_diagnostics:
        return InputError(_one_line(str(error)), place=file)
    diagnostic = error.error_diagnostics[0]
    message = _one_line(diagnostic.message) or "is not MLIR"
    remedy = None
    if message.startswith("Dialect `"):
        dialect, operation = message.split("`")[1].split("'")[0], message.split("'")[-2]
        message = f"{operation}: operations of the dialect {dialect} are not recognised"
        remedy = LINALG_REMEDY
    return InputError(message, place=place_of(diagnostic.location, file), remedy=remedy)


def _one_line(text: str) -> str:
    return " ".join(text.split())
