"""One call of a loaded kernel: what may differ from call to call, as the sequence and the core program take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from npuc.compiler.diagnostics import InputError

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

# Diagonal and window of a call without that limit: beyond every sum of two lengths, sums of them far within 32 bits.
NO_DIAGONAL = 1 << 20
NO_WINDOW = 1 << 22
LENGTH_LIMIT = 1 << 16


@dataclass(frozen=True)
class Call:
    """Lengths and factors of one call.

    diagonal: query i sees keys j <= i + diagonal (NO_DIAGONAL: all).  window: and only j > i + diagonal - window
    (NO_WINDOW: all).  softcap: 0 for none.  Raises InputError for lengths that no call can have.
    """

    batch: int
    heads: int
    kv_heads: int
    query_length: int
    key_length: int
    scale: float
    diagonal: int = NO_DIAGONAL
    window: int = NO_WINDOW
    softcap: float = 0.0

    def __post_init__(self) -> None:
        for name, size in (("batch", self.batch), ("heads", self.heads), ("kv_heads", self.kv_heads)):
            if size < 1:
                raise InputError(f"{name} {size} of a call is not a positive number")
        for name, size in (("query length", self.query_length), ("key length", self.key_length)):
            if not 1 <= size <= LENGTH_LIMIT:
                raise InputError(f"{name} {size} of a call is outside 1..{LENGTH_LIMIT}")
        if self.heads % self.kv_heads:
            raise InputError(f"{self.heads} query heads are not a multiple of {self.kv_heads} heads of K and V")

    @property
    def heads_in_all(self) -> int:
        """Heads of all batch entries."""
        return self.batch * self.heads

    def of_keys(self, first: int, end: int) -> Call:
        """The same call without the keys before `first` and from `end` on."""
        diagonal = self.diagonal if self.diagonal == NO_DIAGONAL else self.diagonal - first
        return replace(self, key_length=end - first, diagonal=diagonal)

    def kv_head(self, head: int) -> int:
        return head // (self.heads // self.kv_heads)


# What a kernel is planned for, and its file's own sequence serves, where lengths are open.
DEFAULT_SIZES = {"B": 1, "S": 512, "Skv": 512}


def with_default_sizes(attention: Attention) -> Attention:
    """The attention with usual sizes in place of open ones."""
    return attention.bound({name: DEFAULT_SIZES[name] for name in attention.open_dimensions})


def call_of(attention: Attention) -> Call:
    """The call that an attention of known lengths describes. Raises InputError where a length is open.

    A window counts back from the diagonal, so that it implies the causal limit (i - window < j <= i).
    """
    batch, queries, keys = attention.lengths
    diagonal, window = NO_DIAGONAL, NO_WINDOW
    if attention.causal or attention.window is not None:
        diagonal = keys - queries if attention.align == "bottom-right" else 0
    if attention.window is not None:
        window = min(attention.window, NO_WINDOW)
    return Call(
        batch=batch,
        heads=attention.heads,
        kv_heads=attention.kv_heads,
        query_length=queries,
        key_length=keys,
        scale=attention.scale,
        diagonal=diagonal,
        window=window,
        softcap=attention.softcap or 0.0,
    )
