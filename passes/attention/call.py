"""One call of a loaded kernel: what may differ from call to call, as the sequence and the core program take it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import default_scale
from npuc.passes.attention.integer_factors import Quantities, quantities_of

if TYPE_CHECKING:
    from npuc.compiler.frontend.attention import Attention

# Diagonal and window of a call without that limit: beyond every sum of two lengths, sums of them far within 32 bits.
NO_DIAGONAL = 1 << 20
NO_WINDOW = 1 << 22
LENGTH_LIMIT = 1 << 16


class Left(NamedTuple):
    """What a mask leaves at most: keys first .. end - 1; where not None, to query i those from i + low on, up to
    i + high."""

    first: int
    end: int
    low: int | None = None
    high: int | None = None


WORDS_REVISION = {"bf16": 1, "int8": 2}
"""Which words of a call core programs take, by precision (`core.parameters`): one more with each change of them.
Kernel files have it where it is not 1, as other sequences than their own are made for their programs."""


@dataclass(frozen=True)
class Call:
    """Lengths and factors of one call.

    diagonal: query i sees keys j <= i + diagonal (NO_DIAGONAL: all).  window: and only j > i + diagonal - window
    (NO_WINDOW: all).  softcap: 0 for none.  quantities: of int8 tensors, for each head (of all batches, or of each
    alike) or one for all; none for others.  Raises InputError for lengths that no call can have.
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
    quantities: tuple[Quantities, ...] = ()

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

    def keys(self, query: int) -> range:
        """Those that a query sees."""
        last = query + self.diagonal
        return range(max(0, last - self.window + 1), max(0, min(last + 1, self.key_length)))

    @property
    def keys_of_all(self) -> range | None:
        """The keys that every query sees, if they are the same: both ends of them rise with the query."""
        first = self.keys(0)
        return first if self.keys(self.query_length - 1) == first else None

    def leaving(self, left: Left) -> Call:
        """The same call where what its mask leaves is known: of the keys that it leaves."""
        limit = self.diagonal if self.diagonal == NO_DIAGONAL else self.diagonal - left.first
        low = None if self.window == NO_WINDOW else limit - self.window + 1  # of key - query
        if left.low is not None:
            low = left.low - left.first if low is None else max(low, left.low - left.first)
        if left.high is not None:
            limit = min(limit, left.high - left.first)
        keys, window = left.end - left.first, NO_WINDOW
        if low is not None:
            limit = min(limit, keys - 1)  # the first query sees all keys up to there
            window = limit - low + 1
            if window < 1:  # no query sees any key
                limit, window = -self.query_length, 1
        return replace(self, key_length=keys, diagonal=limit, window=window)

    def kv_head(self, head: int) -> int:
        return head // (self.heads // self.kv_heads)


# What a kernel is planned for, and its file's own sequence serves, where lengths are open.
DEFAULT_SIZES = {"B": 1, "S": 512, "Skv": 512}


def with_default_sizes(attention: Attention) -> Attention:
    """The attention with usual sizes in place of open ones, and the usual scale where each call gives it."""
    closed = attention.bound({name: DEFAULT_SIZES[name] for name in attention.open_dimensions})
    return replace(closed, scale=default_scale(closed.head_dim), beside=()) if closed.beside else closed


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
        quantities=quantities_of(attention) if attention.precision == "int8" else (),
    )
