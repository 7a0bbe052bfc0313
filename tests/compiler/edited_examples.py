"""The examples with edits: sources for tests of what the frontend recognises and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend import load

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TORCH, LINALG = "attention_torch.mlir", "attention_linalg.mlir"

Edit = tuple[str, str]

S4 = "tensor<1x2x128x128xf32>"  # scores of the torch example
Q4 = "tensor<1x2x128x64xf32>"
S3 = "tensor<4x128x256xf32>"  # scores of the linalg example
ROW3 = "tensor<4x128xf32>"
PARALLEL4 = 'iterator_types = ["parallel", "parallel", "parallel", "parallel"]'


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
    with pytest.raises(InputError) as caught:
        load(text, "near.mlir")
    place = caught.value.place
    assert place is not None and place.line is not None and place.column is not None
    return caught.value


AFTER_SCORES = "%index_storage = tensor.empty()"
