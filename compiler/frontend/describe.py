"""From the value a function returns to the Attention it computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npuc.compiler.diagnostics import Place
from npuc.compiler.dialects.attn import result_types
from npuc.compiler.frontend.attention import DTYPES, ROLE_NAMES, Argument, Attention, Sizes, default_scale, shape_text
from npuc.compiler.frontend.axes import RANKS, named_axes
from npuc.compiler.frontend.interpret import run
from npuc.compiler.frontend.place import Blocked, place_of, with_place
from npuc.compiler.frontend.shapes import four, sizes_of
from npuc.compiler.frontend.values import LABELS, LEFT, Attended, Opaque, Sdpa, Value, describe

WANTED = "wanted is a function of Q, K and V, [B, H, S, D] each, that returns softmax(scale Q K^T) V and does no more"

# Scales this close to 1/sqrt(D) are it: factors in float32, up to two of them, cannot say it better.
SCALE_ROUNDING = 2.0**-21


@dataclass(frozen=True)
class _Signature:
    """Types of a function, and where to point for each."""

    name: str
    function: Any
    block: Any
    result: Any

    def shape(self, number: int) -> Sizes:
        return sizes_of(self.block.arguments[number].type)

    def dtype(self, number: int) -> str:
        return str(self.block.arguments[number].type.element_type)


def attention_of(name: str, function: Any, block: Any, file: str) -> Attention:
    """The attention that a func.func computes in `block`; `file` names it. Raises Blocked where it is anything else."""
    signature = _signature(name, function)
    value = run(block)[0]
    if isinstance(value, Opaque):
        raise Blocked(value.operation, value.reason, value.remedy or WANTED)
    if not isinstance(value, Attended | Sdpa):
        operations = signature.block.operations
        returned = operations[len(operations) - 1]
        raise Blocked(returned, f"the function returns {describe(value)}, not softmax(Q K^T) V", WANTED)
    return _described(signature, value, place_of(with_place(value.operation).location, file))


def _signature(name: str, function: Any) -> _Signature:
    from torch_mlir import ir

    type_ = function.attributes["function_type"].value
    block = function.regions[0].blocks[0]
    if len(type_.results) != 1:
        raise Blocked(
            function, f"function @{name} returns {len(type_.results)} values; attention returns one tensor", WANTED
        )
    for number, argument in enumerate(block.arguments):
        _check_tensor(argument, f"argument {number}", argument.type)
    _check_tensor(function, f"the result of @{name}", type_.results[0])
    if not isinstance(function, ir.Operation):
        function = function.operation
    return _Signature(name, function, block, type_.results[0])


def _check_tensor(blame: Any, what: str, type_: Any) -> None:
    from torch_mlir import ir

    if not isinstance(type_, ir.RankedTensorType):
        raise Blocked(blame, f"{what} is {type_}, not a ranked tensor")
    if type_.encoding is not None:
        raise Blocked(blame, f"{what} is {type_}: tensors with an encoding are not recognised")
    if str(type_.element_type) not in DTYPES:
        raise Blocked(blame, f"{what} is {type_}: element types are {', '.join(DTYPES)}")


def _described(signature: _Signature, value: Attended | Sdpa, place: Place) -> Attention:
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
    _check_arguments(signature, roles)
    _check_result(signature, value, roles)
    return _attention(signature, roles, {**attributes, "place": place})


def _check_arguments(signature: _Signature, roles: dict[str, int]) -> None:
    for number, argument in enumerate(signature.block.arguments):
        if number not in roles.values():
            raise Blocked(argument, f"argument {number} ({argument.type}) has no part in the attention", "remove it")
    if any(role != "mask" and number == roles.get("mask") for role, number in roles.items()):
        raise Blocked(signature.block.arguments[roles["mask"]], "the mask is Q, K or V too")
    dtypes = {role: signature.dtype(roles[role]) for role in ("q", "k", "v")}
    if len(set(dtypes.values())) != 1:
        raise Blocked(signature.function, f"Q, K and V have different element types: {', '.join(dtypes.values())}")
    result = str(signature.result.element_type)
    if result not in result_types(dtypes["q"]):
        raise Blocked(signature.function, f"the result is of {result}, Q, K and V of {dtypes['q']}")


def _check_result(signature: _Signature, value: Value, roles: dict[str, int]) -> None:
    """The result must lie in memory as Q does."""
    assert isinstance(value, Attended | Sdpa)
    block = signature.block
    back = block.operations[len(block.operations) - 1]
    q, result = signature.shape(roles["q"]), sizes_of(signature.result)
    if len(q) not in RANKS:
        raise Blocked(block.arguments[roles["q"]], f"Q is of rank {len(q)}, not [B, H, S, D], [H, S, D] or [S, D]")
    if result == q and value.axes == named_axes(LABELS[4 - len(q) :], q):
        return
    v = signature.shape(roles["v"])
    if v[-1] != q[-1]:
        argument = block.arguments[roles["v"]]
        raise Blocked(
            argument, f"heads of V are {v[-1] or '?'} wide, of Q and K {q[-1] or '?'}", "pad the narrower one"
        )
    sizes = f"{shape_text(result)} against {shape_text(q)}"
    raise Blocked(back, f"the result is transposed or reshaped: it must lie as Q does, [B, H, S, D] ({sizes})")


def _attention(signature: _Signature, roles: dict[str, int], attributes: dict[str, Any]) -> Attention:
    batch, heads, query_length, head_dim = four(signature.shape(roles["q"]))
    _, kv_heads, key_length, _ = four(signature.shape(roles["k"]))
    if heads is None or kv_heads is None or head_dim is None:
        raise Blocked(signature.function, "heads and head size must be numbers; batch and lengths may be open")
    scale = attributes.pop("scale", default_scale(head_dim))
    if abs(scale / default_scale(head_dim) - 1.0) < SCALE_ROUNDING:
        scale = default_scale(head_dim)
    if signature.dtype(roles["q"]) == "i8":
        attributes.setdefault("precision", "int8")
    mask = None
    if "mask" in roles:
        mask = "keep" if signature.dtype(roles["mask"]) == "i1" else "add"
    return Attention(
        function=signature.name,
        arguments=_arguments(signature, roles),
        batch=batch,
        heads=heads,
        kv_heads=kv_heads,
        query_length=query_length,
        key_length=key_length,
        head_dim=head_dim,
        scale=scale,
        mask=mask,
        **attributes,
    )


def _arguments(signature: _Signature, roles: dict[str, int]) -> tuple[Argument, ...]:
    found = []
    for number in range(len(signature.block.arguments)):
        first, *also = [role for role, played in roles.items() if played == number]
        name = ROLE_NAMES[first]
        found.append(Argument(name, signature.dtype(number), signature.shape(number), first, tuple(also)))
    result = signature.result
    found.append(Argument(ROLE_NAMES["out"], str(result.element_type), sizes_of(result), "out"))
    return tuple(found)
