"""Loading: every form gives the right numbers, real front ends' files too, and every failure is an InputError."""

from __future__ import annotations

import gzip
import math
import os
import random
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import pytest

from npuc.compiler.diagnostics import InputError, NpucError, UsageError
from npuc.compiler.frontend import Argument, Attention, load, load_file, nearby, to_attn_module
from npuc.passes.attention.supported import check_supported

ROOT = Path(__file__).resolve().parents[2]
FACTS = Path(os.environ.get("NPUC_FACTS", ROOT.parent / "shared" / "facts"))
INPUTS = FACTS.parent / "inputs"

# name: heads, query length, key length, head size, element type
PLAIN = {
    "sdpa_b1h1s256d64_bf16": (1, 256, 256, 64, "bf16"),
    "sdpa_b1h1s256d128_f32": (1, 256, 256, 128, "f32"),
    "sdpa_b1h8s256d64_bf16": (8, 256, 256, 64, "bf16"),
    "sdpa_b1h8s256d64_f32": (8, 256, 256, 64, "f32"),
    "sdpa_b1h8s1024d64_bf16": (8, 1024, 1024, 64, "bf16"),
    "sdpa_b1h8s1024d64_f16": (8, 1024, 1024, 64, "f16"),
    "sdpa_cross_b1h4s128sk256d64_f32": (4, 128, 256, 64, "f32"),
    "manual_b1h4s256d64_bf16": (4, 256, 256, 64, "bf16"),
    "sdpa_nodecomp_b1h8s256d128_bf16": (8, 256, 256, 128, "bf16"),
    "sdpa_decode_b1h8s1sk256d128_bf16": (8, 1, 256, 128, "bf16"),
    "sdpa_b1h4s256d64_bf16.stablehlo": (4, 256, 256, 64, "bf16"),
    "manual_b1h2s128d64_f32.tosa": (2, 128, 128, 64, "f32"),
    "sdpa_b1h2s128d64_f32.tosa": (2, 128, 128, 64, "f32"),
}

# name: batch, heads, length, head size, element type, and what masks the scores
MASKED: dict[str, tuple[int, int, int, int, str, str | Argument]] = {
    "manual_causal_b1h4s256d64_bf16": (1, 4, 256, 64, "bf16", "causal"),
    "manual_causal_b1h4s256d64_f16": (1, 4, 256, 64, "f16", "causal"),
    "sdpa_causal_b1h4s256d64_f16.stablehlo": (1, 4, 256, 64, "f16", "causal"),
    "sdpa_causal_b1h8s128d128_bf16": (1, 8, 128, 128, "bf16", "causal"),
    "sdpa_causal_b1h8s256d64_bf16": (1, 8, 256, 64, "bf16", "causal"),
    "sdpa_causal_b2h4s256d64_bf16": (2, 4, 256, 64, "bf16", "causal"),
    "sdpa_mask_add_b1h4s300d64_bf16": (1, 4, 300, 64, "bf16", Argument("mask", "bf16", (1, 1, 300, 300), "mask")),
    "sdpa_mask_add_full_b2h4s300d64_f16": (2, 4, 300, 64, "f16", Argument("mask", "f16", (2, 4, 300, 300), "mask")),
    "sdpa_mask_bool_b1h2s128d64_f32": (1, 2, 128, 64, "f32", Argument("mask", "i1", (1, 1, 128, 128), "mask")),
    "sdpa_mask_bool_b1h4s128d64_bf16.tosa": (1, 4, 128, 64, "bf16", Argument("mask", "i1", (1, 1, 128, 128), "mask")),
}

