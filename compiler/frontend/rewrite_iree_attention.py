"""iree_linalg_ext.attention and online_attention in their generic form, as the linalg operations that they stand for.

Its operands are Q, K, V, the scale, perhaps a mask, and the tensor that the result comes in place of; each but the last
has an indexing map, over the loops of batch, queries, values' width, head size and keys. A mask is added to the scaled
scores (i1: true keeps). The region changes a score; one that gives back its argument is understood. Any other stays as
it is, and is refused by its name. Sizes may be open: they are read from an operand that has them.

online_attention goes on from what was accumulated before: sums of values, row maxima and row sums, which it takes and
gives; its exponentials may be of any base, so it is left alone where something reads the maxima.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from npuc.compiler.argument_layout import Size
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS
from npuc.compiler.frontend.replace import replace_operands
from npuc.compiler.frontend.shapes import sizes_of

NAME, ONLINE = "iree_linalg_ext.attention", "iree_linalg_ext.online_attention"


def expand_iree_attention(module: Any) -> None:
    """In place."""
    from torch_mlir import ir

    found: list[Any] = []

    def visit(operation: Any) -> Any:
        if operation.name in (NAME, ONLINE):
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for operation in found:
        whole = _parts(operation)
        if whole is not None:
            _replace(operation, whole)


@dataclass(frozen=True)
class _Parts:
    """maps: loops of each operand's dimensions, none for the scale.  extents: of the loops, None where open.  rows: of
    the maxima and the sums that an online attention takes besides."""

    types: tuple[Any, ...]
    maps: tuple[tuple[int, ...], ...]
    extents: tuple[Size, ...]
    depth: int
    keys: int
    rows: tuple[int, ...] | None = None

    @property
    def masked(self) -> bool:
        return len(self.types) == 6


def _parts(operation: Any) -> _Parts | None:
    from torch_mlir import ir

    operands = list(operation.operands)
    online = operation.name == ONLINE
    try:
        maps = [attribute.value for attribute in operation.attributes["indexing_maps"]]
    except (KeyError, TypeError, AttributeError):
        return None
    results = 3 if online else 1
    if len(operands) - results not in (4, 5) or len(maps) != len(operands) or len(operation.results) != results:
        return None
    if not _gives_back_its_argument(operation) or (online and any(True for _ in operation.results[1].uses)):
        return None
    types = tuple(operand.type for operand in operands)
    loops: list[tuple[int, ...]] = []
    extents: dict[int, Size] = {}
    for number, (type_, map_) in enumerate(zip(types, maps, strict=True)):
        walked = list(map_.results)
        if number == 3:
            if walked or str(type_) not in FLOAT_FORMATS:
                return None
            loops.append(())
            continue
        if not isinstance(type_, ir.RankedTensorType) or len(walked) != type_.rank:
            return None
        if not all(isinstance(expression, ir.AffineDimExpr) for expression in walked):
            return None
        own = tuple(expression.position for expression in walked)
        if len(set(own)) != len(own) or not _agree(extents, own, sizes_of(type_)):
            return None
        loops.append(own)
    rows = tuple(loops.pop() for _ in "ms") if online else ()
    parts = _roles(types[: len(loops)], tuple(loops), extents, maps[0].n_dims, operation.results[0].type)
    if parts is None or not online:
        return parts
    wanted = {loop for n in (0, 1) for loop in loops[n]} - {parts.depth, parts.keys}
    if (
        rows[0] != rows[1]
        or set(rows[0]) != wanted
        or any(str(t.element_type) != "f32" for t in types[len(loops) - 1 :])
    ):
        return None
    whole, row = _tensor(parts, parts.maps[-1]), _tensor(parts, rows[0])
    if [str(t) for t in types[-3:]] != [whole, row, row]:
        return None
    return replace(parts, rows=rows[0])


def _agree(extents: dict[int, Size], loops: Sequence[int], sizes: Sequence[Size]) -> bool:
    """Whether a tensor's sizes are those of its loops, which are noted."""
    for loop, size in zip(loops, sizes, strict=True):
        known = extents.get(loop)
        if known is not None and size not in (None, known):
            return False
        extents[loop] = known if size is None else size
    return True


