"""What of the attn dialect this compiler turns into programs today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import InputError

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

HEAD_SIZES = (64, 128)
LENGTH_UNIT = 64
LENGTH_LIMIT = 2048
# Blocks of LENGTH_UNIT queries of all heads: their transfers take some 500 bytes each in the runtime sequence, and
# instruction buffers share a heap of 64 MiB (facts/platform/amdxdna.md).
BLOCK_LIMIT = 1 << 16
ELEMENT_TYPES = ("bf16", "f32", "f16")
RECIPES = ("balanced",)


def check_supported(attention: Attention) -> None:
    """Raises InputError with the first thing that is not supported and what to do about it."""
    for problem, remedy in (
        _element_types(attention) or _shapes(attention) or _visibility(attention) or _numerics(attention)
    ):
        raise InputError(f"function @{attention.function}: {problem}", remedy=remedy)


def _element_types(a: Attention) -> list[tuple[str, str]]:
    found = []
    for argument in a.arguments:
        if argument.also:
            roles = ", ".join(role.upper() for role in argument.roles)
            found.append((f"one argument serves as {roles}", "give each its own argument and pass the tensor twice"))
        elif argument.role != "mask" and argument.dtype not in ELEMENT_TYPES:
            problem = f"element type {argument.dtype} of {argument.name} is not supported"
            found.append((problem, f"convert to {', '.join(ELEMENT_TYPES)}"))
    q, out = a.argument("q").dtype, a.argument("out").dtype
    if not found and out != q:
        found.append((f"a result of {out} from {q} arguments is not supported", f"convert the result to {q}"))
    return found


def _shapes(a: Attention) -> list[tuple[str, str]]:
    found = []
    if a.head_dim not in HEAD_SIZES:
        sizes = " or ".join(map(str, HEAD_SIZES))
        found.append((f"head size {a.head_dim} is not supported", f"pad Q, K and V with zeros to {sizes}, keep scale"))
    if a.kv_heads != a.heads:
        found.append((f"{a.heads} query heads over {a.kv_heads} key heads are not supported", "repeat K and V"))
    for what, length in (("query", a.query_length), ("key", a.key_length)):
        if length % LENGTH_UNIT:
            found.append((f"{what} length {length} is not a multiple of {LENGTH_UNIT}", "choose such a length"))
        elif length > LENGTH_LIMIT:
            found.append((f"{what} length {length} is above {LENGTH_LIMIT}", "split the sequence"))
    blocks = a.batch * a.heads * a.query_length // LENGTH_UNIT
    if not found and blocks > BLOCK_LIMIT:
        problem = f"{blocks:,} blocks of {LENGTH_UNIT} queries exceed the runtime sequence's {BLOCK_LIMIT:,}"
        found.append((problem, "split the batch or the heads"))
    return found


def _visibility(a: Attention) -> list[tuple[str, str]]:
    found = []
    if a.causal:
        found.append(("causal attention is not supported", "leave out causal"))
    if a.window is not None:
        found.append(("window is not supported", "leave out window"))
    if a.mask is not None:
        found.append(("a mask is not supported", "leave out the mask operand"))
    if a.softcap is not None:
        found.append(("softcap is not supported", "leave out softcap"))
    return found


def _numerics(a: Attention) -> list[tuple[str, str]]:
    found = []
    if a.precision != "bf16":
        found.append((f"precision {a.precision} is not supported", "use bf16"))
    if any(factors is not None for factors in (a.q_scale, a.k_scale, a.v_scale, a.o_scale)):
        found.append(("q_scale, k_scale, v_scale and o_scale belong to int8, which is not supported", "leave them out"))
    if a.recipe not in RECIPES:
        found.append((f"recipe {a.recipe!r} is not supported", f"use {', '.join(RECIPES)}"))
    return found
