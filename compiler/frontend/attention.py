"""The plain description of one attention function: what the frontend hands to every later stage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from types import EllipsisType
from typing import Any, NamedTuple

from npuc.compiler.argument_layout import AXES, Layout, Size, Sizes, full_shape, layout_from_json, layout_shape
from npuc.compiler.diagnostics import InputError, Place, UsageError
from npuc.compiler.frontend.call_arguments import SCALE, CallArgument, problems_of

DTYPES = ("bf16", "f32", "f16", "i8", "i1")
ROLES = ("q", "k", "v", "mask", "out")
ALIGNMENTS = ("top-left", "bottom-right")
PRECISIONS = ("bf16", "int8")
RECIPES = ("fast", "balanced", "accurate")
# The sizes that may be open, by the names that `--dim` takes.
OPEN_NAMES = {"B": "batch", "S": "query_length", "Skv": "key_length"}

# What the argument of a role is called: MLIR does not keep the names of a source file.
ROLE_NAMES = {"q": "q", "k": "k", "v": "v", "mask": "mask", "out": "o"}


@dataclass(frozen=True)
class Argument:
    """One argument of the function, or its result (role `out`).

    shape: [B, H, S, D], [H, S, D] or [S, D], None for sizes that are open (a mask: any shape that broadcasts to
    [B, H, S, Skv]).  also: further roles the same argument plays, as where one tensor is K and V.
    layout: how the source has it where that is otherwise, as [B, S, H, D] or [B, S, H*D]; its dimensions' axes by the
    places that they have in `shape`, which is then of four dimensions.  inverted: of a mask, true hides.
    """

    name: str
    dtype: str
    shape: Sizes
    role: str
    also: tuple[str, ...] = ()
    layout: Layout = ()
    inverted: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        return (self.role, *self.also)

    @property
    def source_shape(self) -> Sizes:
        """As the source has it."""
        return layout_shape(self.layout) if self.layout else self.shape


class Lengths(NamedTuple):
    """The sizes of one call."""

    batch: int
    query: int
    key: int


@dataclass(frozen=True)
class Attention:
    """softmax(scale * Q K^T, masked) V over q [B, H, S, D] and k, v [B, Hkv, Skv, D], the meaning of `attn.sdpa`.

    arguments: of the kernel, in the order of the function, the result last.  batch, query_length, key_length: None
    where open; a call gives them (`bound`).  scale: any finite number.  window: query i sees keys i-window < j <= i.
    softcap: scores become softcap * tanh(score / softcap).  align: which corner causal and window limits start from.
    mask: None, "add" (added to the scores) or "keep" (i1, true = keep).  *_scale: what the integers of i8 tensors
    are multiplied by, one factor or one a head; None: 1/32 (o_scale has no default).
    equal_lengths: the source takes an open key length to be the query length.
    within: the function that it is a part of, where that does more.
    beside: arguments of the function that no kernel takes; `called` gives the attention of a call with them.
    outlined: text of a module with the function that was made of it then; no part of equality or of JSON.
    place: where the source says it, for messages; no part of the meaning, of equality or of JSON.
    Raises InputError when the parts contradict each other.
    """

    function: str
    arguments: tuple[Argument, ...]
    batch: Size
    heads: int
    kv_heads: int
    query_length: Size
    key_length: Size
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
    equal_lengths: bool = False
    within: str | None = None
    beside: tuple[CallArgument, ...] = ()
    outlined: str | None = field(default=None, compare=False, repr=False)
    place: Place | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        for problem in _problems(self):
            raise InputError(f"attention @{self.function}: {problem}", place=self.place)

    @property
    def inputs(self) -> tuple[Argument, ...]:
        return tuple(a for a in self.arguments if a.role != "out")

    @property
    def parameters(self) -> tuple[Argument | CallArgument, ...]:
        """All arguments of the function."""
        found: list[Argument | CallArgument] = list(self.inputs)
        for argument in self.beside:
            found.insert(argument.place, argument)
        return tuple(found)

    def called(self, values: Mapping[str, Any]) -> Attention:
        """The attention of a call with these values, by name, of arguments that no kernel takes. Raises InputError for
        a scale that is none."""
        turned = tuple(replace(a, inverted=False) if a.inverted else a for a in self.arguments)
        if not self.beside and turned == self.arguments:
            return self
        factors = [argument.factor(values[argument.name]) for argument in self.beside if argument.role == SCALE]
        return replace(self, scale=math.prod(factors, start=self.scale), beside=(), arguments=turned)

    def taken(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Of a call's arrays, by name, those that the kernel takes, masks true where they keep."""
        return {a.name: values[a.name] == 0 if a.inverted else values[a.name] for a in self.inputs}

    def argument(self, role: str) -> Argument:
        """The argument that plays `role`; KeyError where there is none (only `mask` is optional)."""
        for argument in self.arguments:
            if role in argument.roles:
                return argument
        raise KeyError(role)

    @property
    def open_dimensions(self) -> tuple[str, ...]:
        """Names of the sizes that a call gives, of B, S and Skv."""
        return tuple(name for name, attribute in OPEN_NAMES.items() if getattr(self, attribute) is None)

    @property
    def lengths(self) -> Lengths:
        """Batch, query and key length. Raises InputError where one is open."""
        if self.batch is None or self.query_length is None or self.key_length is None:
            names = ", ".join(self.open_dimensions)
            remedy = "give it with --dim, or write it in the types"
            raise InputError(f"attention @{self.function}: {names} is open", place=self.place, remedy=remedy)
        return Lengths(self.batch, self.query_length, self.key_length)

    def bound(self, sizes: Mapping[str, int]) -> Attention:
        """With open sizes given, by name. Raises UsageError for a name that is not open, InputError for lengths that
        the source takes to be equal and are not."""
        for name in sizes:
            if name not in self.open_dimensions:
                known = ", ".join(self.open_dimensions) or "none"
                raise UsageError(f"attention @{self.function} leaves no {name} open", remedy=f"open: {known}")
        if self.equal_lengths:
            sizes = self._with_both_lengths(sizes)
        sizes_of = {attribute: sizes.get(name, getattr(self, attribute)) for name, attribute in OPEN_NAMES.items()}
        closed = tuple(replace(a, shape=_bound_shape(a, sizes), layout=_bound_layout(a, sizes)) for a in self.arguments)
        pairs = zip(reversed(self.arguments), reversed(closed), strict=True)  # the result first
        alike = [(before.source_shape, after.source_shape) for before, after in pairs]
        beside = tuple(replace(a, shape=_closed_shape(a, sizes, alike)) for a in self.beside)
        return replace(self, arguments=closed, beside=beside, **sizes_of)

    def _with_both_lengths(self, sizes: Mapping[str, int]) -> dict[str, int]:
        """Sizes in which one length gives the other. Raises InputError where they differ."""
        given = {"S": sizes.get("S", self.query_length), "Skv": sizes.get("Skv", self.key_length)}
        known = {size for size in given.values() if size is not None}
        if len(known) > 1:
            what = f"attention @{self.function} is of as many queries as keys, not of {given['S']} and {given['Skv']}"
            raise InputError(what, place=self.place)
        return {**sizes, **{name: size for name in given for size in known}}

    def full_shape(self, role: str) -> tuple[Size, int, Size, int]:
        """[B, H, S, D] of q, k, v or out, also where the source wrote fewer dimensions."""
        if role in ("q", "out"):
            return (self.batch, self.heads, self.query_length, self.head_dim)
        return (self.batch, self.kv_heads, self.key_length, self.head_dim)

    def closed_shape(self, role: str) -> tuple[int, int, int, int]:
        """`full_shape` where no size is open; InputError where one is."""
        batch, query, key = self.lengths
        if role in ("q", "out"):
            return (batch, self.heads, query, self.head_dim)
        return (batch, self.kv_heads, key, self.head_dim)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, complete: `from_json` gives an equal Attention back."""
        values: dict[str, Any] = _plain(asdict(self))
        del values["place"], values["outlined"]
        for name in ("equal_lengths", "within", "beside"):
            if not values[name]:
                del values[name]
        for argument in values["arguments"]:
            for name in ("layout", "inverted"):
                if not argument[name]:
                    del argument[name]
        return values

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attention:
        """The inverse of `to_json`. Raises InputError for unknown or missing fields."""
        try:
            arguments = tuple(
                Argument(
                    a["name"],
                    a["dtype"],
                    tuple(a["shape"]),
                    a["role"],
                    tuple(a.get("also", ())),
                    layout_from_json(a.get("layout", ())),
                    a.get("inverted", False) is True,
                )
                for a in data["arguments"]
            )
            scales = {
                key: None if data.get(key) is None else tuple(data[key])
                for key in ("q_scale", "k_scale", "v_scale", "o_scale")
            }
            beside = tuple(CallArgument.from_json(a) for a in data.get("beside", ()))
            return cls(**{**data, **scales, "arguments": arguments, "beside": beside})
        except (KeyError, TypeError) as error:
            raise InputError(f"not a description of an attention: {error}") from error

    @classmethod
    def make(
        cls,
        *,
        heads: int,
        query_length: Size,
        head_dim: int,
        batch: Size = 1,
        kv_heads: int | None = None,
        key_length: Size | EllipsisType = ...,
        dtype: str = "bf16",
        scale: float | None = None,
        function: str = "attention",
        mask: str | None = None,
        **attributes: Any,
    ) -> Attention:
        """A description from numbers alone; arguments q, k, v, mask [B, 1, S, Skv] in this order, scale 1/sqrt(D).

        Lengths of None are open; where key_length is left out it is as query_length.
        """
        keys = query_length if isinstance(key_length, EllipsisType) else key_length
        groups = heads if kv_heads is None else kv_heads
        q = (batch, heads, query_length, head_dim)
        kv = (batch, groups, keys, head_dim)
        arguments = [Argument("q", dtype, q, "q"), Argument("k", dtype, kv, "k"), Argument("v", dtype, kv, "v")]
        if mask is not None:
            mask_dtype = "i1" if mask == "keep" else dtype
            arguments.append(Argument("mask", mask_dtype, (batch, 1, query_length, keys), "mask"))
        arguments.append(Argument("o", dtype, q, "out"))
        scale = default_scale(head_dim) if scale is None else scale
        return cls(
            function=function,
            arguments=tuple(arguments),
            batch=batch,
            heads=heads,
            kv_heads=groups,
            query_length=query_length,
            key_length=keys,
            head_dim=head_dim,
            scale=scale,
            mask=mask,
            **attributes,
        )


def default_scale(head_dim: int) -> float:
    """1/sqrt(D), the scale where the source gives none."""
    return 1.0 / math.sqrt(head_dim) if head_dim > 0 else math.nan


def _axis_names(argument: Argument | CallArgument) -> tuple[str, str, str, str]:
    """Names of the four axes of an argument, those that may be open as `--dim` has them."""
    rows = "Skv" if argument.role in ("k", "v") else "S"
    return "B", "H", rows, "Skv" if argument.role == "mask" else "D"


def _bound_shape(argument: Argument | CallArgument, sizes: Mapping[str, int]) -> Sizes:
    """The argument's shape with `sizes` by name in place of what is open in it."""
    names = _axis_names(argument)[4 - len(argument.shape) :]
    return tuple(sizes.get(n) if s is None else s for n, s in zip(names, argument.shape, strict=True))


