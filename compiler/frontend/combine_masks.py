"""Scores that are masked in several ways, or in one that attn.sdpa has no words for, as scores plus one mask.

What is done to scores before their softmax (a bias added, some replaced by a number that hides them, again and again)
is done to zeros instead, on the host: that is the mask. The scores themselves keep the factors. Where some are replaced
by a number, the number must hide them whatever the scores are, as the sum of both stands in its place then. Each step
reads the scores as the step before left them, once: a second reading would be of zeros too, and its term is no mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from npuc.compiler.frontend.attributes import indexing_maps
from npuc.compiler.frontend.constants import constant
from npuc.compiler.frontend.limits import HIDES, LOST, ROUNDED, spread
from npuc.compiler.frontend.loop_nest import REDUCTION, NestError, loop_nest
from npuc.compiler.frontend.recognise_softmax import key_label, natural_softmax
from npuc.compiler.frontend.replace import captured, replace_operands
from npuc.compiler.frontend.values import BATCH, HEAD, Opaque, Scores, Splat, Value

MAXIMA = ("arith.maximumf", "arith.maxnumf")
MOVES = ("tensor.cast", "tensor.collapse_shape", "tensor.expand_shape")
CONVERSIONS = ("arith.extf", "arith.truncf")
LONGEST = 40  # operations between a product and its softmax


class _Unfit(Exception):
    """Something else is done to the scores."""


@dataclass(frozen=True)
class Combined:
    """scores: what goes into a softmax in the source.  mask: what is added instead, in `total`, while attentions are
    looked for; what else uses the scores has them again after `undo`."""

    scores: Any
    mask: Any
    total: Any

    def undo(self) -> None:
        self.total.replace_all_uses_with(self.scores)


@dataclass
class _Chain:
    """The steps from scores that nothing masks to a softmax.

    steps: each with the number of the operand that the scores are, and their factor.  hidden: numbers that stand for
    scores, times what they are multiplied by then.  factor: of the scores.  added: whether anything is added.
    """

    bare: Any
    steps: list[tuple[Any, int, float]] = field(default_factory=list)
    hidden: list[float] = field(default_factory=list)
    factor: float = 1.0
    added: bool = False

    def times(self, number: float) -> None:
        if not (math.isfinite(number) and number > 0):
            raise _Unfit
        self.factor *= number
        self.hidden = [hidden * number for hidden in self.hidden]

    def hides(self, scores: Scores) -> bool:
        """Whether each number hides scores for certain, and whole rows as -1e9 does."""
        room = 2 * spread(scores.product) * self.factor + LOST + (-HIDES if self.added else 0.0)
        return all(number <= min(-room, HIDES * ROUNDED) for number in self.hidden)


def combine_masks(values: Mapping[Any, Value], operations: list[Any]) -> list[Combined]:
    """Put one mask in the place of those that softmaxes among `operations` (of one block) are not recognised with.

    values: what has been recognised so far, by SSA values. Scores that several softmaxes are of have one mask.
    """
    found: list[Combined] = []
    for operation in operations:
        scores = _normalised(operation)
        if scores is None or any(scores == masks.total for masks in found):
            continue
        if not _is_masked_otherwise(operation, values.get(scores)):
            continue
        try:
            chain = _chain(scores, values)
            bare = values[chain.bare]
            assert isinstance(bare, Scores)
            if chain.steps and chain.hides(bare):
                found.append(_combined(scores, chain, _order(bare, chain)))
        except _Unfit:
            continue
    return found


def _normalised(operation: Any) -> Any:
    """The tensor whose softmax an operation is, or whose maximum along a dimension."""
    if operation.name == "linalg.softmax":
        return operation.operands[0]
    if not operation.name.startswith("linalg.") or not operation.regions or not len(operation.results):
        return None
    steps = operation.regions[0].blocks[0].operations
    reduces = any(REDUCTION in str(kind) for kind in _kinds(operation)) or operation.name == "linalg.reduce"
    return operation.operands[0] if reduces and any(step.name in MAXIMA for step in steps) else None


def _kinds(operation: Any) -> list[Any]:
    return list(operation.attributes["iterator_types"]) if "iterator_types" in operation.attributes else []


def _is_masked_otherwise(operation: Any, value: Value | None) -> bool:
    """Whether a softmax of it is not one that is recognised, along the dimension that the operation takes it of."""
    if not isinstance(value, Scores):
        return True
    if value.product.masking is None:
        return False
    keys = [key_label(value.axes[dimension]) for dimension in _reduced(operation)]
    return all(key is None or isinstance(natural_softmax(operation, value.product, key), Opaque) for key in keys)


def _reduced(operation: Any) -> list[int]:
    """The dimensions of its first operand that a softmax, or a maximum, is taken along."""
    from torch_mlir import ir

    if operation.name == "linalg.softmax":
        return [operation.attributes["dimension"].value]
    if operation.name == "linalg.reduce":
        return list(operation.attributes["dimensions"])
    maps, kinds = indexing_maps(operation), _kinds(operation)
    assert maps is not None
    walked = [e.position if isinstance(e, ir.AffineDimExpr) else None for e in maps[0].results]
    return [n for n, loop in enumerate(walked) if loop is not None and REDUCTION in str(kinds[loop])]


def _chain(scores: Any, values: Mapping[Any, Value]) -> _Chain:
    """Raises _Unfit."""
    path: list[tuple[Any, int]] = []
    known: dict[Any, bool] = {}
    at = scores
    while not _is_bare(values.get(at)):
        operation = getattr(at.owner, "operation", at.owner)
        if len(path) > LONGEST or not hasattr(operation, "operands") or not _is_step(operation):
            raise _Unfit
        number = _toward(operation, values, known)
        path.append((operation, number))
        at = operation.operands[number]
    versions = {at, *(operation.results[0] for operation, _ in path)}
    if any(sum(value in versions for value in _read(operation)) != 1 for operation, _ in path):
        raise _Unfit
    chain = _Chain(at)
    for operation, number in reversed(path):
        before = chain.factor
        if operation.name.startswith("linalg."):
            _body(operation, number, values, chain)
        elif operation.name not in MOVES:
            _step(operation, number, chain, lambda value: _number(value, values))
        chain.steps.append((operation, number, chain.factor / before))
    return chain


def _is_bare(value: Value | None) -> bool:
    return isinstance(value, Scores) and value.product.masking is None


def _is_step(operation: Any) -> bool:
    """Whether an operation gives each element from elements at its place."""
    if len(operation.results) != 1:
        return False
    if operation.name.startswith("linalg."):
        return bool(operation.regions) and operation.name != "linalg.fill" and _writes_each_once(operation)
    return operation.name in MOVES or operation.name.startswith("arith.")


def _writes_each_once(operation: Any) -> bool:
    """Whether a linalg operation makes each element of its result in one step of its loops."""
    maps = indexing_maps(operation)
    try:
        return maps is not None and not loop_nest(operation, maps).reduced
    except NestError:
        return False


def _read(operation: Any) -> list[Any]:
    """The tensors that an operation reads, as often as it does: not the storage of a result that is only written."""
    if not operation.name.startswith("linalg."):
        return list(operation.operands)
    *inputs, storage = operation.operands
    is_read = any(True for _ in operation.regions[0].blocks[0].arguments[len(inputs)].uses)
    return [*inputs, *([storage] if is_read else []), *captured(operation)]


def _toward(operation: Any, values: Mapping[Any, Value], known: dict[Any, bool]) -> int:
    """The number of the one operand that scores reach. Raises _Unfit where none or several are.

    known: what is known to be reached, or not.
    """
    inputs = list(operation.operands)
    if operation.name.startswith("linalg."):
        inputs = inputs[: len(inputs) - len(operation.results)]
    numbers = [n for n, value in enumerate(inputs) if _reaches(value, values, known, LONGEST)]
    if len(numbers) != 1:
        raise _Unfit
    return numbers[0]


def _reaches(value: Any, values: Mapping[Any, Value], known: dict[Any, bool], depth: int) -> bool:
    if value not in known:
        known[value] = _is_bare(values.get(value))
        operation = getattr(value.owner, "operation", value.owner)
        if not known[value] and depth > 0 and hasattr(operation, "operands") and _is_step(operation):
            known[value] = any(_reaches(operand, values, known, depth - 1) for operand in operation.operands)
    return known[value]


def _number(value: Any, values: Mapping[Any, Value]) -> float | None:
    """The number that a value is everywhere."""
    known = values.get(value)
    if known is None:
        operation = getattr(value.owner, "operation", value.owner)
        known = constant(operation) if getattr(operation, "name", None) == "arith.constant" else None
    return float(known.value) if isinstance(known, Splat) and known.is_float else None


def _body(operation: Any, number: int, values: Mapping[Any, Value], chain: _Chain) -> None:
    """The steps of a linalg operation's body. Raises _Unfit."""
    block = operation.regions[0].blocks[0]
    outside = dict(zip(block.arguments, operation.operands, strict=True))
    at = block.arguments[number]
    while True:
        uses = list(at.uses)
        step = getattr(uses[0].owner, "operation", uses[0].owner) if len(uses) == 1 else None
        if step is None or step.block != block:
            raise _Unfit
        if step.name == "linalg.yield":
            return
        _step(step, uses[0].operand_number, chain, lambda value: _number(outside.get(value, value), values))
        at = step.results[0]


