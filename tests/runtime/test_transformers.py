"""npuc.transformers: models of random weights generate the tokens of PyTorch's attention, whatever their cache."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import npuc

torch = pytest.importorskip("torch", reason="PyTorch is not installed (npuc[transformers])")
transformers = pytest.importorskip("transformers", reason="transformers is not installed (npuc[transformers])")

import npuc.transformers  # noqa: E402
from npuc.runtime import on_demand  # noqa: E402

REPOSITORY = Path(__file__).resolve().parent.parent.parent
ON_REFERENCE, ON_EMULATOR = "npuc-on-reference", "npuc-on-emulator"
SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": None,
}
LOCAL_AND_GLOBAL = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
MODELS: dict[str, dict[str, Any]] = {
    "Gemma3Text": {**LOCAL_AND_GLOBAL, "query_pre_attn_scalar": 16},
    "Llama": {},
    "Qwen2": {},
    "Qwen3": {},
    "Mistral": {"sliding_window": 4},
}


@pytest.fixture(autouse=True)
def anew(seed: int) -> Iterator[None]:
    on_demand._loaded.cache_clear()
    npuc.transformers.register(ON_REFERENCE, backend="reference")
    npuc.transformers.register(ON_EMULATOR, backend="emulator")
    torch.manual_seed(seed)
    yield
    torch._dynamo.reset()


def model_of(kind: str, **changes: Any) -> Any:
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **MODELS.get(kind, {}), **changes})
    return getattr(transformers, f"{kind.removesuffix('Text')}ForCausalLM")(config).eval()


def generated(model: Any, attention: str, tokens: Any, mask: Any, cache: str | None, count: int = 6) -> Any:
    model.set_attn_implementation(attention)
    return model.generate(
        tokens, attention_mask=mask, max_new_tokens=count, do_sample=False, cache_implementation=cache
    )[:, tokens.shape[1] :]


def prompt(rows: int = 2, length: int = 7) -> tuple[Any, Any]:
    tokens = torch.randint(2, 128, (rows, length))
    return tokens, torch.ones_like(tokens)


@pytest.mark.parametrize("cache", [None, "static"])
@pytest.mark.parametrize("padding", [0, 3])
@pytest.mark.parametrize("kind", MODELS)
def test_tokens_are_those_of_sdpa(kind, padding, cache):
    """padding: tokens before the first of one row, which no query may see."""
    model = model_of(kind)
    tokens, mask = prompt()
    mask[0, :padding] = 0
    expected = generated(model, "sdpa", tokens, mask, cache)
    with npuc.transformers.collect() as statistics:
        found = generated(model, ON_REFERENCE, tokens, mask, cache)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert len(set(expected.flatten().tolist())) > 4, "not the same token again and again"
    assert len(statistics.layers) == 2 and statistics.total.served == {"reference": 12}


@pytest.mark.parametrize("cache", [None, "static"])
def test_layers_of_all_kinds_share_one_kernel_on_the_emulator(cache):
    model = model_of("Gemma3Text", dtype=torch.bfloat16).to(torch.bfloat16)
    tokens, mask = prompt(rows=1)
    expected = generated(model, "sdpa", tokens, mask, cache, 3)
    with npuc.transformers.collect() as statistics:
        found = generated(model, ON_EMULATOR, tokens, mask, cache, 3)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    assert on_demand._loaded.cache_info().currsize == 1, "prefill and decode, local and global"
    local, full = statistics.layers["Gemma3Attention 0"], statistics.layers["Gemma3Attention 1"]
    assert local.served == full.served == {"emulator": 3} and local.emulated
    assert 0 < local.cycles and 0 < full.cycles and statistics.total.cycles == local.cycles + full.cycles
    assert "3 by emulator" in str(statistics) and "(emulated)" in str(statistics)


def logits(model: Any, attention: str, *arguments: Any, **named: Any) -> Any:
    model.set_attn_implementation(attention)
    with torch.no_grad():
        return model(*arguments, **named)[0].numpy()


def test_softcaps_are_those_of_eager():
    """Which PyTorch's scaled_dot_product_attention has none of."""
    model = model_of("Gemma2", **LOCAL_AND_GLOBAL, attn_logit_softcapping=1.5, query_pre_attn_scalar=16)
    tokens, mask = prompt()
    expected = logits(model, "eager", tokens, attention_mask=mask)
    np.testing.assert_allclose(logits(model, ON_REFERENCE, tokens, attention_mask=mask), expected, atol=2e-4)
    model.config.attn_logit_softcapping = None
    for layer in model.model.layers:
        layer.self_attn.attn_logit_softcapping = None
    assert np.abs(logits(model, "eager", tokens, attention_mask=mask) - expected).max() > 1e-2


