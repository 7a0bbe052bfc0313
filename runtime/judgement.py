"""How near to a reference a kernel's result must be, and what a comparison found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Limits:
    """What passes. relative, of_values: an element may be off by relative * |ref| + of_values * mean |v| of its head;
    None where single elements are not judged."""

    mean_rel_l1: float
    correlation: float
    relative: float | None = None
    of_values: float | None = None


LIMITS = {
    "bf16": Limits(mean_rel_l1=1e-2, correlation=0.9999, relative=1.6e-2, of_values=2.5e-2),
    "int8": Limits(mean_rel_l1=2e-2, correlation=0.9995),
}


@dataclass(frozen=True)
class CheckResult:
    """What a comparison found.

    reference: "source", the source's own operations; "parts", those, for each attention on what it was given; or
    "attention", what was recognised in it. mean_rel_l1 = sum |out - ref| / sum |ref|. correlation: None where the
    reference does not vary. outside: elements beyond the tolerance. not_numbers: elements that are NaN in both, which
    says nothing of the run. elements: of how many. rows_left_out: rows from which the source hides every key.
    rows_per_head: how many were drawn, None where all were compared. recognition: what is wrong with what was
    recognised.
    """

    reference: str
    max_abs: float
    mean_rel_l1: float
    correlation: float | None
    outside: int
    not_numbers: int
    elements: int
    rows_left_out: int
    rows_per_head: int | None
    recognition: str | None
    passed: bool
    limits: Limits

    def to_json(self) -> dict[str, Any]:
        """Plain data; a figure that is not finite becomes null, which JSON can say."""
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in asdict(self).items()}


class Judge:
    """Compares blocks of a result with blocks of the reference. A NaN passes only where the reference has one too."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._outside = self._not_numbers = self._elements = 0
        self._max_abs = self._difference = self._size = 0.0
        self._moments = np.zeros(6)  # count, and sums of out, ref, out^2, ref^2, out * ref, all less an offset
        self._offset: float | None = None

    def add(self, out: np.ndarray, reference: np.ndarray, mean_value: float) -> None:
        """Blocks of one shape; mean_value: mean |v| of the head they belong to."""
        out, reference = out.astype(np.float64), reference.astype(np.float64)
        with np.errstate(invalid="ignore", over="ignore"):
            neither = np.isnan(out) & np.isnan(reference)
            same = (out == reference) | neither
            difference = np.where(same, 0.0, np.abs(out - reference))
            difference = np.where(np.isnan(difference), np.inf, difference)
            if self._limits.relative is not None and self._limits.of_values is not None:
                allowed = self._limits.of_values * mean_value + self._limits.relative * np.abs(reference)
                self._outside += int((~(same | (difference <= allowed))).sum())
        self._not_numbers += int(neither.sum())
        self._elements += out.size
        self._max_abs = max(self._max_abs, float(difference.max(initial=0.0)))
        self._difference += float(difference.sum())
        finite = np.isfinite(reference) & np.isfinite(out)
        self._size += float(np.abs(reference[np.isfinite(reference)]).sum())
        self._add_moments(out[finite], reference[finite])

    def _add_moments(self, out: np.ndarray, reference: np.ndarray) -> None:
        if self._offset is None and reference.size:
            self._offset = float(reference.mean())
        a, b = out - (self._offset or 0.0), reference - (self._offset or 0.0)
        self._moments += [a.size, a.sum(), b.sum(), (a * a).sum(), (b * b).sum(), (a * b).sum()]

    def _correlation(self) -> float | None:
        count, a, b, aa, bb, ab = self._moments
        if count == 0:
            return None
        variances = (aa - a * a / count) / count, (bb - b * b / count) / count
        smallest = (1e-12 * max(1e-300, self._size / count)) ** 2
        if variances[1] <= smallest:
            return None
        if variances[0] <= 0:
            return 0.0
        return float((ab - a * b / count) / count / math.sqrt(variances[0] * variances[1]))

    def result(
        self, reference: str, rows_left_out: int = 0, rows_per_head: int | None = None, recognition: str | None = None
    ) -> CheckResult:
        total, size = self._difference, self._size
        mean = total / size if size else (0.0 if total == 0 else math.inf)
        correlation = self._correlation()
        near = self._outside == 0 and mean <= self._limits.mean_rel_l1
        alike = correlation is None or correlation >= self._limits.correlation
        return CheckResult(
            reference=reference,
            max_abs=self._max_abs,
            mean_rel_l1=mean,
            correlation=correlation,
            outside=self._outside,
            not_numbers=self._not_numbers,
            elements=self._elements,
            rows_left_out=rows_left_out,
            rows_per_head=rows_per_head,
            recognition=recognition,
            passed=near and alike and recognition is None,
            limits=self._limits,
        )


def together(results: Sequence[CheckResult]) -> CheckResult:
    """What several comparisons found: the worst of each figure, and all elements."""
    correlations = [r.correlation for r in results if r.correlation is not None]
    drawn = [r.rows_per_head for r in results if r.rows_per_head is not None]
    return replace(
        results[-1],
        max_abs=max(r.max_abs for r in results),
        mean_rel_l1=max(r.mean_rel_l1 for r in results),
        correlation=min(correlations, default=None),
        outside=sum(r.outside for r in results),
        not_numbers=sum(r.not_numbers for r in results),
        elements=sum(r.elements for r in results),
        rows_left_out=sum(r.rows_left_out for r in results),
        rows_per_head=min(drawn, default=None),
        recognition=next((r.recognition for r in results if r.recognition is not None), None),
        passed=all(r.passed for r in results),
    )
