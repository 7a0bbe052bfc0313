"""MLIR that is broken anywhere is refused with a place; nothing ends the process."""

from __future__ import annotations

import os
import random
import re
import threading
from pathlib import Path

import pytest

from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend import load
from npuc.compiler.frontend.parser_guard import survives

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.mlir"))
TORCH = next(path for path in EXAMPLES if path.name == "attention_torch.mlir").read_text()


@pytest.mark.parametrize(
    "wrong",
    ["[9223372036854775808, 1, 3, 2]", "[0, 1, , 2]", "[a]", "[0, 1, 3", "[0.5]", "3", '["x"]', ""],
)
def test_a_malformed_list_names_its_line(wrong):
    text = TORCH.replace("permutation = [0, 1, 3, 2]", f"permutation = {wrong}")
    line = 1 + text[: text.index("permutation =")].count("\n")
    with pytest.raises(NpucError) as error:
        load(text, "f.mlir")
    assert (
        error.value.exit_code == 3 and str(error.value) == f"f.mlir:{line}:9: permutation: expected a list of integers"
    )


def test_a_child_that_dies_is_noticed_and_one_that_fails_is_not():
    assert survives(lambda: None) and survives(lambda: 1 / 0)
    assert not survives(os.abort)


def test_with_other_threads_there_is_no_child():
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert survives(os.abort)
    finally:
        done.set()
        thread.join()


def edited(generator: random.Random) -> str:
    """An example with one to three words left out, exchanged or made something else."""
    text = generator.choice(EXAMPLES).read_text()
    for _ in range(generator.choice((1, 1, 2, 3))):
        words = list(re.finditer(r"[\w.]+|\S", text))
        place = generator.choice(words)
        new = generator.choice(
            ("", generator.choice(words).group(), str(generator.getrandbits(70)), "-1", "?", '"', "\0", "f32", "i1",
             "tensor<*xf32>", "0x7FC00000", "1.0e999")
        )  # fmt: skip
        text = text[: place.start()] + new + text[place.end() :]
    return text


def check_edited(generator: random.Random, count: int) -> None:
    for _ in range(count):
        text = edited(generator)
        try:
            load(text, "f.mlir")
        except NpucError as error:
            assert error.exit_code == 3 and str(error).startswith("f.mlir") and "\n" not in str(error), text


def test_edited_examples_are_attention_or_refused_with_a_place(seed):
    check_edited(random.Random(seed), 60)


@pytest.mark.slow
def test_thousands_of_edited_examples(seed):
    check_edited(random.Random(seed + 1), 4000)
