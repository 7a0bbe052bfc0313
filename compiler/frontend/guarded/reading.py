"""From text to a verified, lowered module as bytecode: what happens in the other process."""

from __future__ import annotations

import io
import traceback
from collections.abc import Callable
from typing import Any

from npuc.compiler.frontend.attributes import attribute_of
from npuc.compiler.frontend.context import new_context
from npuc.compiler.frontend.guarded.outcome import Died, Fault, Outcome, Read, Refused
from npuc.compiler.frontend.lower import lower
from npuc.compiler.frontend.place import place_of

LINALG_REMEDY = "lower the module to linalg on tensors, or write attn.sdpa"
# Regions inside regions. Walks over a module are recursive, in Python too; front ends stay below ten.
MOST_NESTED = 64
TEXT = "<text>"  # stands for the file, whose name the caller knows

LONGEST_MESSAGE = 500  # some messages repeat a whole type

PARSING = "parsing"
# What made bytecode stands behind its magic number and its version.
MAGIC_BYTES, ARTIFACT = 5, b"StableHLO_v"


def read(text: bytes, note: Callable[[str], None]) -> Outcome:
    """Parse, verify and lower; `note` is told of each stage before it begins.

    The result is read back and walked as the caller will, so that what would end the caller ends this process.
    """
    from torch_mlir import ir

    stage = [PARSING]

    def begin(name: str) -> None:
        stage[0] = name
        note(name)

    begin(PARSING)
    context = new_context(text)
    try:
        with context:
            module = _module(text, context)
            if module is None:
                return Refused("is a portable artifact of StableHLO that its reader fails on")
            begin("checking")
            lower(module, begin)
            begin("writing")
            buffer = io.BytesIO()
            module.operation.write_bytecode(buffer)
            begin("reading")
            deep = rehearse(ir.Module.parse(buffer.getvalue()), escapes=b"\\" in text)
        return deep or Read(buffer.getvalue())
    except ir.MLIRError as error:
        return _refusal(error, stage[0])
    except MemoryError:
        return Died(stage[0], "memory")
    except Exception as error:
        if isinstance(error, UnicodeDecodeError) or "str_from_cstr" in str(error):
            return Died(stage[0], "signal")  # it is the same fault that elsewhere ends the process
        return Fault(traceback.format_exc())


def _module(text: bytes, context: Any) -> Any:
    """Text, bytecode, or a portable artifact of StableHLO, as JAX exports it; None for one that cannot be read."""
    from torch_mlir import ir

    if text.startswith(ARTIFACT, MAGIC_BYTES):
        from torch_mlir._mlir_libs import _stablehlo

        try:
            return _stablehlo.deserialize_portable_artifact(context, text)
        except ValueError:
            return None
    return ir.Module.parse(text)


def parses(text: bytes) -> Refused:
    """Parse a text for nothing but surviving it: the outcome says that it did, not what came of it."""
    from torch_mlir import ir

    try:
        with new_context(text):
            ir.Module.parse(text)
    except Exception:
        pass
    return Refused("")


def rehearse(module: Any, escapes: bool) -> Refused | None:
    """Read of every operation what a caller may read, and print it; a refusal where regions nest too deeply.

    escapes: whether the text has any, without which its strings are as much UTF-8 as itself.
    """
    waiting = [(module.operation, 0)]
    while waiting:
        operation, depth = waiting.pop()
        if depth > MOST_NESTED:
            message = f"{operation.name}: regions nest more than {MOST_NESTED} deep"
            return _placed(message, place_of(operation.location, TEXT), "outline the inner ones into functions")
        if escapes:
            _read_all(operation)
        if len(operation.regions):
            waiting += [(inner, depth + 1) for inner in _inside(operation)]
    module.operation.get_asm(large_elements_limit=16, large_resource_limit=16, enable_debug_info=True)
    return None


def _read_all(operation: Any) -> None:
    """Names, strings and places: the bindings give up on those that are not UTF-8, some of them with the process."""
    from torch_mlir import ir

    place_of(operation.location, TEXT)
    for region in operation.regions:
        for block in region.blocks:
            for argument in block.arguments:
                place_of(argument.location, TEXT)
    for name in operation.attributes:
        attribute = attribute_of(operation, name)
        if isinstance(attribute, ir.StringAttr):
            attribute.value.isascii()


def _inside(operation: Any) -> list[Any]:
    """The operations of its regions, without theirs; not by their classes, which take long to import."""
    from torch_mlir import ir

    found: list[Any] = []

    def visit(each: Any) -> Any:
        if each == operation:
            return ir.WalkResult.ADVANCE
        found.append(each)
        return ir.WalkResult.SKIP

    operation.walk(visit, ir.WalkOrder.PRE_ORDER)
    return found


def _refusal(error: Any, stage: str) -> Refused:
    if not error.error_diagnostics:
        return Refused(_one_line(str(error)))
    diagnostic = error.error_diagnostics[0]
    message = _one_line(diagnostic.message) or "is not MLIR"
    remedy = None
    if message.startswith("Dialect `"):
        dialect, operation = message.split("`")[1].split("'")[0], message.split("'")[-2]
        message = f"{operation}: operations of the dialect {dialect} are not recognised"
        remedy = LINALG_REMEDY
    elif stage.startswith("lowering"):
        message, remedy = f"{stage} to linalg: {message}", LINALG_REMEDY
    return _placed(message, place_of(diagnostic.location, TEXT), remedy)


def _placed(message: str, place: Any, remedy: str | None) -> Refused:
    file = None if place.file == TEXT else place.file
    return Refused(message, file, place.line, place.column, remedy)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]}..."
