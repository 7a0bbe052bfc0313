"""MLIR text to Attention: parse, choose the function, legalise, raise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.calls import inline_calls
from npuc.compiler.frontend.functions import Function, choose
from npuc.compiler.frontend.host import Cut, ValuePlace, host_module
from npuc.compiler.frontend.legalise import legalise
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.place import Blocked
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.compiler.frontend.source_text import source_text

if TYPE_CHECKING:
    from npuc.compiler.frontend.outline import Outlined


LARGEST = 2000  # operations of a function that is an attention


def load(
    text: str, file: str, function: str | None = None, after: Callable[[str, str], None] | None = None
) -> tuple[Attention, ...]:
    """The attention that `text` describes; `file` names it in messages.

    function: which one, where there are several. after: called with each pass's name and what it made, as text. The
    result has one element, or an element for each attention inside a function that does more (`outline`). Raises
    InputError (file:line:col) for text that is no MLIR and for functions without attention, naming the operation that
    says so; UsageError for a function that is not there.
    """
    return recognise(text, file, function, after).attentions


def of_module(
    module: Any, file: str, function: str | None = None, after: Callable[[str, str], None] | None = None
) -> tuple[Attention, ...]:
    """`load` of a module that is parsed."""
    return _recognise(module, file, function, after).attentions


@dataclass(frozen=True)
class Recognised:
    """The attentions of a function, one where it is an attention itself, and where they are in it.

    cuts: one an attention; the module is theirs.
    """

    attentions: tuple[Attention, ...]
    module: Any
    function: Any
    cuts: tuple[Cut, ...]

    def host(self, kernels: Sequence[str]) -> str:
        """The module's text with calls of `kernels` in place of the attentions. Once: the module is changed by it."""
        return host_module(self.module, self.function, self.cuts, kernels)


def recognise(
    text: str, file: str, function: str | None = None, after: Callable[[str, str], None] | None = None
) -> Recognised:
    """`load`, with what stays on the host."""
    return _recognise(parse(text, file), file, function, after)


def inlined(text: str, file: str, function: str | None = None) -> tuple[Any, Any]:
    """A module in which nothing is recognised yet, and its function with bodies in place of calls: `Cut` says where
    attentions are in that."""
    module = parse(text, file)
    with module.context:
        chosen = choose(module, file, function)
        inline_calls(chosen.operation)
    return module, chosen.operation


def _recognise(module: Any, file: str, function: str | None, after: Callable[[str, str], None] | None) -> Recognised:
    with module.context:
        chosen = choose(module, file, function)
        inline_calls(chosen.operation)
        block = chosen.operation.regions[0].blocks[0]
        places = places_of(block)
        try:
            attention = alone(chosen, file, after)
            returned = block.operations[len(block.operations) - 1].operation
            cuts: tuple[Cut, ...] = (_cut(attention, tuple(block.arguments), returned.operands[0], places),)
        except Blocked as blocked:
            cuts = tuple(_cut(attention, part.leaves, part.root, places) for part, attention in parts_of(chosen, file))
            if not cuts:
                raise blocked.error(file) from None
    attentions = tuple(cut.attention for cut in cuts)
    if after is not None:
        for attention in attentions:
            after("raise", to_attn_module(attention))
    return Recognised(attentions, module, chosen.operation, cuts)


def places_of(block: Any) -> dict[Any, ValuePlace]:
    """Of the values of a block."""
    places = {argument: (-1, n) for n, argument in enumerate(block.arguments)}
    for number, operation in enumerate(block.operations):
        places.update((result, (number, n)) for n, result in enumerate(operation.results))
    return places


def _cut(attention: Attention, leaves: tuple[Any, ...], root: Any, places: Mapping[Any, ValuePlace]) -> Cut:
    return Cut(attention, leaves, root, tuple(map(places.get, leaves)), places[root])


def alone(chosen: Function, file: str, after: Callable[[str, str], None] | None) -> Attention:
    """The attention that a whole function is. Raises Blocked."""
    from npuc.compiler.frontend.describe import WANTED, attention_of

    block = legalise(chosen.operation)
    if len(block.operations) > LARGEST:
        last = block.operations[len(block.operations) - 1]
        raise Blocked(
            last, f"{len(block.operations)} operations are more than an attention, and none is in them", WANTED
        )
    if after is not None:
        after("legalise", f"{chosen.operation}\n")
    return attention_of(chosen.name, chosen.operation, block, file)


def parts_of(chosen: Function, file: str) -> list[tuple[Outlined, Attention]]:
    """The attentions inside a function that does more, in its context, each recognised as a function of its own."""
    from torch_mlir import ir

    from npuc.compiler.frontend.describe import attention_of
    from npuc.compiler.frontend.module_text import module_text
    from npuc.compiler.frontend.outline import outlined

    blocks = list(chosen.operation.regions[0].blocks)
    if len(blocks) != 1:
        return []
    found = []
    with ir.Location.unknown():
        for part in outlined(chosen.name, blocks[0]):
            try:
                attention = attention_of(part.name, part.function, legalise(part.function), file, part.layouts)
            except (Blocked, InputError):  # no attention, or none that attn.sdpa says
                continue
            found.append((part, replace(attention, within=chosen.name, outlined=module_text(part.module))))
    return found


def load_file(path: str | Path, function: str | None = None) -> tuple[Attention, ...]:
    """`load` of a file of MLIR text or bytecode. Raises InputError where it cannot be read."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", place=str(path)) from None
    return load(source_text(data, str(path)), str(path), function)