def _closed_shape(argument: CallArgument, sizes: Mapping[str, int], alike: Sequence[tuple[Sizes, Sizes]]) -> Sizes:
    """That of an argument no kernel takes: as the first of the attention's with such a type has it, as of a
    destination; else by the names of its axes, and 1 where these tell nothing and no size of the attention is open.

    alike: shapes of the attention's arguments before and now.
    """
    for before, now in alike:
        if before == argument.shape:
            return now
    shape = _bound_shape(argument, sizes) if len(argument.shape) in (2, 3, 4) else argument.shape
    is_open = any(None in now for _, now in alike)
    return shape if is_open else tuple(1 if size is None else size for size in shape)


def _bound_layout(argument: Argument, sizes: Mapping[str, int]) -> Layout:
    names = dict(zip(AXES, _axis_names(argument), strict=True))
    return tuple(
        tuple((axis, sizes.get(names[axis]) if size is None else size) for axis, size in dimension)
        for dimension in argument.layout
    )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _problems(a: Attention) -> list[str]:
    """What contradicts itself in a description, most basic first; empty when it is sound."""
    sizes = {name: getattr(a, name) for name in ("heads", "kv_heads", "head_dim")}
    sizes |= {name: size for name in OPEN_NAMES.values() if (size := getattr(a, name)) is not None}
    found = [f"{name} is {size}, not a positive integer" for name, size in sizes.items() if not _is_size(size)]
    if found:
        return found
    if a.heads % a.kv_heads:
        found.append(f"{a.heads} query heads are not a multiple of {a.kv_heads} key heads")
    if not math.isfinite(a.scale):
        found.append(f"scale {a.scale:g} is not a finite number")
    if a.window is not None and not _is_size(a.window):
        found.append(f"window {a.window} is not a positive integer")
    if a.softcap is not None and not (math.isfinite(a.softcap) and a.softcap > 0):
        found.append(f"softcap {a.softcap:g} is not a finite number above zero")
    choices = (("align", a.align, ALIGNMENTS), ("precision", a.precision, PRECISIONS), ("recipe", a.recipe, RECIPES))
    for name, value, known in choices:
        if value not in known:
            found.append(f"{name} {value!r} is unknown: {', '.join(known)}")
    return found + _factor_problems(a) + _argument_problems(a)


