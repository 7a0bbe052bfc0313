"""What of the attn dialect this compiler turns into programs today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import UnsupportedError

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
SCALES = (1e-18, 7e17)  # what the kernel's factors represent as normal bf16 numbers
ON_THE_REFERENCE = "run it with --backend reference"
SPLIT_QUERIES = "give the queries in several calls"


def check_supported(attention: Attention) -> None:
    """Raises UnsupportedError, at the operation, with the first thing that is not supported and a remedy.

    Remedies keep the meaning: none leaves out what the source says.
    """
    for problem, remedy in (
        _element_types(attention) or _shapes(attention) or _visibility(attention) or _numerics(attention)
    ):
        raise UnsupportedError(f"function @{attention.function}: {problem}", place=attention.place, remedy=remedy)


def _element_types(a: Attention) -> list[tuple[str, str]]:
    found = []
    for argument in a.arguments:
        if argument.also:
            roles = ", ".join(role.upper() for role in argument.roles)
            found.append((f"one argument serves as {roles}", "give each its own argument and pass the tensor twice"))
        elif argument.role != "mask" and argument.dtype not in ELEMENT_TYPES:
            problem = f"element type {argument.dtype} of {argument.name} is not supported"
            kinds = ", ".join(ELEMENT_TYPES)
            found.append((problem, f"multiply by {argument.name}_scale and give it as one of {kinds}"))
    q, out = a.argument("q").dtype, a.argument("out").dtype
    if not found and out != q:
        found.append((f"a result of {out} from {q} arguments is not supported", f"convert the result to {q}"))
    return found


def _shapes(a: Attention) -> list[tuple[str, str]]:
    found = [(f"{name} is open", "write the length in the types") for name in a.open_dimensions]
    if found:
        return found
    lengths = a.lengths
    if a.head_dim not in HEAD_SIZES:
        found.append((f"head size {a.head_dim} is not supported", _padding(a.head_dim)))
    if a.kv_heads != a.heads:
        problem = f"{a.heads} query heads over {a.kv_heads} key heads are not supported"
        found.append((problem, f"repeat each head of K and V {a.heads // a.kv_heads} times"))
    independent = not a.causal and a.window is None
    splits = (SPLIT_QUERIES if independent else ON_THE_REFERENCE, ON_THE_REFERENCE)
    for what, length, split in zip(("query", "key"), (lengths.query, lengths.key), splits, strict=True):
        if length % LENGTH_UNIT:
            found.append((f"{what} length {length} is not a multiple of {LENGTH_UNIT}", ON_THE_REFERENCE))
        elif length > LENGTH_LIMIT:
            found.append((f"{what} length {length} is above {LENGTH_LIMIT}", split))
    blocks = lengths.batch * a.heads * lengths.query // LENGTH_UNIT
    if not found and blocks > BLOCK_LIMIT:
        problem = f"{blocks:,} blocks of {LENGTH_UNIT} queries exceed the runtime sequence's {BLOCK_LIMIT:,}"
        found.append((problem, "split the batch or the heads"))
    return found


def _padding(head_dim: int) -> str:
    larger = [size for size in HEAD_SIZES if size > head_dim]
    return f"pad Q, K and V with zeros to {larger[0]} and keep the scale" if larger else ON_THE_REFERENCE


def _visibility(a: Attention) -> list[tuple[str, str]]:
    found = []
    if a.causal:
        found.append(("causal attention is not supported", ON_THE_REFERENCE))
    if a.window is not None:
        found.append(("window is not supported", ON_THE_REFERENCE))
    if a.mask is not None:
        found.append(("a mask is not supported", ON_THE_REFERENCE))
    if a.softcap is not None:
        found.append(("softcap is not supported", ON_THE_REFERENCE))
    return found


def _numerics(a: Attention) -> list[tuple[str, str]]:
    found = []
    if a.precision != "bf16":
        found.append((f"precision {a.precision} is not supported", "--precision bf16 computes the same"))
    if any(factors is not None for factors in (a.q_scale, a.k_scale, a.v_scale, a.o_scale)):
        found.append(("q_scale, k_scale, v_scale and o_scale belong to int8, which is not supported", ON_THE_REFERENCE))
    if not SCALES[0] <= a.scale <= SCALES[1]:
        found.append((f"scale {a.scale:g} is not supported", ON_THE_REFERENCE))
    if a.recipe not in RECIPES:
        found.append((f"recipe {a.recipe!r} is not supported", ON_THE_REFERENCE))
    return found
