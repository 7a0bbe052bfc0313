"""MLIR text to a verified module of linalg on tensors: the one way from text to MLIR."""

from __future__ import annotations

import re
from typing import Any

from npuc.compiler.diagnostics import InputError, InternalError, Place
from npuc.compiler.frontend.guarded.outcome import Died, Fault, Outcome, Read, Refused
from npuc.compiler.frontend.guarded.reading import LINALG_REMEDY, PARSING
from npuc.compiler.frontend.host import ATTENTION, give_bodies
from npuc.compiler.frontend.iree_text import in_generic_form
from npuc.compiler.frontend.literals import place_at, refuse_long_literals, undecodable_string

__all__ = ["BYTECODE", "LINALG_REMEDY", "parse"]

BYTECODE = b"ML\xefR"  # how MLIR bytecode begins

# More open brackets than this where the parser ends mean that it ran out of stack.
DEEP = 100
_BRACKET = re.compile(rb'"(?:[^"\\\n]|\\.)*"|//[^\n]*|->|>=|<=|[<\[({]|[>\])}]')
_LIST = re.compile(rb"\b(permutation|dimensions)\s*=\s*")
_WELL_FORMED = re.compile(rb"\[\s*(-?\d{1,18}\s*(,\s*-?\d{1,18}\s*)*)?\]")


def parse(text: str | bytes, file: str) -> Any:
    """The `ir.Module` of MLIR text or bytecode, verified, TOSA, StableHLO and torch lowered. file: named in messages.

    It is read in another process first, so no text ends or hangs this one. It lives in its own context (`with
    module.context:` for what needs one), and its operations only as long as it is held. Raises InputError
    (file:line:col) for what is not MLIR, and for what is more than attention needs: regions nested more than 64 deep,
    and the like.
    """
    if isinstance(text, bytes) and text.startswith(BYTECODE):
        data = text
    else:
        data = _utf8(text, file)
        if not data.strip():
            raise InputError("is empty", place=file, remedy="a module with one attention function is expected")
        refuse_long_literals(data, file)
        if b"iree_linalg_ext." in data:
            data = in_generic_form(data.decode("utf-8"), file).encode("utf-8")
    from npuc.compiler.frontend.context import new_context
    from npuc.compiler.frontend.guarded.attempt import attempt

    outcome = attempt(data)
    if isinstance(outcome, Died) and data.startswith(BYTECODE):
        raise InputError("is bytecode that MLIR's reader fails on", place=file, remedy="give the module as text")
    if not isinstance(outcome, Read):
        raise _error(outcome, data, file)
    from torch_mlir import ir

    with new_context(outcome.bytecode):  # which has the dialects that lowering brought in
        module = ir.Module.parse(outcome.bytecode)
    if ATTENTION.encode() in outcome.bytecode:
        give_bodies(module, file)
    return module


def _utf8(text: str | bytes, file: str) -> bytes:
    try:
        if isinstance(text, str):
            return text.encode("utf-8")
        text.decode("utf-8")
        return text
    except UnicodeEncodeError:
        place = Place(file)
    except UnicodeDecodeError as error:
        place = place_at(error.object, error.start, file)
    raise InputError("is not text", place=place, remedy="MLIR text is expected")


def _error(outcome: Outcome, text: bytes, file: str) -> InputError | InternalError:
    if isinstance(outcome, Refused):
        place = Place(outcome.file or file, outcome.line, outcome.column)
        return InputError(outcome.message, place=place, remedy=outcome.remedy)
    if isinstance(outcome, Died):
        return _death(outcome, text, file)
    assert isinstance(outcome, Fault)
    return InternalError(f"reading MLIR failed: {outcome.traceback.strip()}")


def _death(died: Died, text: bytes, file: str) -> InputError:
    """What to tell of a text that ends the process that reads it."""
    if died.cause == "time":
        return InputError(f"{died.stage} takes too long", place=file, remedy="is it a module of attention alone?")
    if died.cause == "memory":
        return InputError(
            f"{died.stage} takes too much memory", place=file, remedy="is it a module of attention alone?"
        )
    if died.offset is None:
        string = undecodable_string(text)
        if string is not None:
            return InputError("a string that is not UTF-8", place=place_at(text, string, file))
    if died.stage != PARSING:
        return InputError(f"MLIR's library fails while {died.stage}", place=file, remedy=LINALG_REMEDY)
    if died.offset is None:
        return _malformed_list(text, len(text), file) or InputError("MLIR's parser fails on this text", place=file)
    place = place_at(text, died.offset, file)
    depth = _open_brackets(text[: died.offset])
    if depth > DEEP:
        return InputError(f"nests too deeply: {depth} brackets are open here", place=place)
    return _malformed_list(text, died.offset, file) or InputError("MLIR's parser fails here", place=place)


def _open_brackets(text: bytes) -> int:
    depth = 0
    for found in _BRACKET.finditer(text):
        token = found.group()
        depth += (token in b"<[({") - (token in b">])}") if len(token) == 1 else 0
    return depth


def _malformed_list(text: bytes, before: int, file: str) -> InputError | None:
    """The last malformed list of integers before an offset: linalg's parsers go on with nothing in its place."""
    error = None
    for match in _LIST.finditer(text, 0, before + 1):
        rest = text[match.end() : match.end() + 10_000]
        if not rest.startswith(b"array<") and not _WELL_FORMED.match(rest):
            place = place_at(text, match.start(), file)
            error = InputError(f"{match[1].decode()}: expected a list of integers", place=place)
    return error
