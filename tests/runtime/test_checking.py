"""`--check`: by which rule a run is judged, against what, and whose fault a difference is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_files import npua_of

from npuc.compiler.frontend import load as recognise
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.print_attn import to_attn_module
from npuc.runtime import check, checking, reference
from npuc.runtime.arguments import draw
from npuc.runtime.judgement import LIMITS, CheckResult, Judge, together
from npuc.runtime.kernel_file import DescribedKernel, SourceText, described
from npuc.runtime.summary import check_line

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def judged(out: np.ndarray, wanted: np.ndarray, mean_value: float = 1.0, precision: str = "bf16") -> CheckResult:
    judge = Judge(LIMITS[precision])
    for half in (slice(None, 7), slice(7, None)):  # in blocks, as heads come
        judge.add(out[half], wanted[half], mean_value)
    return judge.result("source")


# --- the rule -----------------------------------------------------------------------------------------------------
def test_mean_relative_l1_is_limited(seed: int) -> None:
    wanted = np.random.default_rng(seed).standard_normal(4000)
    assert judged(wanted * (1 + 5e-3), wanted).passed
    result = judged(wanted * (1 + 1.2e-2), wanted)
    assert not result.passed and result.outside == 0
    assert result.mean_rel_l1 == pytest.approx(1.2e-2) and result.correlation == pytest.approx(1.0)


def test_single_elements_are_limited_by_the_values_of_their_head(seed: int) -> None:
    wanted = np.random.default_rng(seed).standard_normal(4000)
    wrong = wanted.copy()
    wrong[5] += 0.9 * (1.6e-2 * abs(wanted[5]) + 2.5e-2)
    assert judged(wrong, wanted).passed
    assert judged(wrong, wanted, mean_value=0.1).outside == 1
    wrong[5] = wanted[5] + 0.5
    result = judged(wrong, wanted)
    assert (result.passed, result.outside) == (False, 1) and result.max_abs == pytest.approx(0.5)


def test_correlation_is_limited_where_all_else_passes(seed: int) -> None:
    """A result whose sign pattern is lost hides behind a large mean: sums of differences do not see it."""
    generator = np.random.default_rng(seed)
    wanted = 100.0 + 0.4 * generator.standard_normal(4000)
    mirrored = judged(200.0 - wanted, wanted, mean_value=100.0)
    assert mirrored.outside == 0 and mirrored.mean_rel_l1 < 1e-2
    assert not mirrored.passed and mirrored.correlation == pytest.approx(-1.0)
    noisy = wanted + generator.standard_normal(4000)
    assert judged(noisy, wanted).correlation == pytest.approx(np.corrcoef(noisy, wanted)[0, 1])


def test_a_reference_that_does_not_vary_has_no_correlation() -> None:
    assert judged(np.full(20, 3.001), np.full(20, 3.0)).correlation is None
    assert judged(np.zeros(20), np.zeros(20)).passed
    assert judged(np.full(20, 3.0), np.linspace(1, 5, 20)).correlation == 0.0


def test_a_nan_passes_only_where_the_reference_has_one(seed: int) -> None:
    wanted = np.random.default_rng(seed).standard_normal(40)
    wrong = wanted.copy()
    wrong[5] = np.nan
    result = judged(wrong, wanted)
    assert (result.passed, result.outside, result.to_json()["max_abs"]) == (False, 1, None)
    assert not judged(wanted, wrong).passed
    same = judged(wrong, wrong)
    assert same.passed and same.not_numbers == 1 and together([same, same]).not_numbers == 2
    assert "1 of 40 NaN in both" in check_line(same) and "NaN" not in check_line(judged(wanted, wanted))


def test_whole_numbers_are_judged_by_the_rule_for_int8(seed: int) -> None:
    wanted = np.random.default_rng(seed).standard_normal(4000)
    result = judged(wanted * (1 + 1.5e-2), wanted, precision="int8")
    assert result.passed and "limits" in result.to_json()
    assert not judged(wanted * (1 + 2.5e-2), wanted, precision="int8").passed


# --- references ---------------------------------------------------------------------------------------------------
def kernel_of(name: str, change: Callable[[Attention], Attention] = lambda a: a) -> DescribedKernel:
    text = (EXAMPLES / name).read_text()
    (attention,) = recognise(text, name)
    return described(change(attention), SourceText(text, name))


def arrays_of(kernel: DescribedKernel, seed: int) -> dict[str, np.ndarray]:
    return {name: array.astype(np.float64) for name, array in draw(kernel.arguments, seed).items()}


@pytest.mark.parametrize("name", ["attention.mlir", "attention_linalg.mlir", "attention_torch.mlir"])
def test_the_examples_pass_against_their_own_operations(name: str, seed: int) -> None:
    kernel = kernel_of(name)
    arrays = arrays_of(kernel, seed)
    out = check.expected(kernel.attention, arrays, dtype=np.float32)
    result = checking.check_run(kernel, arrays, out, seed)
    assert result.passed and result.reference == "source" and result.recognition is None
    assert result.max_abs < 1e-4 and result.elements == out.size


def test_without_a_source_the_recognised_attention_is_the_reference(seed: int) -> None:
    kernel = replace(kernel_of("attention_torch.mlir"), source=None)
    arrays = arrays_of(kernel, seed)
    result = checking.check_run(kernel, arrays, check.expected(kernel.attention, arrays), seed)
    assert result.passed and result.reference == "attention"


FAULTS: dict[str, dict[str, Any]] = {
    "a scale that is a little off": {"scale": 0.125 * 1.001},
    "a scale that was lost": {"scale": 1.0},
    "causal where it is not": {"causal": True},
    "a window": {"window": 100},
    "a softcap": {"softcap": 30.0},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_recognised_wrongly_is_named_as_such(fault: str, seed: int) -> None:
    """The kernel computes what was recognised: the source alone tells that it is wrong."""
    kernel = kernel_of("attention_torch.mlir", lambda a: replace(a, **FAULTS[fault]))
    arrays = arrays_of(kernel, seed)
    result = checking.check_run(kernel, arrays, check.expected(kernel.attention, arrays), seed)
    assert not result.passed and result.recognition is not None


def test_q_and_k_exchanged_is_named_as_such(seed: int) -> None:
    def exchanged(attention: Attention) -> Attention:
        q, k, *rest = attention.arguments
        return replace(attention, arguments=(replace(q, role="k"), replace(k, role="q"), *rest))

    kernel = kernel_of("attention_torch.mlir", exchanged)
    arrays = arrays_of(kernel, seed)
    result = checking.check_run(kernel, arrays, check.expected(kernel.attention, arrays), seed)
    assert not result.passed and result.recognition is not None


def test_a_fault_in_one_row_is_found_where_the_run_is_worst(seed: int) -> None:
    """The source overwrites one row of P with zeros; the recognised attention, and so the kernel, do not."""
    kernel = kernel_of("attention_torch.mlir")
    overwritten = """%zeroed = linalg.generic {indexing_maps = [affine_map<(h, j) -> (h, 77, j)>],
        iterator_types = ["parallel", "parallel"]} outs(%p_heads : tensor<2x128x128xf32>) {
    ^bb0(%out: f32):
      linalg.yield %zero : f32
    } -> tensor<2x128x128xf32>
    """
    assert kernel.source is not None
    text = kernel.source.text.replace("%v_heads = ", overwritten + "%v_heads = ")
    text = text.replace("ins(%p_heads,", "ins(%zeroed,")
    kernel = replace(kernel, source=SourceText(text, "overwritten.mlir"))
    arrays = arrays_of(kernel, seed)
    result = checking.check_run(kernel, arrays, check.expected(kernel.attention, arrays), seed)
    assert not result.passed and result.recognition is not None and "[0, 0, 77]" in result.recognition


def test_inputs_that_are_not_finite_blame_nobody(seed: int) -> None:
    kernel = kernel_of("attention_torch.mlir")
    arrays = arrays_of(kernel, seed)
    arrays["v"][0, 0, 5, 3] = np.nan
    arrays["v"][0, 1, 5, 3] = np.inf
    result = checking.check_run(kernel, arrays, check.expected(kernel.attention, arrays), seed)
    assert result.passed and result.recognition is None


def test_a_kernel_that_is_wrong_is_not_blamed_on_recognition(seed: int) -> None:
    kernel = kernel_of("attention_torch.mlir")
    arrays = arrays_of(kernel, seed)
    result = checking.check_run(kernel, arrays, -check.expected(kernel.attention, arrays), seed)
    assert not result.passed and result.recognition is None


# --- rows ---------------------------------------------------------------------------------------------------------
def sdpa_kernel(**changes: Any) -> DescribedKernel:
    attention = Attention.make(heads=2, head_dim=8, dtype="f32", **changes)
    return described(attention, SourceText(to_attn_module(attention), "sdpa.mlir"))


def test_rows_that_the_source_hides_every_key_from_are_left_out(seed: int) -> None:
    kernel = sdpa_kernel(query_length=8, key_length=16, mask="add")
    arrays = arrays_of(kernel, seed)
    arrays["mask"][0, 0, 3] = -np.inf
    arrays["mask"][0, 0, 5] = -1e9
    arrays["mask"][0, 0, 6] = -0.9e9
    out = check.expected(kernel.attention, arrays)
    out[:, :, 3] = out[:, :, 5] = 0
    result = checking.check_run(kernel, arrays, out, seed)
    assert result.passed and result.rows_left_out == 4 and result.elements == 2 * 6 * 8
    out[:, :, 6] = 0
    assert not checking.check_run(kernel, arrays, out, seed).passed


def test_limits_and_boolean_masks_hide_together(seed: int) -> None:
    kernel = sdpa_kernel(query_length=6, key_length=4, mask="keep", causal=True, align="bottom-right")
    arrays = draw(kernel.arguments, seed)
    arrays["mask"] = np.ones((1, 1, 6, 4), np.bool_)
    arrays["mask"][0, 0, 3, :2] = False  # query 3 sees keys 0 and 1; queries 0 and 1 see none
    out = check.expected(kernel.attention, arrays)
    result = checking.check_run(kernel, arrays, out, seed)
    assert result.passed and result.rows_left_out == 2 * 3


def test_a_row_said_to_be_hidden_that_the_source_shows_is_a_fault_of_recognition(seed: int) -> None:
    shown = sdpa_kernel(query_length=6, key_length=4)
    hiding = replace(shown, attention=replace(shown.attention, causal=True, align="bottom-right"))
    arrays = arrays_of(hiding, seed)
    arrays["v"][...] += np.arange(4)[:, None] * 100.0
    arrays["q"][...] *= 100.0
    result = checking.check_run(hiding, arrays, check.expected(hiding.attention, arrays), seed)
    assert not result.passed and result.recognition is not None


def test_of_long_sequences_rows_are_drawn_by_the_seed(seed: int) -> None:
    kernel = sdpa_kernel(query_length=2100, key_length=32)
    arrays = arrays_of(kernel, seed)
    out = check.expected(kernel.attention, arrays)
    result = checking.check_run(kernel, arrays, out, seed)
    assert result.passed and result.rows_per_head == 256 and result.elements == 2 * 256 * 8
    drawn = [next(checking._heads(kernel.attention, arrays, s)).rows for s in (seed, seed, seed + 1)]
    assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
    out[:, :, drawn[0][77]] += 1.0
    assert checking.check_run(kernel, arrays, out, seed).outside == 8 * sum(
        int(drawn[0][77] in head.rows) for head in checking._heads(kernel.attention, arrays, seed)
    )


def test_rows_of_one_head_are_those_of_the_whole(seed: int) -> None:
    attention = Attention.make(heads=4, kv_heads=2, query_length=9, key_length=12, head_dim=8, mask="add", window=3,
                               align="bottom-right", softcap=2.0, batch=2)  # fmt: skip
    generator = np.random.default_rng(seed)
    arrays = {a.name: generator.standard_normal(a.shape) for a in attention.inputs}
    whole = check.expected(attention, arrays)
    rows = np.array([0, 3, 8])
    np.testing.assert_allclose(check.expected_rows(attention, arrays, 1, 3, rows), whole[1, 3, rows], atol=1e-14)


def test_integers_stand_for_multiples_of_their_scales(seed: int) -> None:
    attention = Attention.make(heads=2, query_length=5, key_length=7, head_dim=8, dtype="i8", precision="int8",
                               k_scale=(0.05,), v_scale=(0.1, 0.2), o_scale=(0.01,))  # fmt: skip
    kernel = described(attention, SourceText(to_attn_module(attention), "int8.mlir"))
    arrays = draw(kernel.arguments, seed)
    v_scale = np.array([0.1, 0.2])[None, :, None, None]
    real = reference.attention(arrays["q"] / 32.0, arrays["k"] * 0.05, arrays["v"] * v_scale)
    wanted = np.clip(np.rint(real / 0.01), -128, 127)
    np.testing.assert_array_equal(check.expected(attention, arrays), wanted)
    result = checking.check_run(kernel, arrays, wanted, seed)
    assert result.passed and result.max_abs == 0 and result.limits == LIMITS["int8"]


# --- the command --------------------------------------------------------------------------------------------------
def test_a_file_without_a_source_says_so(npuc: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "kernel.npua"
    file.write_bytes(npua_of(Attention.make(heads=2, query_length=8, head_dim=8)))
    code, out, _ = npuc("run", file, "--backend", "reference", "--check")
    assert code == 0 and "there is no source to compare with" in out
    code, out, _ = npuc("run", file, "--backend", "reference", "--check", "--json")
    assert json.loads(out)["check"]["reference"] == "attention"


def test_a_source_is_checked_by_its_own_operations(npuc: Callable[..., Any]) -> None:
    for words in ((), ("--random", 3)):
        code, out, _ = npuc(
            "run", EXAMPLES / "attention_torch.mlir", "--backend", "reference", "--check", "--json", *words
        )
        found = json.loads(out)["check"]
        assert code == 0 and found["reference"] == "source" and found["recognition"] is None


def test_recognition_at_fault_is_exit_1_and_said(npuc: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from npuc.compiler import driver

    plain = driver.recognise_bytes
    monkeypatch.setattr(driver, "recognise_bytes", lambda *words: replace(plain(*words), scale=0.2))
    code, out, err = npuc("run", EXAMPLES / "attention_torch.mlir", "--backend", "reference", "--check", "--json")
    assert code == 1 and "recognition is at fault" in err
    assert json.loads(out)["check"]["recognition"] is not None
