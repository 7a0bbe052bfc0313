"""The plain description of one attention function: what the frontend hands to every later stage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from npuc.compiler.diagnostics import InputError, Place

DTYPES = ("bf16", "f32", "f16", "i8", "i1")
ROLES = ("q", "k", "v", "mask", "out")
ALIGNMENTS = ("top-left", "bottom-right")
PRECISIONS = ("bf16", "int8")
RECIPES = ("fast", "balanced", "accurate")
# What the argument of a role is called: MLIR does not keep the names of a source file.
ROLE_NAMES = {"q": "q", "k": "k", "v": "v", "mask": "mask", "out": "o"}


@dataclass(frozen=True)
class Argument:
    """One argument of the function, or its result (role `out`).

    shape: as in the source, [B, H, S, D] or [H, S, D] (a mask: any shape that broadcasts to [B, H, S, Skv]).
    also: further roles the same argument plays, as where one tensor is K and V.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    role: str
    also: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[str, ...]:
        return (self.role, *self.also)


@dataclass(frozen=True)
class Attention:
    """softmax(scale * Q K^T, masked) V over q [B, H, S, D] and k, v [B, Hkv, Skv, D], the meaning of `attn.sdpa`.

    arguments: in the order of the function, the result last.  window: query i sees keys i-window < j <= i.
    softcap: scores become softcap * tanh(score / softcap).  align: which corner causal and window limits start from.
    mask: None, "add" (added to the scores) or "keep" (i1, true = keep).  *_scale: int8 dequantisation factors.
    place: where the source says it, for messages; no part of the meaning, of equality or of JSON.
    Raises InputError when the parts contradict each other.
    """

    function: str
    arguments: tuple[Argument, ...]
    batch: int
    heads: int
    kv_heads: int
    query_length: int
    key_length: int
    head_dim: int
    scale: float
    causal: bool = False
    window: int | None = None
    softcap: float | None = None
    align: str = "top-left"
    precision: str = "bf16"
    recipe: str = "balanced"
    mask: str | None = None
    q_scale: tuple[float, ...] | None = None
    k_scale: tuple[float, ...] | None = None
    v_scale: tuple[float, ...] | None = None
    o_scale: tuple[float, ...] | None = None
    place: Place | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise InputError(f"attention @{self.function}: {problem}", place=self.place)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(a for a in self.arguments if a.role != "out")

    def argument(self, role: str) -> Argument:
        """The argument that plays `role`; KeyError where there is none (only `mask` is optional)."""
        for argument in self.arguments:
            if role in argument.roles:
                return argument
        raise KeyError(role)

    def full_shape(self, role: str) -> tuple[int, int, int, int]:
        """[B, H, S, D] of q, k, v or out, also where the source wrote three dimensions."""
        if role in ("q", "out"):
            return (self.batch, self.heads, self.query_length, self.head_dim)
        return (self.batch, self.kv_heads, self.key_length, self.head_dim)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, complete: `from_json` gives an equal Attention back."""
        values = _plain(asdict(self))
        del values["place"]
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attention:
        """The inverse of `to_json`. Raises InputError for unknown or missing fields."""
        try:
            arguments = tuple(
                Argument(a["name"], a["dtype"], tuple(a["shape"]), a["role"], tuple(a.get("also", ())))
                for a in data["arguments"]
            )
            scales = {
                key: None if data.get(key) is None else tuple(data[key])
                for key in ("q_scale", "k_scale", "v_scale", "o_scale")
            }
            return cls(**{**data, **scales, "arguments": arguments})
        except (KeyError, TypeError) as error:
            raise InputError(f"not a description of an attention: {error}") from error

    @classmethod
    def make(
        cls,
        *,
        heads: int,
        query_length: int,
        head_dim: int,
        batch: int = 1,
        kv_heads: int | None = None,
        key_length: int | None = None,
        dtype: str = "bf16",
        scale: float | None = None,
        function: str = "attention",
        mask: str | None = None,
        **attributes: Any,
    ) -> Attention:
        """A description from numbers alone; arguments q, k, v, mask [B, 1, S, Skv] in this order, scale 1/sqrt(D)."""
        keys = query_length if key_length is None else key_length
        groups = heads if kv_heads is None else kv_heads
        q = (batch, heads, query_length, head_dim)
        kv = (batch, groups, keys, head_dim)
        arguments = [Argument("q", dtype, q, "q"), Argument("k", dtype, kv, "k"), Argument("v", dtype, kv, "v")]
        if mask is not None:
            mask_dtype = "i1" if mask == "keep" else dtype
            arguments.append(Argument("mask", mask_dtype, (batch, 1, query_length, keys), "mask"))
        arguments.append(Argument("o", dtype, q, "out"))
        scale = default_scale(head_dim) if scale is None else scale
        sizes = (batch, heads, groups, query_length, keys, head_dim)
        return cls(function, tuple(arguments), *sizes, scale, mask=mask, **attributes)


def default_scale(head_dim: int) -> float:
    """1/sqrt(D), the scale where the source gives none."""
    return 1.0 / math.sqrt(head_dim) if head_dim > 0 else math.nan


def scale_problem(scale: float) -> str | None:
    """Why a factor of the scores cannot be used: it must be a positive, finite, normal float32."""
    if not math.isfinite(scale) or scale <= 0:
        return f"scale {scale:g} is not a finite number above zero"
    if not 2.0**-126 <= scale < 2.0**128:
        return f"scale {scale:g} is outside the range of float32"
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _problems(a: Attention) -> list[str]:
    """What contradicts itself in a description, most basic first; empty when it is sound."""
    sizes = {
        "batch": a.batch,
        "heads": a.heads,
        "kv_heads": a.kv_heads,
        "query_length": a.query_length,
        "key_length": a.key_length,
        "head_dim": a.head_dim,
    }
    found = [f"{name} is {size}, not a positive integer" for name, size in sizes.items() if not _is_size(size)]
    if found:
        return found
    if a.heads % a.kv_heads:
        found.append(f"{a.heads} query heads are not a multiple of {a.kv_heads} key heads")
    problem = scale_problem(a.scale)
    if problem:
        found.append(problem)
    if a.window is not None and not _is_size(a.window):
        found.append(f"window {a.window} is not a positive integer")
    if a.softcap is not None and not (math.isfinite(a.softcap) and a.softcap > 0):
        found.append(f"softcap {a.softcap:g} is not a finite number above zero")
    choices = (("align", a.align, ALIGNMENTS), ("precision", a.precision, PRECISIONS), ("recipe", a.recipe, RECIPES))
    for name, value, known in choices:
        if value not in known:
            found.append(f"{name} {value!r} is unknown: {', '.join(known)}")
    for name in ("q_scale", "k_scale", "v_scale", "o_scale"):
        factors = getattr(a, name)
        if factors is not None and not (factors and all(math.isfinite(f) and f > 0 for f in factors)):
            found.append(f"{name} must be finite numbers above zero")
    return found + _argument_problems(a)


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _argument_problems(a: Attention) -> list[str]:
    roles = [role for argument in a.arguments for role in argument.roles]
    wanted = ["q", "k", "v", "out"] + (["mask"] if a.mask is not None else [])
    if sorted(roles) != sorted(wanted):
        return [f"arguments play the roles {', '.join(roles)}, not {', '.join(wanted)}"]
    found = []
    if len({argument.name for argument in a.arguments}) != len(a.arguments):
        found.append("two arguments have one name")
    if a.arguments[-1].role != "out":
        found.append("the result is not the last argument")
    for argument in a.arguments:
        if argument.dtype not in DTYPES:
            found.append(f"element type {argument.dtype} of {argument.name} is unknown: {', '.join(DTYPES)}")
        for role in argument.roles:
            if role != "mask" and not _fits(argument.shape, a.full_shape(role)):
                found.append(f"shape {list(argument.shape)} of {argument.name} is not {list(a.full_shape(role))}")
    if a.mask is not None:
        found += _mask_problems(a)
    return found


def _fits(shape: tuple[int, ...], full: tuple[int, int, int, int]) -> bool:
    return shape == full or (full[0] == 1 and shape == full[1:])


def _mask_problems(a: Attention) -> list[str]:
    mask = a.argument("mask")
    kinds = {"keep": ("i1",), "add": ("bf16", "f32", "f16")}
    if a.mask not in kinds:
        return [f"mask {a.mask!r} is unknown: add, keep"]
    if mask.dtype not in kinds[a.mask]:
        return [f"a mask of {mask.dtype} cannot be of the kind {a.mask!r}"]
    problem = mask_shape_problem(mask.shape, (a.batch, a.heads, a.query_length, a.key_length))
    return [problem] if problem else []


def mask_shape_problem(shape: tuple[int, ...], scores: tuple[int, int, int, int]) -> str | None:
    """Why a mask of `shape` does not broadcast to the scores [B, H, S, Skv] (B and H may be 1 or absent)."""
    padded = (1,) * (4 - len(shape)) + shape
    outer_fit = all(m in (1, s) for m, s in zip(padded[:2], scores[:2], strict=True))
    if 2 <= len(shape) <= 4 and outer_fit and padded[2:] == scores[2:]:
        return None
    return f"mask shape {list(shape)} does not broadcast to the scores {list(scores)}"
