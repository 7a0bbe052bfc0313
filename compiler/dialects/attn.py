"""The attn dialect: `attn.sdpa`, declared in IRDL and verified here where IRDL has no words for a rule.

IRDL checks the number of operands and results and that they are tensors. It knows neither optional attributes nor
relations between shapes; `verify_sdpa` checks those, and the attributes, which it returns as Python values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from npuc.compiler.frontend.attention import ALIGNMENTS, PRECISIONS, RECIPES, Sizes, mask_shape_problem, shape_text
from npuc.compiler.frontend.attributes import attribute_of
from npuc.compiler.frontend.place import Blocked
from npuc.compiler.frontend.shapes import four, sizes_of

SDPA = "attn.sdpa"

_DIALECT = """
// One constraint a place: a shared one would demand the same type everywhere.
irdl.dialect @attn {
  irdl.operation @sdpa {
    %query = irdl.base "!builtin.tensor"
    %key = irdl.base "!builtin.tensor"
    %value = irdl.base "!builtin.tensor"
    %mask = irdl.base "!builtin.tensor"
    %attended = irdl.base "!builtin.tensor"
    irdl.operands(query: %query, key: %key, value: %value, mask: optional %mask)
    irdl.results(attended: %attended)
  }
}
"""

FLOAT_TYPES = ("bf16", "f16", "f32")
RANKS = (2, 3, 4)
ELEMENT_TYPES = (*FLOAT_TYPES, "i8")
MASK_TYPES = (*FLOAT_TYPES, "i1")


def result_types(element: str) -> tuple[str, ...]:
    """Element types the result may have where q, k and v are of `element`."""
    return ("i8", *FLOAT_TYPES) if element == "i8" else tuple(dict.fromkeys((element, "f32")))


def load_dialect(context: Any) -> None:
    """Make `attn` known to an MLIR context."""
    from torch_mlir import ir
    from torch_mlir.dialects import irdl

    with context, ir.Location.unknown():
        irdl.load_dialects(ir.Module.parse(_DIALECT))


def verify_sdpa(operation: Any) -> dict[str, Any]:
    """Check one attn.sdpa and return the attributes that are present, as Python values.

    Raises Blocked: shapes or types that do not fit, unknown attributes, attributes of the wrong kind or value.
    """
    _verify_shapes(operation)
    found: dict[str, Any] = {}
    for name in operation.attributes:
        if name not in _ATTRIBUTES:
            raise Blocked(operation, f"unknown attribute {name!r}", f"known: {', '.join(_ATTRIBUTES)}")
        expected, read = _ATTRIBUTES[name]
        attribute = attribute_of(operation, name)
        value = read(attribute)
        if value is None:
            shown = "" if attribute is None else f" = {attribute}"[:200]
            raise Blocked(operation, f"attribute {name}{shown} is not {expected}")
        found[name] = value
    return found


def _verify_shapes(operation: Any) -> None:
    types = [operand.type for operand in operation.operands]
    result = operation.results[0].type
    for what, type_ in zip(("q", "k", "v"), types, strict=False):
        if not getattr(type_, "has_rank", False) or type_.rank not in RANKS:
            raise Blocked(operation, f"{what} is {type_}, not a ranked tensor [B, H, S, D], [H, S, D] or [S, D]")
    q, k, v = (four(sizes_of(type_)) for type_ in types[:3])
    problem = (
        _number_problem(q, k)
        or _kv_problem(q, k, v)
        or _element_problem([str(type_.element_type) for type_ in types[:3]], result)
        or _result_problem(types[0], result)
        or (_mask_problem(types[3], (q[0], q[1], q[2], k[2])) if len(types) == 4 else None)
    )
    if problem:
        raise Blocked(operation, problem)


def _number_problem(q: Sizes, k: Sizes) -> str | None:
    """Batch and lengths may be open, heads and head sizes decide the kernel."""
    for what, shape in (("q", q), ("k", k)):
        if shape[1] is None or shape[3] is None:
            return f"heads and head size of {what} {shape_text(shape)} must be numbers"
    return None


def _kv_problem(q: Sizes, k: Sizes, v: Sizes) -> str | None:
    if k[:3] != v[:3]:
        return f"k {shape_text(k)} and v {shape_text(v)} differ in batch, heads or length"
    if q[0] != k[0]:
        return f"q {shape_text(q)} and k {shape_text(k)} differ in batch"
    if q[3] != k[3]:
        return f"head size of q is {q[3]}, of k {k[3]}"
    if v[3] != q[3]:
        return f"head size of v is {v[3] or '?'}, of q and k {q[3]}; they must be equal"
    if q[1] and k[1] and q[1] % k[1]:
        return f"{q[1]} heads of q are not a multiple of the {k[1]} heads of k and v"
    return None


def _element_problem(elements: list[str], result: Any) -> str | None:
    if len(set(elements)) != 1:
        return f"q, k and v have different element types: {', '.join(elements)}"
    if elements[0] not in ELEMENT_TYPES:
        return f"element type {elements[0]} is none of {', '.join(ELEMENT_TYPES)}"
    allowed = result_types(elements[0])
    if str(result.element_type) not in allowed:
        return f"the result's element type {result.element_type} is none of {', '.join(allowed)}"
    return None


def _result_problem(q: Any, result: Any) -> str | None:
    if not result.has_rank or tuple(result.shape) != tuple(q.shape):
        return f"the result is {result}, but must have the shape of q, {shape_text(sizes_of(q))}"
    return None


def _mask_problem(mask: Any, scores: Sizes) -> str | None:
    if not mask.has_rank:
        return f"the mask is {mask}, not a ranked tensor"
    if str(mask.element_type) not in MASK_TYPES:
        return f"the mask's element type {mask.element_type} is none of {', '.join(MASK_TYPES)}"
    return mask_shape_problem(sizes_of(mask), scores)


def _bool(attribute: Any) -> bool | None:
    from torch_mlir import ir

    return bool(attribute.value) if isinstance(attribute, ir.BoolAttr) else None


def _positive_integer(attribute: Any) -> int | None:
    from torch_mlir import ir

    if not isinstance(attribute, ir.IntegerAttr) or str(attribute.type) != "i64":
        return None
    return attribute.value if attribute.value > 0 else None


def _float(attribute: Any) -> float | None:
    from torch_mlir import ir

    if not isinstance(attribute, ir.FloatAttr) or str(attribute.type) != "f64":
        return None
    return attribute.value if math.isfinite(attribute.value) else None


def _positive_float(attribute: Any) -> float | None:
    value = _float(attribute)
    return value if value is not None and value > 0 else None


def _positive_floats(attribute: Any) -> tuple[float, ...] | None:
    from torch_mlir import ir

    if isinstance(attribute, ir.DenseF64ArrayAttr):
        values: list[float | None] = [v if math.isfinite(v) and v > 0 else None for v in attribute]
    elif isinstance(attribute, ir.ArrayAttr):
        values = _each(attribute)
    else:
        values = [_positive_float(attribute)]
    known = tuple(v for v in values if v is not None)
    return known if known and len(known) == len(values) else None


def _each(array: Any) -> list[float | None]:
    try:
        return [_positive_float(item) for item in array]
    except TypeError:  # an element that the bindings cannot represent
        return [None]


def _choice(known: tuple[str, ...]) -> Callable[[Any], str | None]:
    def read(attribute: Any) -> str | None:
        from torch_mlir import ir

        return attribute.value if isinstance(attribute, ir.StringAttr) and attribute.value in known else None

    return read


def _one_of(known: tuple[str, ...]) -> str:
    return "one of " + ", ".join(f'"{name}"' for name in known)


_FACTORS = ("a positive f64 or an array of them", _positive_floats)

# Every attribute: what it must be, in words, and how it is read (None: it is not that).
_ATTRIBUTES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "causal": ("true or false", _bool),
    "scale": ("a finite f64", _float),
    "window": ("a positive i64", _positive_integer),
    "softcap": ("a finite, positive f64", _positive_float),
    "align": (_one_of(ALIGNMENTS), _choice(ALIGNMENTS)),
    "precision": (_one_of(PRECISIONS), _choice(PRECISIONS)),
    "recipe": (_one_of(RECIPES), _choice(RECIPES)),
    "q_scale": _FACTORS,
    "k_scale": _FACTORS,
    "v_scale": _FACTORS,
    "o_scale": _FACTORS,
}
