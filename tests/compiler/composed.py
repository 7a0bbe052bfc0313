"""Attention put together at random: every step in one of many right forms, dimensions in any order.

`composed(rng)` gives the text and what it means. Each tensor is kept with the names of its dimensions (b, h, i queries,
j keys, d), so that loops, transposes and reshapes may come in any order and stay right.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from npuc.compiler.frontend.attention import Argument, Attention


@dataclass(frozen=True)
class Tensor:
    """An SSA value, its element type and the dimensions' names."""

    name: str
    dims: tuple[str, ...]
    dtype: str = "f32"


class Composer:
    """Writes a function line by line."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self.count = 0
        self.sizes = {"b": rng.choice((1, 2, 3)), "h": rng.choice((1, 2, 4))}
        self.sizes |= {name: rng.randrange(2, 7) for name in "jd"} | {"i": rng.randrange(1, 7)}
        if rng.random() < 0.3:
            self.sizes |= dict.fromkeys("ijd", rng.randrange(2, 5))
        self.rank = rng.choice((2, 3, 4))
        self.outer = ("b", "h")[4 - self.rank :]
        for name in "bh":
            if name not in self.outer:
                self.sizes[name] = 1

    # --- text -------------------------------------------------------------------------------------------------------
    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def type(self, dims: Sequence[str], dtype: str = "f32") -> str:
        return "tensor<" + "".join(f"{self.sizes[d]}x" for d in dims) + f"{dtype}>"

    def say(self, text: str) -> str:
        name = self.name()
        self.lines.append(f"  {name} = {text}")
        return name

    def number(self, value: float, dtype: str = "f32") -> str:
        text = {float("-inf"): "0xFF800000"}.get(value, f"{value:.9e}")
        return self.say(f"arith.constant {text} : {dtype}")

    def empty(self, dims: Sequence[str], dtype: str = "f32") -> str:
        return self.say(f"tensor.empty() : {self.type(dims, dtype)}")

    def filled(self, dims: Sequence[str], value: float) -> str:
        if self.rng.random() < 0.3 and value == 0:
            return self.say(f"arith.constant dense<0.0> : {self.type(dims)}")
        type_ = self.type(dims)
        number, into = self.number(value), self.empty(dims)
        return self.say(f"linalg.fill ins({number} : f32) outs({into} : {type_}) -> {type_}")

    def order(self, dims: Sequence[str]) -> tuple[str, ...]:
        return tuple(self.rng.sample(list(dims), len(dims)))

    def nest(
        self, tensors: Sequence[Tensor], into: str, result: Tensor, body: Sequence[str], combine: str | None = None
    ) -> Tensor:
        """A generic over all dimensions in any order. body: lines on %a, %b; %r is the value that is yielded.

        combine: the operation that adds %r to the running value.
        """
        loops = self.order(sorted({d for t in tensors for d in t.dims} | set(result.dims)))
        for number, loop in enumerate(loops):  # @i is the number of loop i
            body = [line.replace(f"@{loop} ", f"{number} ") for line in body]
        maps = [f"affine_map<({', '.join(loops)}) -> ({', '.join(t.dims)})>" for t in (*tensors, result)]
        kinds = ", ".join('"parallel"' if d in result.dims else '"reduction"' for d in loops)
        ins = ", ".join(t.name for t in tensors)
        types = ", ".join(self.type(t.dims, t.dtype) for t in tensors)
        out = self.type(result.dims, result.dtype)
        elements = ", ".join(f"%{letter}: {t.dtype}" for letter, t in zip("ab", tensors, strict=False))
        last = [f"%n = {combine} {self.either('%r', '%o')} : f32", "linalg.yield %n : f32"] if combine else []
        self.lines += [
            f"  {result.name} = linalg.generic {{indexing_maps = [{', '.join(maps)}], iterator_types = [{kinds}]}}"
            f" ins({ins} : {types}) outs({into} : {out}) {{",
            f"  ^bb0({elements}, %o: {result.dtype}):",
            *(f"    {line}" for line in (*body, *(last or [f"linalg.yield %r : {result.dtype}"]))),
            f"  }} -> {out}",
        ]
        return result

    def either(self, left: str, right: str) -> str:
        return ", ".join(self.rng.sample([left, right], 2))

    def elementwise(self, tensors: Sequence[Tensor], body: Sequence[str], dtype: str = "f32") -> Tensor:
        dims = self.order(tensors[0].dims)
        return self.nest(tensors, self.empty(dims, dtype), Tensor(self.name(), dims, dtype), body)

    # --- what changes nothing -----------------------------------------------------------------------------------------
    def disguised(self, tensor: Tensor) -> Tensor:
        """The tensor after operations that keep its meaning."""
        for _ in range(self.rng.choice((0, 0, 1, 2))):
            tensor = self.rng.choice((self.transposed, self.plus_zero, self.rounded, self.times_one, self.collapsed))(
                tensor
            )
        return tensor

    def transposed(self, tensor: Tensor) -> Tensor:
        return self.in_order(tensor, self.order(tensor.dims))

    def in_order(self, tensor: Tensor, dims: tuple[str, ...]) -> Tensor:
        if dims == tensor.dims:
            return tensor
        permutation = ", ".join(str(tensor.dims.index(d)) for d in dims)
        old, new = self.type(tensor.dims, tensor.dtype), self.type(dims, tensor.dtype)
        into = self.empty(dims, tensor.dtype)
        text = f"linalg.transpose ins({tensor.name} : {old}) outs({into} : {new}) permutation = [{permutation}]"
        return Tensor(self.say(text), dims, tensor.dtype)

    def plus_zero(self, tensor: Tensor) -> Tensor:
        type_ = self.type(tensor.dims, tensor.dtype)
        zero = self.say(f"arith.constant dense<{self.rng.choice(('0.0', '-0.0'))}> : {type_}")
        return Tensor(self.say(f"arith.addf {self.either(tensor.name, zero)} : {type_}"), tensor.dims, tensor.dtype)

    def times_one(self, tensor: Tensor) -> Tensor:
        type_ = self.type(tensor.dims, tensor.dtype)
        one = self.say(f"arith.constant dense<1.0> : {type_}")
        return Tensor(self.say(f"arith.mulf {self.either(tensor.name, one)} : {type_}"), tensor.dims, tensor.dtype)

    def rounded(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != "f32":
            return tensor
        small = self.elementwise([tensor], ["%r = arith.truncf %a : f32 to bf16"], "bf16")
        return self.elementwise([small], ["%r = arith.extf %a : bf16 to f32"])

    def collapsed(self, tensor: Tensor) -> Tensor:
        """b and h merged and split again."""
        if tensor.dims[:2] != ("b", "h"):
            return tensor
        rest = tensor.dims[2:]
        groups = "[[0, 1], " + ", ".join(f"[{n + 2}]" for n in range(len(rest))) + "]"
        whole = self.type(tensor.dims, tensor.dtype)
        merged = f"tensor<{self.sizes['b'] * self.sizes['h']}x" + self.type(rest, tensor.dtype).removeprefix("tensor<")
        one = self.say(f"tensor.collapse_shape {tensor.name} {groups} : {whole} into {merged}")
        sizes = ", ".join(str(self.sizes[d]) for d in tensor.dims)
        again = f"tensor.expand_shape {one} {groups} output_shape [{sizes}] : {merged} into {whole}"
        return Tensor(self.say(again), tensor.dims, tensor.dtype)

    # --- steps --------------------------------------------------------------------------------------------------------
    def scaled(self, tensor: Tensor) -> tuple[Tensor, float]:
        """The tensor times a number, in one of several forms, and the number."""
        if self.rng.random() < 0.4:
            return tensor, 1.0
        value = self.rng.choice((0.5, 2.0, -1.0, 0.25, -0.75, 1.5))
        form = self.rng.randrange(4)
        type_ = self.type(tensor.dims, tensor.dtype)
        if form == 0:
            number = self.say(f"arith.constant dense<{value}> : {type_}")
            return Tensor(self.say(f"arith.mulf {self.either(tensor.name, number)} : {type_}"), tensor.dims), value
        if form == 1:
            body = [f"%c = arith.constant {1 / value:.9e} : f32", "%r = arith.divf %a, %c : f32"]
            return self.elementwise([tensor], body), value
        if form == 2:
            return Tensor(self.say(f"arith.negf {tensor.name} : {type_}"), tensor.dims), -1.0
        number = self.number(value)
        return self.elementwise([tensor], [f"%r = arith.mulf {self.either('%a', number)} : f32"]), value

    def product(self, left: Tensor, right: Tensor, dims: Sequence[str]) -> Tensor:
        dims = self.order(dims)
        pair = self.rng.sample([left, right], 2)
        zeros = self.filled(dims, 0.0)
        body = [f"%r = arith.mulf {self.either('%a', '%b')} : f32"]
        return self.nest(pair, zeros, Tensor(self.name(), dims), body, "arith.addf")

    def reduced(self, tensor: Tensor, start: float, combine: str) -> Tensor:
        dims = self.order([d for d in tensor.dims if d != "j"])
        return self.nest([tensor], self.filled(dims, start), Tensor(self.name(), dims), self.identity(), combine)

    def identity(self) -> list[str]:
        """%a as %r, by something that changes nothing."""
        return ["%u = arith.constant 1.0 : f32", "%r = arith.mulf %a, %u : f32"]

    def hidden(self) -> str:
        """A number that hides scores, as a line that makes it %hidden."""
        return f"%hidden = arith.constant {self.rng.choice(('0xFF800000', '0xFF7FFFFF', '-1.0e9'))} : f32"

    def chosen(self, condition: str) -> list[str]:
        """Lines that give %r: %a where %{condition}, else hidden; by a choice of scores, or by adding to them."""
        if self.rng.random() < 0.5:
            return [self.hidden(), f"%r = arith.select %{condition}, %a, %hidden : f32"]
        zero, bias = "%none = arith.constant 0.0 : f32", f"%bias = arith.select %{condition}, %none, %hidden : f32"
        return [self.hidden(), zero, bias, f"%r = arith.addf {self.either('%a', '%bias')} : f32"]

    def masked(self, scores: Tensor, mask: Tensor) -> Tensor:
        """With a mask argument: added, or true = keep."""
        turned = mask if mask.dtype == "i1" else self.disguised(mask)
        if mask.dtype != "i1":
            return self.elementwise([scores, turned], [f"%r = arith.addf {self.either('%a', '%b')} : f32"])
        body = self.chosen("b")
        if self.rng.random() < 0.3:
            yes = "%yes = arith.constant true"
            body = [yes, "%not = arith.xori %b, %yes : i1", "%keep = arith.xori %yes, %not : i1", *self.chosen("keep")]
        return self.elementwise([scores, turned], body)

    def limited(self, scores: Tensor) -> tuple[Tensor, dict[str, object]]:
        """With limits by position, and the attributes that say them."""
        queries, keys = self.sizes["i"], self.sizes["j"]
        corner, align = self.rng.choice(((0, "top-left"), (keys - queries, "bottom-right")))
        found: dict[str, object] = {"causal": True, "align": align if corner else "top-left"}
        body = ["%i = linalg.index @i : index", "%j = linalg.index @j : index", "%to = arith.subi %j, %i : index"]
        body += [f"%last = arith.constant {corner} : index"]
        body += [
            self.rng.choice(("%k0 = arith.cmpi sle, %to, %last : index", "%k0 = arith.cmpi sge, %last, %to : index"))
        ]
        keep = "k0"
        if self.rng.random() < 0.5 and corner + queries > 1:
            found["window"] = window = self.rng.randrange(1, corner + queries)
            body += [f"%first = arith.constant {corner - window} : index", "%k1 = arith.cmpi sgt, %to, %first : index"]
            body += ["%k2 = arith.andi %k0, %k1 : i1"]
            keep = "k2"
        return self.elementwise([scores], [*body, *self.chosen(keep)]), found

    def softmax(self, scores: Tensor, natural: bool = False) -> tuple[Tensor, Tensor | None, float]:
        """Weights, the row sum where it is still to be divided by, and the factor that the exponential's base adds."""
        if self.rng.random() < 0.3:
            type_ = self.type(scores.dims)
            into, at = self.empty(scores.dims), scores.dims.index("j")
            text = f"linalg.softmax dimension({at}) ins({scores.name} : {type_}) outs({into} : {type_}) -> {type_}"
            return Tensor(self.say(text), scores.dims), None, 1.0
        lowest = self.rng.choice((float("-inf"), -3.4028234663852886e38))
        top = self.reduced(scores, lowest, self.rng.choice(("arith.maximumf", "arith.maxnumf")))
        shifted = self.elementwise([scores, self.disguised_row(top)], ["%r = arith.subf %a, %b : f32"])
        base = "math.exp" if natural else self.rng.choice(("math.exp", "math.exp2"))
        powers = self.disguised(self.elementwise([shifted], [f"%r = {base} %a : f32"]))
        total = self.reduced(powers, 0.0, "arith.addf")
        factor = 1.0 if base == "math.exp" else 0.6931471805599453
        if self.rng.random() < 0.5:
            return self.divided(powers, total), None, factor
        return powers, total, factor

    def disguised_row(self, row: Tensor) -> Tensor:
        return self.rng.choice((self.transposed, self.plus_zero, self.times_one))(row)

    def divided(self, tensor: Tensor, total: Tensor) -> Tensor:
        if self.rng.random() < 0.5:
            return self.elementwise([tensor, total], ["%r = arith.divf %a, %b : f32"])
        one = ["%u = arith.constant 1.0 : f32", "%w = arith.divf %u, %b : f32"]
        return self.elementwise([tensor, total], [*one, f"%r = arith.mulf {self.either('%a', '%w')} : f32"])


