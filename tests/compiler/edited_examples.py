"""The examples with edits: sources for tests of what the frontend recognises and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
from mutants import difference, draws

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load
from npuc.compiler.frontend.calls import inline_calls
from npuc.compiler.frontend.functions import choose
from npuc.compiler.frontend.load import alone
from npuc.compiler.frontend.parse import parse
from npuc.compiler.frontend.place import Blocked

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TORCH, LINALG = "attention_torch.mlir", "attention_linalg.mlir"

Edit = tuple[str, str]

S4 = "tensor<1x2x128x128xf32>"  # scores of the torch example
Q4 = "tensor<1x2x128x64xf32>"
S3 = "tensor<4x128x256xf32>"  # scores of the linalg example
ROW3 = "tensor<4x128xf32>"
PARALLEL4 = 'iterator_types = ["parallel", "parallel", "parallel", "parallel"]'

LENGTHS = {"S": 6, "Skv": 6, "B": 2}  # where they are open


def edited(example: str, *edits: Edit) -> str:
    text = (EXAMPLES / example).read_text()
    for old, new in edits:
        assert old in text, f"{old!r} is not in {example}"
        text = text.replace(old, new)
    return text


def before(line: str, *added: str) -> Edit:
    """Put lines in front of one."""
    return line, "\n    ".join([*added, line])


def refusal(text: str) -> InputError:
    """Why a function is no attention; where one is inside, it is what the source has there."""
    error = reason(text)
    try:
        found = load(text, "near.mlir")
    except InputError as refused:
        assert str(refused) == str(error)
        return error
    for attention in found:
        assert attention.within is not None and attention.outlined is not None
        attention = attention.bound({name: LENGTHS[name] for name in attention.open_dimensions})
        module = parse(attention.outlined, "near.mlir")
        with module.context:
            for arrays in draws(attention, 5):
                assert difference(module, attention, arrays) <= 1.0
    return error


def reason(text: str) -> InputError:
    """Why a function as a whole is no attention, at its place."""
    module = parse(text, "near.mlir")
    with module.context:
        chosen = choose(module, "near.mlir", None)
        inline_calls(chosen.operation)
        with pytest.raises((Blocked, InputError)) as caught:
            alone(chosen, "near.mlir", None)
        error = caught.value.error("near.mlir") if isinstance(caught.value, Blocked) else caught.value
    place = error.place
    assert place is not None and place.line is not None and place.column is not None
    return error


AFTER_SCORES = "%index_storage = tensor.empty()"
