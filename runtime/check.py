"""Comparison of a kernel's result with the reference, and the work it had to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from npuc.compiler.diagnostics import InputError
from npuc.compiler.frontend.attention import Attention
from npuc.runtime.backends import reference
from npuc.runtime.backends.reference import Visibility

MEAN_RELATIVE_L1_LIMIT = 1e-2
RELATIVE_TOLERANCE = 1.6e-2
ABSOLUTE_TOLERANCE = 2e-2


@dataclass(frozen=True)
class CheckResult:
    """mean_rel_l1 = sum |out - ref| / sum |ref|. outside: elements beyond the tolerance. elements: of how many."""

    reference: str
    max_abs: float
    mean_rel_l1: float
    outside: int
    elements: int
    passed: bool

    def to_json(self) -> dict[str, Any]:
        """Plain data; a figure that is not finite becomes null, which JSON can say."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


def compare(out: np.ndarray, reference: np.ndarray, name: str = "float64") -> CheckResult:
    """Judge `out` against `reference` by the bf16 rule. A NaN passes only where the reference has one too."""
    out, reference = out.astype(np.float64), reference.astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (out == reference) | (np.isnan(out) & np.isnan(reference))
        difference = np.where(same, 0.0, np.abs(out - reference))
        within = difference <= ABSOLUTE_TOLERANCE + RELATIVE_TOLERANCE * np.abs(reference)
    difference = np.where(np.isnan(difference), np.inf, difference)
    outside = int((~(same | within)).sum())
    size = float(np.abs(reference[np.isfinite(reference)]).sum())
    total = float(difference.sum())
    mean = total / size if size else (0.0 if total == 0 else float("inf"))
    return CheckResult(
        reference=name,
        max_abs=float(difference.max(initial=0.0)),
        mean_rel_l1=mean,
        outside=outside,
        elements=out.size,
        passed=outside == 0 and mean <= MEAN_RELATIVE_L1_LIMIT,
    )


def expected(attention: Attention, arrays: Mapping[str, np.ndarray], dtype: Any = np.float64) -> np.ndarray:
    """The reference result, shaped as the output, from device arrays by argument name."""
    if attention.precision != "bf16":
        raise InputError(f"the reference has no rule for precision {attention.precision}")
    q, k, v = (arrays[attention.argument(r).name].reshape(attention.closed_shape(r)) for r in ("q", "k", "v"))
    result = reference.attention(
        q,
        k,
        v,
        None if attention.mask is None else arrays[attention.argument("mask").name],
        scale=attention.scale,
        causal=attention.causal,
        window=attention.window,
        softcap=attention.softcap,
        align=attention.align,
        dtype=dtype,
    )
    return result.reshape(attention.argument("out").shape)


def visibility(attention: Attention) -> Visibility:
    """The causal and window limits of an attention."""
    lengths = attention.lengths
    return Visibility(lengths.query, lengths.key, attention.causal, attention.window, attention.align)


def multiply_accumulates(attention: Attention, arrays: Mapping[str, np.ndarray]) -> int:
    """Multiply-accumulates of QK^T and PV that causal, window and a boolean mask leave."""
    limits = visibility(attention)
    if attention.mask != "keep":
        pairs = attention.lengths.batch * attention.heads * limits.pairs()
    else:
        batch, queries, keys = attention.lengths
        shape = (batch, attention.heads, queries, keys)
        keep = reference.broadcast_mask(arrays[attention.argument("mask").name], shape)
        pairs = sum(limits.pairs(keep[b, h]) for b in range(batch) for h in range(attention.heads))
    return 2 * pairs * attention.head_dim
