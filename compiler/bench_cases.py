"""The benchmark cases: attention of 32 query heads unless said, at lengths and head sizes that models use."""

from __future__ import annotations

from dataclasses import dataclass

from npuc.compiler.frontend.attention import Attention


@dataclass(frozen=True)
class Case:
    """plain: whether the plain style of sequence is run beside the default."""

    name: str
    text: str
    attention: Attention
    plain: bool = False


def _case(name: str, text: str, plain: bool = False, **shape: object) -> Case:
    return Case(name, text, Attention.make(**{"heads": 32, **shape}), plain)  # type: ignore[arg-type]


CASES: tuple[Case, ...] = (
    _case("example", "examples/attention.mlir: 4 heads, 256, D 64", plain=True, heads=4, query_length=256, head_dim=64),
    _case("s256-d64", "256, D 64", query_length=256, head_dim=64),
    _case("s256-d128", "256, D 128", query_length=256, head_dim=128),
    _case("s2048-d64", "2048, D 64", query_length=2048, head_dim=64),
    _case("s2048-d128-kv16", "2048 on 16 heads of K and V, D 128", query_length=2048, head_dim=128, kv_heads=16),
    _case("s2048-d128", "2048, D 128", query_length=2048, head_dim=128),
    _case("causal-s2048-d128", "causal, 2048 on 16, D 128", query_length=2048, head_dim=128, kv_heads=16, causal=True),
    _case("causal-s2048-d64", "causal, 2048 on 16, D 64", query_length=2048, head_dim=64, kv_heads=16, causal=True),
    _case(
        "window-s2048-d128",
        "causal, window 1,024, 2048 on 16, D 128",
        query_length=2048,
        head_dim=128,
        kv_heads=16,
        causal=True,
        window=1024,
    ),
    _case(
        "decode-kv16", "1 query, 2,048 keys on 16, D 128", query_length=1, key_length=2048, kv_heads=16, head_dim=128
    ),
    _case(
        "decode-h8-kv4",
        "8 heads on 4, 1 query, 2,048 keys, D 128",
        heads=8,
        query_length=1,
        key_length=2048,
        head_dim=128,
        kv_heads=4,
    ),
    _case("s1000-causal", "causal, 1000, D 128", query_length=1000, head_dim=128, causal=True),
    _case("s1023-causal", "causal, 1023, D 128", query_length=1023, head_dim=128, causal=True),
    _case("s2047-causal", "causal, 2047, D 128", query_length=2047, head_dim=128, causal=True),
    _case("s1024-d96", "1024, D 96", query_length=1024, head_dim=96),
    _case("s1024-d80", "1024, D 80", query_length=1024, head_dim=80),
    _case("s1024-d256", "1024, D 256", query_length=1024, head_dim=256),
)
