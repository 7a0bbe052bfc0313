"""From the value a function returns to the Attention it computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

from npuc.compiler.diagnostics import Place
from npuc.compiler.dialects.attn import result_types
from npuc.compiler.frontend.attention import DTYPES, ROLE_NAMES, Argument, Attention, Sizes, default_scale
from npuc.compiler.frontend.axes import RANKS, AxisError, argument_axes, extent, named_axes
from npuc.compiler.frontend.call_arguments import LARGEST_SCALE, SCALE, UNUSED, CallArgument
from npuc.compiler.frontend.given import is_number, problem_of
from npuc.compiler.frontend.interpret import run
from npuc.compiler.frontend.layouts import Layouts, in_order, layout_of, role_sizes
from npuc.compiler.frontend.open_lengths import assumptions
from npuc.compiler.frontend.place import Blocked, place_of, with_place
from npuc.compiler.frontend.shapes import sizes_of
from npuc.compiler.frontend.values import LABELS, LEFT, Attended, Axes, Opaque, Scaling, Sdpa, Value, describe

WANTED = "wanted is a function of Q, K and V, [B, H, S, D] each, that returns softmax(scale Q K^T) V and does no more"

# Element types of arguments that have no part in the attention.
PASSED_DTYPES = (*DTYPES, "f64", "i16", "i32", "i64")

MOST_READINGS = 2  # of an argument in other layouts: a mask's axes, and then which of them are the keys

# Scales this close to 1/sqrt(D) are it: factors in float32, up to two of them, cannot say it better.
SCALE_ROUNDING = 2.0**-21


@dataclass(frozen=True)
class _Signature:
    """Types of a function, and where to point for each."""

    name: str
    function: Any
    block: Any
    result: Any
    layouts: Layouts = field(default_factory=dict)
    equal: frozenset[frozenset[str]] = frozenset()

    def axes(self, number: int) -> Axes:
        return self.layouts.get(number) or argument_axes(number, self.shape(number))

    def shape(self, number: int) -> Sizes:
        return sizes_of(self.block.arguments[number].type)

    def dtype(self, number: int) -> str:
        return str(self.block.arguments[number].type.element_type)


def attention_of(name: str, function: Any, block: Any, file: str, layouts: Layouts | None = None) -> Attention:
    """The attention that a func.func computes in `block`; `file` names it. Raises Blocked where it is anything else.

    layouts: of its arguments, where they are expected not to be [B, H, S, D]; others are tried as well.
    """
    signature = _signature(name, function)
    with assumptions() as equal:
        value, layouts = _value(block, layouts or {})
    if isinstance(value, Opaque):
        raise Blocked(value.operation, value.reason, value.remedy or WANTED)
    _check_tensor(function, f"the result of @{name}", signature.result)
    if not isinstance(value, Attended | Sdpa):
        operations = signature.block.operations
        returned = operations[len(operations) - 1]
        raise Blocked(returned, f"the function returns {describe(value)}, not softmax(Q K^T) V", WANTED)
    signature = replace(signature, layouts=layouts, equal=frozenset(equal))
    return _described(signature, value, place_of(with_place(value.operation).location, file))


def _value(block: Any, expected: Layouts) -> tuple[Value, Layouts]:
    """What a function returns, its arguments read as [B, H, S, D], or as its contractions say they lie."""
    layouts = dict(expected)
    read = Counter(layouts.keys())
    first = value = run(block, layouts)[0]
    while isinstance(value, Opaque) and (changed := _changed(block, value, layouts)):
        read.update(changed.keys())
        if max(read.values()) > MOST_READINGS:
            break
        layouts |= changed
        value = run(block, layouts)[0]
    if isinstance(value, Opaque) and expected:
        return _value(block, {})
    if isinstance(value, Opaque) and isinstance(first, Opaque) and value.operation == first.operation:
        return first, {}
    return value, layouts


def _equal_lengths(signature: _Signature, roles: dict[str, int], pairs: frozenset[frozenset[str]]) -> bool:
    """Whether the source takes Q to be as long as K. Raises Blocked where it takes other lengths to be equal."""
    found = False
    for pair in pairs:
        left, right = ({_axis_of(signature, roles, name)} for name in sorted(pair))
        if left != right:
            if left | right != {"S", "Skv"}:
                raise Blocked(signature.function, f"it takes {' and '.join(sorted(left | right))} to be equal lengths")
            found = True
    return found


def _axis_of(signature: _Signature, roles: dict[str, int], dimension: str) -> str:
    """B, S or Skv: what the dimension of an argument is."""
    number, place = map(int, dimension.split("."))
    role = next((role for role, played in roles.items() if played == number), "")
    labels = {atom.label for atom in signature.axes(number)[place]}
    names = {"S": "Skv" if role in ("k", "v") else "S", "D": "Skv" if role == "mask" else "D"}
    return "*".join(sorted(names.get(label, label) for label in labels))


def _changed(block: Any, value: Opaque, layouts: Layouts) -> dict[int, Axes]:
    """The layouts that an operation asks for, of arguments that were not read so."""
    wanted = value.layouts or {}
    return {
        number: axes
        for number, axes in wanted.items()
        if axes != (layouts.get(number) or argument_axes(number, sizes_of(block.arguments[number].type)))
    }


def _signature(name: str, function: Any) -> _Signature:
    from torch_mlir import ir

    type_ = function.attributes["function_type"].value
    block = function.regions[0].blocks[0]
    if len(type_.results) != 1:
        raise Blocked(
            function, f"function @{name} returns {len(type_.results)} values; attention returns one tensor", WANTED
        )
    if not isinstance(function, ir.Operation):
        function = function.operation
    return _Signature(name, function, block, type_.results[0])


def _check_tensor(blame: Any, what: str, type_: Any) -> None:
    problem = problem_of(type_) or ("not a ranked tensor" if is_number(type_) else None)
    if problem is not None:
        raise Blocked(blame, f"{what} is {type_}{', ' if problem == 'not a ranked tensor' else ': '}{problem}")


def _described(signature: _Signature, value: Attended | Sdpa, place: Place) -> Attention:
    scaling, most = value.scaling if isinstance(value, Sdpa) else value.softmax.scaling, LARGEST_SCALE
    if isinstance(value, Sdpa):
        roles = {"q": value.query, "k": value.key, "v": value.value}
        if value.mask is not None:
            roles["mask"] = value.mask
        attributes = dict(value.attributes)
    else:
        product = value.softmax.product
        query, key = (product.right, product.left) if value.softmax.key == LEFT else (product.left, product.right)
        roles = {"q": query, "k": key, "v": value.value}
        if product.masking is not None and product.masking.operand is not None:
            roles["mask"] = product.masking.operand.argument
        attributes = {"scale": value.softmax.scale, **dict(value.softmax.limits)}
        most = value.softmax.most
    beside = _beside(signature, roles, scaling, most)
    _check_arguments(signature, roles)
    _check_result(signature, value, roles)
    return _attention(signature, value, roles, {**attributes, "place": place, "beside": beside})


def _beside(
    signature: _Signature, roles: dict[str, int], scaling: Scaling | None, most: float
) -> tuple[CallArgument, ...]:
    """The arguments that no kernel takes. Raises Blocked for a scale that is of the attention besides."""
    found = []
    if scaling is not None and scaling.argument in roles.values():
        argument = signature.block.arguments[scaling.argument]
        raise Blocked(argument, f"argument {scaling.argument} ({argument.type}) is the scale and Q, K, V or a mask too")
    for number, argument in enumerate(signature.block.arguments):
        if number in roles.values():
            continue
        scalar = not hasattr(argument.type, "rank")
        dtype = str(argument.type if scalar else argument.type.element_type)
        shape = () if scalar else signature.shape(number)
        if scaling is not None and number == scaling.argument:
            power = scaling.power
            one = CallArgument(number, SCALE, dtype, shape, SCALE, scalar, power, most, scaling.rooted)
        elif dtype in PASSED_DTYPES and (scalar or argument.type.encoding is None):
            one = CallArgument(number, f"{UNUSED}{number}", dtype, shape, UNUSED, scalar)
        else:
            raise Blocked(argument, f"argument {number} ({argument.type}) has no part in the attention", "remove it")
        found.append(one)
    return tuple(found)


def _check_arguments(signature: _Signature, roles: dict[str, int]) -> None:
    if any(role != "mask" and number == roles.get("mask") for role, number in roles.items()):
        raise Blocked(signature.block.arguments[roles["mask"]], "the mask is Q, K or V too")
    dtypes = {role: signature.dtype(roles[role]) for role in ("q", "k", "v")}
    if len(set(dtypes.values())) != 1:
        raise Blocked(signature.function, f"Q, K and V have different element types: {', '.join(dtypes.values())}")
    result = str(signature.result.element_type)
    if result not in result_types(dtypes["q"]):
        raise Blocked(signature.function, f"the result is of {result}, Q, K and V of {dtypes['q']}")


def _check_result(signature: _Signature, value: Value, roles: dict[str, int]) -> None:
    """The result must be all of the attention's, [B, H, S, D] in some order of dimensions."""
    assert isinstance(value, Attended | Sdpa)
    block = signature.block
    back = block.operations[len(block.operations) - 1]
    q, result = signature.shape(roles["q"]), sizes_of(signature.result)
    if isinstance(value, Sdpa) and len(q) not in RANKS and roles["q"] not in signature.layouts:
        raise Blocked(block.arguments[roles["q"]], f"Q is of rank {len(q)}, not [B, H, S, D], [H, S, D] or [S, D]")
    wide = [role_sizes(signature.axes(roles[role]))[3] for role in ("q", "v")]
    if wide[0] != wide[1]:
        argument = block.arguments[roles["v"]]
        raise Blocked(
            argument, f"heads of V are {wide[1] or '?'} wide, of Q and K {wide[0] or '?'}", "pad the narrower one"
        )
    if any(extent(axis) != size and size is not None for axis, size in zip(value.axes, result, strict=True)):
        raise Blocked(back, "the function returns the attention result repeated", WANTED)