def _factor_problems(a: Attention) -> list[str]:
    """q_scale and the like: what the integers of an i8 tensor stand for; only o_scale has no default."""
    found = []
    for role in ("q", "k", "v", "out"):
        name = f"{ROLE_NAMES[role]}_scale"
        factors, argument = getattr(a, name), next((x for x in a.arguments if role in x.roles), None)
        heads = a.kv_heads if role in ("k", "v") else a.heads
        if argument is not None and argument.dtype != "i8" and factors is not None:
            found.append(f"{name} says what integers stand for, and {argument.name} is of {argument.dtype}")
        elif argument is not None and argument.dtype == "i8" and factors is None and role == "out":
            found.append(f"{argument.name} is of i8, but o_scale does not say what its integers stand for")
        elif factors is not None and not all(math.isfinite(f) and f > 0 for f in factors):
            found.append(f"{name} must be finite numbers above zero")
        elif factors is not None and len(factors) not in (1, heads):
            found.append(f"{name} has {len(factors)} factors, neither one nor one for each of {heads} heads")
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _argument_problems(a: Attention) -> list[str]:
    roles = [role for argument in a.arguments for role in argument.roles]
    wanted = ["q", "k", "v", "out"] + (["mask"] if a.mask is not None else [])
    if sorted(roles) != sorted(wanted):
        return [f"arguments play the roles {', '.join(roles)}, not {', '.join(wanted)}"]
    found = []
    names = {argument.name for argument in a.arguments}
    if len(names) != len(a.arguments):
        found.append("two arguments have one name")
    found += problems_of(a.beside, len(a.arguments) - 1 + len(a.beside), names)
    if a.arguments[-1].role != "out":
        found.append("the result is not the last argument")
    if a.argument("out").shape != a.argument("q").shape:
        found.append("the result has not the shape of q")
    for argument in a.arguments:
        if argument.layout and full_shape(argument.layout) != argument.shape:
            found.append(f"the layout of {argument.name} is not one of {shape_text(argument.shape)}")
        if argument.dtype not in DTYPES:
            found.append(f"element type {argument.dtype} of {argument.name} is unknown: {', '.join(DTYPES)}")
        for role in argument.roles:
            if role != "mask" and not _fits(argument.shape, a.full_shape(role)):
                found.append(
                    f"shape {shape_text(argument.shape)} of {argument.name} is not {shape_text(a.full_shape(role))}"
                )
    if a.mask is not None:
        found += _mask_problems(a)
    return found


