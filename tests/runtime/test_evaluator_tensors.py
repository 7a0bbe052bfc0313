"""Operations that move elements, and control flow, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from evaluated import body, refusal, source, value
from hypothesis import given
from hypothesis import strategies as st

from npuc.compiler.diagnostics import InputError
from npuc.runtime.evaluator import schedule

A = np.arange(24.0).reshape(2, 3, 4)
TYPE = "tensor<2x3x4xf32>"


def moved(operations: list[str], result: str, *arrays: np.ndarray, more: str = "") -> np.ndarray:
    """The value of %r on A; every part of it, taken alone, must be the same."""
    text = body(operations, f"%a: {TYPE}{more}", result)
    found = source(text, *(arrays or (A,)))
    whole = found.whole()
    for seed in range(5):
        part = [np.flatnonzero(np.random.default_rng(seed + n).random(n) < 0.6) for n in whole.shape]
        np.testing.assert_array_equal(found.part(part), whole[np.ix_(*part)])
    return whole


CASES = {
    "slice": (
        ["%r = tensor.extract_slice %a[1, 0, 1] [1, 2, 2] [1, 2, 2] : tensor<2x3x4xf32> to tensor<1x2x2xf32>"],
        "tensor<1x2x2xf32>",
        A[1:2, 0:3:2, 1:4:2],
    ),
    "slice of lower rank": (
        ["%r = tensor.extract_slice %a[1, 1, 0] [1, 1, 4] [1, 1, 1] : tensor<2x3x4xf32> to tensor<4xf32>"],
        "tensor<4xf32>",
        A[1, 1],
    ),
    "slice at computed places": (
        [
            "%one = arith.constant 1 : index",
            "%two = arith.addi %one, %one : index",
            "%s = tensor.extract_slice %a[%one, 0, %two] [1, %two, 2] [1, 1, 1]"
            " : tensor<2x3x4xf32> to tensor<1x?x2xf32>",
            "%r = tensor.cast %s : tensor<1x?x2xf32> to tensor<1x2x2xf32>",
        ],
        "tensor<1x2x2xf32>",
        A[1:2, 0:2, 2:4],
    ),
    "insert": (
        [
            "%c = arith.constant dense<-1.0> : tensor<2x2xf32>",
            "%r = tensor.insert_slice %c into %a[0, 1, 0] [2, 1, 2] [1, 1, 3] : tensor<2x2xf32> into tensor<2x3x4xf32>",
        ],
        TYPE,
        np.where((np.arange(3) == 1)[:, None] & (np.arange(4) % 3 == 0), -1.0, A),
    ),
    "insert one element": (
        [
            "%c = arith.constant -1.0 : f32",
            "%one = arith.constant 1 : index",
            "%r = tensor.insert %c into %a[%one, %one, %one] : tensor<2x3x4xf32>",
        ],
        TYPE,
        np.where(A == A[1, 1, 1], -1.0, A),
    ),
    "insert everywhere into storage": (
        [
            "%e = tensor.empty() : tensor<2x6x4xf32>",
            "%h = tensor.insert_slice %a into %e[0, 0, 0] [2, 3, 4] [1, 1, 1]"
            " : tensor<2x3x4xf32> into tensor<2x6x4xf32>",
            "%r = tensor.insert_slice %a into %h[0, 3, 0] [2, 3, 4] [1, 1, 1]"
            " : tensor<2x3x4xf32> into tensor<2x6x4xf32>",
        ],
        "tensor<2x6x4xf32>",
        np.concatenate([A, A], 1),
    ),
    "concat": (
        [
            "%c = arith.constant dense<7.0> : tensor<2x1x4xf32>",
            "%r = tensor.concat dim(1) %a, %c, %a : (tensor<2x3x4xf32>, tensor<2x1x4xf32>, tensor<2x3x4xf32>)"
            " -> tensor<2x7x4xf32>",
        ],
        "tensor<2x7x4xf32>",
        np.concatenate([A, np.full((2, 1, 4), 7.0), A], 1),
    ),
    "pad": (
        [
            "%z = arith.constant -2.0 : f32",
            "%r = tensor.pad %a low[0, 1, 2] high[1, 0, 0] {",
            "^bb0(%i: index, %j: index, %k: index):",
            "tensor.yield %z : f32 } : tensor<2x3x4xf32> to tensor<3x4x6xf32>",
        ],
        "tensor<3x4x6xf32>",
        np.pad(A, ((0, 1), (1, 0), (2, 0)), constant_values=-2.0),
    ),
    "pad with positions": (
        [
            "%r = tensor.pad %a low[0, 0, 1] high[0, 0, 0] {",
            "^bb0(%i: index, %j: index, %k: index):",
            "%n = arith.index_cast %j : index to i64",
            "%f = arith.sitofp %n : i64 to f32",
            "tensor.yield %f : f32 } : tensor<2x3x4xf32> to tensor<2x3x5xf32>",
        ],
        "tensor<2x3x5xf32>",
        np.concatenate([np.broadcast_to(np.arange(3.0)[:, None], (2, 3, 1)), A], 2),
    ),
    "generate": (
        [
            "%g = tensor.generate {",
            "^bb0(%i: index, %j: index):",
            "%t = arith.constant 10 : index",
            "%m = arith.muli %i, %t : index",
            "%s = arith.addi %m, %j : index",
            "tensor.yield %s : index } : tensor<2x3xindex>",
            "%n = arith.index_cast %g : tensor<2x3xindex> to tensor<2x3xi64>",
            "%r = arith.sitofp %n : tensor<2x3xi64> to tensor<2x3xf32>",
        ],
        "tensor<2x3xf32>",
        np.array([[0.0, 1, 2], [10, 11, 12]]),
    ),
    "splat and from_elements": (
        [
            "%x = arith.constant 1.0 : f32",
            "%y = arith.constant 2.0 : f32",
            "%s = tensor.splat %y : tensor<2x2xf32>",
            "%f = tensor.from_elements %x, %y, %y, %x : tensor<2x2xf32>",
            "%r = arith.addf %s, %f : tensor<2x2xf32>",
        ],
        "tensor<2x2xf32>",
        np.array([[3.0, 4.0], [4.0, 3.0]]),
    ),
    "collapse": (
        ["%r = tensor.collapse_shape %a [[0, 1], [2]] : tensor<2x3x4xf32> into tensor<6x4xf32>"],
        "tensor<6x4xf32>",
        A.reshape(6, 4),
    ),
    "expand": (
        [
            "%r = tensor.expand_shape %a [[0], [1, 2], [3, 4]] output_shape [2, 3, 1, 2, 2]"
            " : tensor<2x3x4xf32> into tensor<2x3x1x2x2xf32>"
        ],
        "tensor<2x3x1x2x2xf32>",
        A.reshape(2, 3, 1, 2, 2),
    ),
    "reshape": (
        [
            "%s = arith.constant dense<[4, 6]> : tensor<2xi64>",
            "%r = tensor.reshape %a(%s) : (tensor<2x3x4xf32>, tensor<2xi64>) -> tensor<4x6xf32>",
        ],
        "tensor<4x6xf32>",
        A.reshape(4, 6),
    ),
    "transpose, broadcast, reduce, map": (
        [
            "%e = tensor.empty() : tensor<4x2x3xf32>",
            "%t = linalg.transpose ins(%a : tensor<2x3x4xf32>) outs(%e : tensor<4x2x3xf32>) permutation = [2, 0, 1]",
            "%z = arith.constant dense<0.0> : tensor<4x3xf32>",
            "%m = linalg.reduce { arith.maximumf } ins(%t : tensor<4x2x3xf32>) outs(%z"
            " : tensor<4x3xf32>) dimensions = [1]",
            "%b = linalg.broadcast ins(%m : tensor<4x3xf32>) outs(%e : tensor<4x2x3xf32>) dimensions = [1]",
            "%r = linalg.map { arith.subf } ins(%b, %t : tensor<4x2x3xf32>, tensor<4x2x3xf32>) outs(%e"
            " : tensor<4x2x3xf32>)",
        ],
        "tensor<4x2x3xf32>",
        np.maximum(A.max(0).T, 0)[:, None, :] - A.transpose(2, 0, 1),
    ),
    "named elementwise operations": (
        [
            "%e = tensor.empty() : tensor<2x3x4xf32>",
            f"%x = linalg.add ins(%a, %a : {TYPE}, {TYPE}) outs(%e : {TYPE}) -> {TYPE}",
            f"%y = linalg.elementwise kind=#linalg.elementwise_kind<sqrt> ins(%x : {TYPE}) outs(%e : {TYPE}) -> {TYPE}",
            f"%r = linalg.negf ins(%y : {TYPE}) outs(%e : {TYPE}) -> {TYPE}",
        ],
        TYPE,
        -np.sqrt(2 * A),
    ),
    "matmul with transposed maps": (
        [
            "%b = tensor.collapse_shape %a [[0, 1], [2]] : tensor<2x3x4xf32> into tensor<6x4xf32>",
            "%z = arith.constant dense<1.0> : tensor<6x6xf32>",
            "%r = linalg.matmul indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,"
            " affine_map<(m, n, k) -> (m, n)>] ins(%b, %b : tensor<6x4xf32>, tensor<6x4xf32>)"
            " outs(%z : tensor<6x6xf32>) -> tensor<6x6xf32>",
        ],
        "tensor<6x6xf32>",
        A.reshape(6, 4) @ A.reshape(6, 4).T + 1,
    ),
    "softmax": (
        [
            "%e = tensor.empty() : tensor<2x3x4xf32>",
            f"%r = linalg.softmax dimension(1) ins(%a : {TYPE}) outs(%e : {TYPE}) -> {TYPE}",
        ],
        TYPE,
        np.exp(A - A.max(1, keepdims=True)) / np.exp(A - A.max(1, keepdims=True)).sum(1, keepdims=True),
    ),
    "pooling": (
        [
            "%w = tensor.empty() : tensor<2xf32>",
            "%z = arith.constant dense<0.0> : tensor<2x2x4xf32>",
            "%r = linalg.pooling_nwc_sum {dilations = dense<1> : tensor<1xi64>, strides = dense<1> : tensor<1xi64>}"
            " ins(%a, %w : tensor<2x3x4xf32>, tensor<2xf32>) outs(%z : tensor<2x2x4xf32>) -> tensor<2x2x4xf32>",
        ],
        "tensor<2x2x4xf32>",
        A[:, :2] + A[:, 1:],
    ),
    "select with one condition": (
        [
            "%t = arith.constant true",
            "%n = arith.negf %a : tensor<2x3x4xf32>",
            f"%r = arith.select %t, %n, %a : {TYPE}",
        ],
        TYPE,
        -A,
    ),
    "a loop": (
        [
            "%c0 = arith.constant 0 : index",
            "%c1 = arith.constant 1 : index",
            "%c3 = arith.constant 3 : index",
            f"%r = scf.for %i = %c0 to %c3 step %c1 iter_args(%x = %a) -> ({TYPE}) {{",
            f"%y = arith.addf %x, %a : {TYPE}",
            f"scf.yield %y : {TYPE} }}",
        ],
        TYPE,
        4 * A,
    ),
    "a branch": (
        [
            "%c0 = arith.constant 0 : index",
            "%d = tensor.dim %a, %c0 : tensor<2x3x4xf32>",
            "%two = arith.constant 2 : index",
            "%is = arith.cmpi eq, %d, %two : index",
            'cf.assert %is, "two"',
            f"%r = scf.if %is -> ({TYPE}) {{ scf.yield %a : {TYPE} }} else {{",
            f"%n = arith.negf %a : {TYPE}",
            f"scf.yield %n : {TYPE} }}",
        ],
        TYPE,
        A,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_elements_go_where_numpy_puts_them(name: str) -> None:
    operations, result, expected = CASES[name]
    np.testing.assert_allclose(moved(operations, result), expected, rtol=1e-14)


def test_calls_and_lengths_that_the_types_leave_open() -> None:
    text = """