def _step(operation: Any, place: int, chain: _Chain, number_of: Callable[[Any], float | None]) -> None:
    """One operation on the scores, which are its operand `place`. Raises _Unfit."""
    if operation.name in CONVERSIONS:
        return
    if operation.name == "arith.addf" or (operation.name == "arith.subf" and place == 0):
        chain.added = True
        return
    if operation.name in MAXIMA or (operation.name == "arith.select" and place > 0):
        hidden = number_of(operation.operands[(1 if operation.name in MAXIMA else 3) - place])
        if hidden is None:
            raise _Unfit
        chain.hidden.append(hidden)
        return
    factor = number_of(operation.operands[1 - place]) if operation.name in ("arith.mulf", "arith.divf") else None
    if not factor or (operation.name == "arith.divf" and place != 0):
        raise _Unfit
    chain.times(factor if operation.name == "arith.mulf" else 1.0 / factor)


# --- writing ------------------------------------------------------------------------------------------------------
def _combined(scores: Any, chain: _Chain, order: list[int]) -> Combined:
    """order: of the mask's dimensions."""
    from torch_mlir import ir

    last, _, _ = chain.steps[-1]
    point = ir.InsertionPoint(last)  # in front of every use of the scores, by whichever softmax
    with last.location:
        mask = added = _repeated(chain, _zeros(chain.bare, point), point)
        if order != sorted(order):
            mask = _permuted(mask, order, point)
            added = _permuted(mask, [order.index(d) for d in range(len(order))], point)
        own = _factors(chain, point)
        total = ir.Operation.create("arith.addf", results=[scores.type], operands=[own, added], ip=point).results[0]
    scores.replace_all_uses_with(total)
    return Combined(scores, mask, total)


