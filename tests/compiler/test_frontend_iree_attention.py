"""iree_linalg_ext.attention in its generic form: what it stands for, and what is left alone."""

from __future__ import annotations

import re

import pytest
from edited_examples import refusal
from mutants import difference, draws, outcome_of, read

from npuc.compiler.frontend import load

LOOPS = "(b, m, n, k1, k2)"
QUERY, KEY, VALUE, OUT = "(b, m, k1)", "(b, k2, k1)", "(b, k2, n)", "(b, m, n)"
SIZES = {"b": 2, "h": 2, "m": 5, "n": 4, "k1": 4, "k2": 7}
YIELD = '"iree_linalg_ext.yield"(%s) : (f32) -> ()'


def tensor(dimensions: str, element: str = "f32") -> str:
    sizes = [SIZES[name.strip()] for name in dimensions.strip("()").split(",")]
    return f"tensor<{''.join(f'{n}x' for n in sizes)}{element}>"


def attention(
    q: str = QUERY,
    k: str = KEY,
    v: str = VALUE,
    out: str = OUT,
    mask: tuple[str, str] | None = None,
    element: str = "f32",
    loops: str = LOOPS,
    body: str = YIELD,
    scale: str = "0.3",
    name: str = "attention",
    more: str = "",
) -> str:
    """mask: its dimensions and element type."""
    types = [tensor(q, element), tensor(k, element), tensor(v, element)]
    parameters = ", ".join(f"%a{n}: {t}" for n, t in enumerate(types))
    maps, operands, given = [q, k, v, "()"], "%a0, %a1, %a2, %scale", [*types, "f32"]
    if mask is not None:
        parameters += f", %a3: {tensor(*mask)}"
        maps.append(mask[0])
        operands += ", %a3"
        given.append(tensor(*mask))
    result = tensor(out, element)
    spelled = ", ".join(f"affine_map<{loops} -> {m}>" for m in [*maps, out])
    return (
        f"func.func @main({parameters}{more}) -> {result} {{\n"
        + (f"  %scale = arith.constant {scale} : f32\n" if scale else "")
        + f"  %e = tensor.empty() : {result}\n"
        f'  %r = "iree_linalg_ext.{name}"({operands}, %e) <{{indexing_maps = [{spelled}]}}> ({{\n'
        f"  ^bb0(%s: f32):\n    {body}\n  }}) : ({', '.join([*given, result])}) -> {result}\n"
        f"  return %r : {result}\n}}\n"
    )


MEANT = {
    "plain": attention(),
    "f16": attention(element="f16"),
    "V transposed": attention(v="(b, n, k2)"),
    "K transposed, result of queries first": attention(k="(b, k1, k2)", out="(m, b, n)"),
    "two dimensions of batch and heads": attention(
        "(b, h, m, k1)", "(b, h, k2, k1)", "(b, h, k2, n)", "(b, h, m, n)", loops="(b, h, m, n, k1, k2)"
    ),
    "heads in groups": attention(
        "(b, h, m, k1)", "(b, k2, k1)", "(b, k2, n)", "(b, h, m, n)", loops="(b, h, m, n, k1, k2)"
    ),
    "an added mask": attention(mask=("(b, m, k2)", "f32")),
    "an added mask of one for all": attention(mask=("(m, k2)", "f32")),
    "a mask of truths": attention(mask=("(b, m, k2)", "i1")),
}


def online(
    uses: str = "", finish: str = "%x = arith.divf %a, %b : f32", start: str = "0xFF800000", **changes: str
) -> str:
    """Online attention of one block and the division after it. uses: of its results besides."""
    text = attention(name="online_attention", **changes)
    whole, row = tensor(OUT), tensor("(b, m)")
    head, operation, _ = re.split(r"(?=  %r = )|(?=  return)", text)
    operation = operation.replace("%r =", "%r:3 =").replace("%e) <", "%zeros, %highest, %summed) <")
    operation = operation.replace(f"{OUT}>]", f"{OUT}>" + f", affine_map<{LOOPS} -> (b, m)>" * 2 + "]")
    operation = operation.replace(f"{whole}) -> {whole}", f"{whole}, {row}, {row}) -> ({whole}, {row}, {row})")
    fills = "".join(
        f"  %{name} = linalg.fill ins(%{of} : f32) outs(%{storage} : {type_}) -> {type_}\n"
        for name, of, storage, type_ in (
            ("zeros", "zero", "e", whole),
            ("highest", "low", "f", row),
            ("summed", "zero", "f", row),
        )
    )
    return (
        head + f"  %zero = arith.constant 0.0 : f32\n  %low = arith.constant {start} : f32\n"
        f"  %f = tensor.empty() : {row}\n{fills}{operation}{uses}"
        f"  %o = linalg.generic {{indexing_maps = [affine_map<(b, m, n) -> (b, m, n)>, affine_map<(b, m, n) -> (b, m)>,"
        f" affine_map<(b, m, n) -> (b, m, n)>], iterator_types = [\"parallel\", \"parallel\", \"parallel\"]}}\n"
        f"    ins(%r#0, %r#2 : {whole}, {row}) outs(%e : {whole}) {{\n  ^bb0(%a: f32, %b: f32, %c: f32):\n"
        f"    {finish}\n    linalg.yield %x : f32\n  }} -> {whole}\n  return %o : {whole}\n}}\n"
    )  # fmt: skip


