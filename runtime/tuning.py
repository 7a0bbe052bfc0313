"""Plans tried on the emulator: the planner's candidates in its order, and the best measured.

The cost model orders the whole space in a second, so a search without it (random, Bayesian) only spends trials on what
the model rightly calls slow. The order, and with it the best of N trials, depends neither on the number of workers nor
on which of them ends first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from npuc.compiler import cache, fingerprint
from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend.attention import Attention
from npuc.passes.attention.choose import Candidate, candidates
from npuc.runtime.distribute import results
from npuc.runtime.emulator.timing import MACHINES
from npuc.runtime.predictions import costs_of


@dataclass(frozen=True)
class Trial:
    """number: from 0, in the planner's order; its own choice is 0. cycles: None where it failed, and why. known: from
    an earlier search."""

    number: int
    candidate: Candidate
    cycles: int | None = None
    error: str | None = None
    known: bool = False


@dataclass(frozen=True)
class Job:
    """What a worker is given."""

    attention: Mapping[str, Any] = field(repr=False)
    columns: int
    options: Mapping[str, str]
    machine: str
    seed: int = 0

    @property
    def key(self) -> str:
        """Of its result in the cache: everything that decides it."""
        everything = {"tuning": asdict(self), "code": fingerprint.code_fingerprint()}
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def measured(job: Job) -> dict[str, Any]:
    """Cycles of one run, or the error that stood in the way: {"cycles": N} or {"error": text}. Runs on any process."""
    from npuc.runtime.arguments import draw
    from npuc.runtime.executor import compile

    try:
        kernel = compile(Attention.from_json(job.attention), columns=job.columns, options=dict(job.options))
        with kernel.load(backend="emulator", fallback=(), machine=job.machine) as executable:  # type: ignore[arg-type]
            call = executable.serve(executable.prepare(draw(executable.kernel.inputs, job.seed)))
            return {"cycles": call.report.cycles}
    except NpucError as error:
        return {"error": str(error)}


def tune(
    attention: Attention,
    count: int,
    machine: str,
    told: Callable[[Trial], None],
    workers: int = 1,
    scheduler: str | None = None,
    seed: int = 0,
) -> list[Trial]:
    """The first `count` candidates, each measured once, now or by an earlier search whose results the cache has.

    attention: with all lengths given. seed: draws the inputs, on which cycles hardly depend. told: called with every
    trial that is done, in the order of their ends. Each result is in the cache before the next is waited for: what is
    killed loses what was under way. Raises as `distribute.results`.
    """
    costs = costs_of(MACHINES[machine])
    trials = [Trial(number, candidate) for number, candidate in enumerate(candidates(attention, count, costs))]
    jobs = [Job(attention.to_json(), t.candidate.columns, t.candidate.options, machine, seed) for t in trials]
    open_trials = []
    for trial, job in zip(list(trials), jobs, strict=True):
        found = _recorded(job.key)
        if found is None:
            open_trials.append(trial.number)
            continue
        trials[trial.number] = replace(trial, **found, known=True)
        told(trials[trial.number])
    for place, result in results(measured, [jobs[number] for number in open_trials], workers, scheduler):
        number = open_trials[place]
        trials[number] = replace(trials[number], **result)
        cache.STORE.write(jobs[number].key, json.dumps(result).encode(), cache.SIZE_LIMIT)
        told(trials[number])
    return trials


def best(trials: Sequence[Trial]) -> Trial | None:
    """The fewest cycles; of equal ones the one that the planner puts first. None where all failed."""
    done = [trial for trial in trials if trial.cycles is not None]
    return min(done, key=lambda trial: (trial.cycles or 0, trial.number), default=None)


def _recorded(key: str) -> dict[str, Any] | None:
    content = cache.STORE.read(key)
    if content is None:
        return None
    try:
        found = json.loads(content)
        if isinstance(found, dict) and len(found) == 1:
            if isinstance(found.get("cycles"), int) or isinstance(found.get("error"), str):
                return found
    except ValueError:
        pass
    return None
