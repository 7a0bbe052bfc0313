"""One run as people and programs read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from npuc.compiler.frontend.attention import Attention
from npuc.runtime.backends import NPU_BACKENDS
from npuc.runtime.energy import modelled
from npuc.runtime.judgement import CheckResult
from npuc.runtime.statistics import PEAK_MACS_PER_CYCLE, RunReport

# facts/silicon/silicon.md section 9: one-shot runs through the host's interface, measured on npu1.
DISPATCH = "the host's dispatch adds 0.11 to 0.16 ms to each call"


@dataclass(frozen=True)
class RunSummary:
    """outputs: as users get them, by name. files: output name -> file it was written to. check: None if not asked."""

    kernel: str
    attention: Attention
    report: RunReport
    outputs: Mapping[str, np.ndarray]
    files: Mapping[str, str]
    macs: int
    check: CheckResult | None
    warnings: Sequence[str]

    def to_json(self) -> dict[str, Any]:
        """The fields of `run --json`; null where the backend does not count."""
        report = self.report
        outputs = {
            name: {"shape": list(array.shape), "dtype": str(array.dtype), "file": self.files.get(name)}
            for name, array in self.outputs.items()
        }
        return {
            "kernel": self.kernel,
            "backend": report.backend,
            "emulated": report.emulated,
            "outputs": outputs,
            "cycles": report.cycles,
            "clock_hz": report.clock_hz,
            "seconds": report.seconds,
            "bundles": report.bundles,
            "macs": self.macs,
            "utilization": report.utilization(self.macs, self.attention.precision),
            "energy": energy_json(report, self.macs),
            "cores": [asdict(core) for core in report.cores],
            "dma": list(report.dma),
            "check": None if self.check is None else self.check.to_json(),
            "warnings": list(self.warnings),
        }

    def text(self) -> str:
        """A few lines for a terminal; every emulated figure says so."""
        report = self.report
        mark = " (emulated)" if report.emulated else ""
        lines = [f"kernel       {self.kernel}: {describe(self.attention)}", f"backend      {report.backend}{mark}"]
        if report.cycles is not None and report.clock_hz is not None:
            lines.append(f"cycles       {report.cycles:,}{mark}")
            lines.append(f"time         {milliseconds(report.seconds)} at {report.clock_hz / 1e9:g} GHz{mark}")
            peak = PEAK_MACS_PER_CYCLE[self.attention.precision]
            share = report.utilization(self.macs, self.attention.precision)
            if share is not None:  # a run of no cycles has none
                lines.append(f"utilization  {share:.1%} of 16 cores' {peak:,} MACs a cycle{mark}")
        elif report.emulated:
            lines.append(f"time         {milliseconds(report.seconds)} of this machine, to emulate")
        else:
            lines.append(f"time         {milliseconds(report.seconds)}, measured{_dispatch(report.backend)}")
        if self.check is not None:
            lines.append(f"check        {check_line(self.check)}")
        lines += [f"written      {name} to {file}" for name, file in self.files.items()]
        return "\n".join(lines) + "\n"


def _dispatch(backend: str) -> str:
    """What of a measured time is none of the array's."""
    return f"; {DISPATCH}" if backend in NPU_BACKENDS else ""


def energy_json(report: RunReport, macs: int) -> dict[str, Any] | None:
    """Of an emulated run by the model of npuc.runtime.energy; None for others."""
    energy = modelled(report.seconds, macs) if report.cycles is not None else None
    return None if energy is None else {"model": True, **asdict(energy)}


def describe(attention: Attention) -> str:
    """Shape and rules of an attention on one line."""
    parts = [
        f"batch {attention.batch}, {attention.heads} heads"
        + (f" ({attention.kv_heads} of K and V)" if attention.kv_heads != attention.heads else ""),
        f"{attention.query_length} queries, {attention.key_length} keys, head size {attention.head_dim}",
        attention.precision,
    ]
    parts += ["causal"] if attention.causal else []
    parts += [f"window {attention.window}"] if attention.window is not None else []
    parts += [f"softcap {attention.softcap:g}"] if attention.softcap is not None else []
    parts += ["masked"] if attention.mask is not None else []
    return ", ".join(parts)


REFERENCES = {
    "source": "the source's own operations in float64",
    "parts": "the source's own operations in float64, step by step (each attention on what it was given)",
    "attention": "the recognised attention in float64 (there is no source to compare with)",
}


def check_line(result: CheckResult) -> str:
    """What the check found, with the limits it used."""
    head = f"{'passed' if result.passed else 'FAILED'} against {REFERENCES[result.reference]}: "
    if result.recognition is not None:
        head += f"recognition is at fault, the attention recognised is another: {result.recognition}; the run: "
    limits = result.limits
    parts = [f"mean relative L1 {result.mean_rel_l1:.2e} (limit {limits.mean_rel_l1:g})"]
    if result.correlation is not None:
        parts.append(f"correlation {result.correlation:.6f} (limit {limits.correlation:g})")
    if limits.relative is not None:
        tolerance = f"rtol {limits.relative:g} + {limits.of_values:g} mean |v|"
        parts.append(f"{result.outside:,} of {result.elements:,} outside {tolerance}")
    if result.not_numbers:
        parts.append(f"{result.not_numbers:,} of {result.elements:,} NaN in both")
    parts.append(f"largest difference {result.max_abs:.2e}")
    if result.rows_per_head is not None:
        parts.append(f"{result.rows_per_head} rows of each head, drawn")
    if result.rows_left_out:
        parts.append(f"{result.rows_left_out:,} rows left out from which the source hides every key")
    return head + ", ".join(parts)


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with four digits."""
    return f"{seconds * 1e3:.4g} ms"


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows with the same keys as aligned columns under their names."""
    names = list(rows[0])
    cells = [names] + [[f"{row[n]:,}" if isinstance(row[n], int) else str(row[n]) for n in names] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)) + "\n" for line in cells)
