"""Structured operations against a loop nest that runs iteration by iteration."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from evaluated import body, refusal, source, value
from hypothesis import given
from hypothesis import strategies as st

# An expression of a map: ("d", dimension), ("c", number) or ("+", dimension, dimension).
Expression = tuple
Map = tuple[Expression, ...]


@dataclass(frozen=True)
class Nest:
    """A linalg.generic on f64. steps: (operation, operand, operand), operands numbered inputs, running values, indices,
    steps; yields: numbers of values."""

    extents: tuple[int, ...]
    kinds: tuple[str, ...]
    inputs: tuple[Map, ...]
    outputs: tuple[Map, ...]
    steps: tuple[tuple[str, int, int], ...]
    yields: tuple[int, ...]

    def size(self, map_: Map, spare: int) -> tuple[int, ...]:
        """The shape of an operand: as small as the map allows, `spare` more where a map says nothing of it."""
        sizes = []
        for e in map_:
            if e[0] == "d":
                sizes.append(self.extents[e[1]])
            else:
                sizes.append((e[1] if e[0] == "c" else self.extents[e[1]] + self.extents[e[2]] - 2) + 1 + spare)
        return tuple(sizes)


FUNCTIONS = {
    "arith.addf": lambda a, b: a + b,
    "arith.subf": lambda a, b: a - b,
    "arith.mulf": lambda a, b: a * b,
    "arith.maximumf": max,
    "arith.minimumf": min,
}


def at(map_: Map, point: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(point[e[1]] if e[0] == "d" else e[1] if e[0] == "c" else point[e[1]] + point[e[2]] for e in map_)


def loops(nest: Nest, inputs: list[np.ndarray], inits: list[np.ndarray]) -> list[np.ndarray]:
    """The nest, one iteration after the other."""
    results = [np.array(init) for init in inits]
    for point in itertools.product(*map(range, nest.extents)):
        values = [float(array[at(m, point)]) for m, array in zip(nest.inputs, inputs, strict=True)]
        values += [float(array[at(m, point)]) for m, array in zip(nest.outputs, results, strict=True)]
        values += [float(index) for index in point]
        for operation, a, b in nest.steps:
            values.append(FUNCTIONS[operation](values[a], values[b]))
        for m, array, number in zip(nest.outputs, results, nest.yields, strict=True):
            array[at(m, point)] = values[number]
    return results


def text_of(nest: Nest) -> str:
    """A function of all operands that returns all results."""
    rank = len(nest.extents)
    dimensions = ", ".join(f"d{i}" for i in range(rank))

    def map_text(map_: Map) -> str:
        names = [f"d{e[1]}" if e[0] == "d" else str(e[1]) if e[0] == "c" else f"d{e[1]} + d{e[2]}" for e in map_]
        return f"affine_map<({dimensions}) -> ({', '.join(names)})>"

    def tensor(map_: Map, spare: int) -> str:
        return "tensor<" + "".join(f"{n}x" for n in nest.size(map_, spare)) + "f64>"

    types = [tensor(m, 1) for m in nest.inputs] + [tensor(m, 1) for m in nest.outputs]
    names = [f"%a{i}" for i in range(len(types))]
    split, results = len(nest.inputs), types[len(nest.inputs) :]
    lines = [f"%i{d} = linalg.index {d} : index" for d in range(rank)]
    lines += [f"%w{d} = arith.index_cast %i{d} : index to i64" for d in range(rank)]
    lines += [f"%p{d} = arith.sitofp %w{d} : i64 to f64" for d in range(rank)]
    values = [f"%x{i}" for i in range(len(types))] + [f"%p{d}" for d in range(rank)]
    for number, (operation, a, b) in enumerate(nest.steps):
        lines.append(f"%s{number} = {operation} {values[a]}, {values[b]} : f64")
        values.append(f"%s{number}")
    kinds = ", ".join(f'"{kind}"' for kind in nest.kinds)
    maps = ", ".join(map(map_text, (*nest.inputs, *nest.outputs)))
    ins = f"ins({', '.join(names[:split])} : {', '.join(types[:split])})" if split else ""
    block = ", ".join(f"%x{i}: f64" for i in range(len(types)))
    given = ", ".join(f"{n}: {t}" for n, t in zip(names, types, strict=True))
    yielded = f"{', '.join(values[y] for y in nest.yields)} : {', '.join('f64' for _ in nest.yields)}"
    returned = [f"%r#{i}" for i in range(len(results))] if len(results) > 1 else ["%r"]
    count = f":{len(results)}" if len(results) > 1 else ""
    steps = "\n    ".join(lines)
    return f"""
