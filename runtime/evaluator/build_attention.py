"""Nodes of operations whose own meaning is attention."""

from __future__ import annotations

import math
from typing import Any

from npuc.compiler.dialects.attn import verify_sdpa
from npuc.compiler.frontend.attention import default_scale
from npuc.compiler.frontend.place import Blocked
from npuc.runtime.evaluator.attention import Attention, Rules
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Node, Origin
from npuc.runtime.evaluator.tensors import Reshape

INTEGER_SCALE = 1.0 / 32.0  # what an integer of q, k and v stands for where the source does not say


def sdpa(builder: Builder, operation: Any) -> list[Node]:
    """attn.sdpa. Raises InputError where it is malformed."""
    try:
        attributes = verify_sdpa(operation)
    except Blocked as blocked:
        raise blocked.error(builder.file) from None
    origin = builder.origin(operation)
    operands = builder.operands(operation)
    type_, _ = builder.known_type(operation, operation.results[0].type)
    if not type_.is_float and "o_scale" not in attributes:
        raise origin.error("the result has integers, but o_scale does not say what they stand for")
    q, k, v = (_four(origin, node) for node in operands[:3])
    integers = not q.type.is_float
    factors = {f"{name}s": attributes.get(name, (INTEGER_SCALE,)) for name in ("q_scale", "k_scale", "v_scale")}
    rules = Rules(
        scale=attributes.get("scale", default_scale(q.shape[3])),
        causal=attributes.get("causal", False),
        window=attributes.get("window"),
        softcap=attributes.get("softcap"),
        bottom_right=attributes.get("align") == "bottom-right",
        o_scales=attributes.get("o_scale", ()),
        **(factors if integers else {}),
    )
    mask = operands[3] if len(operands) == 4 else None
    attended = Attention(origin, type_, (q, k, v), mask, rules)
    shape = operands[0].shape
    return [attended if len(shape) == 4 else Reshape(origin, attended, shape)]


def _four(origin: Origin, node: Node) -> Node:
    """[B, H, S, D] of a tensor that leaves leading dimensions out."""
    missing = 4 - len(node.shape)
    return Reshape(origin, node, (1,) * missing + node.shape) if missing else node


def tm_tensor_attention(builder: Builder, operation: Any) -> list[Node]:
    """softmax(scale q k^T + mask) v over [..., S, D], as torch-mlir's TMTensorOps.cpp lowers it to loops.

    A mask of i1 keeps where it is true. The scale is 1/sqrt(D) there; where the operation has one (it comes from
    PyTorch's argument of that name) it is that.
    """
    origin = builder.origin(operation)
    *operands, out = builder.operands(operation)
    flat: list[Node] = []
    for node in operands[:3]:
        *outer, length, width = node.shape
        flat.append(Reshape(origin, node, (1, math.prod(outer), length, width)))
    mask = operands[3] if len(operands) == 4 else None
    if mask is not None and not mask.type.is_float and mask.type.name != "i1":
        raise origin.error(f"a mask of {mask.type.name} is not evaluated")
    if mask is not None and len(mask.shape) > 4:
        raise origin.error(f"a mask of {len(mask.shape)} dimensions is not evaluated")
    scale = operation.attributes["scale"].value if "scale" in operation.attributes else default_scale(flat[0].shape[3])
    attended = Attention(origin, out.type, flat, mask, Rules(scale=scale))
    return [Reshape(origin, attended, (*operands[0].shape[:-1], operands[2].shape[-1]))]