# name: heads, key heads, query and key length (None: open), head size, element type, causal, window, and how Q lies
RAISED: dict[str, tuple[int, int, int | None, int | None, int, str, bool, int | None, str]] = {
    "jax_dpa_b1s128h8d64_bf16.stablehlo_jax": (8, 8, 128, 128, 64, "bf16", False, None, "BSHD"),
    "jax_dpa_b1s128h8d64_f32.linalg_from_jax": (8, 8, 128, 128, 64, "f32", False, None, "BSHD"),
    "jax_dpa_window_b1s128h8d64_bf16.stablehlo_jax": (8, 8, 128, 128, 64, "bf16", True, 33, "BSHD"),
    "jax_dpa_window_b1s128h8d64_f32.stablehlo_jax": (8, 8, 128, 128, 64, "f32", True, 33, "BSHD"),
    "sdpa_dynamic_b1h4d64_f32": (4, 4, None, None, 64, "f32", False, None, "BHSD"),
    "sdpa_gqa_b1h8hk2s128d64_bf16": (8, 2, 128, 128, 64, "bf16", False, None, "BHSD"),
    "sdpa_gqa_causal_b1h8hk2s300d64_bf16": (8, 2, 300, 300, 64, "bf16", True, None, "BHSD"),
    "sdpa_nodecomp_causal_b1h8s256d128_f16": (8, 8, 256, 256, 128, "f16", True, None, "BHSD"),
}

# Layers: what their attention takes, in the order of the source; [S, H*D] are products of projections as they are.
LAYERS: dict[str, dict[str, tuple[int, ...]]] = {
    "hf_gemma_attention_eager_nomask_s128_f32.mlir.gz": {
        "v": (128, 128),
        "q": (1, 4, 128, 64),
        "k": (1, 2, 128, 64),
        "o": (128, 256),
    },
    "hf_llama_attention_sdpa_mask_s128_f32.mlir.gz": {
        "mask": (1, 1, 128, 128),
        "v": (128, 128),
        "q": (1, 4, 128, 64),
        "k": (1, 2, 128, 64),
        "o": (128, 256),
    },
}


def text_of(name: str) -> str:
    path = INPUTS / name
    if not path.exists():
        pytest.skip(f"{name} is not in {INPUTS}")
    data = path.read_bytes()
    return (gzip.decompress(data) if name.endswith(".gz") else data).decode()


@pytest.mark.parametrize("name", PLAIN)
def test_plain_attention_of_a_front_end_loads_with_its_numbers(name: str) -> None:
    (found,) = load(text_of(f"{name}.mlir"), name)
    heads, query_length, key_length, head_dim, dtype = PLAIN[name]
    expected = Attention.make(
        heads=heads,
        query_length=query_length,
        key_length=key_length,
        head_dim=head_dim,
        dtype=dtype,
        function="main",
        scale=found.scale,
    )
    assert found == expected
    # Without decomposition the factor is rounded to the type of the scores.
    wanted = float(ml_dtypes.bfloat16(1 / math.sqrt(head_dim))) if "nodecomp" in name else 1 / math.sqrt(head_dim)
    assert math.isclose(found.scale, wanted, rel_tol=1e-12)
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize("name", MASKED)
def test_masked_attention_of_a_front_end_loads_with_its_mask(name: str) -> None:
    (found,) = load(text_of(f"{name}.mlir"), name)
    batch, heads, length, head_dim, dtype, mask = MASKED[name]
    plain = Attention.make(
        batch=batch, heads=heads, query_length=length, head_dim=head_dim, dtype=dtype, function="main"
    )
    if mask == "causal":
        assert found == replace(plain, causal=True)
    else:
        assert isinstance(mask, Argument)
        arguments = (*plain.inputs, mask, plain.argument("out"))
        assert found == replace(plain, arguments=arguments, mask="keep" if mask.dtype == "i1" else "add")
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize("name", RAISED)
def test_grouped_open_and_otherwise_laid_out_attention_of_a_front_end_loads(name: str) -> None:
    (found,) = load(text_of(f"{name}.mlir"), name)
    heads, kv_heads, queries, keys, width, dtype, causal, window, layout = RAISED[name]
    assert (found.batch, found.heads, found.kv_heads) == (1, heads, kv_heads)
    assert (found.query_length, found.key_length, found.head_dim) == (queries, keys, width)
    assert (found.causal, found.window, found.align, found.mask) == (causal, window, "top-left", None)
    assert found.equal_lengths == (queries is None) and math.isclose(found.scale, width**-0.5, rel_tol=1e-12)
    sizes = dict(zip("BHSD", (1, heads, queries, width), strict=True))
    for role in ("q", "out"):
        assert found.argument(role).dtype == dtype
        assert found.argument(role).source_shape == tuple(sizes[axis] for axis in layout)
    assert load(to_attn_module(found), "printed") == (found,)