def _fits(shape: Sizes, full: Sizes) -> bool:
    """Whether `shape` is the full one but for leading dimensions of one element."""
    left_out = 4 - len(shape)
    return left_out in (0, 1, 2) and full[:left_out] == (1,) * left_out and shape == full[left_out:]


def _mask_problems(a: Attention) -> list[str]:
    mask = a.argument("mask")
    kinds = {"keep": ("i1",), "add": ("bf16", "f32", "f16")}
    if a.mask not in kinds:
        return [f"mask {a.mask!r} is unknown: add, keep"]
    if mask.dtype not in kinds[a.mask]:
        return [f"a mask of {mask.dtype} cannot be of the kind {a.mask!r}"]
    if mask.inverted and a.mask != "keep":
        return [f"a mask of {mask.dtype} is never true where it hides"]
    problem = mask_shape_problem(mask.shape, (a.batch, a.heads, a.query_length, a.key_length))
    return [problem] if problem else []


def mask_shape_problem(shape: Sizes, scores: Sizes) -> str | None:
    """Why a mask of `shape` does not broadcast to the scores [B, H, S, Skv]; an open size takes 1 or the open one."""
    padded = (1,) * (4 - len(shape)) + shape
    if 1 <= len(shape) <= 4 and all(m in (1, s) for m, s in zip(padded, scores, strict=True)):
        return None
    return f"mask shape {shape_text(shape)} does not broadcast to the scores {shape_text(scores)}"


def shape_text(shape: Sizes) -> str:
    """`[1, 4, ?, 64]`."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