def test_biases_of_positions_are_added():
    config = transformers.T5Config(
        vocab_size=128, d_model=32, d_kv=16, d_ff=48, num_layers=2, num_heads=2, decoder_start_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    tokens, mask = prompt()
    mask[1, 4:] = 0
    given = {"input_ids": tokens, "attention_mask": mask, "decoder_input_ids": tokens[:, :5]}
    with npuc.transformers.collect() as statistics:
        found = logits(model, ON_REFERENCE, **given)
    np.testing.assert_allclose(found, logits(model, "eager", **given), atol=2e-4)
    assert statistics.total.served == {"reference": 6}


def test_encoders_see_both_ways():
    config = transformers.BertConfig(
        vocab_size=128, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48
    )
    model = transformers.BertModel(config).eval()
    tokens, mask = prompt()
    for padding in (0, 3):
        mask[0, 7 - padding :] = 0
        expected = logits(model, "sdpa", tokens, attention_mask=mask)
        found = logits(model, ON_REFERENCE, tokens, attention_mask=mask)
        np.testing.assert_allclose(found[mask.bool().numpy()], expected[mask.bool().numpy()], atol=1e-4)


def test_training_is_pytorchs_with_the_reason():
    model = model_of("Llama", attention_dropout=0.0)
    tokens, _ = prompt()
    gradients = []
    for attention in ("sdpa", ON_REFERENCE):
        model.set_attn_implementation(attention)
        model.zero_grad()
        with npuc.transformers.collect() as statistics:
            model(tokens, labels=tokens).loss.backward()
        gradients.append(model.model.layers[0].self_attn.q_proj.weight.grad.numpy().copy())
    np.testing.assert_allclose(gradients[1], gradients[0], atol=1e-5)
    assert statistics.total.served == {"torch": 2}
    assert list(statistics.total.reasons) == ["gradients are needed (torch.no_grad() does without)"]


def test_dropout_is_pytorchs_with_the_reason():
    model = model_of("Llama", attention_dropout=0.5).train()
    tokens, _ = prompt()
    found = []
    for attention in ("sdpa", ON_REFERENCE):
        torch.manual_seed(1)
        with npuc.transformers.collect() as statistics:
            found.append(logits(model, attention, tokens))
    np.testing.assert_array_equal(*found)
    assert statistics.total.reasons == {"dropout": 2}


def test_attention_sinks_are_refused():
    changes = {"num_local_experts": 2, "num_experts_per_tok": 1, **LOCAL_AND_GLOBAL}
    model = model_of("GptOss", **changes)
    with pytest.raises(npuc.UnsupportedError, match="attention sinks are not supported .use attn_implementation"):
        logits(model, ON_REFERENCE, prompt()[0])


def test_a_compiled_model_keeps_its_attention_whole():
    model = model_of("Llama")
    tokens, _ = prompt()
    expected = logits(model, "sdpa", tokens, use_cache=False)
    model.set_attn_implementation(ON_REFERENCE)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    with npuc.transformers.collect() as statistics, torch.no_grad():
        found = compiled(tokens, use_cache=False)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert {name: layer.served for name, layer in statistics.layers.items()} == {
        "LlamaAttention 0": {"reference": 1},
        "LlamaAttention 1": {"reference": 1},
    }


def test_the_example_generates_pytorchs_tokens(capsys):
    spec = importlib.util.spec_from_file_location("gemma3_generate", REPOSITORY / "examples" / "gemma3_generate.py")
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    sys.modules.pop("gemma3_generate", None)
    assert example.main("emulator") == 0
    lines = capsys.readouterr().out.splitlines()
    tokens = lines[0].removeprefix("tokens: ").split()
    assert len(tokens) == example.TOKENS == 20 and len(set(tokens)) > 10
    assert lines[1].startswith("PyTorch's own: the same") and lines[-1].startswith("all: 60 by emulator, ")
