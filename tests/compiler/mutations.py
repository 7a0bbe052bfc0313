"""Single random changes of a parsed module. Each takes the module's function and a generator, and says what it did.

None where there was nothing to change. The result need not be valid: callers verify the module.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

FLOAT_BINARY = (
    "arith.addf", "arith.subf", "arith.mulf", "arith.divf", "arith.maximumf", "arith.minimumf", "arith.maxnumf",
    "arith.minnumf", "arith.remf", "math.powf", "math.atan2", "math.copysign",
)  # fmt: skip
FLOAT_UNARY = (
    "arith.negf", "math.absf", "math.exp", "math.exp2", "math.expm1", "math.log", "math.tanh", "math.sqrt",
    "math.rsqrt", "math.floor", "math.erf", "math.sin",
)  # fmt: skip
INTEGER_BINARY = ("arith.addi", "arith.subi", "arith.muli", "arith.andi", "arith.ori", "arith.xori", "arith.maxsi")
KINDS = (
    FLOAT_BINARY,
    FLOAT_UNARY,
    INTEGER_BINARY,
    ("arith.sitofp", "arith.uitofp"),
    ("arith.extsi", "arith.extui"),
    ("arith.index_cast", "arith.index_castui"),
)
FLOATS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 0.125, 1e-30, -1e9, -1e30, 3e38, -3.4028234663852886e38, 65504.0, 1e10)
SPECIAL = (float("inf"), float("-inf"), float("nan"))


@dataclass(frozen=True)
class Site:
    """An operation and the values that it could use."""

    operation: Any
    visible: tuple[Any, ...]


Mutation = Callable[[Any, random.Random], "str | None"]


def sites(function: Any) -> list[Site]:
    """All operations inside a function, in order."""
    return list(_walk(function.regions[0].blocks[0], ()))


def _walk(block: Any, outer: tuple[Any, ...]) -> Iterator[Site]:
    visible = [*outer, *block.arguments]
    for step in block.operations:
        operation = step.operation
        yield Site(operation, tuple(visible))
        for region in operation.regions:
            for inner in region.blocks:
                yield from _walk(inner, tuple(visible))
        visible += operation.results


def _some(rng: random.Random, found: list[Site]) -> Site | None:
    return rng.choice(found) if found else None


# --- operands -----------------------------------------------------------------------------------------------------
def exchange_operand(function: Any, rng: random.Random) -> str | None:
    """Another value of the same type."""
    site = _some(rng, [s for s in sites(function) if len(s.operation.operands)])
    if site is None:
        return None
    return _exchange(site, rng.randrange(len(site.operation.operands)), rng)


def exchange_initial(function: Any, rng: random.Random) -> str | None:
    """Another initial value of a structured operation."""
    site = _some(rng, [s for s in sites(function) if s.operation.name.startswith("linalg.") and s.operation.regions])
    if site is None or not len(site.operation.results):
        return None
    count = len(site.operation.operands)
    return _exchange(site, count - 1 - rng.randrange(len(site.operation.results)), rng)


def exchange_result(function: Any, rng: random.Random) -> str | None:
    """Another result of the operation that an operand comes from."""
    found = []
    for site in sites(function):
        for number, operand in enumerate(site.operation.operands):
            owner = operand.owner
            if isinstance(owner, ir.Block):
                continue
            others = [r for r in owner.results if r.type == operand.type and r != operand]
            found += [(site, number, other) for other in others]
    if not found:
        return None
    site, number, other = rng.choice(found)
    site.operation.operands[number] = other
    return f"{site.operation.name}: operand {number} is another result"


def _exchange(site: Site, number: int, rng: random.Random) -> str | None:
    operation = site.operation
    old = operation.operands[number]
    others = [v for v in site.visible if v.type == old.type and v != old]
    if not others:
        return None
    operation.operands[number] = rng.choice(others)
    return f"{operation.name}: operand {number} exchanged"


def swap_operands(function: Any, rng: random.Random) -> str | None:
    found = []
    for site in sites(function):
        operands = list(site.operation.operands)
        pairs = [(i, j) for i in range(len(operands)) for j in range(i) if operands[i].type == operands[j].type]
        found += [(site.operation, pair) for pair in pairs if operands[pair[0]] != operands[pair[1]]]
    if not found:
        return None
    operation, (i, j) = rng.choice(found)
    a, b = operation.operands[i], operation.operands[j]
    operation.operands[i], operation.operands[j] = b, a
    return f"{operation.name}: operands {j} and {i} swapped"


def exchange_uses(function: Any, rng: random.Random) -> str | None:
    """One value in place of another everywhere."""
    site = _some(rng, [s for s in sites(function) if len(s.operation.results)])
    if site is None:
        return None
    old = rng.choice(list(site.operation.results))
    others = [v for v in site.visible if v.type == old.type]
    if not others:
        return None
    old.replace_all_uses_with(rng.choice(others))
    return f"{site.operation.name}: its result is replaced everywhere"


# --- attributes ---------------------------------------------------------------------------------------------------
def change_constant(function: Any, rng: random.Random) -> str | None:
    site = _some(rng, [s for s in sites(function) if s.operation.name == "arith.constant"])
    if site is None:
        return None
    operation = site.operation
    attribute, type_ = operation.attributes["value"], operation.results[0].type
    splat = isinstance(attribute, ir.DenseElementsAttr)
    if splat and not attribute.is_splat:
        return None
    old = attribute.get_splat_value() if splat else attribute
    new = _number(old, rng)
    if new is None:
        return None
    operation.attributes["value"] = ir.DenseElementsAttr.get_splat(type_, new) if splat else new
    return f"arith.constant: {old} becomes {new}"


def _number(old: Any, rng: random.Random) -> Any:
    if isinstance(old, ir.FloatAttr):
        near = old.value * (1.0 + rng.choice((-1, 1)) * 2.0 ** -rng.randrange(1, 16))
        value = rng.choice((near, near, -old.value, old.value * 2, rng.choice(FLOATS), rng.choice(SPECIAL)))
        return ir.FloatAttr.get(old.type, value)
    if isinstance(old, ir.BoolAttr):
        return ir.BoolAttr.get(not old.value)
    if isinstance(old, ir.IntegerAttr):
        return ir.IntegerAttr.get(old.type, rng.choice((old.value + 1, old.value - 1, 0, 1, -1, 2, 64)))
    return None


def change_predicate(function: Any, rng: random.Random) -> str | None:
    site = _some(rng, [s for s in sites(function) if "predicate" in s.operation.attributes])
    if site is None:
        return None
    old = site.operation.attributes["predicate"]
    new = rng.randrange(16 if site.operation.name == "arith.cmpf" else 10)
    site.operation.attributes["predicate"] = ir.IntegerAttr.get(old.type, new)
    return f"{site.operation.name}: predicate {old.value} becomes {new}"


def change_dimension(function: Any, rng: random.Random) -> str | None:
    """A dimension or permutation of an operation."""
    names = ("dim", "dimension", "permutation", "dimensions")
    found = [(s.operation, n) for s in sites(function) for n in names if n in s.operation.attributes]
    if not found:
        return None
    operation, name = rng.choice(found)
    old = operation.attributes[name]
    if isinstance(old, ir.IntegerAttr):
        new: Any = ir.IntegerAttr.get(old.type, rng.randrange(4))
    else:
        values = list(old)
        if len(values) > 1 and rng.random() < 0.8:
            rng.shuffle(values)
        elif values:
            values[rng.randrange(len(values))] = rng.randrange(4)
        new = ir.DenseI64ArrayAttr.get(values)
    operation.attributes[name] = new
    return f"{operation.name}: {name} = {old} becomes {new}"


def change_map(function: Any, rng: random.Random) -> str | None:
    site = _some(rng, [s for s in sites(function) if "indexing_maps" in s.operation.attributes])
    if site is None:
        return None
    maps = [attribute.value for attribute in site.operation.attributes["indexing_maps"]]
    at = rng.randrange(len(maps))
    old = maps[at]
    results = list(old.results)
    if not results:
        return None
    i, j = rng.randrange(len(results)), rng.randrange(len(results))
    kind = rng.randrange(5)
    if kind <= 1:
        results[i], results[j] = results[j], results[i]
    elif kind == 2:
        results[i] = ir.AffineExpr.get_constant(rng.randrange(2))
    elif kind == 3:
        results[i] = ir.AffineExpr.get_dim(rng.randrange(old.n_dims))
    else:
        other = [ir.AffineExpr.get_dim(d) for d in rng.sample(range(old.n_dims), old.n_dims)]
        maps = [m if k != at and rng.random() < 0.5 else _renamed(m, other) for k, m in enumerate(maps)]
        results = list(maps[at].results)
    maps[at] = ir.AffineMap.get(old.n_dims, 0, results)
    site.operation.attributes["indexing_maps"] = ir.ArrayAttr.get([ir.AffineMapAttr.get(m) for m in maps])
    return f"{site.operation.name}: map {at} {old} becomes {maps[at]}"


def _renamed(map_: Any, dimensions: list[Any]) -> Any:
    if not all(isinstance(e, ir.AffineDimExpr | ir.AffineConstantExpr) for e in map_.results):
        return map_
    results = [dimensions[e.position] if isinstance(e, ir.AffineDimExpr) else e for e in map_.results]
    return ir.AffineMap.get(map_.n_dims, 0, results)


def change_iterator(function: Any, rng: random.Random) -> str | None:
    site = _some(rng, [s for s in sites(function) if "iterator_types" in s.operation.attributes])
    if site is None:
        return None
    kinds = list(site.operation.attributes["iterator_types"])
    if not kinds:
        return None
    at = rng.randrange(len(kinds))
    other = "parallel" if "reduction" in str(kinds[at]) else "reduction"
    kinds[at] = ir.Attribute.parse(f"#linalg.iterator_type<{other}>")
    site.operation.attributes["iterator_types"] = ir.ArrayAttr.get(kinds)
    return f"{site.operation.name}: iterator {at} becomes {other}"


def change_attention(function: Any, rng: random.Random) -> str | None:
    """An attribute of an attn.sdpa."""
    site = _some(rng, [s for s in sites(function) if s.operation.name == "attn.sdpa"])
    if site is None:
        return None
    name, value = rng.choice(
        [("causal", "true"), ("causal", "false"), ("window", "2 : i64"), ("window", "1 : i64"),
         ("softcap", "0.7 : f64"), ("scale", "0.3 : f64"), ("align", '"bottom-right"'), ("align", '"top-left"')]
    )  # fmt: skip
    site.operation.attributes[name] = ir.Attribute.parse(value)
    return f"attn.sdpa: {name} = {value}"


# --- operations ---------------------------------------------------------------------------------------------------
def rename_operation(function: Any, rng: random.Random) -> str | None:
    """Another operation of the same kind."""
    found = [(s.operation, kind) for s in sites(function) for kind in KINDS if s.operation.name in kind]
    if not found:
        return None
    operation, kind = rng.choice(found)
    name = rng.choice([other for other in kind if other != operation.name])
    with ir.InsertionPoint(operation):
        new = ir.Operation.create(
            name, results=[operation.results[0].type], operands=list(operation.operands), loc=operation.location
        )
    old = operation.name
    operation.results[0].replace_all_uses_with(new.results[0])
    operation.erase()
    return f"{old} becomes {name}"


def bypass_operation(function: Any, rng: random.Random) -> str | None:
    """An operand in place of a result."""
    found = [
        (s.operation, result, operand)
        for s in sites(function)
        for result in s.operation.results
        for operand in s.operation.operands
        if result.type == operand.type
    ]
    if not found:
        return None
    operation, result, operand = rng.choice(found)
    result.replace_all_uses_with(operand)
    return f"{operation.name}: an operand in place of its result"


def insert_operation(function: Any, rng: random.Random) -> str | None:
    """An elementwise operation on one operand of an operation."""
    found = [
        (s, number)
        for s in sites(function)
        for number, operand in enumerate(s.operation.operands)
        if _is_float(operand.type)
    ]
    if not found:
        return None
    site, number = rng.choice(found)
    operation = site.operation
    old = operation.operands[number]
    if rng.random() < 0.5:
        name, operands = rng.choice(FLOAT_UNARY), [old]
    else:
        others = [v for v in site.visible if v.type == old.type]
        operands = [old, rng.choice(others)]
        rng.shuffle(operands)
        name = rng.choice(FLOAT_BINARY)
    with ir.InsertionPoint(operation):
        new = ir.Operation.create(name, results=[old.type], operands=operands, loc=operation.location)
    operation.operands[number] = new.results[0]
    return f"{operation.name}: operand {number} through {name}"


def _is_float(type_: Any) -> bool:
    return str(getattr(type_, "element_type", type_)) in ("f16", "bf16", "f32", "f64")


def insert_partial_write(function: Any, rng: random.Random) -> str | None:
    """A structured operation that overwrites one slice of a tensor, before an operation uses it."""
    found = [
        (s, number)
        for s in sites(function)
        for number, operand in enumerate(s.operation.operands)
        if isinstance(operand.type, ir.RankedTensorType) and operand.type.rank > 1 and _is_float(operand.type)
    ]
    if not found:
        return None
    site, number = rng.choice(found)
    operation = site.operation
    old = operation.operands[number]
    rank = old.type.rank
    fixed = rng.randrange(rank)
    loops = [ir.AffineExpr.get_dim(d) for d in range(rank - 1)]
    loops.insert(fixed, ir.AffineExpr.get_constant(rng.randrange(old.type.shape[fixed])))
    map_ = ir.AffineMapAttr.get(ir.AffineMap.get(rank - 1, 0, loops))
    kind = ir.Attribute.parse("#linalg.iterator_type<parallel>")
    segments = ir.DenseI32ArrayAttr.get([0, 1])
    attributes = {
        "indexing_maps": ir.ArrayAttr.get([map_]),
        "iterator_types": ir.ArrayAttr.get([kind] * (rank - 1)),
        "operandSegmentSizes": segments,
    }
    element = old.type.element_type
    with ir.InsertionPoint(operation):
        new = ir.Operation.create(
            "linalg.generic",
            results=[old.type],
            operands=[old],
            attributes=attributes,
            regions=1,
            loc=operation.location,
        )
    block = new.regions[0].blocks.append(element, arg_locs=[operation.location])
    with ir.InsertionPoint(block):
        value = ir.FloatAttr.get(element, rng.choice((0.0, 1.0, float("-inf"))))
        constant = ir.Operation.create(
            "arith.constant", results=[element], attributes={"value": value}, loc=operation.location
        )
        ir.Operation.create("linalg.yield", operands=[constant.results[0]], loc=operation.location)
    operation.operands[number] = new.results[0]
    return f"{operation.name}: operand {number} with a slice overwritten"


MUTATIONS: tuple[Mutation, ...] = (
    exchange_operand,
    exchange_operand,
    exchange_initial,
    exchange_initial,
    exchange_result,
    swap_operands,
    exchange_uses,
    change_constant,
    change_constant,
    change_constant,
    change_predicate,
    change_dimension,
    change_map,
    change_map,
    change_map,
    change_iterator,
    change_attention,
    rename_operation,
    rename_operation,
    bypass_operation,
    bypass_operation,
    insert_operation,
    insert_partial_write,
)