@pytest.mark.parametrize("few", [nearby.FEW, 0])
@pytest.mark.parametrize("name", LAYERS)
def test_the_attention_of_a_layer_is_found(name: str, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearby, "FEW", few)  # operations of functions that are looked at whole
    (found,) = load(text_of(name), name)
    assert {a.name: a.source_shape for a in found.arguments} == LAYERS[name]
    assert [a.name for a in found.arguments] == list(LAYERS[name])
    assert (found.within, found.function, found.heads, found.kv_heads) == ("main", "main_attention", 4, 2)
    assert found.outlined is not None and load(found.outlined, "outlined") == (replace(found, within=None),)


def test_no_file_of_a_front_end_is_left_out_of_these_tests() -> None:
    if not INPUTS.is_dir():
        pytest.skip(f"no {INPUTS}")
    present = {path.name for path in INPUTS.iterdir() if ".mlir" in path.name}
    assert present <= {*LAYERS, *(f"{name}.mlir" for name in (*PLAIN, *MASKED, *RAISED))}


def test_one_query_against_a_cache_is_supported() -> None:
    (found,) = load(text_of("sdpa_decode_b1h8s1sk256d128_bf16.mlir"), "decode")
    assert found.lengths == (1, 1, 256)
    check_supported(found)


EXAMPLES = {
    "attention.mlir": Attention.make(heads=4, query_length=256, head_dim=64),
    "attention_linalg.mlir": Attention.make(heads=4, query_length=128, key_length=256, head_dim=64),
    "attention_torch.mlir": Attention.make(heads=2, query_length=128, head_dim=64, dtype="f32"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_load_and_are_supported(name: str) -> None:
    (found,) = load_file(ROOT / "examples" / name)
    assert found == EXAMPLES[name]
    check_supported(found)
    assert load(to_attn_module(found), "printed") == (found,)
    assert Attention.from_json(found.to_json()) == found


def function(name: str, visibility: str = "") -> str:
    type_ = "tensor<1x2x64x64xbf16>"
    return f"""func.func {visibility} @{name}(%a: {type_}, %b: {type_}, %c: {type_}) -> {type_} {{
      %o = "attn.sdpa"(%a, %b, %c) : ({type_}, {type_}, {type_}) -> {type_}
      return %o : {type_}
    }}
    """


def test_several_functions_need_a_choice_that_names_them() -> None:
    text = function("first") + function("second")
    with pytest.raises(InputError, match=r"holds 2 functions: @first, @second \(choose with --func\)"):
        load(text, "two.mlir")
    assert load(text, "two.mlir", "second")[0].function == "second"
    with pytest.raises(UsageError, match="holds no function @third .*@first, @second"):
        load(text, "two.mlir", "third")


def test_private_functions_and_declarations_are_no_choice() -> None:
    text = function("helper", "private") + function("main") + "func.func private @extern(tensor<2xf32>)"
    assert load(text, "x.mlir")[0].function == "main"


@pytest.mark.parametrize(
    "text, place, reason",
    [
        ("", "x.mlir", "is empty"),
        (" \n\n", "x.mlir", "is empty"),
        ("module {}", "x.mlir", "holds no function with a body"),
        ("// nothing\n", "x.mlir", "holds no function with a body"),
        ("garbage", "x.mlir:1:1", "custom op 'garbage' is unknown"),
        ("func.func @f(", "x.mlir:1:13", "expected"),
        ("func.func @f() { return }", "x.mlir:1:1", "function @f returns 0 values"),
        ("func.func @f(%x: i32) -> i32 { return %x : i32 }", "x.mlir:1:14", "argument 0 is i32, not a ranked tensor"),
        ("\x00\x01", "x.mlir:1:2", ""),
        ("\ud800", "x.mlir", "is not text"),
    ],
)
def test_text_that_is_no_attention_is_refused_in_one_line_with_its_place(text: str, place: str, reason: str) -> None:
    with pytest.raises(InputError) as caught:
        load(text, "x.mlir")
    assert str(caught.value.place) == place
    assert reason in caught.value.message and "\n" not in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_file(tmp_path / "missing.mlir")
    with pytest.raises(InputError, match="cannot be read"):
        load_file(tmp_path)
    (tmp_path / "binary.mlir").write_bytes(b"MZ\xefR\x0d\xff\x00")
    with pytest.raises(InputError, match="is not text"):
        load_file(tmp_path / "binary.mlir")


def test_a_place_inside_another_file_is_kept() -> None:
    text = function("f").replace(": (tensor", "{window = 0 : i64} : (tensor", 1)
    text = text.replace(
        "-> tensor<1x2x64x64xbf16>\n      return", '-> tensor<1x2x64x64xbf16> loc("model.py":7:3)\n return'
    )
    with pytest.raises(InputError, match=r"^model.py:7:3: attn.sdpa: attribute window"):
        load(text, "x.mlir")


def test_broken_text_never_raises_anything_but_our_errors() -> None:
    seed = 20
    print(f"seed {seed}")
    random_ = random.Random(seed)
    sources = [(ROOT / "examples" / name).read_text() for name in EXAMPLES]
    for _ in range(60):
        text = list(random_.choice(sources))
        for _ in range(random_.randint(1, 4)):
            at = random_.randrange(len(text))
            kind = random_.randrange(3)
            if kind == 0:
                del text[at : at + random_.randint(1, 40)]
            elif kind == 1:
                text[at] = random_.choice('%<>(){}[]:,0123456789xabf#@"\\ \n')
            else:
                other = random_.randrange(len(text))
                text[at : at + 8] = text[other : other + 8]
        try:
            load("".join(text), "broken.mlir")
        except NpucError as error:
            assert "\n" not in str(error)


def test_the_largest_file_loads_fast_and_silently() -> None:
    text_of("sdpa_b1h8s1024d64_bf16.mlir")
    path = INPUTS / "sdpa_b1h8s1024d64_bf16.mlir"
    script = f"from npuc.compiler.frontend import load_file; load_file({str(path)!r})"
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = end.ru_utime - begin.ru_utime + end.ru_stime - begin.ru_stime
    print(f"load in a new process: {seconds:.2f} s of processor time")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert seconds < 1.5 * 4  # 1.5 s on an idle machine


def test_errors_leave_no_noise_and_importing_loads_no_mlir() -> None:
    script = (
        "import sys\nfrom npuc.compiler.frontend import load\nassert 'torch_mlir' not in sys.modules\n"
        "try: load('func.func @f(', 'x')\nexcept Exception as e: print(type(e).__name__)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "InputError\n", "")


def test_tensors_with_an_encoding_are_refused() -> None:
    text = function("f").replace("tensor<1x2x64x64xbf16>", 'tensor<1x2x64x64xbf16, "turned">')
    with pytest.raises(InputError, match="argument 0 is .*: tensors with an encoding are not recognised"):
        load(text, "x.mlir")


def test_the_attn_dialect_needs_none_of_the_bindings_slow_packages() -> None:
    example = str(ROOT / "examples" / "attention.mlir")
    script = (
        f"import sys\nfrom npuc.compiler.frontend import load_file\nload_file({example!r})\n"
        "sys.exit(str([name for name in sys.modules if name.startswith('torch_mlir.dialects.linalg')]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "[]\n"
