"""One file, any length: `?` in the types, `--dim`, arrays, `npuc sequence`, `npuc.attention`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import npuc
from npuc.compiler import cli, driver
from npuc.compiler.emit import npua
from npuc.compiler.emit.txn import read_txn
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.load import load
from npuc.runtime import on_demand

SIZES = {"heads": 4, "kv_heads": 2, "batch": None, "query_length": None, "key_length": None, "head_dim": 20}


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Causal, 4 heads on 2, head size 20 (padded to 24), all lengths open."""
    path = tmp_path_factory.mktemp("open") / "open.xclbin"
    made = npuc.compile(Attention.make(**SIZES, causal=True, align="bottom-right"))  # type: ignore[arg-type]
    made.save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main([str(word) for word in words])
    out, err = capsys.readouterr()
    return int(end.value.code or 0), out, err


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray, first: int | None) -> np.ndarray:
    """float64 attention of bf16 arrays; query i sees keys j <= i + first (None: all), rows that see none are 0."""
    q, k, v = (x.astype(ml_dtypes.bfloat16).astype(np.float64) for x in (q, k, v))
    group = q.shape[1] // k.shape[1]
    scores = q @ np.repeat(k, group, 1).swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if first is not None:
        hidden = np.arange(k.shape[2]) > np.arange(q.shape[2])[:, None] + first
        scores = np.where(hidden, -np.inf, scores)
    top = np.maximum(scores.max(-1, keepdims=True), -1e300)
    weights = np.exp(scores - top)
    return weights @ np.repeat(v, group, 1) / np.maximum(weights.sum(-1, keepdims=True), 1e-300)


def test_lengths_grow_shrink_and_repeat_on_one_loaded_kernel(kernel: Path) -> None:
    random = np.random.default_rng(5)
    with npuc.load(kernel, backend="emulator", fallback=()) as executable:
        for batch, queries, keys in ((1, 65, 17), (1, 1, 1), (2, 17, 70), (1, 130, 33), (1, 1, 1), (1, 65, 17)):
            q, k, v = (
                random.standard_normal((batch, heads, rows, 20)) for heads, rows in ((4, queries), (2, keys), (2, keys))
            )
            out = executable(q, k, v).astype(np.float64)
            expected = attended(q, k, v, keys - queries)
            assert np.abs(out - expected).sum() <= 4e-3 * np.abs(expected).sum()
            assert not out[:, :, : max(0, queries - keys)].any(), "queries that see no key"


def test_items_whose_rows_and_keys_need_more_descriptors_than_a_shim_has_are_right() -> None:
    random = np.random.default_rng(6)
    for queries in (4, 13, 5, 13):
        q, k, v = (random.standard_normal((1, heads, rows, 256)) for heads, rows in ((4, queries), (1, 129), (1, 129)))
        last = np.arange(queries)[:, None] + 129 - queries
        keys = np.arange(129)
        options: dict[str, Any] = {"align": "bottom-right", "backend": "emulator", "fallback": ()}
        out = npuc.attention(q, k, v, window=64, **options).astype(np.float64)
        expected = npuc.attention(q, k, v, (keys > last - 64) & (keys <= last), backend="reference").astype(np.float64)
        assert np.abs(out - expected).sum() <= 4e-3 * np.abs(expected).sum()


