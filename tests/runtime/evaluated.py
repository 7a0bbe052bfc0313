"""Short ways to evaluate MLIR text in tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from npuc.compiler.diagnostics import InputError
from npuc.runtime.evaluator import Source, load

FILE = "source.mlir"


def source(text: str, *arrays: object) -> Source:
    """The function @f of a module."""
    return load(text, FILE, "f", [np.asarray(a) for a in arrays])


def value(text: str, *arrays: object) -> np.ndarray:
    return source(text, *arrays).whole()


def body(operations: Sequence[str], arguments: str, result: str) -> str:
    """A function @f(`arguments`) whose last operation defines %r of the type `result`."""
    return f"func.func @f({arguments}) -> {result} {{\n" + "\n".join(operations) + f"\nreturn %r : {result}\n}}\n"


def refusal(text: str, *arrays: object) -> InputError:
    """The error of an evaluation, which has a line."""
    with pytest.raises(InputError) as caught:
        value(text, *arrays)
    assert caught.value.place is not None and caught.value.place.line is not None, str(caught.value)
    return caught.value