func.func private @twice(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = arith.addf %x, %x : tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
func.func @f(%a: tensor<?x4xf32>) -> tensor<2x?x4xf32> {
  %t = func.call @twice(%a) : (tensor<?x4xf32>) -> tensor<?x4xf32>
  %c0 = arith.constant 0 : index
  %c2 = arith.constant 2 : index
  %n = tensor.dim %t, %c0 : tensor<?x4xf32>
  %h = arith.divsi %n, %c2 : index
  %r = tensor.expand_shape %t [[0, 1], [2]] output_shape [2, %h, 4] : tensor<?x4xf32> into tensor<2x?x4xf32>
  return %r : tensor<2x?x4xf32>
}"""
    array = np.arange(24.0).reshape(6, 4)
    np.testing.assert_array_equal(value(text, array), 2 * array.reshape(2, 3, 4))


ONE = "tensor<1x3x4xf32>"
SLICE = f"[1, 3, 4] [1, 1, 1] : {TYPE} to {ONE}"


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        (
            ["%i = arith.constant 2 : index", f"%r = tensor.extract_slice %a[%i, 0, 0] {SLICE}"],
            "leaves the 2 elements",
        ),
        (
            [
                "%n = arith.constant -1 : index",
                "%e = tensor.empty(%n) : tensor<?x3x4xf32>",
                f"%r = tensor.cast %e : tensor<?x3x4xf32> to {ONE}",
            ],
            "its shape is",
        ),
        (
            ["%c = arith.constant false", 'cf.assert %c, "never"', f"%r = tensor.extract_slice %a[0, 0, 0] {SLICE}"],
            "does not hold: never",
        ),
        (
            [
                "%r0 = tensor.empty() : tensor<1x3x4xf32>",
                "%r = linalg.generic {indexing_maps = [affine_map<(i, j, k) -> (i, j, k)>],"
                ' iterator_types = ["parallel", "parallel", "parallel"]} outs(%r0 : tensor<1x3x4xf32>) {',
                "^bb0(%o: f32):",
                "  %k = linalg.index 2 : index",
                "  %c3 = arith.constant 3 : index",
                "  %c0 = arith.constant 0 : index",
                "  %below = arith.cmpi slt, %k, %c3 : index",
                '  cf.assert %below, "within three"',
                "  %e = tensor.extract %a[%c0, %c0, %k] : " + TYPE,
                "  linalg.yield %e : f32 } -> tensor<1x3x4xf32>",
            ],
            "does not hold: within three",
        ),
    ],
)
def test_what_has_no_result_is_refused(operations: list[str], says: str) -> None:
    assert says in refusal(body(operations, f"%a: {TYPE}", "tensor<1x3x4xf32>"), A).message


def test_a_loop_of_loops_that_would_take_hours_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("npuc.runtime.evaluator.build.MOST_OPERATIONS", 20_000)

    def loop(inner: str, name: str) -> str:
        return (
            f"%{name} = scf.for %i{name} = %c0 to %many step %c1 iter_args(%x{name} = %a) -> ({TYPE}) {{\n{inner}\n"
            f"scf.yield %{'a' if not inner else inner.split(' ')[0][1:]} : {TYPE} }}"
        )

    constants = [f"%{n} = arith.constant {v} : index" for n, v in (("c0", 0), ("c1", 1), ("many", 9000))]
    text = body([*constants, loop(loop("", "s"), "r")], f"%a: {TYPE}", TYPE)
    assert "operations" in refusal(text, A).message


def test_storage_that_a_part_does_not_need_may_stay_unwritten() -> None:
    text = body(
        [
            "%e = tensor.empty() : tensor<2x6x4xf32>",
            "%r = tensor.insert_slice %a into %e[0, 0, 0] [2, 3, 4] [1, 1, 1]"
            " : tensor<2x3x4xf32> into tensor<2x6x4xf32>",
        ],
        f"%a: {TYPE}",
        "tensor<2x6x4xf32>",
    )
    np.testing.assert_array_equal(source(text, A).part([range(2), range(3), range(4)]), A)
    assert "before anything is written" in refusal(text, A).message


@given(st.permutations([2, 3, 4, 5]), st.integers(0, 3), st.integers(0, 2**32 - 1))
def test_any_reshape_of_any_part(sizes: list[int], cut: int, seed: int) -> None:
    from npuc.runtime.evaluator.elements import ElementType
    from npuc.runtime.evaluator.nodes import Given, Origin
    from npuc.runtime.evaluator.tensors import Reshape

    generator = np.random.default_rng(seed)
    array = np.arange(120.0).reshape(*sizes[:cut], 1, *sizes[cut:])
    target = {0: (10, 12), 1: (120,), 2: (8, 15), 3: (2, 1, 6, 2, 5)}[cut]
    origin = Origin("test", None)  # type: ignore[arg-type]
    node = Reshape(origin, Given(origin, ElementType("f64"), array, False), target)
    whole = array.reshape(target)
    part = tuple(tuple(np.flatnonzero(generator.random(n) < 0.5).tolist()) for n in target)
    np.testing.assert_array_equal(schedule.evaluate(node), whole)
    np.testing.assert_array_equal(schedule.evaluate(node, part), whole[np.ix_(*part)])


def test_the_size_of_parts_does_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    operations, result, expected = CASES["transpose, broadcast, reduce, map"]
    text = body(operations, f"%a: {TYPE}", result)
    monkeypatch.setattr(schedule, "PART_BYTES", 1)
    monkeypatch.setattr(schedule, "MOST_REPEATED", 1e9)
    np.testing.assert_allclose(value(text, A), expected, rtol=1e-14)


ROWS = np.array([[3, -1, 4, 1, 5], [-9, 2, 6, -5, 3]])


@pytest.mark.parametrize(
    ("operation", "expected"), [("addi", np.cumsum(ROWS, 1)), ("muli", np.cumprod(ROWS, 1))], ids=["sums", "products"]
)
def test_scans_run_along_their_dimension(operation: str, expected: np.ndarray) -> None:
    text = scanned(f"%n = arith.{operation} %x, %y : i64")
    np.testing.assert_array_equal(value(text, ROWS), expected)
    np.testing.assert_array_equal(source(text, ROWS).part([[1], [0, 3]]), expected[1:, [0, 3]])


def scanned(step: str, inclusive: str = "true") -> str:
    type_ = "tensor<2x5xi64>"
    return f"""func.func @f(%a: {type_}) -> {type_} {{
  %c0 = arith.constant 0 : i64
  %e = tensor.empty() : {type_}
  %z = linalg.fill ins(%c0 : i64) outs(%e : {type_}) -> {type_}
  %f = tensor.empty() : tensor<2xi64>
  %l = linalg.fill ins(%c0 : i64) outs(%f : tensor<2xi64>) -> tensor<2xi64>
  %r:2 = tm_tensor.scan dimension(1) inclusive({inclusive}) ins(%a : {type_}) outs(%z, %l : {type_}, tensor<2xi64>) {{
  ^bb0(%x: i64, %y: i64):
    {step}
    tm_tensor.yield %n : i64
  }} -> {type_}, tensor<2xi64>
  return %r#0 : {type_}
}}"""


@pytest.mark.parametrize(
    "text", [scanned("%n = arith.subi %x, %y : i64"), scanned("%n = arith.addi %x, %x : i64"),
             scanned("%n = arith.addi %x, %y : i64", "false")],
    ids=["no associative operation", "another operation of one", "exclusive"],
)  # fmt: skip
def test_other_scans_are_refused(text: str) -> None:
    assert "tm_tensor.scan" in refusal(text, ROWS).message


def scattered(body_: str = "tm_tensor.yield %x : f32", window: tuple[int, ...] = (1, 1)) -> str:
    """Three updates of a tensor [4, 5] at rows and columns that are given."""
    w = "x".join(map(str, window))
    return f"""func.func @f(%a: tensor<4x5xf32>, %u: tensor<3x{w}xf32>, %i: tensor<3x2xi32>) -> tensor<4x5xf32> {{
  %r = tm_tensor.scatter {{dimension_map = array<i64: 0, 1>}} unique_indices(false)
    ins(%u, %i : tensor<3x{w}xf32>, tensor<3x2xi32>) outs(%a : tensor<4x5xf32>) {{
  ^bb0(%x: f32, %y: f32):
    {body_}
  }} -> tensor<4x5xf32>
  return %r : tensor<4x5xf32>
}}"""


PLACES = np.array([[0, 1], [3, 2], [3, 2]], np.int32)


@pytest.mark.parametrize("window", [(1, 1), (1, 3)])
def test_a_scatter_replaces_windows_at_places(window: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    old, updates = rng.standard_normal((4, 5)), rng.standard_normal((3, *window))
    wanted = old.copy()
    for (row, column), update in zip(PLACES, updates, strict=True):
        wanted[row : row + window[0], column : column + window[1]] = update
    text = scattered(window=window)
    np.testing.assert_array_equal(value(text, old, updates, PLACES), wanted)
    np.testing.assert_array_equal(source(text, old, updates, PLACES).part([[0, 3], [1, 3]]), wanted[[0, 3]][:, [1, 3]])


def test_a_scatter_beyond_its_tensor_or_of_sums_is_refused() -> None:
    old, updates = np.zeros((4, 5)), np.ones((3, 1, 1))
    with pytest.raises(InputError, match="tm_tensor.scatter: it writes at 1 to 5 of a dimension of 5"):
        value(scattered(), old, updates, np.array([[0, 1], [3, 5], [0, 2]], np.int32))
    with pytest.raises(InputError, match="only scatters that replace"):
        value(scattered("%n = arith.addf %x, %y : f32\n tm_tensor.yield %n : f32"), old, updates, PLACES)
