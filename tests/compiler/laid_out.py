"""Attention over arguments of any layout, written out over letters: b batch, h key heads, g heads of a group, s
queries, t keys, d head size. `bs(hg)d` is a tensor of four dimensions, of which the third is h and g in one."""

from __future__ import annotations

import re
from collections.abc import Mapping

SIZES = {"b": 2, "h": 3, "g": 2, "s": 5, "t": 7, "d": 4, "n": 6}


def dimensions(layout: str) -> list[str]:
    return [part.strip("()") for part in re.findall(r"\([a-z]*\)|[a-z]", layout)]


def shape(layout: str, sizes: Mapping[str, int]) -> list[int]:
    found = []
    for part in dimensions(layout):
        size = 1
        for letter in part:
            size *= sizes[letter]
        found.append(size)
    return found


def tensor(sizes: list[int], element: str = "f32") -> str:
    return f"tensor<{''.join(f'{n}x' for n in sizes)}{element}>"


def reassociation(layout: str) -> str:
    numbers = iter(range(100))
    return "[" + ", ".join("[" + ", ".join(str(next(numbers)) for _ in part) + "]" for part in dimensions(layout)) + "]"


def affine(loops: str, letters: str) -> str:
    return f"affine_map<({', '.join(loops)}) -> ({', '.join(letters)})>"


def parted(name: str, layout: str, sizes: Mapping[str, int]) -> str:
    """%name, a dimension a letter, of the argument %name_."""
    letters = "".join(dimensions(layout))
    source, result = tensor(shape(layout, sizes)), tensor([sizes[x] for x in letters])
    if source == result:
        return f"  %{name} = tensor.cast %{name}_ : {source} to {result}\n"
    output = ", ".join(str(sizes[x]) for x in letters)
    return (
        f"  %{name} = tensor.expand_shape %{name}_ {reassociation(layout)} output_shape [{output}]"
        f" : {source} into {result}\n"
    )


def contraction(name: str, left: str, right: str, out: str, values: tuple[str, str], sizes: Mapping[str, int]) -> str:
    """%name over `out`: the sum of products of two tensors over the letters that `out` has not."""
    loops = out + "".join(x for x in dict.fromkeys(left + right) if x not in out)
    kinds = ", ".join('"parallel"' if x in out else '"reduction"' for x in loops)
    types = [tensor([sizes[x] for x in letters]) for letters in (left, right, out)]
    maps = ", ".join(affine(loops, letters) for letters in (left, right, out))
    return (
        f"  %{name}_e = tensor.empty() : {types[2]}\n"
        f"  %{name}_z = linalg.fill ins(%zero : f32) outs(%{name}_e : {types[2]}) -> {types[2]}\n"
        f"  %{name} = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}"
        f" ins({values[0]}, {values[1]} : {types[0]}, {types[1]}) outs(%{name}_z : {types[2]}) {{\n"
        "  ^bb0(%a: f32, %b: f32, %c: f32):\n    %m = arith.mulf %a, %b : f32\n    %n = arith.addf %c, %m : f32\n"
        f"    linalg.yield %n : f32\n  }} -> {types[2]}\n"
    )


def laid_out(
    q: str = "bhgsd",
    k: str = "bhtd",
    v: str = "bhtd",
    scores: str = "bhgst",
    out: str = "b(hg)sd",
    sizes: Mapping[str, int] = SIZES,
    mask: str | None = None,
) -> str:
    """mask: of an argument that is added to the scores."""
    layouts = {"q": q, "k": k, "v": v} | ({"mask": mask} if mask else {})
    letters = {name: "".join(dimensions(layout)) for name, layout in layouts.items()}
    arguments = ", ".join(f"%{name}_: {tensor(shape(layout, sizes))}" for name, layout in layouts.items())
    result, whole = tensor(shape(out, sizes)), "".join(dimensions(out))
    score_type, whole_type = tensor([sizes[x] for x in scores]), tensor([sizes[x] for x in whole])
    text = f"func.func @main({arguments}) -> {result} {{\n  %zero = arith.constant 0.0 : f32\n"
    text += "".join(parted(name, layout, sizes) for name, layout in layouts.items())
    text += contraction("x", letters["q"], letters["k"], scores, ("%q", "%k"), sizes)
    masked = "%x"
    if mask:
        maps = ", ".join(affine(scores, some) for some in (scores, letters["mask"], scores))
        mask_type = tensor([sizes[x] for x in letters["mask"]])
        kinds = ", ".join(['"parallel"'] * len(scores))
        text += (
            f"  %y = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}}"
            f" ins(%x, %mask : {score_type}, {mask_type}) outs(%x_e : {score_type}) {{\n"
            "  ^bb0(%a: f32, %b: f32, %c: f32):\n    %n = arith.addf %a, %b : f32\n    linalg.yield %n : f32\n"
            f"  }} -> {score_type}\n"
        )
        masked = "%y"
    text += (
        f"  %p = linalg.softmax dimension({scores.index('t')}) ins({masked} : {score_type})"
        f" outs(%x_e : {score_type}) -> {score_type}\n"
    )
    text += contraction("o", scores, letters["v"], whole, ("%p", "%v"), sizes)
    if whole_type != result:
        text += f"  %r = tensor.collapse_shape %o {reassociation(out)} : {whole_type} into {result}\n"
    return text + f"  return %{'r' if whole_type != result else 'o'} : {result}\n}}\n"
