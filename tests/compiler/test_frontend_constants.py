"""Constants fold in their own type, as numpy and ml_dtypes compute there; what is undefined is refused."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from npuc.compiler.frontend.interpret import execute
from npuc.compiler.frontend.number_formats import lowest, rounded
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.values import Opaque, Splat

DTYPES = {"f16": np.float16, "bf16": ml_dtypes.bfloat16, "f32": np.float32, "f64": np.float64}


def folded(*lines: str) -> list[Splat | Opaque]:
    """The values of operations that stand one a line: `%x = ...`."""
    body = "\n".join(lines)
    module = parse(f"func.func @f() {{\n{body}\nreturn\n}}", "constants.mlir")
    values: dict = {}
    found = []
    with module.context:
        for view in module.body.operations[0].operation.regions[0].blocks[0].operations:
            if view.operation.name != "func.return":
                (value,) = execute(view.operation, values.__getitem__)
                values[view.operation.results[0]] = value
                found.append(value)
    return found


def last(*lines: str) -> Splat | Opaque:
    return folded(*lines)[-1]


@pytest.mark.parametrize(
    "lines, value",
    [
        (["%a = arith.constant true", "%b = arith.sitofp %a : i1 to f32"], -1.0),
        (["%a = arith.constant true", "%b = arith.uitofp %a : i1 to f32"], 1.0),
        (["%a = arith.constant true", "%b = arith.extsi %a : i1 to i32"], -1),
        (["%a = arith.constant true", "%b = arith.extui %a : i1 to i32"], 1),
        (["%a = arith.constant 200 : i8", "%b = arith.sitofp %a : i8 to f32"], -56.0),
        (["%a = arith.constant -56 : i8", "%b = arith.uitofp %a : i8 to f32"], 200.0),
        (["%a = arith.constant 100 : i8", "%b = arith.addi %a, %a : i8"], -56),
        (["%a = arith.constant 16 : i8", "%b = arith.muli %a, %a : i8"], 0),
        (["%a = arith.constant -7 : i32", "%c = arith.constant 2 : i32", "%b = arith.divsi %a, %c : i32"], -3),
        (["%a = arith.constant -7 : i32", "%c = arith.constant 2 : i32", "%b = arith.floordivsi %a, %c : i32"], -4),
        (["%a = arith.constant -7 : i32", "%c = arith.constant 2 : i32", "%b = arith.ceildivsi %a, %c : i32"], -3),
        (["%a = arith.constant -7 : i32", "%c = arith.constant 2 : i32", "%b = arith.remsi %a, %c : i32"], -1),
        (["%a = arith.constant -7 : i8", "%c = arith.constant 2 : i8", "%b = arith.divui %a, %c : i8"], 124),
        (["%a = arith.constant -7 : i8", "%c = arith.constant 1 : i8", "%b = arith.shrsi %a, %c : i8"], -4),
        (["%a = arith.constant -7 : i8", "%c = arith.constant 1 : i8", "%b = arith.shrui %a, %c : i8"], 124),
        (["%a = arith.constant 65 : i8", "%c = arith.constant 1 : i8", "%b = arith.shli %a, %c : i8"], -126),
        (["%a = arith.constant -1 : i32", "%b = arith.index_cast %a : i32 to index"], -1),
        (["%a = arith.constant -1 : i32", "%b = arith.index_castui %a : i32 to index"], 2**32 - 1),
        (["%a = arith.constant 4294967303 : index", "%b = arith.index_cast %a : index to i32"], 7),
        (["%a = arith.constant 300 : i32", "%b = arith.trunci %a : i32 to i8"], 44),
        (["%a = arith.constant -2.7 : f32", "%b = arith.fptosi %a : f32 to i32"], -2),
        (["%a = arith.constant 2.7 : f32", "%b = arith.fptoui %a : f32 to i8"], 2),
        (["%a = arith.constant 0xFF800000 : f32", "%b = arith.negf %a : f32"], math.inf),
        (["%a = arith.constant -1 : i32", "%c = arith.constant 0 : i32", "%b = arith.cmpi ult, %a, %c : i32"], 0),
        (["%a = arith.constant -1 : i32", "%c = arith.constant 0 : i32", "%b = arith.cmpi slt, %a, %c : i32"], -1),
        (["%a = arith.constant 0x7FC00000 : f32", "%b = arith.cmpf une, %a, %a : f32"], -1),
        (["%a = arith.constant 0x7FC00000 : f32", "%b = arith.cmpf oeq, %a, %a : f32"], 0),
        (["%a = arith.constant 1.0 : f32", "%c = arith.constant 0.0 : f32", "%b = arith.divf %a, %c : f32"], math.inf),
        (["%a = arith.constant 1.0 : f32", "%c = arith.constant -0.0 : f32",
          "%b = arith.divf %a, %c : f32"], -math.inf),
        (["%a = arith.constant 65504.0 : f16", "%b = arith.addf %a, %a : f16"], math.inf),
        (["%a = arith.constant 1.0e-30 : f32", "%b = arith.mulf %a, %a : f32"], 0.0),
        (["%a = arith.constant 64 : i64", "%c = arith.sitofp %a : i64 to f16", "%b = math.rsqrt %c : f16"], 0.125),
        (["%a = arith.constant 1040187392 : i32", "%b = arith.bitcast %a : i32 to f32"], 0.125),
        (["%a = arith.constant -128 : i16", "%b = arith.bitcast %a : i16 to bf16"], -math.inf),
        (["%a = arith.constant dense<0.1> : tensor<4x4xbf16>"], float(ml_dtypes.bfloat16(0.1))),
        (["%a = arith.constant dense<true> : tensor<4xi1>"], -1),
        (["%a = arith.constant 0xFF800000 : f32", "%c = arith.constant 3.0 : f32",
          "%b = arith.maximumf %a, %c : f32"], 3.0),
        (["%a = arith.constant 16777217 : i32", "%b = arith.sitofp %a : i32 to f32"], 16777216.0),
        (["%a = arith.constant 9007199791611905 : i64", "%b = arith.sitofp %a : i64 to f32"], 9007200328482816.0),
        (["%a = arith.constant true", "%c = arith.constant 5 : i8", "%d = arith.constant 6 : i8",
          "%b = arith.select %a, %c, %d : i8"], 5),
    ],
)  # fmt: skip
def test_known_values(lines: list[str], value: float) -> None:
    found = last(*lines)
    assert isinstance(found, Splat) and found.value == value


@pytest.mark.parametrize(
    "lines, reason",
    [
        (["%a = arith.constant 1 : i32", "%c = arith.constant 0 : i32", "%b = arith.divsi %a, %c : i32"], "zero"),
        (["%a = arith.constant 1 : i32", "%c = arith.constant 0 : i32", "%b = arith.remui %a, %c : i32"], "zero"),
        (["%a = arith.constant -128 : i8", "%c = arith.constant -1 : i8", "%b = arith.divsi %a, %c : i8"], "overflows"),
        (["%a = arith.constant 1 : i8", "%c = arith.constant 8 : i8", "%b = arith.shli %a, %c : i8"], "shifts by"),
        (["%a = arith.constant 1 : i8", "%c = arith.constant -1 : i8", "%b = arith.shrsi %a, %c : i8"], "shifts by"),
        (["%a = arith.constant 1.0e20 : f32", "%b = arith.fptosi %a : f32 to i32"], "range"),
        (["%a = arith.constant -1.0 : f32", "%b = arith.fptoui %a : f32 to i32"], "range"),
        (["%a = arith.constant 0x7FC00000 : f32", "%b = arith.fptosi %a : f32 to i32"], "range"),
        (["%a = arith.constant 100 : i8", "%b = arith.addi %a, %a overflow<nsw> : i8"], "overflow"),
        (["%a = arith.constant -1 : i8", "%b = arith.addi %a, %a overflow<nuw> : i8"], "overflow"),
        (["%a = arith.constant -1 : i8", "%b = arith.uitofp %a {nonNeg} : i8 to f32"], "below zero"),
        (["%a = arith.constant 3 : i8", "%c = arith.constant 1 : i8", "%b = arith.shrsi %a, %c exact : i8"], "exact"),
        (["%a = arith.constant 0.1 : f32", "%b = arith.truncf %a upward : f32 to bf16"], "nearest even only"),
        (["%a = arith.constant 0x7F800000 : f32", "%b = arith.mulf %a, %a fastmath<ninf> : f32"], "no infinity"),
        (["%a = arith.constant 0x7FC00000 : f32", "%b = arith.mulf %a, %a fastmath<fast> : f32"], "no NaN"),
        (["%a = arith.constant dense<[1.0, 2.0]> : tensor<2xf32>"], "not one number everywhere"),
        (["%a = arith.constant 1 : i128"], "a constant of i128"),
        (["%a = arith.constant 1.0 : f8E4M3FN"], "a constant of f8E4M3FN"),
        (["%a = arith.constant 1.0 : f80"], "a constant of f80"),
    ],
)
def test_what_is_undefined_or_of_another_kind_is_refused(lines: list[str], reason: str) -> None:
    found = last(*lines)
    assert isinstance(found, Opaque) and reason in found.reason


def bits(value: object, dtype: type) -> bytes:
    array = np.array(value, dtype)
    return b"nan" if np.isnan(array.astype(np.float64)) else array.tobytes()


def _number(generator: random.Random, dtype: type, pool: list[float]) -> np.generic:
    ordinary = generator.uniform(-4, 4) * 10.0 ** generator.randint(-6, 6)
    with np.errstate(over="ignore"):
        return dtype(generator.choice(pool) if generator.random() < 0.3 else ordinary)


@pytest.mark.parametrize("type_", DTYPES)
def test_float_arithmetic_is_numpys_in_that_type(type_: str, seed: int) -> None:
    print(f"seed {seed}")
    generator = random.Random(seed)
    dtype = DTYPES[type_]
    pool = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, lowest(type_), 6e-5, 1e-38, 0.1, 3.0, 65504.0]
    names = {"addf": np.add, "subf": np.subtract, "mulf": np.multiply, "divf": np.divide}
    lines, wanted = [], []
    for n in range(150):
        a, b = (_number(generator, dtype, pool) for _ in "ab")
        operation = generator.choice(list(names))
        for name, x in (("a", a), ("b", b)):
            pattern = int.from_bytes(np.array(x, dtype).tobytes(), "little")
            lines.append(f"%{name}{n} = arith.constant 0x{pattern:0{2 * np.dtype(dtype).itemsize}X} : {type_}")
        lines.append(f"%r{n} = arith.{operation} %a{n}, %b{n} : {type_}")
        with np.errstate(all="ignore"):
            wanted.append(names[operation](np.array(a, dtype), np.array(b, dtype)))
    results = folded(*lines)[2::3]
    for result, value in zip(results, wanted, strict=True):
        assert isinstance(result, Splat) and bits(result.value, dtype) == bits(value, dtype)


def test_rounding_is_to_nearest_even_in_one_step(seed: int) -> None:
    """Against a search over exact neighbours, for values that double rounding gets wrong too."""
    generator = random.Random(seed)
    for type_, dtype in DTYPES.items():
        if type_ == "f64":
            continue
        for _ in range(300):
            near = dtype(generator.uniform(-2, 2) * 2.0 ** generator.randint(-20, 10))
            after = np.nextafter(near, dtype(np.inf))
            middle = (Fraction(float(near)) + Fraction(float(after))) / 2
            tiny = Fraction(1, 2**200)
            low, high = sorted((float(near), float(after)))
            even = low if np.array(low, dtype).view(f"u{np.dtype(dtype).itemsize}") % 2 == 0 else high
            assert rounded(middle, type_) == even
            assert rounded(middle - tiny, type_) == low and rounded(middle + tiny, type_) == high


@pytest.mark.parametrize("width", [8, 16, 32, 64])
def test_integer_arithmetic_wraps_as_numpys(width: int, seed: int) -> None:
    generator = random.Random(seed)
    dtype = np.dtype(f"i{width // 8}").type
    names = {"addi": np.add, "subi": np.subtract, "muli": np.multiply, "andi": np.bitwise_and, "xori": np.bitwise_xor,
             "maxsi": np.maximum, "minsi": np.minimum}  # fmt: skip
    lines, wanted = [], []
    for n in range(100):
        pool = [0, 1, -1, generator.getrandbits(width - 1), -generator.getrandbits(width - 1)]
        a, b = generator.choice(pool), generator.choice(pool)
        operation = generator.choice(list(names))
        lines += [f"%a{n} = arith.constant {a} : i{width}", f"%b{n} = arith.constant {b} : i{width}",
                  f"%r{n} = arith.{operation} %a{n}, %b{n} : i{width}"]  # fmt: skip
        with np.errstate(over="ignore"):
            wanted.append(int(names[operation](dtype(a), dtype(b))))
    found = [value.value for value in folded(*lines)[2::3] if isinstance(value, Splat)]
    assert found == wanted
