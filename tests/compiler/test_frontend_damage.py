"""MLIR that is broken, nested or long beyond measure gives one error with its place; nothing ends the process."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from damaged_mlir import NESTED, TORCH, edited, nested

from npuc.compiler.diagnostics import InputError, NpucError
from npuc.compiler.frontend import load
from npuc.compiler.frontend.parse import parse
from npuc.runtime.distribute import results

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(os.environ.get("NPUC_FACTS", ROOT.parent / "shared" / "facts")).parent / "cases" / "mlir" / "parser"


def refusal(text: str | bytes) -> InputError:
    with pytest.raises(InputError) as error:
        parse(text, "f.mlir")
    assert "\n" not in str(error.value) and len(str(error.value)) < 1000
    return error.value


@pytest.mark.parametrize(
    "wrong",
    ["[9223372036854775808, 1, 3, 2]", "[0, 1, , 2]", "[a]", "[0, 1, 3", "[0.5]", "3", '["x"]', ""],
)
def test_a_malformed_list_names_its_line(wrong):
    text = TORCH.replace("permutation = [0, 1, 3, 2]", f"permutation = {wrong}")
    line = 1 + text[: text.index("permutation =")].count("\n")
    assert str(refusal(text)) == f"f.mlir:{line}:9: permutation: expected a list of integers"


@pytest.mark.parametrize("kind", NESTED)
@pytest.mark.parametrize("depth", [1000, 10000])
def test_nesting_is_read_or_refused(kind, depth):
    try:
        parse(nested(kind, depth), "f.mlir")
    except InputError as error:
        assert error.exit_code == 3 and error.place.file == "f.mlir"


@pytest.mark.parametrize(
    "kind, opening",
    [("attributes", "["), ("types", "tuple<"), ("regions", '"a.b"() ({ '), ("affine expressions", "(")],
)
def test_nesting_that_ends_the_parser_is_refused_where_it_does(kind, opening):
    text = nested(kind, 20000)
    error = refusal(text)
    assert "nests too deeply" in error.message and error.place.line == 1
    first = text.index(opening * 3)
    assert first + 200 * len(opening) < error.place.column < first + 20000 * len(opening)


def test_the_place_is_the_line_of_the_nesting_in_a_long_file():
    text = "// nothing\n" * 500 + nested("attributes", 20000) + "\n// nothing" * 500
    assert refusal(text).place.line == 501


def test_regions_nest_64_deep_and_no_deeper():
    def text(depth: int) -> str:
        return "\n".join(['"a.b"() ({'] * depth + ["}) : () -> ()"] * depth)

    parse(text(64), "f.mlir")
    error = refusal(text(65))
    assert error.message == "a.b: regions nest more than 64 deep"
    assert error.place.line == 65


@pytest.mark.parametrize(
    "text, column",
    [
        ("module attributes {a.b = " + "9" * 100_000 + " : i64} {}", 26),
        ("module attributes {a.b = 0x" + "f" * 100_000 + " : i64} {}", 26),
        ('module attributes {a.b = "' + "9" * 2000 + '", c.d = ' + "9" * 100_000 + "} {}", 2036),
    ],
)
def test_an_integer_of_100000_digits_is_refused_at_once(text, column):
    error = refusal("\n" + text)
    assert "an integer of more than 1,000 digits" in error.message
    assert (error.place.line, error.place.column) == (2, column)


@pytest.mark.parametrize("type_", ["memref<" + "1x" * 100_000 + "f32>", "tensor<" + "?x" * 100_000 + "f32>"])
def test_a_shape_of_100000_dimensions_is_refused_at_once(type_):
    assert "a shape of more than 1,000 dimensions" in refusal("module attributes {a.b = " + type_ + "} {}").message


@pytest.mark.parametrize(
    "text",
    [
        '// ' + "9" * 5000,
        'module attributes {a.b = "' + "9" * 5000 + '"} {}',
        'module attributes {a.b = "\\"0x' + "9" * 5000 + '"} {}',
        'module attributes {a.b = dense<"0x' + "00" * 5000 + '"> : tensor<5000xi8>} {}',
        "module attributes {a.b = array<i64: " + ", ".join(["1"] * 5000) + ">} {}",
        "module attributes {a.b = " + "9" * 1000 + " : i4000} {}",
        "module attributes {a.b = dense<0.0> : tensor<100000x100000x100000xf32>} {}",
    ],
)  # fmt: skip
def test_long_texts_that_are_no_long_integers_are_read(text):
    parse(text, "f.mlir")


@pytest.mark.parametrize(
    "text, place",
    [
        (b"\xff\xfe", "f.mlir:1:1"),
        (b"module {}\n // \xff", "f.mlir:2:5"),
        ('"\\FF.x"() : () -> ()', "f.mlir:1:1"),
        ('"a.b"() : () -> () loc("\\FF":1:2)', "f.mlir:1:24"),
        ('\n"a.b"() {"\\FF.x" = 1} : () -> ()', "f.mlir:2:10"),
        ('func.func @"\\FF"() { return }', "f.mlir:1:12"),
        ('module attributes {a.b = "\\C3\\28"} {}', "f.mlir:1:26"),
    ],
)
def test_bytes_that_are_no_text_are_refused_with_their_place(text, place):
    assert str(refusal(text).place) == place


def test_escaped_letters_and_nul_bytes_are_text():
    parse('module attributes {a.b = "\\C3\\A9"} {}', "f.mlir")
    parse("module {\0}\0", "f.mlir")


TENSOR = "tensor<1x2x64x64xbf16>"


def attention(before: str = "", attributes: str = "") -> str:
    return f"""func.func @f(%a: {TENSOR}, %b: {TENSOR}, %c: {TENSOR}) -> {TENSOR} {{
      {before}
      %o = "attn.sdpa"(%a, %b, %c) {{{attributes}}} : ({TENSOR}, {TENSOR}, {TENSOR}) -> {TENSOR}
      return %o : {TENSOR}
    }}"""


@pytest.mark.parametrize(
    "value",
    [
        "dense<(1.0, 2.0)> : tensor<2xcomplex<f32>>",
        "170141183460469231731687303715884105727 : i128",
        "-5 : i128",
        "dense<-5> : tensor<4xi128>",
        "9" * 300 + " : i5000",
        "sparse<0, 1.0> : tensor<1xf32>",
        "dense_resource<foo> : tensor<1xf32>",
        "1.0 : f128",
        "dense<1.0> : tensor<100000x100000x100000xf32>",
    ],
)
def test_constants_that_nothing_uses_may_be_of_any_kind(value):
    (found,) = load(attention(f"%x = arith.constant {value}"), "f.mlir")
    assert found.scale == 0.125


@pytest.mark.parametrize(
    "attribute",
    ["scale = -5 : i128", "scale = loc(unknown)", "scale = dense<(1.0, 2.0)> : tensor<2xcomplex<f32>>",
     "window = 5 : i128", "q_scale = array<i128: 1>", "q_scale = [loc(unknown)]", "q_scale = [[1.0]]"],
)  # fmt: skip
def test_attributes_of_the_wrong_kind_are_refused_at_their_operation(attribute):
    with pytest.raises(InputError, match=r"^f.mlir:3:12: attn.sdpa: attribute \w+ .*is not") as error:
        load(attention(attributes=attribute), "f.mlir")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", ["-5 : i128", "dense<(1.0, 2.0)> : tensor<2xcomplex<f32>>"])
def test_constants_that_have_no_value_here_are_refused_where_they_matter(value):
    type_ = value.split(" : ")[1]
    text = f"func.func @f(%a: {TENSOR}) -> {type_} {{ %x = arith.constant {value} return %x : {type_} }}"
    with pytest.raises(InputError, match=r"^f.mlir:1:"):
        load(text, "f.mlir")


@pytest.mark.parametrize("name", ["bad_permutation", "i128"])
def test_the_cases_of_the_parser_are_refused(name):
    path = CASES / f"{name}.mlir"
    if not path.exists():
        pytest.skip(f"no {path}")
    with pytest.raises(InputError, match=rf"^{name}.mlir:\d+:\d+: "):
        load(path.read_text(), f"{name}.mlir")


def check_edited(generator: random.Random, count: int) -> None:
    for _ in range(count):
        text = edited(generator)
        try:
            load(text, "f.mlir")
        except NpucError as error:
            assert error.exit_code == 3 and str(error).startswith("f.mlir") and "\n" not in str(error), text


def test_edited_examples_are_attention_or_refused_with_a_place(seed):
    check_edited(random.Random(seed), 60)


def check_batch(seed: str) -> None:
    check_edited(random.Random(seed), 100)


@pytest.mark.slow
def test_thousands_of_edited_examples(seed, processes):
    seeds = [f"{seed} {number}" for number in range(40)]
    assert sum(1 for _ in results(check_batch, seeds, **processes)) == 40