def test_dim_gives_what_the_file_left_open(kernel: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dims = ("--dim", "B=1", "--dim", "S=17", "--dim", "Skv=33")
    code, out, _ = run(capsys, "run", kernel, *dims, "--backend", "emulator", "--check", "--json")
    report = json.loads(out)
    assert code == 0 and report["check"]["passed"] and report["outputs"]["o"]["shape"] == [1, 4, 17, 20]


def test_arrays_in_files_give_what_the_file_left_open(
    kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random = np.random.default_rng(8)
    q, k, v = (random.standard_normal((1, heads, rows, 20)) for heads, rows in ((4, 5), (2, 9), (2, 9)))
    np.savez(tmp_path / "all.npz", q=q, k=k, v=v)
    np.save(tmp_path / "short.npy", v[:, :, :8])
    words = ("run", kernel, "--backend", "emulator", "--input", tmp_path / "all.npz", "--check", "--json")
    code, out, _ = run(capsys, *words)
    report = json.loads(out)
    assert code == 0 and report["check"]["passed"] and report["outputs"]["o"]["shape"] == [1, 4, 5, 20]
    code, _, err = run(capsys, *words[:-2], "--input", f"v={tmp_path / 'short.npy'}")
    assert code == 3 and "argument v expects shape [1, 2, 9, 20], got [1, 2, 8, 20]" in err


@pytest.mark.parametrize("words,code,told", [
    ((), 3, "B, S, Skv is open"),
    (("--dim", "S=5"), 3, "B, Skv is open"),
    (("--dim", "T=5"), 2, "leaves no T open"),
    (("--dim", "S=0"), 2, "expected a number above zero"),
])  # fmt: skip
def test_missing_and_wrong_dims_are_told(
    kernel: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int, told: str
) -> None:
    for command in (("run", kernel, "--backend", "emulator"), ("sequence", kernel, "-o", "-")):
        got, _, err = run(capsys, *command, *words)
        assert got == code and told in err and err.count("\n") == 1


def test_arrays_of_other_shapes_are_input_errors(kernel: Path) -> None:
    with npuc.load(kernel, backend="emulator", fallback=()) as executable:
        q, k = np.zeros((1, 4, 5, 20)), np.zeros((1, 2, 7, 20))
        for arrays in ((q, k, k[:, :, :6]), (q[:, :3], k, k), (q[0], k, k), (q, k[..., :19], k)):
            with pytest.raises(npuc.InputError, match="expects shape"):
                executable(*arrays)


def test_sequence_is_the_stream_of_the_call(kernel: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    streams = []
    for length in (17, 130, 17):
        file = tmp_path / "insts.bin"
        words = ("sequence", kernel, "--dim", "B=1", "--dim", f"S={length}", "--dim", "Skv=33", "-o", file)
        assert run(capsys, *words)[0] == 0
        streams.append(file.read_bytes())
        assert read_txn(streams[-1]).operations
    assert streams[0] == streams[2] != streams[1]


def test_a_new_length_costs_no_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[Any] = []
    original = driver.compile_description

    def counted(*arguments: Any) -> Any:
        compiled.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(driver, "compile_description", counted)
    on_demand._loaded.cache_clear()
    random = np.random.default_rng(6)
    for queries, keys, causal in ((5, 9, False), (70, 33, False), (70, 70, True)):
        q, k, v = (random.standard_normal((1, 2, rows, 16)) for rows in (queries, keys, keys))
        out = npuc.attention(q, k, v, causal=causal, backend="emulator", fallback=())
        expected = attended(q, k, v, 0 if causal else None)
        assert np.abs(out - expected).sum() <= 4e-3 * np.abs(expected).sum()
    assert len(compiled) == 1
    on_demand._loaded.cache_clear()


def test_gemma_3_layers_compile_and_run_at_any_length(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).resolve().parents[1] / "examples" / "gemma3_attention.mlir"
    for name in ("local", "global"):
        file = tmp_path / f"{name}.xclbin"
        assert run(capsys, "compile", source, "--func", name, "-o", file)[0] == 0
    words = ("--dim", "S=5", "--dim", "Skv=5", "--backend", "emulator", "--check", "--json")
    code, out, _ = run(capsys, "run", tmp_path / "local.xclbin", *words)
    assert code == 0 and json.loads(out)["check"]["passed"]


DESTINATION = """
func.func @attention(%q: tensor<?x?x8xf32>, %k: tensor<?x?x8xf32>, %v: tensor<?x?x8xf32>, %out: tensor<?x?x8xf32>{more})
    -> tensor<?x?x8xf32> {{
  %o = tm_tensor.attention ins(%q, %k, %v : tensor<?x?x8xf32>, tensor<?x?x8xf32>, tensor<?x?x8xf32>)
      outs(%out : tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
  return %o : tensor<?x?x8xf32>
}}
"""


@pytest.mark.parametrize("more", ["", ", %ids: tensor<?x?xi64>, %more: tensor<?x?x3x?x?xf32>"])
def test_arguments_without_use_are_open_as_the_others_are(more: str) -> None:
    (attention,) = load(DESTINATION.format(more=more), "d.mlir")
    partly = attention.bound({"S": 24})
    assert [a.shape for a in partly.beside][:1] == [(None, 24, 8)]
    for bound in (partly.bound({"B": 2, "Skv": 40}), attention.bound({"B": 2, "S": 24, "Skv": 40})):
        (out, *others) = (a.shape for a in bound.beside)
        assert out == (2, 24, 8) and not any(None in shape for shape in others)


def test_a_destination_of_open_sizes_is_drawn(tmp_path: Path, npuc) -> None:
    path = tmp_path / "d.mlir"
    path.write_text(DESTINATION.format(more=", %ids: tensor<?x7xi64>"))
    dims = ("--dim", "B=2", "--dim", "S=24", "--dim", "Skv=40")
    code, _, err = npuc("run", path, "--backend", "reference", "--random", 1, "--check", *dims)
    assert code == 0, err


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_a_kernel_of_another_npuc_whose_words_differ_serves_its_own_call_only(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, precision: str
) -> None:
    """Older files say nothing of the words that their programs take: those of bf16 are still the same."""
    path, dtype = tmp_path / "k.npua", "i8" if precision == "int8" else "bf16"
    shape = dict(heads=1, head_dim=16, dtype=dtype, precision=precision, o_scale=(1 / 256,) if dtype == "i8" else None)
    for lengths, expected in ((dict(query_length=32), 0), (dict(query_length=None, key_length=None), 3)):
        npuc.compile(Attention.make(**shape, **lengths)).save(path)
        made = npua.read_npua(path.read_bytes())
        metadata = {key: value for key, value in made.metadata.items() if key != "words_revision"}
        assert (metadata != made.metadata) == (precision == "int8")
        path.write_bytes(npua.write_npua(replace(made, metadata=metadata)))
        dims = ("--dim", "S=32", "--dim", "Skv=32") if expected else ()
        code, _, err = run(capsys, "run", path, "--backend", "emulator", "--check", *dims)
        assert code == (expected if precision == "int8" else 0), err
        told = f"error: {path}: another npuc compiled this kernel" in err and "compile it again" in err
        assert told == (code == 3)
