"""The benchmark cases: attention of 32 query heads unless said, at lengths and head sizes that models use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

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


_EXAMPLE: dict[str, Any] = dict(heads=4, query_length=256, head_dim=64)
_LONG: dict[str, Any] = dict(query_length=2048, head_dim=128, kv_heads=16)
_WINDOW: dict[str, Any] = dict(causal=True, window=1024, **_LONG)
_LONG_64: dict[str, Any] = dict(query_length=2048, head_dim=64)
_CAUSAL_64: dict[str, Any] = dict(query_length=2048, head_dim=64, kv_heads=16, causal=True)
_DECODE: dict[str, Any] = dict(query_length=1, key_length=2048, kv_heads=16, head_dim=128)
# Means of 2,048 values are small: in units of 2^-9 they take some tens of int8's steps.
_INTEGERS: dict[str, Any] = dict(**_LONG, dtype="i8", precision="int8", o_scale=(1 / 512,))

CASES: tuple[Case, ...] = (
    _case("example", "examples/attention.mlir: 4 heads, 256, D 64", plain=True, **_EXAMPLE),
    _case("example-fast", "the same, fast", recipe="fast", **_EXAMPLE),
    _case("s256-d64", "256, D 64", query_length=256, head_dim=64),
    _case("s256-d128", "256, D 128", query_length=256, head_dim=128),
    _case("s256-d128-fast", "256, D 128, fast", query_length=256, head_dim=128, recipe="fast"),
    _case("s2048-d64", "2048, D 64", **_LONG_64),
    _case("s2048-d64-fast", "2048, D 64, fast", recipe="fast", **_LONG_64),
    _case("s2048-d128-kv16", "2048 on 16 heads of K and V, D 128", **_LONG),
    _case("s2048-d128-kv16-fast", "2048 on 16, D 128, fast", recipe="fast", **_LONG),
    _case("s2048-d128", "2048, D 128", query_length=2048, head_dim=128),
    _case("causal-s2048-d128", "causal, 2048 on 16, D 128", causal=True, **_LONG),
    _case("causal-s2048-d128-fast", "causal, 2048 on 16, D 128, fast", causal=True, recipe="fast", **_LONG),
    _case("causal-s2048-d64", "causal, 2048 on 16, D 64", **_CAUSAL_64),
    _case("causal-s2048-d64-fast", "causal, 2048 on 16, D 64, fast", recipe="fast", **_CAUSAL_64),
    _case("window-s2048-d128", "causal, window 1,024, 2048 on 16, D 128", **_WINDOW),
    _case("window-s2048-d128-fast", "causal, window 1,024, 2048 on 16, D 128, fast", recipe="fast", **_WINDOW),
    _case("softcap-s2048-d128", "softcap 50, 2048 on 16, D 128", softcap=50.0, **_LONG),
    _case("decode-kv16", "1 query, 2,048 keys on 16, D 128", **_DECODE),
    _case("decode-h8-kv4", "8 heads on 4, 1 query, 2,048 keys, D 128", **{**_DECODE, "heads": 8, "kv_heads": 4}),
    _case("int8-s2048-d128", "int8, 2048 on 16, D 128, accurate", recipe="accurate", **_INTEGERS),
    _case("int8-s2048-d128-fast", "int8, 2048 on 16, D 128, fast", recipe="fast", **_INTEGERS),
    *(
        _case(f"s{length}-causal", f"causal, {length}, D 128", query_length=length, head_dim=128, causal=True)
        for length in (1000, 1023, 1024, 2047, 2048)
    ),
    *(_case(f"s1024-d{size}", f"1024, D {size}", query_length=1024, head_dim=size) for size in (96, 80, 256)),
)