def _roles(
    types: tuple[Any, ...], loops: tuple[tuple[int, ...], ...], extents: dict[int, Size], count: int, result: Any
) -> _Parts | None:
    """Which loop is the head size and which the keys; None where the maps are not those of attention."""
    q, k, v, out = set(loops[0]), set(loops[1]), set(loops[2]), set(loops[-1])
    depth, keys = (q & k) - v - out, (k & v) - q - out
    elements = [str(t.element_type) for n, t in enumerate(types) if n not in (3, 4) or (n == 4 and len(types) == 5)]
    if len(depth) != 1 or len(keys) != 1 or sorted(extents) != list(range(count)) or result != types[-1]:
        return None
    if out != (q | k | v) - depth - keys or any(element not in FLOAT_FORMATS for element in elements):
        return None
    if len(types) == 6 and (
        not set(loops[4]) <= (q - depth) | keys or str(types[4].element_type) not in (*FLOAT_FORMATS, "i1")
    ):
        return None
    return _Parts(types, loops, tuple(extents[d] for d in range(count)), depth.pop(), keys.pop())


def _gives_back_its_argument(operation: Any) -> bool:
    blocks = [block for region in operation.regions for block in region.blocks]
    if len(blocks) != 1 or len(blocks[0].arguments) != 1 or len(blocks[0].operations) != 1:
        return False
    (last,) = blocks[0].operations
    return last.operation.name == "iree_linalg_ext.yield" and list(last.operation.operands) == [blocks[0].arguments[0]]


def _replace(operation: Any, parts: _Parts) -> None:
    """The operations of `_text` in its place."""
    from torch_mlir import ir

    with operation.context, operation.location:
        made = ir.Module.parse(_placed(_text(parts), str(operation.location)))
        block = made.body.operations[0].operation.regions[0].blocks[0]
        mapped = dict(zip(block.arguments, operation.operands, strict=False))
        point = ir.InsertionPoint(operation)
        results: list[Any] = []
        for view in block.operations:
            step = view.operation
            if step.name == "func.return":
                results = [mapped[operand] for operand in step.operands]
                break
            copy = step.clone(ip=point)
            replace_operands(copy, mapped)
            mapped.update(zip(step.results, copy.results, strict=True))
        for own, made_one in zip(operation.results, results, strict=True):
            own.replace_all_uses_with(made_one)
        operation.erase()


def _placed(text: str, location: str) -> str:
    """With every operation where the one is that they stand for."""
    lines = text.splitlines()
    opens = ("{", ":", "}")  # a function's or a nest's header, a block's, the function's end
    return "\n".join(line if line.endswith(opens) else f"{line} {location}" for line in lines)