def _is_as_read(signature: _Signature, value: Attended | Sdpa, roles: dict[str, int]) -> bool:
    """Whether all arguments are [B, H, S, D] or less, and the result lies as Q does."""
    q = signature.shape(roles["q"])
    if signature.layouts or len(q) not in RANKS:
        return False
    return sizes_of(signature.result) == q and value.axes == named_axes(LABELS[4 - len(q) :], q)


def _attention(
    signature: _Signature, value: Attended | Sdpa, roles: dict[str, int], attributes: dict[str, Any]
) -> Attention:
    batch, heads, query_length, head_dim = role_sizes(signature.axes(roles["q"]))
    _, kv_heads, key_length, _ = role_sizes(signature.axes(roles["k"]))
    if heads is None or kv_heads is None or head_dim is None:
        raise Blocked(signature.function, "heads and head size must be numbers; batch and lengths may be open")
    given = any(argument.role == SCALE for argument in attributes["beside"])
    scale = attributes.pop("scale", default_scale(head_dim))
    if not given and abs(scale / default_scale(head_dim) - 1.0) < SCALE_ROUNDING:
        scale = default_scale(head_dim)
    if signature.dtype(roles["q"]) == "i8":
        attributes.setdefault("precision", "int8")
    mask = None
    if "mask" in roles:
        mask = "keep" if signature.dtype(roles["mask"]) == "i1" else "add"
    return Attention(
        function=signature.name,
        arguments=_arguments(signature, value, roles),
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        query_length=query_length,
        key_length=key_length,
        head_dim=head_dim,
        scale=scale,
        mask=mask,
        equal_lengths=_equal_lengths(signature, roles, signature.equal),
        **attributes,
    )


