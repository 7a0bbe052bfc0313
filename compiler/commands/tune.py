"""npuc tune."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from npuc.compiler.commands.distributed import distributed
from npuc.compiler.commands.run import sizes_of
from npuc.compiler.diagnostics import UnsupportedError, UsageError
from npuc.compiler.outputs import check_outputs
from npuc.runtime.backends import MACHINES

if TYPE_CHECKING:
    from npuc.runtime.tuning import Trial


@click.command("tune")
@click.argument("file", metavar="IN.mlir")
@click.option("--func", "function", metavar="NAME", help="Which function, of several.")
@click.option("--dim", "dims", metavar="S=N", multiple=True, help="Tune for this size, which the source leaves open.")
@click.option("--trials", type=click.IntRange(1), default=16, show_default=True, help="How many plans to try.")
@click.option("--machine", type=click.Choice(MACHINES), default=MACHINES[0], show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Draws the inputs of the runs.")
@distributed
@click.option("--json", "as_json", is_flag=True, help="Report as JSON on standard output.")
def command(
    file: str,
    function: str | None,
    dims: tuple[str, ...],
    trials: int,
    machine: str,
    seed: int,
    workers: int,
    scheduler: str | None,
    as_json: bool,
) -> None:
    """Try plans of IN.mlir on the emulator, and keep the best for `npuc compile IN.mlir`.

    The plans come in the planner's order, its own choice first, with the cycles that it predicts for the machine named;
    the order is that of phoenix, for which kernels are planned. What was measured is in the cache: the command can be
    killed and run again, with more trials or other workers, and goes on; the same seed gives the same best plan. That
    is compiled and kept in the compile cache, where `compile`, `run` and npuc.compile of the same file find it (with
    other options, with --no-cache, and in `golden`, nothing changes); the cache's key holds npuc's version and sources.

    JSON: trials[{number columns options predicted cycles? error? known}], best{...}, gain: planner's cycles over its.
    """
    from npuc.compiler import driver
    from npuc.compiler.files import read_bytes
    from npuc.passes.attention.supported import check_supported
    from npuc.runtime.tuning import best, tune

    if file == "-":
        raise UsageError("a kernel to tune is a file, for `compile` to find what is kept of it")
    check_outputs([file], {"--json": "-" if as_json else None})
    data = read_bytes(file)
    attention = driver.recognise_alone(data, file, function)
    check_supported(attention)
    told = attention.bound(sizes_of(dims)) if dims else attention
    _ = told.lengths  # which all have to be given

    def tell(trial: Trial) -> None:
        if not as_json:
            click.echo(_line(trial))

    done = tune(told, trials, machine, tell, workers, scheduler, seed)
    found = best(done)
    if found is None:
        raise UnsupportedError(f"none of {len(done)} plans ran: {done[0].error}", place=file)
    gain = done[0].cycles / found.cycles if done[0].cycles and found.cycles else None
    settings = driver.Settings(function=function)
    chosen = driver.Settings(function=function, columns=found.candidate.columns, options=found.candidate.options)
    about = {"trials": len(done), "cycles": found.cycles, "machine": machine, "dims": dict(sizes_of(dims))}
    kept = driver.keep_tuned(data, file, settings, chosen, {**about, **_choice(found)})
    if as_json:
        click.echo(json.dumps({"trials": [_json(t) for t in done], "best": _json(found), "gain": gain}))
        return
    better = "the planner's choice" if found.number == 0 else f"{(gain or 1) - 1:.2%} faster than the planner's choice"
    if len(done) < trials:
        click.echo(f"these are all {len(done)} plans that there are")
    click.echo(f"best: {_words(found)}: {found.cycles:,} cycles (emulated), {better}; kept for npuc compile {file}")
    if not kept:
        options = " ".join(f"--option {key}={value}" for key, value in found.candidate.options.items())
        click.echo(f"the cache takes nothing: compile with --columns {found.candidate.columns} {options}")


def _choice(trial: Trial) -> dict[str, Any]:
    return {"columns": trial.candidate.columns, "options": dict(trial.candidate.options)}


def _json(trial: Trial) -> dict[str, Any]:
    about = {"number": trial.number, **_choice(trial), "predicted": trial.candidate.predicted, "known": trial.known}
    return {**about, "cycles": trial.cycles} if trial.error is None else {**about, "error": trial.error}


def _words(trial: Trial) -> str:
    chosen = " ".join(f"{key}={value}" for key, value in trial.candidate.options.items())
    return f"columns={trial.candidate.columns} {chosen}"


def _line(trial: Trial) -> str:
    known = ", known" if trial.known else ""
    if trial.cycles is None:
        return f"{trial.number:3}  {_words(trial)}: {trial.error}{known}"
    off = trial.cycles / trial.candidate.predicted
    predicted = f"predicted {trial.candidate.predicted:,} ({off:.2f})"
    return f"{trial.number:3}  {_words(trial)}: {trial.cycles:,} cycles (emulated), {predicted}{known}"
