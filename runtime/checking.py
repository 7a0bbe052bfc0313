"""Checking a run: the kernel's result against what the source's own operations give, head by head.

The source is evaluated without any notion of attention. That what was recognised in it means the same is tested on
some rows of every head, so that a wrong result is laid to the right account. Where a kernel carries no source, what
was recognised is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.number_formats import FLOAT_FORMATS
from npuc.compiler.progress import long_work
from npuc.runtime import check, evaluator
from npuc.runtime.judgement import LIMITS, CheckResult, Judge
from npuc.runtime.kernel_file import DescribedKernel
from npuc.runtime.layouts import all_inward, head_part, head_rows, inward, is_whole

ROWS_PER_HEAD = 256  # drawn, where there are more than ALL_ROWS
ALL_ROWS = 2048
# Rows of a head on which what was recognised is compared with the source: spread evenly, and where the run is worst.
SPREAD_ROWS, WORST_ROWS = 24, 8
# float64 results of the same attention differ by what rounding a scale to 2^-21 does to scores, and by little else.
SCALE_ROUNDING = 2.0**-20
EXACT = 1e-5

# The rows of a head (batch, head, rows ascending) -> [rows, D] in float64.
Rows = Callable[[int, int, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Head:
    """One head of a call: its place, its rows to compare, and those of them that the source hides every key from."""

    batch: int
    head: int
    rows: np.ndarray
    hidden: np.ndarray
    values: np.ndarray


def check_run(kernel: DescribedKernel, arrays: Mapping[str, np.ndarray], out: np.ndarray, seed: int) -> CheckResult:
    """Judge `out`, the result on `arrays` by argument name, all as callers have them but in device dtypes; seed: of
    the rows that are drawn.

    Raises InputError at an operation of the source that cannot be evaluated.
    """
    given, whole = arrays, kernel
    kernel, arrays = kernel.called(arrays)
    attention, arrays = kernel.attention, all_inward(kernel, arrays)
    recognised: Rows = lambda batch, head, rows: check.expected_rows(attention, arrays, batch, head, rows)  # noqa: E731
    source = None if kernel.source is None else _source_rows(whole, given)
    judge = Judge(LIMITS[attention.precision])
    full = inward(attention.argument("out").layout, out).reshape(attention.closed_shape("out"))
    left_out, fault = 0, None
    drawn = ROWS_PER_HEAD if attention.lengths.query > ALL_ROWS else None
    with long_work() as tell:
        for number, head in enumerate(_heads(attention, arrays, seed), 1):
            tell(f"checking: head {number} of {attention.lengths.batch * attention.heads}")
            reference = (source or recognised)(head.batch, head.head, head.rows)
            compared = full[head.batch, head.head, head.rows]
            if source is not None and fault is None:
                fault = _fault(attention, arrays, head, reference, compared, recognised)
            seen = ~head.hidden
            left_out += int(head.hidden.sum())
            judge.add(compared[seen], reference[seen], _mean_value(head.values))
    return judge.result("attention" if source is None else "source", left_out, drawn, fault)


def disagreement(
    kernel: DescribedKernel, arrays: Mapping[str, np.ndarray], result: np.ndarray, seed: int
) -> str | None:
    """How `result`, which is of float64 too, differs from what a kernel's source gives of arrays by argument name; None
    where it does not. seed: of the rows that are drawn.

    A mask may have been rounded to its own type. Rows from which it hides every key are left out.
    """
    source = _source_rows(kernel, arrays)
    kernel, arrays = kernel.called(arrays)
    attention, arrays = kernel.attention, all_inward(kernel, arrays)
    full = inward(attention.argument("out").layout, result).reshape(attention.closed_shape("out"))
    for head in _heads(attention, arrays, seed):
        allowed = _rounding(attention, arrays, head) + _mask_rounding(attention, arrays, head)
        if not np.isfinite(allowed):
            continue  # inputs that are not finite: the order of sums decides what comes of them
        given, unit = source(head.batch, head.head, head.rows), _unit(attention, head.head)
        allowed += unit if attention.argument("out").dtype == "i8" else 0.0
        distance = unit * apart(given, full[head.batch, head.head, head.rows])[~head.hidden].max(initial=0.0)
        if distance > allowed:
            at = f"[{head.batch}, {head.head}]"
            return f"in float64 they differ by {distance:.3g} in the head {at}, where {allowed:.2g} is allowed"
    return None


def _mean_value(values: np.ndarray) -> float:
    """mean |v| of what is finite."""
    finite = values[np.isfinite(values)]
    return float(np.abs(finite).mean()) if finite.size else 0.0


def _heads(attention: Attention, arrays: Mapping[str, np.ndarray], seed: int) -> Iterator[Head]:
    generator = np.random.default_rng(seed)
    batch, queries, _ = attention.lengths
    group = attention.heads // attention.kv_heads
    for b in range(batch):
        for h in range(attention.heads):
            rows = np.arange(queries)
            if queries > ALL_ROWS:
                rows = np.sort(generator.choice(queries, ROWS_PER_HEAD, replace=False))
            hidden = check.hidden_rows(attention, arrays, b, h, rows)
            yield Head(b, h, rows, hidden, check.head_values(attention, arrays, "v", b, h // group))


def _source_rows(kernel: DescribedKernel, arrays: Mapping[str, np.ndarray]) -> Rows:
    """The source's own operations, in parts."""
    assert kernel.source is not None
    attention = kernel.attention
    given = [arrays[argument.name] for argument in kernel.inputs]
    source = evaluator.load(kernel.source.text, kernel.source.file, attention.function, given)
    rank, layout = len(attention.argument("out").shape), attention.argument("out").layout
    whole = None if not layout or is_whole(layout) else inward(layout, source.whole())

    def rows_of(batch: int, head: int, rows: np.ndarray) -> np.ndarray:
        if whole is not None:
            return whole[batch, head, rows]
        if layout:
            part = source.part(head_part(layout, batch, head, rows, attention.head_dim))
            return head_rows(layout, part, len(rows), attention.head_dim)
        place = ([batch], [head], rows, range(attention.head_dim))
        return source.part(place[4 - rank :]).reshape(len(rows), attention.head_dim)

    return rows_of


