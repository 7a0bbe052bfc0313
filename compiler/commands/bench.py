"""npuc bench."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from npuc.compiler.bench_cases import CASES, Case
from npuc.compiler.commands.distributed import distributed
from npuc.compiler.diagnostics import UnsupportedError, UsageError

if TYPE_CHECKING:
    import numpy as np

    from npuc.passes.attention.plan import Estimate
    from npuc.runtime.statistics import RunReport


@click.command("bench")
@click.argument("names", metavar="[CASE]...", nargs=-1)
@click.option("--list", "only_list", is_flag=True, help="Print the cases and what they are.")
@click.option("--option", "options", metavar="KEY=VALUE", multiple=True, help="As for compile, for every case.")
@click.option("--machine", type=click.Choice(["phoenix", "8945hs", "8700g"]), default="phoenix", show_default=True)
@distributed
@click.option("--json", "as_json", is_flag=True, help="Report as JSON, one object with the list `cases`.")
def command(
    names: tuple[str, ...],
    only_list: bool,
    options: tuple[str, ...],
    machine: str,
    workers: int,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Run benchmark cases on the emulator: cycles, what the planner predicted and what binds, utilisation, wall time.

    Without names: all of them (half an hour). Cycles are the same on every run; `ratio` is cycles over prediction.
    Kernels are planned for phoenix; what is predicted of them, and what binds, is for the machine named.
    JSON: name, cycles, predicted, binds, compute, streams, ddr, dispatch, start, drain, utilization, seconds, and
    plain: cycles of the plain style of sequence (one descriptor a task, one wait a task), null where that is not run;
    of a case that kernels do not compute only name and unsupported: why.
    """
    from npuc.compiler.commands.compile import key_values
    from npuc.runtime.distribute import in_order

    known = {case.name: case for case in CASES}
    for name in names:
        if name not in known:
            raise UsageError(f"no case {name!r}", remedy="npuc bench --list shows them")
    chosen = [known[name] for name in names] or list(CASES)
    if only_list:
        for case in chosen:
            click.echo(f"{case.name:<24} {case.text}")
        return
    chosen_options = key_values(options)
    results = []
    jobs = [(case, chosen_options, machine) for case in chosen]
    for result in in_order(_result, jobs, workers, scheduler):
        results.append(result)
        if not as_json:
            click.echo(_line(result))
    if as_json:
        click.echo(json.dumps({"machine": machine, "emulated": True, "cases": results}))


def _result(job: tuple[Case, dict[str, str], str]) -> dict[str, Any]:
    """Of one case, on any process."""
    case, options, machine = job
    try:
        return _measured(case, options, machine)
    except UnsupportedError as error:
        return {"name": case.name, "unsupported": error.message}


def _measured(case: Case, options: dict[str, str], machine: str) -> dict[str, Any]:
    from npuc.runtime.check import multiply_accumulates

    begin = time.perf_counter()
    estimate, report, seen = _run(case, options, machine)
    seconds = time.perf_counter() - begin
    plain = None
    if case.plain and "sequence" not in options:
        plain = _run(case, {**options, "sequence": "plain"}, machine)[1].cycles
    macs = multiply_accumulates(case.attention, seen)
    terms = ("compute", "streams", "ddr", "dispatch", "start", "drain")
    return {
        "name": case.name,
        "cycles": report.cycles,
        "predicted": estimate.total,
        "binds": estimate.binds,
        **{term: getattr(estimate, term) for term in terms},
        "utilization": report.utilization(macs, case.attention.precision),
        "plain": plain,
        "seconds": seconds,
    }


def _run(case: Case, options: dict[str, str], machine: str) -> tuple[Estimate, RunReport, dict[str, np.ndarray]]:
    """What the planner predicts for the machine, the report of a run on it, and its inputs."""
    from npuc.runtime.arguments import draw, to_device
    from npuc.runtime.emulator.timing import MACHINES
    from npuc.runtime.executor import compile
    from npuc.runtime.kernel_file import KernelFile
    from npuc.runtime.predictions import prediction

    kernel = compile(case.attention, options=options)
    with kernel.load(backend="emulator", fallback=(), machine=machine) as executable:
        given = executable.prepare(draw(executable.kernel.inputs, 0))
        executable.run(given)
        assert executable.stats is not None and executable.stats.cycles is not None
        seen = {a.name: to_device(a, given[a.name]) for a in executable.kernel.inputs}
        assert isinstance(executable.kernel, KernelFile)
        return prediction(executable.kernel, MACHINES[machine]), executable.stats, seen


def _line(result: dict[str, Any]) -> str:
    if "unsupported" in result:
        return f"{result['name']:<24} not computed: {result['unsupported']}"
    ratio = result["cycles"] / result["predicted"]
    plain = "" if result["plain"] is None else f"  plain sequence {result['plain'] / result['cycles']:.2f} times that"
    return (
        f"{result['name']:<24} {result['cycles']:>12,} cycles (emulated), predicted {result['predicted']:>12,} "
        f"({ratio:.2f}), bound by {result['binds']:<8} {result['utilization'] or 0:6.1%}  "
        f"{result['seconds']:.1f} s{plain}"
    )