def _text(parts: _Parts) -> str:
    """A function of the operands; of those that results take the place of, an online attention alone reads any."""
    q, k, v = parts.maps[:3]
    out, result = parts.maps[-1], parts.types[-1]
    scores = tuple(d for d in dict.fromkeys((*q, *k)) if d not in (parts.depth, parts.keys)) + (parts.keys,)
    names = ["%q", "%k", "%v", "%scale", "%mask"][: len(parts.types) - 1]
    given = [f"{name}: {type_}" for name, type_ in zip(names, parts.types, strict=False)]
    types = _tensor(parts, scores), _tensor(parts, out)
    made = str(result)
    if parts.rows is not None:
        row = _tensor(parts, parts.rows)
        given += [f"%before: {types[1]}", f"%highest: {row}", f"%summed: {row}"]
        made = f"({types[1]}, {row}, {row})"
    lines = [
        f"func.func @attention({', '.join(given)}) -> {made} {{",
        "%zero = arith.constant 0.0 : f32",
        "%lowest = arith.constant 0xFF800000 : f32",
        f"%wide = {_widened('%scale', str(parts.types[3]))}",
        *_lengths(parts),
        _empty("%storage", parts, scores),
        *_product(parts, "x", ("%q", "%k"), parts.types[:2], (q, k, scores), (*scores, parts.depth)),
        *_each("y", ["%x"], [types[0]], [scores, scores], types[0], ["%n = arith.mulf %a, %wide : f32"]),
    ]
    last = "%y"
    if parts.masked:
        element, mask = str(parts.types[4].element_type), parts.maps[4]
        taken = "arith.select %b, %zero, %lowest : f32" if element == "i1" else _widened("%b", element)
        body = [f"%m = {taken}", "%n = arith.addf %a, %m : f32"]
        operands = [types[0], str(parts.types[4])]
        lines += _each("z", ["%y", "%mask"], operands, [scores, mask, scores], types[0], body)
        last = "%z"
    if parts.rows is not None:
        return "\n".join([*lines, *_online(parts, last, scores, parts.rows), "}"])
    dimension = len(scores) - 1
    lines += [
        f"%p = linalg.softmax dimension({dimension}) ins({last} : {types[0]})"
        f" outs(%storage : {types[0]}) -> {types[0]}",
        *_product(parts, "o", ("%p", "%v"), (types[0], parts.types[2]), (scores, v, out), (*out, parts.keys)),
    ]
    element = str(result.element_type)
    narrowed = (
        "%n = arith.addf %a, %zero : f32" if element == "f32" else f"%n = arith.{_change(element)} : f32 to {element}"
    )
    lines += [_empty("%r0", parts, out, result)]
    lines += _each("r", ["%o"], [types[1]], [out, out], str(result), [narrowed], "%r0", element)
    return "\n".join([*lines, f"return %r : {result}", "}"])


def _online(parts: _Parts, last: str, scores: tuple[int, ...], rows: tuple[int, ...]) -> list[str]:
    """The maxima, sums and sums of values with those before, of the scores `last`; returned in IREE's order."""
    v, out = parts.maps[2], parts.maps[-1]
    all_, row, whole = (_tensor(parts, loops) for loops in (scores, rows, out))
    ahead = [scores, rows, scores]
    difference = ["%d = arith.subf %a, %b : f32", "%n = math.exp %d : f32"]
    product = ["%n = arith.mulf %a, %b : f32"]
    body = ["%n = arith.addf %a, %c : f32"]
    kinds = ", ".join('"reduction"' if d == parts.keys else '"parallel"' for d in scores)
    return [
        _empty("%rows", parts, rows),
        _empty("%outs", parts, out),
        *_each(
            "m",
            [last],
            [all_],
            [scores, rows],
            row,
            ["%n = arith.maximumf %a, %c : f32"],
            "%highest",
            loops=scores,
            kinds=kinds,
        ),
        *_each("p", [last, "%m"], [all_, row], ahead, all_, difference),
        *_each("k1", ["%highest", "%m"], [row, row], [rows, rows, rows], row, difference, "%rows"),
        *_each("s0", ["%summed", "%k1"], [row, row], [rows, rows, rows], row, product, "%rows"),
        *_each("s", ["%p"], [all_], [scores, rows], row, body, "%s0", loops=scores, kinds=kinds),
        *_each("o0", ["%before", "%k1"], [whole, row], [out, rows, out], whole, product, "%outs"),
        *_product(parts, "o", ("%p", "%v"), (all_, parts.types[2]), (scores, v, out), (*out, parts.keys), "%o0"),
        f"return %o, %m, %s : {whole}, {row}, {row}",
    ]


def _change(element: str) -> str:
    return "extf %a" if element == "f64" else "truncf %a"


def _widened(name: str, element: str) -> str:
    """A number of `element` as f32."""
    if element == "f32":
        return f"arith.addf {name}, %zero : f32"
    return f"arith.{'truncf' if element == 'f64' else 'extf'} {name} : {element} to f32"


def _tensor(parts: _Parts, loops: Sequence[int]) -> str:
    return f"tensor<{''.join(f'{_size(parts.extents[d])}x' for d in loops)}f32>"


def _size(size: Size) -> str:
    return "?" if size is None else str(size)


