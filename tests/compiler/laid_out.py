"""Attention over arguments of any layout, written out over letters: b batch, h key heads, g heads of a group, s
queries, t keys, d head size. `bs(hg)d` is a tensor of four dimensions, of which the third is h and g in one."""

from __future__ import annotations

import re
from collections.abc import Mapping

SIZES = {"b": 2, "h": 3, "g": 2, "s": 5, "t": 7, "d": 4, "n": 6}


# Q, K, V, scores, result.
LAYOUTS: dict[str, tuple[str, str, str, str, str]] = {
    "BHSD": ("bhsd", "bhtd", "bhtd", "bhst", "bhsd"),
    "BSHD": ("bshd", "bthd", "bthd", "bhst", "bshd"),
    "BSHD, result BHSD": ("bshd", "bthd", "bthd", "bhst", "bhsd"),
    "BHSD, result BSHD": ("bhsd", "bhtd", "bhtd", "bsht", "bshd"),
    "SBHD": ("sbhd", "tbhd", "tbhd", "bhst", "sbhd"),
    "BSHD, result merged": ("bshd", "bthd", "bthd", "bhst", "bs(hd)"),
    "heads in the width": ("bs(hd)", "bt(hd)", "bt(hd)", "bhst", "bs(hd)"),
    "heads in the width, no batch": ("s(hd)", "t(hd)", "t(hd)", "hst", "s(hd)"),
    "batch and heads in one": ("(bh)sd", "(bh)td", "(bh)td", "bhst", "(bh)sd"),
    "batch and heads in one, kept": ("(bh)sd", "bhtd", "(bh)td", "bhst", "(bh)sd"),
    "K transposed": ("bhsd", "bhdt", "bhtd", "bhst", "bhsd"),
    "K of [B, T, H, D]": ("bhsd", "bthd", "bhtd", "bhst", "bhsd"),
    "V transposed": ("bhsd", "bhtd", "bhdt", "bhst", "bhsd"),
    "scores transposed": ("bhsd", "bhtd", "bhtd", "bhts", "bhsd"),
    "result transposed": ("bhsd", "bhtd", "bhtd", "bhst", "bhds"),
    "all of them otherwise": ("dhbs", "tdbh", "hbtd", "htbs", "sd(bh)"),
    "grouped": ("b(hg)sd", "bhtd", "bhtd", "bhgst", "b(hg)sd"),
    "grouped, in five dimensions": ("bhgsd", "bhtd", "bhtd", "bhgst", "bhgsd"),
    "grouped, BSHD": ("bs(hg)d", "bthd", "bthd", "bhgst", "bs(hg)d"),
    "grouped, BSHD, JAX's five dimensions": ("bshgd", "bthd", "bthd", "bhgst", "bshgd"),
    "grouped, no batch": ("(hg)sd", "htd", "htd", "hgst", "(hg)sd"),
    "grouped, heads in the width": ("bs(hgd)", "bt(hd)", "bt(hd)", "bhgst", "bs(hgd)"),
    "grouped, batch and heads in one": ("(bhg)sd", "(bh)td", "(bh)td", "bhgst", "(bhg)sd"),
    "grouped, K transposed": ("b(hg)sd", "bhdt", "bthd", "bhgst", "b(hg)sd"),
    "one head of K for all": ("bgsd", "btd", "btd", "bgst", "bgsd"),
    "one head of K for all, BSHD": ("bsgd", "btd", "btd", "bgst", "bsgd"),
    "two dimensions": ("sd", "td", "td", "st", "sd"),
    "one query, BSHD": ("b(hg)d", "bthd", "bthd", "bhgt", "b(hg)d"),
}
MASKED_LAYOUTS: dict[str, tuple[str, str, str, str, str, str]] = {
    "mask of [B, S, Skv]": ("b(hg)sd", "bhtd", "bhtd", "bhgst", "b(hg)sd", "bst"),
    "mask of [B, H, S, Skv]": ("bs(hg)d", "bthd", "bthd", "bhgst", "bs(hg)d", "b(hg)st"),
    "mask of [H, S, Skv]": ("bs(hg)d", "bthd", "bthd", "bhgst", "bs(hg)d", "(hg)st"),
    "mask of [Skv]": ("bshd", "bthd", "bthd", "bhst", "bshd", "t"),
    "mask of [B, Skv]": ("bhsd", "bhtd", "bhtd", "bhst", "bhsd", "bt"),
    "mask of [Skv, S]": ("bhsd", "bhtd", "bhtd", "bhst", "bhsd", "ts"),
}


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