MEANT |= {
    "online, of one block": online(),
    "online, from the lowest number, times the reciprocal": online(
        finish="%one = arith.constant 1.0 : f32\n    %y = arith.divf %one, %b : f32\n    %x = arith.mulf %a, %y : f32",
        start="-3.40282347E+38",
    ),
    "online, with a mask": online(mask=("(b, m, k2)", "f32")),
}
LEFT_ALONE = {
    "a region that changes scores": attention(
        body='%u = arith.addf %s, %s : f32\n    "iree_linalg_ext.yield"(%u) : (f32) -> ()'
    ),
    "a contraction over nothing": attention(k="(b, k2, n)"),
    "values over the queries": attention(v="(b, m, n)"),
    "a mask over the head size": attention(mask=("(b, m, k1)", "f32")),
    "another operation": attention(name="other_attention"),
    "online attention whose maxima are read": online(uses='  "test.use"(%r#1) : (tensor<2x5xf32>) -> ()\n'),
    "online attention that goes on from a maximum": online(start="1.0"),
    "online attention that is not divided": online(finish="%x = arith.addf %a, %a : f32"),
    "a map that is no permutation": attention(q="(b, m, k1)")
    .replace("-> (b, m, k1)>", "-> (b, m, k1 + 0 * m)>")
    .replace("-> (b, k2, k1)>", "-> (b, k1 - k1, k1)>"),
}


@pytest.mark.parametrize("name", MEANT)
def test_it_is_what_it_stands_for(name: str) -> None:
    (found,) = load(MEANT[name], "iree.mlir")
    assert found.scale == pytest.approx(0.3, rel=1e-7) and (found.query_length, found.key_length) == (5, 7)
    module = read(MEANT[name])
    with module.context:
        assert outcome_of(module, 3) == ("equal", "")


@pytest.mark.parametrize("element", ["f32", "f16"])
@pytest.mark.parametrize("name", ["attention", "online"])
def test_its_scale_may_be_an_argument(name: str, element: str) -> None:
    made = {"attention": attention, "online": online}[name](scale="", more=f", %scale: {element}")
    lines = made.splitlines()  # the scale's type is the fourth of the operation's
    at = next(n for n, line in enumerate(lines) if "f32, tensor" in line and ") : (" in line)
    lines[at] = lines[at].replace(", f32, ", f", {element}, ", 1)
    text = "\n".join(lines)
    (found,) = load(text, "iree.mlir")
    assert [(a.role, a.dtype, a.place, a.power) for a in found.beside] == [("scale", element, 3, 1.0)]
    module = read(text)
    with module.context:
        assert outcome_of(module, 3) == ("equal", "")


def opened(text: str, *sizes: int) -> str:
    """The text with these sizes open in all types; storage is as long as operands are."""
    for size in sizes:
        text = re.sub(rf"(?<=[<x]){size}x", "?x", text)
    lengths = (
        "  %c0 = arith.constant 0 : index\n  %c1 = arith.constant 1 : index\n"
        "  %batch = tensor.dim %a0, %c0 : {0}\n  %queries = tensor.dim %a0, %c1 : {0}\n"
    ).format(re.search(r"%a0: (tensor<[^>]*>)", text)[1])  # type: ignore[index]
    names = "%batch, %queries" if 2 in sizes else "%queries"
    text = re.sub(r"tensor\.empty\(\)( : tensor<[^>]*\?)", rf"tensor.empty({names})\1", text)
    head, rest = text.split("{\n", 1)
    return f"{head}{{\n{lengths}{rest}"


@pytest.mark.parametrize(
    ("name", "sizes", "named"),
    [
        ("plain", (2, 5, 7), ("B", "S", "Skv")),
        ("f16", (5,), ("S",)),
        ("V transposed", (2, 5, 7), ("B", "S", "Skv")),
        ("a mask of truths", (5, 7), ("S", "Skv")),
        ("an added mask", (2, 5, 7), ("B", "S", "Skv")),
        ("online, of one block", (2, 5, 7), ("B", "S", "Skv")),
    ],
)
def test_its_sizes_may_be_open(name: str, sizes: tuple[int, ...], named: tuple[str, ...]) -> None:
    text = opened(MEANT[name], *sizes)
    (found,) = load(text, "iree.mlir")
    assert found.open_dimensions == named
    known = found.bound({n: {"B": 2, "S": 5, "Skv": 7}[n] for n in named})
    assert not found.equal_lengths and (known.heads * known.lengths.batch, *known.lengths[1:]) == (2, 5, 7)
    module = read(text)
    with module.context:
        for arrays in draws(known, 1):
            assert difference(module, known, arrays) <= 1


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_is_not_understood_is_left_alone_and_refused(name: str) -> None:
    assert refusal(LEFT_ALONE[name]).place is not None


def test_a_refusal_points_at_the_operation() -> None:
    text = attention().replace("return %r", "%n = arith.negf %r : tensor<2x5x4xf32>\n  return %n")
    error = refusal(text.replace("<{", "<{").replace("0.3", "0.0e+00 + 0").replace("0.0e+00 + 0", "0xFF800000"))
    assert error.place is not None and error.place.line == 4
