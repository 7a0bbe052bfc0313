"""Checking a run of a function with attention inside against its own operations in float64.

First from its arguments to its results. Where values are such that roundings in one attention grow in the next (random
weights give scores in the thousands), that says nothing of the run; then the function is followed step by step: what
each attention was given must be what the source computes there from the results of those before it, each attention's
result is compared with the source's operations on what it was given, and so are the function's results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from npuc.compiler.frontend.host import Cut
from npuc.runtime import evaluator
from npuc.runtime.checking import apart, check_run, disagreement
from npuc.runtime.evaluator.build import Builder
from npuc.runtime.evaluator.nodes import Given, Node
from npuc.runtime.evaluator.schedule import evaluate
from npuc.runtime.evaluator.source import of_module
from npuc.runtime.judgement import LIMITS, CheckResult, Judge, together
from npuc.runtime.kernel_file import SourceText
from npuc.runtime.whole_modules import Attended, WholeKernel

# Of the largest value: float64 sums in another order differ by less.
SAME = 1e-6


def check_whole(
    kernel: WholeKernel,
    arrays: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    attended: Sequence[Attended],
    seed: int = 0,
) -> CheckResult:
    """Judge the results of a whole function; attended: what its attentions were given and gave.

    A single element may be off by the share of the mean of all that an attention's may be of its values. Raises
    InputError at an operation of the source that cannot be evaluated.
    """
    assert kernel.source is not None
    given = [arrays[a.name] for a in kernel.inputs]
    source = evaluator.load(kernel.source.text, kernel.source.file, kernel.function, given)
    found = _results(kernel, [source.whole(n) for n in range(len(kernel.outputs))], outputs).result("source")
    return found if found.passed else _by_steps(kernel, kernel.source, given, outputs, attended, seed)


def _results(kernel: WholeKernel, references: Sequence[np.ndarray], outputs: Mapping[str, np.ndarray]) -> Judge:
    judge = Judge(LIMITS[kernel.attention.precision])
    for argument, reference in zip(kernel.outputs, references, strict=True):
        finite = reference[np.isfinite(reference)]
        judge.add(outputs[argument.name], reference, float(np.abs(finite).mean()) if finite.size else 0.0)
    return judge


def _by_steps(
    kernel: WholeKernel,
    text: SourceText,
    given: Sequence[np.ndarray],
    outputs: Mapping[str, np.ndarray],
    attended: Sequence[Attended],
    seed: int,
) -> CheckResult:
    from npuc.compiler import frontend
    from npuc.compiler.frontend.load import inlined, places_of

    cuts = frontend.recognise(text.text, text.file, kernel.function).cuts
    module, function = inlined(text.text, text.file, kernel.function)  # in which nothing was recognised, nor masks made
    values = {place: value for value, place in places_of(function.regions[0].blocks[0]).items()}
    roots = {values[cut.root_place]: number for number, cut in enumerate(cuts)}
    checks: list[CheckResult] = []

    class Followed(Builder):
        """Builds the source's nodes; an attention gives what it gave in the run."""

        def results_of(self, operation: Any) -> list[Node]:
            found = super().results_of(operation)
            for n, result in enumerate(operation.results):
                if result in roots:
                    cut, step = cuts[roots[result]], attended[roots[result]]
                    own = [None if at is None else evaluate(self.values[values[at]]) for at in cut.leaf_places]
                    checks.append(_of_attention(cut, step, own, found[n], text, seed))
                    array = np.asarray(step.result, np.float64)
                    found[n] = Given(found[n].origin, found[n].type, array, False)
            return found

    with module.context:
        source = of_module(module, text.file, kernel.function, given, Followed)
        references = [evaluate(node) for node in source.results]
    return together([*checks, _results(kernel, references, outputs).result("parts")])


def _of_attention(
    cut: Cut, step: Attended, own: Sequence[np.ndarray | None], root: Node, source: SourceText, seed: int
) -> CheckResult:
    """One attention against the source's operations for it, on what the kernel saw.

    own: what the source computes for each input, None for a mask that is made of the source's. root: what the source
    gives of those; with such a mask, that says whether the attention is the source's.
    """
    text = source if cut.attention.outlined is None else SourceText(cut.attention.outlined, source.file)
    shapes = {a.name: np.shape(value) for a, value in zip(step.kernel.inputs, step.given, strict=True)}
    computed = replace(step.kernel.computing(cut.attention).of_arrays(shapes), source=text)
    result = check_run(computed, step.seen, step.result, seed)
    given = {a.name: np.asarray(value) for a, value in zip(computed.inputs, step.given, strict=True)}
    for (name, taken), wanted in zip(given.items(), own, strict=True):
        if wanted is not None and not _same(np.asarray(wanted, np.float64), np.asarray(taken, np.float64)):
            what = f"@{cut.attention.function} was given another {name} than the source computes"
            return replace(result, recognition=what, passed=False)
    fault = disagreement(computed, given, evaluate(root), seed) if any(value is None for value in own) else None
    if fault is not None:
        return replace(result, reference="parts", recognition=fault, passed=False)
    return replace(result, reference="parts")


def _same(wanted: np.ndarray, taken: np.ndarray) -> bool:
    """Whether two float64 arrays are the same but for the order of sums; a mask may be of truths."""
    size = np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0)
    return bool((apart(wanted, taken) <= SAME * size).all())