def _lengths(parts: _Parts) -> list[str]:
    """Operations that give the open extents of loops, as %n and the loop's number; those too that the result's type
    leaves open where other operands say them."""
    known = zip(parts.maps[-1], sizes_of(parts.types[-1]), strict=True)
    said = [(d, parts.extents[d]) for d, size in known if size is None and parts.extents[d] is not None]
    lines = [f"%n{loop} = arith.constant {size} : index" for loop, size in said]
    names = ["%q", "%k", "%v", "%scale", "%mask"][: len(parts.types) - 1]
    for loop, size in enumerate(parts.extents):
        if size is None:
            held = [(name, n) for n, name in enumerate(names) if loop in parts.maps[n]]
            name, n = held[0]
            place = f"%c{loop} = arith.constant {parts.maps[n].index(loop)} : index"
            lines += [place, f"%n{loop} = tensor.dim {name}, %c{loop} : {parts.types[n]}"]
    return lines


def _empty(name: str, parts: _Parts, loops: Sequence[int], type_: Any = None) -> str:
    """Storage over some loops; of f32 unless a type says otherwise, which may leave more sizes open."""
    sizes = [parts.extents[d] for d in loops] if type_ is None else sizes_of(type_)
    given = [f"%n{d}" for d, size in zip(loops, sizes, strict=True) if size is None]
    return f"{name} = tensor.empty({', '.join(given)}) : {type_ or _tensor(parts, loops)}"


def _map(loops: Sequence[int], results: Sequence[int]) -> str:
    return f"affine_map<({', '.join(f'd{d}' for d in loops)}) -> ({', '.join(f'd{d}' for d in results)})>"


def _product(
    parts: _Parts,
    name: str,
    values: tuple[str, str],
    types: Sequence[Any],
    maps: Sequence[Sequence[int]],
    loops: Sequence[int],
    start: str | None = None,
) -> list[str]:
    """The sum over the last of `loops` of products of two tensors, in f32; start: what it goes on from, not zero."""
    result = _tensor(parts, maps[-1])
    kinds = ", ".join(['"parallel"'] * (len(loops) - 1) + ['"reduction"'])
    elements = [str(t).removesuffix(">").split("x")[-1] for t in types]
    zeros = [
        _empty(f"%{name}e", parts, maps[-1]),
        f"%{name}z = linalg.fill ins(%zero : f32) outs(%{name}e : {result}) -> {result}",
    ]
    storage = f"%{name}z" if start is None else start
    return [
        *(zeros if start is None else ()),
        f"%{name} = linalg.generic {{indexing_maps = [{', '.join(_map(loops, m) for m in maps)}],"
        f" iterator_types = [{kinds}]}} ins({', '.join(values)} : {types[0]}, {types[1]})"
        f" outs({storage} : {result}) {{",
        f"^bb0(%a: {elements[0]}, %b: {elements[1]}, %c: f32):",
        f"%f = {_widened('%a', elements[0])}",
        f"%g = {_widened('%b', elements[1])}",
        "%h = arith.mulf %f, %g : f32",
        "%n = arith.addf %c, %h : f32",
        f"linalg.yield %n : f32 }} -> {result}",
    ]


def _each(
    name: str,
    values: list[str],
    types: list[str],
    maps: Sequence[Sequence[int]],
    result: str,
    body: list[str],
    storage: str = "%storage",
    element: str = "f32",
    loops: Sequence[int] = (),
    kinds: str = "",
) -> list[str]:
    """%name, element by element, or reduced by `kinds` of `loops`: `body` makes %n of %a, %b and the old %c."""
    loops = loops or maps[-1]
    elements = [t.removesuffix(">").split("x")[-1] for t in types]
    arguments = ", ".join(f"%{letter}: {one}" for letter, one in zip("ab", elements, strict=False))
    kinds = kinds or ", ".join(['"parallel"'] * len(loops))
    return [
        f"%{name} = linalg.generic {{indexing_maps = [{', '.join(_map(loops, m) for m in maps)}],"
        f" iterator_types = [{kinds}]}} ins({', '.join(values)} : {', '.join(types)}) outs({storage} : {result}) {{",
        f"^bb0({arguments}, %c: {element}):",
        *body,
        f"linalg.yield %n : {element} }} -> {result}",
    ]
