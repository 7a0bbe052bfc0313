"""What single operations of arith and math give, against Python's own numbers."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from evaluated import body, refusal, value

INF, NAN = math.inf, math.nan
FLOATS = [-2.5, -1.5, -0.5, 0.25, 0.5, 1.5, 2.5, 3.75]


def on_floats(operation: str, *arrays: list[float], result: str = "f32") -> list:
    n = len(arrays[0])
    types = ", ".join([f"tensor<{n}xf32>"] * len(arrays))
    arguments = ", ".join(f"%{i}: tensor<{n}xf32>".replace("%", "%a") for i in range(len(arrays)))
    names = ", ".join(f"%a{i}" for i in range(len(arrays)))
    type_ = f"tensor<{n}x{result}>"
    types = f"({types}) -> {type_}"
    text = body([f'%r = "{operation}"({names}) : {types}'], arguments, type_)
    return value(text, *(np.array(a) for a in arrays)).tolist()


UNARY = {
    "arith.negf": lambda x: -x,
    "math.absf": abs,
    "math.atan": math.atan,
    "math.ceil": math.ceil,
    "math.cos": math.cos,
    "math.erf": math.erf,
    "math.erfc": math.erfc,
    "math.exp": math.exp,
    "math.exp2": lambda x: 2.0**x,
    "math.expm1": math.expm1,
    "math.floor": math.floor,
    "math.roundeven": round,
    "math.round": lambda x: math.copysign(math.floor(abs(x) + 0.5), x),
    "math.sin": math.sin,
    "math.sinh": math.sinh,
    "math.tan": math.tan,
    "math.tanh": math.tanh,
    "math.trunc": math.trunc,
}
OF_POSITIVE = {
    "math.log": math.log,
    "math.log2": math.log2,
    "math.log10": math.log10,
    "math.log1p": math.log1p,
    "math.sqrt": math.sqrt,
    "math.rsqrt": lambda x: 1.0 / math.sqrt(x),
    "math.cbrt": lambda x: x ** (1 / 3),
}


@pytest.mark.parametrize("operation", UNARY)
def test_functions_of_one_float(operation: str) -> None:
    assert on_floats(operation, FLOATS) == pytest.approx([UNARY[operation](x) for x in FLOATS], rel=1e-14)


@pytest.mark.parametrize("operation", OF_POSITIVE)
def test_functions_of_one_positive_float(operation: str) -> None:
    numbers = [abs(x) for x in FLOATS]
    assert on_floats(operation, numbers) == pytest.approx([OF_POSITIVE[operation](x) for x in numbers], rel=1e-14)


BINARY = {
    "arith.addf": lambda a, b: a + b,
    "arith.subf": lambda a, b: a - b,
    "arith.mulf": lambda a, b: a * b,
    "arith.divf": lambda a, b: a / b,
    "arith.remf": math.fmod,
    "math.atan2": math.atan2,
    "math.copysign": math.copysign,
    "arith.maximumf": max,
    "arith.minimumf": min,
    "arith.maxnumf": max,
    "arith.minnumf": min,
}


@pytest.mark.parametrize("operation", BINARY)
def test_functions_of_two_floats(operation: str) -> None:
    pairs = [(a, b) for a in FLOATS for b in FLOATS]
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    expected = [BINARY[operation](a, b) for a, b in pairs]
    found = on_floats(operation, left, right)
    if operation == "math.atan2":  # numpy's differs by a unit in the last place where it uses AVX-512
        assert found == pytest.approx(expected, rel=1e-14)
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("arith.maximumf", [NAN, NAN, 2.0]),
        ("arith.minimumf", [NAN, NAN, 1.0]),
        ("arith.maxnumf", [1.0, 1.0, 2.0]),
        ("arith.minnumf", [1.0, 1.0, 1.0]),
    ],
)
def test_maxima_and_nan(operation: str, expected: list[float]) -> None:
    found = on_floats(operation, [NAN, 1.0, 1.0], [1.0, NAN, 2.0])
    np.testing.assert_array_equal(found, expected)


# For each predicate: does it hold for less, equal, greater, unordered?
FLOAT_PREDICATES = {
    "false": "0000", "oeq": "0100", "ogt": "0010", "oge": "0110", "olt": "1000", "ole": "1100", "one": "1010",
    "ord": "1110", "ueq": "0101", "ugt": "0011", "uge": "0111", "ult": "1001", "ule": "1101", "une": "1011",
    "uno": "0001", "true": "1111",
}  # fmt: skip


@pytest.mark.parametrize("predicate", FLOAT_PREDICATES)
def test_comparisons_of_floats(predicate: str) -> None:
    text = body([f"%r = arith.cmpf {predicate}, %a, %b : tensor<4xf32>"], "%a: tensor<4xf32>, %b: tensor<4xf32>",
                "tensor<4xi1>")  # fmt: skip
    found = value(text, [1.0, 2.0, 3.0, NAN], [2.0, 2.0, 2.0, 2.0])
    assert "".join(str(int(x)) for x in found) == FLOAT_PREDICATES[predicate]


def wrap(x: int, bits: int) -> int:
    return (x + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def unsigned(x: int, bits: int) -> int:
    return x % (1 << bits)


def toward_zero(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


INTEGERS = {
    "arith.addi": lambda a, b, n: a + b,
    "arith.subi": lambda a, b, n: a - b,
    "arith.muli": lambda a, b, n: a * b,
    "arith.andi": lambda a, b, n: a & b,
    "arith.ori": lambda a, b, n: a | b,
    "arith.xori": lambda a, b, n: a ^ b,
    "arith.maxsi": lambda a, b, n: max(a, b),
    "arith.minsi": lambda a, b, n: min(a, b),
    "arith.maxui": lambda a, b, n: max(unsigned(a, n), unsigned(b, n)),
    "arith.minui": lambda a, b, n: min(unsigned(a, n), unsigned(b, n)),
    "arith.divsi": lambda a, b, n: toward_zero(a, b),
    "arith.remsi": lambda a, b, n: a - toward_zero(a, b) * b,
    "arith.floordivsi": lambda a, b, n: a // b,
    "arith.ceildivsi": lambda a, b, n: -(-a // b),
    "arith.divui": lambda a, b, n: unsigned(a, n) // unsigned(b, n),
    "arith.ceildivui": lambda a, b, n: -(-unsigned(a, n) // unsigned(b, n)),
    "arith.remui": lambda a, b, n: unsigned(a, n) % unsigned(b, n),
}


def integer_samples(bits: int) -> list[int]:
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return sorted(
        {low, low + 1, -3 if bits > 2 else -1, -1, 0, 1 if bits > 1 else 0, 2 if bits > 2 else 0, high - 1, high}
    )


@pytest.mark.parametrize("bits", [1, 3, 8, 32, 64])
@pytest.mark.parametrize("operation", INTEGERS)
def test_integers_wrap_in_their_own_width(operation: str, bits: int) -> None:
    numbers = integer_samples(bits)
    low = min(numbers)
    divides = "div" in operation or "rem" in operation
    pairs = [(a, b) for a in numbers for b in numbers if not divides or (b != 0 and (a, b) != (low, -1))]
    type_ = f"tensor<{len(pairs)}xi{bits}>"
    text = body([f"%r = {operation} %a, %b : {type_}"], f"%a: {type_}, %b: {type_}", type_)
    dtype = {1: np.bool_, 8: np.int8, 32: np.int32}.get(bits, np.int64)
    found = value(text, *(np.array([p[i] for p in pairs]).astype(dtype) for i in (0, 1)))
    expected = [wrap(INTEGERS[operation](a, b, bits), bits) for a, b in pairs]
    assert [wrap(-int(x) if bits == 1 else int(x), bits) for x in found] == expected


@pytest.mark.parametrize(
    ("operation", "expected"),
    [("arith.shli", [2, -128, -2]), ("arith.shrsi", [0, -1, -1]), ("arith.shrui", [0, 1, 127])],
)
def test_shifts(operation: str, expected: list[int]) -> None:
    text = body([f"%r = {operation} %a, %b : tensor<3xi8>"], "%a: tensor<3xi8>, %b: tensor<3xi8>", "tensor<3xi8>")
    assert value(text, np.array([1, -1, -1], np.int8), np.array([1, 7, 1], np.int8)).tolist() == expected


INTEGER_PREDICATES = {
    "eq": "001", "ne": "110", "slt": "010", "sle": "011", "sgt": "100", "sge": "101", "ult": "100", "ule": "101",
    "ugt": "010", "uge": "011",
}  # fmt: skip


@pytest.mark.parametrize("type_", ["i8", "i1", "index"])
@pytest.mark.parametrize("predicate", INTEGER_PREDICATES)
def test_comparisons_of_integers_signed_and_unsigned(predicate: str, type_: str) -> None:
    """0 with -1, -1 with 0, -1 with -1."""
    tensor = f"tensor<3x{type_}>"
    dtype = {"i8": np.int8, "i1": np.bool_, "index": np.int64}[type_]
    text = body([f"%r = arith.cmpi {predicate}, %a, %b : {tensor}"], f"%a: {tensor}, %b: {tensor}", "tensor<3xi1>")
    found = value(text, np.array([0, -1, -1]).astype(dtype), np.array([-1, 0, -1]).astype(dtype))
    assert "".join(str(int(x)) for x in found) == INTEGER_PREDICATES[predicate]


@pytest.mark.parametrize(
    ("operation", "from_", "to", "given", "expected"),
    [
        ("arith.sitofp", "i1", "f32", [True, False], [-1.0, 0.0]),
        ("arith.uitofp", "i1", "f32", [True, False], [1.0, 0.0]),
        ("arith.sitofp", "i8", "f32", [-1, 127], [-1.0, 127.0]),
        ("arith.uitofp", "i8", "f32", [-1, 127], [255.0, 127.0]),
        ("arith.extsi", "i1", "i8", [True, False], [-1, 0]),
        ("arith.extui", "i1", "i8", [True, False], [1, 0]),
        ("arith.extui", "i8", "i32", [-1, 5], [255, 5]),
        ("arith.trunci", "i32", "i8", [257, -129], [1, 127]),
        ("arith.trunci", "i32", "i1", [2, 3], [False, True]),
        ("arith.fptosi", "f32", "i8", [-1.7, 127.9], [-1, 127]),
        ("arith.fptoui", "f32", "i8", [255.9, 0.2], [-1, 0]),
        ("arith.index_cast", "i8", "index", [-1, 5], [-1, 5]),
        ("arith.index_castui", "i8", "index", [-1, 5], [255, 5]),
        ("arith.extf", "f16", "f32", [0.1, 70000.0], [0.1, 70000.0]),
        ("arith.truncf", "f32", "bf16", [0.1, 1e-3], [0.1, 1e-3]),
    ],
)
def test_conversions(operation: str, from_: str, to: str, given: list, expected: list) -> None:
    text = body(
        [f"%r = {operation} %a : tensor<2x{from_}> to tensor<2x{to}>"], f"%a: tensor<2x{from_}>", f"tensor<2x{to}>"
    )
    dtypes = {"i1": np.bool_, "i8": np.int8, "i32": np.int32}
    assert value(text, np.array(given).astype(dtypes.get(from_, np.float64))).tolist() == expected


def scalar(*operations: str, type_: str = "f32") -> float:
    """The value that operations on constants give."""
    return float(
        value(body([*operations, f"%r = tensor.from_elements %x : tensor<1x{type_}>"], "", f"tensor<1x{type_}>"))[0]
    )


def test_constants_are_rounded_in_their_own_types_at_every_operation() -> None:
    bf16 = lambda x: float(np.float64(x).astype(ml_dtypes.bfloat16))  # noqa: E731
    assert scalar("%x = arith.constant 0.1 : f32") == float(np.float32(0.1))
    assert scalar("%x = arith.constant 0.1 : bf16", type_="bf16") == bf16(0.1)
    assert scalar("%d = arith.constant 0.1 : f64", "%x = arith.truncf %d : f64 to f16", type_="f16") == np.float16(0.1)
    third = scalar(
        "%a = arith.constant 1.0 : f16", "%b = arith.constant 3.0 : f16", "%x = arith.divf %a, %b : f16", type_="f16"
    )
    assert third == float(np.float16(1 / 3))
    chain = ["%a = arith.constant 1.01 : bf16", "%b = arith.mulf %a, %a : bf16", "%x = arith.mulf %b, %a : bf16"]
    assert scalar(*chain, type_="bf16") == bf16(bf16(bf16(1.01) ** 2) * bf16(1.01))
    assert scalar("%a = arith.constant 1.0e10 : f32", "%x = arith.truncf %a : f32 to f16", type_="f16") == INF


def test_a_constant_is_rounded_once_not_by_way_of_float32() -> None:
    """1 + 2^-8 + 2^-40 lies above the middle of two bf16; rounded to float32 first it would lie on it."""
    number = 1.0 + 2.0**-8 + 2.0**-40
    assert (
        scalar(f"%d = arith.constant {number!r} : f64", "%x = arith.truncf %d : f64 to bf16", type_="bf16") == 1.0078125
    )


def test_constants_of_tensors_in_every_type() -> None:
    def constant(literal: str, shape: str) -> list:
        return value(body([f"%r = arith.constant dense<{literal}> : tensor<{shape}>"], "", f"tensor<{shape}>")).tolist()

    assert constant("[0.1, -2.0]", "2xf32") == [float(np.float32(0.1)), -2.0]
    assert constant("[0.1, 0xFF80, 0x7FC0]", "3xbf16")[:2] == [0.10009765625, -INF]
    assert constant("[[1, -2], [3, 7]]", "2x2xi4") == [[1, -2], [3, 7]]
    assert constant("[true, false]", "2xi1") == [True, False]
    assert constant("true", "2xi1") == [True, True]
    assert constant("-1", "2xi8") == [-1, -1]
    many = [round(0.1 * i, 3) for i in range(150)]
    expected = np.array(many).astype(ml_dtypes.bfloat16).astype(float).tolist()
    assert constant(str(many), "150xbf16") == expected


def test_dense_resources_are_read() -> None:
    text = body(["%r = arith.constant dense_resource<weights> : tensor<2xf32>"], "", "tensor<2xf32>")
    bits = np.array([1.5, -2.0], "<f4").tobytes().hex()
    text += f'{{-# dialect_resources: {{ builtin: {{ weights: "0x04000000{bits}" }} }} #-}}\n'
    assert value(text).tolist() == [1.5, -2.0]


@pytest.mark.parametrize(
    ("operations", "says"),
    [
        (["%z = arith.constant dense<0> : tensor<2xi8>", "%r = arith.divsi %a, %z : tensor<2xi8>"], "divides by zero"),
        (["%s = arith.constant dense<8> : tensor<2xi8>", "%r = arith.shli %a, %s : tensor<2xi8>"], "shifts by 8"),
        (
            [
                "%f = arith.constant dense<300.0> : tensor<2xf32>",
                "%r = arith.fptosi %f : tensor<2xf32> to tensor<2xi8>",
            ],
            "cannot hold",
        ),
        (["%m = arith.constant dense<-1> : tensor<2xi8>", "%r = arith.divsi %a, %m : tensor<2xi8>"], "does not fit"),
        (["%e = tensor.empty() : tensor<2xi8>", "%r = arith.addi %a, %e : tensor<2xi8>"], "before anything is written"),
        (['%r = "other.thing"(%a) : (tensor<2xi8>) -> tensor<2xi8>'], "no rule for it"),
    ],
)
def test_what_is_undefined_or_unknown_is_refused_where_it_stands(operations: list[str], says: str) -> None:
    error = refusal(body(operations, "%a: tensor<2xi8>", "tensor<2xi8>"), np.array([-128, 1], np.int8))
    assert says in error.message
    assert error.place is not None and error.place.file == "source.mlir"


def test_what_is_undefined_or_unknown_does_no_harm_where_it_is_not_needed() -> None:
    text = body(['%x = "other.thing"(%a) : (tensor<2xi8>) -> tensor<2xi8>', "%r = arith.addi %a, %a : tensor<2xi8>"],
                "%a: tensor<2xi8>", "tensor<2xi8>")  # fmt: skip
    assert value(text, np.array([1, 2], np.int8)).tolist() == [2, 4]


def test_a_conversion_without_a_result_does_no_harm_where_another_is_chosen() -> None:
    """As T5's relative positions convert the logarithm of zero, and choose the position itself there."""
    lines = [
        "%l = math.log %a : tensor<3xf32>",
        "%i = arith.fptosi %l : tensor<3xf32> to tensor<3xi64>",
        "%o = arith.constant dense<1.0> : tensor<3xf32>",
        "%c = arith.cmpf olt, %a, %o : tensor<3xf32>",
        "%z = arith.constant dense<7> : tensor<3xi64>",
    ]
    chosen = [*lines, "%r = arith.select %c, %z, %i : tensor<3xi1>, tensor<3xi64>"]
    array = np.array([0.0, 3.0, 8.0])
    assert value(body(chosen, "%a: tensor<3xf32>", "tensor<3xi64>"), array).tolist() == [7, 1, 2]
    used = [*lines, "%r = arith.select %c, %i, %z : tensor<3xi1>, tensor<3xi64>"]
    assert "cannot hold" in refusal(body(used, "%a: tensor<3xf32>", "tensor<3xi64>"), array).message
    clamped = [*lines, "%r = arith.maxsi %i, %z : tensor<3xi64>"]
    assert "cannot hold" in refusal(body(clamped, "%a: tensor<3xf32>", "tensor<3xi64>"), array).message