def composed(rng: random.Random) -> tuple[str, Attention]:
    """A function and the attention that it is."""
    c = Composer(rng)
    kind = rng.choice((None, None, "add", "keep"))
    roles = [("q", (*c.outer, "i", "d")), ("k", (*c.outer, "j", "d")), ("v", (*c.outer, "j", "d"))]
    if kind is not None:
        roles.append(("mask", (*c.outer, "i", "j")[rng.randrange(len(c.outer) + 1) :]))
    rng.shuffle(roles)
    given = {
        role: Tensor(f"%arg{n}", dims, "i1" if role == "mask" and kind == "keep" else "f32")
        for n, (role, dims) in enumerate(roles)
    }
    q, q_scale = c.scaled(c.disguised(given["q"]))
    k, k_scale = c.scaled(c.disguised(given["k"]))
    scores, s_scale = c.scaled(c.product(c.disguised(q), c.disguised(k), (*c.outer, "i", "j")))
    limits: dict[str, object] = {}
    if c.sizes["i"] > 1 and kind != "add" and rng.random() < 0.4:
        scores, limits = c.limited(c.disguised(scores))
    if kind is not None:
        scores = c.masked(c.disguised(scores), given["mask"])
    weights, total, base = c.softmax(c.disguised(scores), natural=kind == "add")
    attended = c.product(c.disguised(weights), c.disguised(given["v"]), (*c.outer, "i", "d"))
    if total is not None:
        attended = c.divided(c.disguised(attended), c.disguised_row(total))
    result = c.in_order(c.disguised(attended), (*c.outer, "i", "d"))
    parameters = ", ".join(f"{t.name}: {c.type(t.dims, t.dtype)}" for t in given.values())
    type_ = c.type(result.dims)
    head = f"func.func @main({parameters}) -> {type_} {{"
    text = "\n".join([head, *c.lines, f"  return {result.name} : {type_}", "}"]) + "\n"
    return text, _meaning(c, given, q_scale * k_scale * s_scale * base, {"mask": kind, **limits})


def _meaning(c: Composer, given: dict[str, Tensor], scale: float, masked: dict[str, Any]) -> Attention:
    arguments = [Argument(role, t.dtype, tuple(c.sizes[d] for d in t.dims), role) for role, t in given.items()]
    out = Argument("o", "f32", tuple(c.sizes[d] for d in given["q"].dims), "out")
    b, h, i, j, d = (c.sizes[name] for name in "bhijd")
    return Attention("main", (*arguments, out), b, h, h, i, j, d, scale, **masked)
