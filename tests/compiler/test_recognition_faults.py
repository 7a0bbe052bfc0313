"""Faults planted in recognition, one at a time: `--check` says no and lays it to recognition.

Without the fault each source is recognised and passes, or (the near misses) is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_frontend_near_misses_steps import NEAR_MISSES
from written_out import PV, contraction, written_out

from npuc.compiler.frontend import Attention, constants, describe, elementwise, loop_nest, structured, to_attn_module
from npuc.compiler.frontend import recognise_decomposed as decomposed
from npuc.compiler.frontend import recognise_sdpa as sdpa
from npuc.compiler.frontend.values import LENGTH, RIGHT, Operand

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TORCH = (EXAMPLES / "attention_torch.mlir").read_text().replace("128", "48")
POSITIONS = to_attn_module(
    Attention.make(heads=2, query_length=20, key_length=30, head_dim=16, dtype="f32", causal=True, window=6,
                   align="bottom-right", softcap=2.0)
)  # fmt: skip
BINARY = written_out(
    exp=written_out().split("  %p = ")[1].split("  %t = ")[0].replace("math.exp", "math.exp2").join(("  %p = ", ""))
)
TURNED = written_out(pv=contraction("o", "%w", "%v", PV.replace("(h, i, d)", "(h, d, i)")))
TRUE = "  %yes = arith.constant true\n  %scale = arith.sitofp %yes : i1 to f32"
SQUARED = (
    "  %a0 = arith.constant 1.1 : bf16\n  %a1 = arith.mulf %a0, %a0 : bf16\n  %scale = arith.extf %a1 : bf16 to f32"
)


def near_miss(name: str) -> str:
    return written_out(**NEAR_MISSES[name][0])


Plant = Callable[[pytest.MonkeyPatch], None]


def described(change: Callable[[Attention], Attention]) -> Plant:
    """Change what the front end says in the end."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = describe.attention_of
        patch.setattr(describe, "attention_of", lambda *arguments: change(right(*arguments)))

    return plant


def attributes(**changes: Callable[[Any], Any]) -> Plant:
    """Change attributes of attn.sdpa as recognition reads them; None: leave one out."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        right = sdpa.verify_sdpa

        def wrong(operation: Any) -> dict[str, Any]:
            found = right(operation)
            read = {name: changes[name](value) if name in changes else value for name, value in found.items()}
            return {name: value for name, value in read.items() if value is not None}

        patch.setattr(sdpa, "verify_sdpa", wrong)

    return plant


def replaced(module: Any, name: str, wrong: Callable[[Any], Any]) -> Plant:
    """Put `wrong(right)` in the place of a function."""
    return lambda patch: patch.setattr(module, name, wrong(getattr(module, name)))


def exchanged(*roles: str) -> Callable[[Attention], Attention]:
    turned = dict(zip(roles, roles[::-1], strict=True))
    return lambda a: replace(a, arguments=tuple(replace(x, role=turned.get(x.role, x.role)) for x in a.arguments))


def without_factors_of_arguments(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda operation, value, factor: value if isinstance(value, Operand) else right(operation, value, factor)


def unsigned_only(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(constants._RULES, "arith.sitofp", constants._RULES["arith.uitofp"])


def any_running_value(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda nest, number, combined: right(nest, combined.accumulator.number, combined)


def any_part_written(right: Callable[..., Any]) -> Callable[..., Any]:
    return lambda map_, shape: right(map_, [1 if size else size for size in shape]) if map_.n_dims == 2 else right(
        map_, shape
    )  # fmt: skip


def in_order(right: Callable[..., Any]) -> Callable[..., Any]:
    """Results as if their dimensions were those of the loops, in order."""

    def wrong(axes: Any, map_: Any) -> Any:
        found = right(axes, map_)
        lengths = [axis for axis in found if axis and axis[0].label == LENGTH]
        return found if not lengths else tuple(axis for axis in axes if axis)

    return wrong


# name: the source, whether it is right without the fault (else refused), and the fault.
FAULTS: dict[str, tuple[str, bool, Plant]] = {
    "the scale is one percent off": (TORCH, True, described(lambda a: replace(a, scale=1.01 * a.scale))),
    "K and V exchanged": (TORCH, True, described(exchanged("k", "v"))),
    "the roles of Q and K exchanged": (TORCH, True, lambda patch: patch.setattr(describe, "LEFT", RIGHT)),
    "the factor of an argument is lost": (TORCH, True, replaced(elementwise, "_times", without_factors_of_arguments)),
    "causal is dropped": (POSITIONS, True, attributes(causal=lambda _: None, window=lambda _: None)),
    "the window reaches one key further": (POSITIONS, True, attributes(window=lambda window: window + 1)),
    "the alignment is dropped": (POSITIONS, True, attributes(align=lambda _: None)),
    "the softcap is dropped": (POSITIONS, True, attributes(softcap=lambda _: None)),
    "a power of two is taken for one of e": (
        BINARY, True, replaced(decomposed, "binary_softmax", lambda _: decomposed.natural_softmax)),
    "true is one where it is minus one": (
        written_out(scale=TRUE), True, unsigned_only),
    "constants are not rounded to their type": (
        written_out(scale=SQUARED), True, replaced(constants, "rounded", lambda _: lambda value, _: float(value))),
    "running values are taken for one another": (
        near_miss("the sum of a result's neighbour"), False, replaced(structured, "_reduce", any_running_value)),
    "a part is taken for the whole": (
        near_miss("zeros in one row of the accumulator"), False, replaced(loop_nest, "_written", any_part_written)),
    "any sum may start anywhere": (
        near_miss("a sum that starts from the maximum"), False,
        replaced(decomposed, "_start_problem", lambda _: lambda *_: None)),
    "rows are taken for columns": (
        near_miss("the sum read along the keys"), False,
        replaced(decomposed, "row_aligned", lambda _: lambda *_: True)),
    "the order of a result's dimensions is lost": (
        TURNED, True, replaced(structured, "result_axes", in_order)),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_the_check_lays_a_fault_of_recognition_to_recognition(
    name: str, npuc: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, right, plant = FAULTS[name]
    path = tmp_path / "source.mlir"
    path.write_text(source)
    words = ("run", str(path), "--backend", "reference", "--check")
    code, _, err = npuc(*words)
    assert code == (0 if right else 3), err
    with monkeypatch.context() as patch:
        plant(patch)
        code, _, err = npuc(*words)
    assert code == 1 and "recognition is at fault" in err, err
