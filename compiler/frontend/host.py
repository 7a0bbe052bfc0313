"""A module whose attentions are calls of kernels: what stays on the host, written (`host_module`) and read back.

A kernel is a function without a body, which any tool for MLIR reads:

    func.func private @layer_attention(tensor<128x256xf32>, ...) -> tensor<128x256xf32>
        attributes {npuc.kernel = "layer_attention", npuc.attention = {causal = true, heads = 4 : i64, ...}}

npuc.kernel: the kernel's name in the xclbin.  npuc.attention: what this call computes, as `Attention.to_json` has it in
attributes (unit for an open size); several calls may be of one kernel, whose lengths, limits and scale are a call's.
`give_bodies` makes of it what the declarations say, an attn.sdpa each, so that such a module is read as any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import OPEN_NAMES, Attention
from npuc.compiler.frontend.legalise import PURE_DIALECTS
from npuc.compiler.frontend.module_text import module_text
from npuc.compiler.frontend.place import place_of
from npuc.compiler.frontend.print_attn import to_attn_module

KERNEL, ATTENTION = "npuc.kernel", "npuc.attention"


# Of a value in a function's block: number of the operation that gives it, or -1 for an argument, and which it is there.
ValuePlace = tuple[int, int]


@dataclass(frozen=True)
class Cut:
    """An attention in a function: the values that it takes, in the order of its inputs, and the one that it gives.

    leaf_places, root_place: where they are in the function with bodies in place of calls; None for a mask that is made
    of the source's.
    """

    attention: Attention
    leaves: tuple[Any, ...]
    root: Any
    leaf_places: tuple[ValuePlace | None, ...]
    root_place: ValuePlace


@dataclass(frozen=True)
class Declared:
    """What a declaration says: the attention of a call, and the kernel that computes it."""

    attention: Attention
    kernel: str


# --- writing ------------------------------------------------------------------------------------------------------
def host_module(module: Any, function: Any, cuts: Sequence[Cut], kernels: Sequence[str]) -> str:
    """The module's text with a call in place of each cut of `function`; kernels: names, one a cut. Changes the module,
    whose cuts are gone then."""
    from torch_mlir import ir

    with module.context, ir.Location.unknown():
        _erase_declarations(module, function)
        declared: dict[tuple[Attention, str], Any] = {}
        replaced: dict[Any, Any] = {}
        last = function
        for cut, kernel in zip(cuts, kernels, strict=True):
            kind = kind_of(cut.attention), kernel
            if kind not in declared:
                last = declared[kind] = _declare(function, last, cut, kernel)
            call = ir.Operation.create(
                "func.call",
                results=[cut.root.type],
                operands=[replaced.get(leaf, leaf) for leaf in cut.leaves],
                attributes={"callee": ir.FlatSymbolRefAttr.get(declared[kind].attributes["sym_name"].value)},
                ip=ir.InsertionPoint(_owner(cut.root)),
            )
            cut.root.replace_all_uses_with(call.results[0])
            replaced[cut.root] = call.results[0]
        _erase_unused(function)
        module.operation.verify()
        return module_text(module)


def kind_of(attention: Attention) -> Attention:
    """What calls are alike in: everything but where they are."""
    return replace(attention, function="", within=None)


def _owner(value: Any) -> Any:
    return getattr(value.owner, "operation", value.owner)


def _declare(function: Any, behind: Any, cut: Cut, kernel: str) -> Any:
    """A function without a body for a cut of a function, behind another operation."""
    from torch_mlir import ir

    taken = {operation.attributes["sym_name"].value for operation in _beside(function)}
    name = cut.attention.function if cut.attention.within is not None else f"{cut.attention.function}_attention"
    while name in taken:
        name += "_"
    said = cut.attention.to_json()
    said = {key: value for key, value in said.items() if value is not None or key in OPEN_NAMES.values()}
    del said["function"]
    said.pop("within", None)
    type_ = ir.FunctionType.get([leaf.type for leaf in cut.leaves], [cut.root.type])
    declaration = ir.Operation.create(
        "func.func",
        attributes={
            "sym_name": ir.StringAttr.get(name),
            "sym_visibility": ir.StringAttr.get("private"),
            "function_type": ir.TypeAttr.get(type_),
            KERNEL: ir.StringAttr.get(kernel),
            ATTENTION: _to_attribute(said),
        },
        regions=1,
        ip=ir.InsertionPoint.at_block_begin(function.block),
    )
    declaration.move_after(behind)
    return declaration


def _beside(function: Any) -> Iterator[Any]:
    """The operations with names in the block that a function is in."""
    for view in function.block:
        if "sym_name" in view.operation.attributes:
            yield view.operation


def _erase_declarations(module: Any, function: Any) -> None:
    """Those of attentions that nothing calls, as after `inline_calls`."""
    called: set[str] = set()
    _walk(module, lambda operation: called.add(operation.attributes["callee"].value), "func.call")
    for operation in list(_beside(function)):
        if ATTENTION in operation.attributes and operation.attributes["sym_name"].value not in called:
            operation.erase()


def _erase_unused(function: Any) -> None:
    """Operations whose only effect are results that nothing uses."""
    for block in function.regions[0].blocks:
        for view in reversed(list(block.operations)):
            operation = view.operation
            unused = all(not any(True for _ in result.uses) for result in operation.results)
            if unused and operation.results and operation.name.partition(".")[0] in PURE_DIALECTS:
                operation.erase()


def _walk(root: Any, act: Callable[[Any], None], name: str) -> None:
    """Act on each operation of that name in a module or function."""
    from torch_mlir import ir

    def visit(operation: Any) -> Any:
        if operation.name == name:
            act(operation)
        return ir.WalkResult.ADVANCE

    root.operation.walk(visit)


# --- reading ------------------------------------------------------------------------------------------------------
def declaration_of(function: Any, file: str) -> Declared | None:
    """What a func.func says of the kernel that computes it, where it says so. Raises InputError where that is wrong."""
    if ATTENTION not in function.attributes:
        return None
    name = function.attributes["sym_name"].value
    place = place_of(function.location, file)
    try:
        said = _to_value(function.attributes[ATTENTION])
        attention = Attention.from_json({**said, "function": name})
        kernel = function.attributes[KERNEL].value if KERNEL in function.attributes else name
        return Declared(replace(attention, place=place), str(kernel))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"@{name}: {ATTENTION} describes no attention: {error}", place=place) from error
    except InputError as error:
        raise InputError(f"@{name}: {ATTENTION}: {error.message}", place=place) from error


def declarations(function: Any, file: str) -> dict[str, Declared]:
    """What a function calls that is declared as a kernel, by name, in the order of the first calls."""
    known = {f.attributes["sym_name"].value: f for f in _beside(function) if ATTENTION in f.attributes}
    found: dict[str, Declared] = {}

    def note(call: Any) -> None:
        name = call.attributes["callee"].value
        if name in known and name not in found:
            said = declaration_of(known[name], file)
            assert said is not None
            found[name] = said

    _walk(function, note, "func.call")
    return found


def give_bodies(module: Any, file: str) -> None:
    """Functions that are declared as kernels compute what their declarations say. Raises InputError where the types of
    one are others."""
    from torch_mlir import ir

    declarations: list[Any] = []

    def note(function: Any) -> None:
        if ATTENTION in function.attributes and not function.regions[0].blocks:
            declarations.append(function)

    with module.context, ir.Location.unknown():
        _walk(module, note, "func.func")
        for declaration in declarations:
            said = declaration_of(declaration, file)
            assert said is not None
            made = ir.Module.parse(to_attn_module(said.attention))
            function = made.body.operations[0].operation
            if function.attributes["function_type"] != declaration.attributes["function_type"]:
                what = f"@{said.attention.function} is declared as {declaration.attributes['function_type'].value}"
                wanted = f"its {ATTENTION} says {function.attributes['function_type'].value}"
                raise InputError(f"{what}, and {wanted}", place=said.attention.place)
            copy = function.clone(ip=ir.InsertionPoint(declaration))
            for attribute in declaration.attributes:
                copy.attributes[attribute] = declaration.attributes[attribute]
            declaration.erase()


# --- attributes and JSON values -----------------------------------------------------------------------------------
def _to_attribute(value: Any) -> Any:
    from torch_mlir import ir

    if value is None:
        return ir.UnitAttr.get()
    if isinstance(value, bool):
        return ir.BoolAttr.get(value)
    if isinstance(value, int):
        return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)
    if isinstance(value, float):
        return ir.FloatAttr.get(ir.F64Type.get(), value)
    if isinstance(value, str):
        return ir.StringAttr.get(value)
    if isinstance(value, dict):
        return ir.DictAttr.get({key: _to_attribute(item) for key, item in value.items()})
    return ir.ArrayAttr.get([_to_attribute(item) for item in value])


def _to_value(attribute: Any) -> Any:
    """The inverse. Raises ValueError for attributes of other kinds."""
    from torch_mlir import ir

    if isinstance(attribute, ir.UnitAttr):
        return None
    if isinstance(attribute, ir.BoolAttr | ir.IntegerAttr | ir.FloatAttr | ir.StringAttr):
        return attribute.value
    if isinstance(attribute, ir.DictAttr):
        return {named.name: _to_value(named.attr) for named in attribute}
    if isinstance(attribute, ir.ArrayAttr):
        return [_to_value(item) for item in attribute]
    raise ValueError(f"{attribute} is neither number, text, list nor dictionary")