def _order(scores: Scores, chain: _Chain) -> list[int]:
    """The dimensions in which a mask has batch first and heads in their order, as calls give it."""
    dimensions = list(range(len(scores.axes)))
    if any(operation.name in MOVES for operation, _, _ in chain.steps):
        return dimensions
    ranks = {BATCH: 0, HEAD: 1}

    def place(dimension: int) -> tuple[int, int]:
        axis = scores.axes[dimension]
        return (ranks.get(axis[0].label, 2), -axis[0].step if axis[0].label in ranks else 0) if axis else (0, 0)

    return sorted(dimensions, key=place)


def _permuted(tensor: Any, order: list[int], point: Any) -> Any:
    """A tensor whose dimension n is dimension order[n] of another, of lengths that are known. Raises _Unfit."""
    from torch_mlir import ir

    type_ = tensor.type
    if not type_.has_static_shape:
        raise _Unfit
    made = ir.RankedTensorType.get([type_.shape[d] for d in order], type_.element_type)
    storage = ir.Operation.create("tensor.empty", results=[made], ip=point).results[0]
    maps = [ir.AffineMap.get_permutation([order.index(d) for d in range(len(order))])]
    identity = ir.AffineMap.get_identity(len(order))
    return _elementwise([tensor], storage, [*maps, identity], point, lambda arguments, _: arguments[0])


