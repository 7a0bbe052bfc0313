"""A small model of Gemma 3's kind, with random weights made here, generates 20 tokens with its attention on npuc.

pip install '.[transformers]' && python examples/gemma3_generate.py [emulator|xrt|reference|auto]

Prints the tokens, which must be those of PyTorch's own attention, and what each layer's attention took.
"""

from __future__ import annotations

import sys
import time

import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

import npuc.transformers

TOKENS = 20


def small_gemma3() -> Gemma3ForCausalLM:
    """Two layers that see a window of 8 tokens and one that sees all, as Gemma 3 has them by five to one."""
    config = Gemma3TextConfig(
        vocab_size=256,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        query_pre_attn_scalar=32,
        sliding_window=8,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        max_position_embeddings=128,
        initializer_range=0.2,
        tie_word_embeddings=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    return Gemma3ForCausalLM(config).to(torch.bfloat16).eval()


def generate(model: Gemma3ForCausalLM, attention: str) -> list[int]:
    prompt = torch.arange(2, 14)[None]
    model.set_attn_implementation(attention)
    tokens = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=TOKENS, do_sample=False)
    return tokens[0, prompt.shape[1] :].tolist()


def main(backend: str = "emulator") -> int:
    npuc.transformers.register("npuc-here", backend=backend)
    model = small_gemma3()
    expected = generate(model, "sdpa")
    begin = time.monotonic()
    with npuc.transformers.collect() as statistics:
        tokens = generate(model, "npuc-here")
    print(f"tokens: {' '.join(map(str, tokens))}")
    print(f"PyTorch's own: {'the same' if tokens == expected else expected}; {time.monotonic() - begin:.1f} s")
    print(statistics)
    return 0 if tokens == expected else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
