"""What of the attn dialect kernels compute: one list of rules, which refuses the rest and prints the README's table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError
from npuc.passes.attention.core.parameters import MOST_BOUNDED, representable
from npuc.passes.attention.integer_factors import HEADS_LIMIT, quantities_of
from npuc.passes.attention.integer_factors import representable as representable_integers

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

HEAD_SIZE_LIMIT = 256
LENGTH_LIMIT = 8192
# Blocks of 64 queries of all heads: their transfers take some 500 bytes each in the runtime sequence, and instruction
# buffers share a heap of 64 MiB (facts/platform/amdxdna.md).
BLOCK_LIMIT = 1 << 16
ELEMENT_TYPES = ("bf16", "f32", "f16")
RECIPES = ("fast", "balanced", "accurate")
ON_THE_REFERENCE = "run it with --backend reference"

Problem = tuple[str, str]  # what is wrong, the remedy: remedies keep the meaning


@dataclass(frozen=True)
class Rule:
    """subject, takes: a row of the table.  problems: what of an attention breaks the rule."""

    subject: str
    takes: str
    problems: Callable[[Attention], Iterator[Problem]]


def check_supported(attention: Attention) -> None:
    """Raises UnsupportedError, at the operation, with the first thing that no kernel computes and a remedy."""
    for rule in RULES:
        for problem, remedy in rule.problems(attention):
            raise UnsupportedError(f"function @{attention.function}: {problem}", place=attention.place, remedy=remedy)


def support_table() -> str:
    """What kernels take, as Markdown."""
    rows = [("what", "kernels take"), ("---", "---"), *((rule.subject, rule.takes) for rule in RULES)]
    return "".join(f"| {subject} | {takes} |\n" for subject, takes in rows)


def _arguments(a: Attention) -> Iterator[Problem]:
    for argument in a.arguments:
        if argument.also:
            roles = ", ".join(role.upper() for role in argument.roles)
            yield f"one argument serves as {roles}", "give each its own argument and pass the tensor twice"


def _element_types(a: Attention) -> Iterator[Problem]:
    if a.precision == "int8":
        yield from _integers(a)
        return
    for argument in a.arguments:
        if argument.role != "mask" and argument.dtype not in ELEMENT_TYPES:
            kinds = ", ".join(ELEMENT_TYPES)
            problem = f"element type {argument.dtype} of {argument.name} is not supported"
            yield problem, f"multiply by {argument.name}_scale and give it as one of {kinds}"
    q, out = a.argument("q").dtype, a.argument("out").dtype
    if out != q:
        yield f"a result of {out} from {q} arguments is not supported", f"convert the result to {q}"


def _integers(a: Attention) -> Iterator[Problem]:
    types = {a.argument(role).dtype for role in ("q", "k", "v")}
    out = a.argument("out").dtype
    if types != {"i8"} and not (len(types) == 1 and types <= set(ELEMENT_TYPES)):
        yield f"int8 of {' and '.join(sorted(types))} together is not supported", "give q, k and v one type"
    elif out not in (("i8", "bf16") if "i8" in types else types):
        yield f"a result of {out} from arguments of {types.pop()} by int8 is not supported", "convert the result"
    if "i8" not in types and (a.batch or 1) * a.heads > HEADS_LIMIT:
        yield f"int8 of floating tensors takes {HEADS_LIMIT} heads of all batches", "split the batch"


def _head_sizes(a: Attention) -> Iterator[Problem]:
    if a.head_dim > HEAD_SIZE_LIMIT:
        yield f"head size {a.head_dim} is above {HEAD_SIZE_LIMIT}", ON_THE_REFERENCE


def _lengths(a: Attention) -> Iterator[Problem]:
    queries, keys = a.query_length or 1, a.key_length or 1  # open ones are seen when a call gives them
    independent = not a.causal and a.window is None
    split = "give the queries in several calls" if independent else ON_THE_REFERENCE
    if queries > LENGTH_LIMIT:
        yield f"query length {queries} is above {LENGTH_LIMIT}", split
    if keys > LENGTH_LIMIT:
        yield f"key length {keys} is above {LENGTH_LIMIT}", ON_THE_REFERENCE
    blocks = (a.batch or 1) * a.heads * -(-queries // 64)
    if blocks > BLOCK_LIMIT:
        problem = f"{blocks:,} blocks of 64 queries exceed the runtime sequence's {BLOCK_LIMIT:,}"
        yield problem, "split the batch or the heads"


def _anything(a: Attention) -> Iterator[Problem]:
    yield from ()


def _scale(a: Attention) -> Iterator[Problem]:
    if a.precision == "int8":
        each = quantities_of(a)
        if not all(representable_integers(one, a.head_dim) for one in each):
            limit = "its largest scores, in base 2, are above 8,192, or v_scale / o_scale is not 2^-60 to 2^14"
            yield f"scale {a.scale:g} with the factors of int8 is not supported: {limit}", ON_THE_REFERENCE
        if len(each) > 1 and (a.batch or 1) * a.heads > HEADS_LIMIT:
            yield f"int8 with factors of each head takes {HEADS_LIMIT} heads of all batches", "split the batch"
        return
    if not representable(a.scale, a.softcap or 0.0):
        cap = f" with softcap {a.softcap:g}" if a.softcap else ""
        yield f"scale {a.scale:g}{cap} is not supported", ON_THE_REFERENCE


def _precision(a: Attention) -> Iterator[Problem]:
    if a.precision == "int8" and a.mask is not None:
        yield "a mask with int8 is not supported", ON_THE_REFERENCE
    if a.precision == "int8" and a.softcap is not None:
        yield "softcap with int8 is not supported", ON_THE_REFERENCE
    factors = (a.q_scale, a.k_scale, a.v_scale, a.o_scale)
    if a.precision != "int8" and any(factor is not None for factor in factors):
        yield "q_scale, k_scale, v_scale and o_scale belong to int8", "--precision int8"


def _recipe(a: Attention) -> Iterator[Problem]:
    if a.recipe not in RECIPES:
        yield f"recipe {a.recipe!r} is not supported", ON_THE_REFERENCE


SOFTCAPS = (
    f"without a mask kernels of recipes fast and balanced are for those up to {MOST_BOUNDED:g} or for larger ones"
)

RULES: tuple[Rule, ...] = (
    Rule("arguments", "each in one role", _arguments),
    Rule("element types", "bf16; f32 and f16 are rounded to bf16 by the runtime; i8 gives i8 or bf16", _element_types),
    Rule("precision", "bf16 products, fp32 sums; int8, of floating tensors too: no mask, no softcap", _precision),
    Rule("head size", f"1 to {HEAD_SIZE_LIMIT}; the runtime pads other than multiples of 8", _head_sizes),
    Rule("heads", "any multiple of the heads of K and V", _anything),
    Rule("batch, lengths", f"1 to {LENGTH_LIMIT} queries and keys, any batch; `?` where a call gives them", _lengths),
    Rule("scale", "0, and 1e-18 to 7e17 of either sign", _scale),
    Rule("causal, window", "both, top-left and bottom-right; queries that see no key give zeros", _anything),
    Rule(
        "masks",
        "boolean and added ones of any shape that broadcasts; bf16 and f16 exactly, f32 with 16 bits of how far it is "
        "below the largest that the query sees",
        _anything,
    ),
    Rule("softcap", f"any that with the scale stays within the range of the factors; {SOFTCAPS}", _anything),
    Rule("recipe", ", ".join(RECIPES), _recipe),
)