def _fault(
    attention: Attention,
    arrays: Mapping[str, np.ndarray],
    head: Head,
    source: np.ndarray,
    out: np.ndarray,
    recognised: Rows,
) -> str | None:
    """How what was recognised differs from the source in some rows of a head; None where it does not."""
    allowed = _rounding(attention, arrays, head)
    if not np.isfinite(allowed):
        return None  # inputs that are not finite: the order of sums decides what comes of them
    some = _telling_rows(source, out)
    unit = _unit(attention, head.head)
    allowed += unit if attention.argument("out").dtype == "i8" else 0.0
    attended = recognised(head.batch, head.head, head.rows[some]) * unit
    # What a row without keys gives is not defined: nothing, a mean of all values, or no number.
    low, high = head.values.min(axis=0) - allowed, head.values.max(axis=0) + allowed
    for place, wanted, found in zip(some, source[some] * unit, attended, strict=True):
        at = f"[{head.batch}, {head.head}, {head.rows[place]}]"
        if head.hidden[place]:
            hull = np.isnan(wanted) | (wanted == 0) | ((low <= wanted) & (wanted <= high))
            if not hull.all():
                return f"it hides every key from the row {at}, the source does not"
            continue
        distances = apart(wanted, found)
        if not (distances <= allowed).all():
            return f"in float64 they differ by {distances.max():.3g} in the row {at}, where {allowed:.2g} is allowed"
    return None


def _telling_rows(source: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Places of rows: some spread evenly, and those in which the run is farthest from the source."""
    spread = np.linspace(0, len(source) - 1, SPREAD_ROWS).astype(np.int64)
    worst = np.argsort(apart(source, out.astype(np.float64)).max(axis=1), kind="stable")[-WORST_ROWS:]
    return np.unique(np.concatenate([spread, worst]))


def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Distances of elements; infinite where only one is a number."""
    with np.errstate(invalid="ignore"):
        distances = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    return np.where(np.isnan(distances), np.inf, distances)


def _unit(attention: Attention, head: int) -> float:
    """What one unit of the result stands for."""
    if attention.argument("out").dtype != "i8" or attention.o_scale is None:
        return 1.0
    return attention.o_scale[head if len(attention.o_scale) > 1 else 0]


def _rounding(attention: Attention, arrays: Mapping[str, np.ndarray], head: Head) -> float:
    """What the results of one attention may differ by when its scale is rounded: scores times that, on all values."""
    group = attention.heads // attention.kv_heads
    q = check.head_values(attention, arrays, "q", head.batch, head.head)
    k = check.head_values(attention, arrays, "k", head.batch, head.head // group)
    norms = [np.sqrt((x**2).sum(axis=-1).max()) for x in (q, k)]
    score = abs(attention.scale) * norms[0] * norms[1]
    return float((EXACT + SCALE_ROUNDING * score) * np.abs(head.values).max())


def _mask_rounding(attention: Attention, arrays: Mapping[str, np.ndarray], head: Head) -> float:
    """What results may differ by when an added mask is rounded to its type."""
    mask = check.mask_rows(attention, arrays, head.batch, head.head, head.rows)
    if mask is None or attention.mask != "add":
        return 0.0
    size = np.abs(mask[np.isfinite(mask) & ~check.hides(mask)]).max(initial=0.0)
    epsilon = 2.0 ** (1 - FLOAT_FORMATS[attention.argument("mask").dtype].precision)
    return float(epsilon * size * np.abs(head.values).max())
