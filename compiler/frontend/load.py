"""MLIR text to Attention: parse, choose the function, legalise, raise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.functions import choose
from npuc.compiler.frontend.legalise import legalise
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.place import Blocked
from npuc.compiler.frontend.print_attn import to_attn_module


def load(
    text: str, file: str, function: str | None = None, after: Callable[[str, str], None] | None = None
) -> tuple[Attention, ...]:
    """The attention that `text` describes; `file` names it in messages.

    function: which one, where there are several. after: called with each pass's name and what it made, as text. The
    result has one element. Raises InputError (file:line:col) for text that is no MLIR and for functions that are not
    attention, naming the operation that says so; UsageError for a function that is not there.
    """
    return of_module(parse(text, file), file, function, after)


def of_module(
    module: Any, file: str, function: str | None = None, after: Callable[[str, str], None] | None = None
) -> tuple[Attention, ...]:
    """`load` of a module that is parsed."""
    from npuc.compiler.frontend.describe import attention_of

    with module.context:
        chosen = choose(module, file, function)
        try:
            block = legalise(chosen.operation)
            if after is not None:
                after("legalise", f"{chosen.operation}\n")
            attention = attention_of(chosen.name, chosen.operation, block, file)
        except Blocked as blocked:
            raise blocked.error(file) from None
    if after is not None:
        after("raise", to_attn_module(attention))
    return (attention,)


def load_file(path: str | Path, function: str | None = None) -> tuple[Attention, ...]:
    """`load` of a file of MLIR text. Raises InputError where it cannot be read."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", place=str(path)) from None
    except UnicodeDecodeError:
        raise InputError("is not text", place=str(path), remedy="MLIR text is expected, not bytecode") from None
    return load(text, str(path), function)