func.func @f({given}) -> ({", ".join(results)}) {{
  %r{count} = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}} {ins}
    outs({", ".join(names[split:])} : {", ".join(results)}) {{
  ^bb0({block}):
    {steps}
    linalg.yield {yielded}
  }} -> ({", ".join(results)})
  return {", ".join(returned)} : {", ".join(results)}
}}"""


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    rank = draw(st.integers(1, 3))
    extents = tuple(draw(st.integers(1, 4)) for _ in range(rank))
    dimension = st.integers(0, rank - 1)
    output_expression = st.one_of(
        st.tuples(st.just("d"), dimension),
        st.tuples(st.just("d"), dimension),
        st.tuples(st.just("c"), st.integers(0, 1)),
    )
    expression = st.one_of(output_expression, st.tuples(st.just("+"), dimension, dimension))
    outputs = tuple(tuple(draw(st.lists(output_expression, max_size=3))) for _ in range(draw(st.integers(1, 2))))
    inputs = [tuple(draw(st.lists(expression, max_size=3))) for _ in range(draw(st.integers(0, 2)))]
    inputs.append(tuple(("d", d) for d in draw(st.permutations(range(rank)))))  # so that every length is known
    kept = set.intersection(*({e[1] for e in m if e[0] == "d"} for m in outputs))
    kinds = tuple(draw(st.sampled_from(["parallel", "reduction"])) if d in kept else "reduction" for d in range(rank))
    leaves = len(inputs) + len(outputs) + rank
    steps: list[tuple[str, int, int]] = []
    for number in range(draw(st.integers(0, 3))):
        operands = st.integers(0, leaves + number - 1)
        steps.append((draw(st.sampled_from(sorted(FUNCTIONS))), draw(operands), draw(operands)))
    yields = tuple(draw(st.integers(0, leaves + len(steps) - 1)) for _ in outputs)
    if draw(st.booleans()):  # often what reductions look like: running value, operation, value
        operand = draw(st.integers(0, len(inputs) - 1))
        steps.append((draw(st.sampled_from(sorted(FUNCTIONS))), len(inputs), operand))
        yields = (leaves + len(steps) - 1, *yields[1:])
    return Nest(extents, kinds, tuple(inputs), outputs, tuple(steps), yields)


@given(nests(), st.integers(0, 2**32 - 1))
def test_a_nest_gives_what_its_iterations_in_order_give(nest: Nest, seed: int) -> None:
    generator = np.random.default_rng(seed)
    arrays = [np.round(generator.uniform(-2, 2, nest.size(m, 1)), 2) for m in (*nest.inputs, *nest.outputs)]
    split = len(nest.inputs)
    expected = loops(nest, arrays[:split], arrays[split:])
    found = source(text_of(nest), *arrays)
    for number, wanted in enumerate(expected):
        part = tuple(np.flatnonzero(generator.random(n) < 0.6) for n in wanted.shape)
        np.testing.assert_allclose(found.whole(number), wanted, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(found.part(part, number), wanted[np.ix_(*part)], rtol=1e-9, atol=1e-9)


@st.composite
def contractions(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Extents, and the dimensions of both factors and the result."""
    rank = draw(st.integers(1, 5))
    extents = [draw(st.integers(1, 4)) for _ in range(rank)]
    sets = [draw(st.permutations(range(rank))) for _ in range(3)]
    operands = [list(s[: draw(st.integers(0, rank))]) for s in sets]
    operands[0] += [d for d in range(rank) if not any(d in o for o in operands)]
    return extents, operands