def _arguments(signature: _Signature, value: Attended | Sdpa, roles: dict[str, int]) -> tuple[Argument, ...]:
    plain = _is_as_read(signature, value, roles)
    inverted = _hides_where_true(value)
    found = []
    for number, argument in enumerate(signature.block.arguments):
        if number not in roles.values():
            continue
        first, *also = [role for role, played in roles.items() if played == number]
        shape = signature.shape(number)
        name, dtype = ROLE_NAMES[first], signature.dtype(number)
        one = _argument(argument, name, dtype, shape, signature.axes(number), plain, first, tuple(also))
        found.append(replace(one, inverted=True) if inverted and first == "mask" else one)
    result = signature.result
    shape, dtype = sizes_of(result), str(result.element_type)
    found.append(_argument(signature.function, ROLE_NAMES["out"], dtype, shape, value.axes, plain, "out", ()))
    return tuple(found)


def _hides_where_true(value: Attended | Sdpa) -> bool:
    """Whether the mask is true where scores are hidden."""
    if isinstance(value, Sdpa):
        return value.inverted
    hides = value.softmax.product.masking
    return hides is not None and hides.operand is not None and hides.operand.inverted


def _argument(
    blame: Any, name: str, dtype: str, shape: Sizes, axes: Axes, plain: bool, role: str, also: tuple[str, ...]
) -> Argument:
    if plain:
        return Argument(name, dtype, shape, role, also)
    try:
        layout = layout_of(axes)
    except AxisError as error:
        raise Blocked(blame, f"the order of elements of {name} is not one of [B, H, S, D]: {error}") from None
    full = role_sizes(axes)
    return Argument(name, dtype, full, role, also, () if shape == full and in_order(axes) else layout)