def _zeros(like: Any, point: Any) -> Any:
    """A tensor of zeros of a value's type. Raises _Unfit for open lengths of which there is no storage."""
    from torch_mlir import ir

    type_ = like.type
    zero = ir.FloatAttr.get(type_.element_type, 0.0)
    if type_.has_static_shape:
        value = ir.DenseElementsAttr.get_splat(type_, zero)
        return ir.Operation.create("arith.constant", results=[type_], attributes={"value": value}, ip=point).results[0]
    owner = getattr(like.owner, "operation", like.owner)
    if not getattr(owner, "name", "").startswith("linalg."):
        raise _Unfit
    identity = ir.AffineMap.get_identity(type_.rank)
    return _elementwise([], list(owner.operands)[-1], [identity], point, lambda _, inner: _constant(zero, inner))


def _repeated(chain: _Chain, start: Any, point: Any) -> Any:
    """What the steps make of another start."""
    mapped = {chain.bare: start}
    result = start
    for operation, _, _ in chain.steps:
        copy = operation.clone(ip=point)
        replace_operands(copy, mapped)
        result = mapped[operation.results[0]] = copy.results[0]
    return result


def _factors(chain: _Chain, point: Any) -> Any:
    """What the steps make of the scores without the masks."""
    from torch_mlir import ir

    at = chain.bare
    for operation, number, factor in chain.steps:
        result = operation.results[0]
        if operation.name in MOVES:
            copy = operation.clone(ip=point)
            replace_operands(copy, {operation.operands[0]: at})
            at = copy.results[0]
            continue
        linalg = operation.name.startswith("linalg.")
        maps = indexing_maps(operation) if linalg else [ir.AffineMap.get_identity(result.type.rank)] * (number + 2)
        assert maps is not None
        pair = [maps[number], maps[-1]]
        if pair[0] == pair[1] and factor == 1.0 and at.type == result.type:
            continue
        storage = list(operation.operands)[-1] if linalg else operation.operands[number]
        if storage.type != result.type:
            raise _Unfit

        def scaled(arguments: Any, inner: Any, factor: float = factor, type_: Any = result.type.element_type) -> Any:
            return _scaled(arguments[0], factor, type_, inner)

        at = _elementwise([at], storage, pair, point, scaled)
    return at


def _scaled(element: Any, factor: float, type_: Any, inner: Any) -> Any:
    """An element in another type, times a number."""
    from torch_mlir import ir

    if element.type != type_:
        if element.type.width == type_.width:
            raise _Unfit
        name = "arith.extf" if element.type.width < type_.width else "arith.truncf"
        element = ir.Operation.create(name, results=[type_], operands=[element], ip=inner).results[0]
    if factor == 1.0:
        return element
    number = _constant(ir.FloatAttr.get(type_, factor), inner)
    return ir.Operation.create("arith.mulf", results=[type_], operands=[element, number], ip=inner).results[0]


def _constant(attribute: Any, point: Any) -> Any:
    from torch_mlir import ir

    made = ir.Operation.create("arith.constant", results=[attribute.type], attributes={"value": attribute}, ip=point)
    return made.results[0]


def _elementwise(
    inputs: list[Any], storage: Any, maps: list[Any], point: Any, element: Callable[[Any, Any], Any]
) -> Any:
    """A linalg.generic over the elements of `storage`; element: from its block's arguments and place to what it
    yields."""
    from torch_mlir import ir

    kinds = [ir.Attribute.parse("#linalg.iterator_type<parallel>")] * maps[-1].n_dims
    attributes = {
        "indexing_maps": ir.ArrayAttr.get([ir.AffineMapAttr.get(map_) for map_ in maps]),
        "iterator_types": ir.ArrayAttr.get(kinds),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([len(inputs), 1]),
    }
    made = ir.Operation.create(
        "linalg.generic",
        results=[storage.type],
        operands=[*inputs, storage],
        attributes=attributes,
        regions=1,
        ip=point,
    )
    block = made.regions[0].blocks.append(*(value.type.element_type for value in (*inputs, storage)))
    inner = ir.InsertionPoint(block)
    ir.Operation.create("linalg.yield", operands=[element(block.arguments, inner)], ip=inner)
    return made.results[0]