@pytest.mark.parametrize("integers", [False, True])
@given(case=contractions(), seed=st.integers(0, 2**32 - 1), scaled=st.booleans())
def test_sums_of_products_equal_einsum(integers: bool, case: tuple, seed: int, scaled: bool) -> None:
    extents, (left, right, out) = case
    kind = "i32" if integers else "f64"
    multiply, add = ("arith.muli", "arith.addi") if integers else ("arith.mulf", "arith.addf")
    generator = np.random.default_rng(seed)
    shapes = [[extents[d] for d in dims] for dims in (left, right, out)]
    arrays = [generator.integers(-9, 9, shape).astype(np.int32 if integers else np.float64) for shape in shapes]
    letters = "".join(chr(ord("a") + d) for d in range(len(extents)))
    names = ["".join(letters[d] for d in dims) for dims in (left, right, out)]
    factor = 3 if scaled else 1
    spread = np.einsum(f"{names[0]},{names[1]},{letters}->{names[2]}", *arrays[:2], np.ones(extents, arrays[0].dtype))
    expected = spread * factor + arrays[2]
    types = ["tensor<" + "".join(f"{n}x" for n in shape) + f"{kind}>" for shape in shapes]
    maps = ", ".join(f"affine_map<({', '.join(letters)}) -> ({', '.join(n)})>" for n in names)
    kinds = ", ".join('"parallel"' if d in out else '"reduction"' for d in range(len(extents)))
    literal = "3" if integers else "3.0"
    text = body(
        [
            f"%three = arith.constant {literal} : {kind}",
            f"%r = linalg.generic {{indexing_maps = [{maps}], iterator_types = [{kinds}]}} ins(%a, %b : {types[0]},"
            f" {types[1]}) outs(%c : {types[2]}) {{",
            f"^bb0(%x: {kind}, %y: {kind}, %z: {kind}):",
            f"%m = {multiply} %x, %y : {kind}",
            f"%n = {multiply} %m, %three : {kind}" if scaled else "",
            f"%s = {add} %z, {'%n' if scaled else '%m'} : {kind}",
            f"linalg.yield %s : {kind} }} -> {types[2]}",
        ],
        f"%a: {types[0]}, %b: {types[1]}, %c: {types[2]}",
        types[2],
    )
    np.testing.assert_allclose(value(text, *arrays), expected, rtol=1e-12)


ROW = "affine_map<(i, j) -> (i)>"
BOTH = "affine_map<(i, j) -> (i, j)>"


def rows(kinds: str, yielded: str, operations: str = "", init: str = "%b", type_: str = "f32") -> str:
    return body(
        [
            f"%r = linalg.generic {{indexing_maps = [{BOTH}, {ROW}], iterator_types = [{kinds}]}}"
            f" ins(%a : tensor<2x3x{type_}>) outs({init} : tensor<2x{type_}>) {{",
            f"^bb0(%x: {type_}, %y: {type_}):",
            operations,
            f"linalg.yield {yielded} : {type_} }} -> tensor<2x{type_}>",
        ],
        f"%a: tensor<2x3x{type_}>, %b: tensor<2x{type_}>",
        f"tensor<2x{type_}>",
    )


A, B = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), np.array([10.0, 20.0])
SUM = '"parallel", "reduction"'


def test_reductions_start_from_their_initial_value() -> None:
    assert value(rows(SUM, "%s", "%s = arith.addf %x, %y : f32"), A, B).tolist() == [16.0, 35.0]
    assert value(rows(SUM, "%s", "%s = arith.maximumf %y, %x : f32"), A, B).tolist() == [10.0, 20.0]
    assert value(rows(SUM, "%s", "%s = arith.subf %y, %x : f32"), A, B).tolist() == [4.0, 5.0]
    assert value(rows(SUM, "%x"), A, B).tolist() == [3.0, 6.0]


def test_a_parallel_dimension_that_a_result_lacks_is_refused() -> None:
    error = refusal(rows('"parallel", "parallel"', "%s", "%s = arith.addf %x, %y : f32"), A, B)
    assert "parallel" in error.message


def test_the_sum_of_constants_is_rounded_at_every_step() -> None:
    """2048 + 1 is 2048 in f16: a sum that starts there stays there."""
    text = rows(SUM, "%s", "%s = arith.addf %x, %y : f16", "%init", "f16").replace(
        "%r =",
        "%init = arith.constant dense<2048.0> : tensor<2xf16>\n"
        "%ones = arith.constant dense<1.0> : tensor<2x3xf16>\n%r =",
    )
    assert value(text, A, B).tolist() == [2051.0 + 3, 2048.0 + 15]
    assert value(text.replace("ins(%a", "ins(%ones"), A, B).tolist() == [2048.0, 2048.0]


def test_data_that_pass_through_narrow_types_are_not_rounded() -> None:
    step = "%h = arith.truncf %x : f32 to bf16\n%w = arith.extf %h : bf16 to f32\n%s = arith.addf %w, %y : f32"
    assert value(rows(SUM, "%s", step), A * (1 + 2.0**-20), B * 0).tolist() == [
        6.0 * (1 + 2.0**-20),
        15.0 * (1 + 2.0**-20),
    ]


def test_running_values_that_cross_are_run_in_order() -> None:
    text = body(
        [
            f"%r, %q = linalg.generic {{indexing_maps = [{BOTH}, {ROW}, {ROW}], iterator_types = [{SUM}]}}"
            " ins(%a : tensor<2x3xf32>) outs(%b, %b : tensor<2xf32>, tensor<2xf32>) {",
            "^bb0(%x: f32, %y: f32, %z: f32):",
            "%s = arith.addf %x, %z : f32",
            "linalg.yield %s, %y : f32, f32 } -> (tensor<2xf32>, tensor<2xf32>)",
        ],
        "%a: tensor<2x3xf32>, %b: tensor<2xf32>",
        "tensor<2xf32>",
    )
    # (y, z) becomes (x + z, y): (10, 10), (11, 10), (12, 11), (14, 12); and (20, 20), (24, 20), (25, 24), (30, 25).
    assert value(text, A, B).tolist() == [14.0, 30.0]


def test_a_sum_of_few_products_of_whole_numbers_wraps_as_its_type_does() -> None:
    text = body(
        ["%r = linalg.matmul ins(%a, %b : tensor<1x3xi8>, tensor<3x1xi8>) outs(%c : tensor<1x1xi8>) -> tensor<1x1xi8>"],
        "%a: tensor<1x3xi8>, %b: tensor<3x1xi8>, %c: tensor<1x1xi8>",
        "tensor<1x1xi8>",
    )
    a, b = np.array([[100, 100, 3]], np.int8), np.array([[2], [1], [-1]], np.int8)
    assert value(text, a, b, np.array([[1]], np.int8)).tolist() == [[(297 + 1 + 128) % 256 - 128]]


def test_gathers_at_computed_places_and_outside() -> None:
    def gather(offset: int) -> str:
        return body(
            [
                f"%c = arith.constant {offset} : index",
                "%e = tensor.empty() : tensor<3xf32>",
                '%r = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>], iterator_types = ["parallel"]}'
                " outs(%e : tensor<3xf32>) {",
                "^bb0(%x: f32):",
                "%i = linalg.index 0 : index",
                "%j = arith.subi %c, %i : index",
                "%v = tensor.extract %a[%j] : tensor<5xf32>",
                "linalg.yield %v : f32 } -> tensor<3xf32>",
            ],
            "%a: tensor<5xf32>",
            "tensor<3xf32>",
        )

    numbers = np.arange(5.0)
    assert value(gather(4), numbers).tolist() == [4.0, 3.0, 2.0]
    assert source(gather(4), numbers).part([[0, 2]]).tolist() == [4.0, 2.0]
    assert "index 5 lies outside dimension 0" in refusal(gather(5), numbers).message
    assert "index -1 lies outside" in refusal(gather(1), numbers).message
