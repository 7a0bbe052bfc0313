"""Random changes of accepted sources: each must be refused, or recognised as what the source then computes, or what
is recognised inside it must be what that part of the source computes.

`campaign(texts, seed, count)` gives accepted texts small sizes, changes one to three things in the module
(mutations.py) and compares the float64 reference of what is recognised with the evaluator's values of the source, on
inputs that tell alternatives apart. As a program:
`python tests/compiler/mutants.py --count 100000 --seed 1 --workers 2 --findings DIR`.
"""

from __future__ import annotations

import argparse
import os
import pickle
import random
import re
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mutations import MUTATIONS
from torch_mlir import ir

from npuc.compiler.diagnostics import NpucError
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.frontend.context import new_context
from npuc.compiler.frontend.load import of_module as recognise
from npuc.compiler.frontend.parse import parse
from npuc.runtime import check
from npuc.runtime.distribute import in_order
from npuc.runtime.evaluator.source import of_module as evaluate
from npuc.runtime.layouts import inward

MUTANTS_PER_BASE = 40
BATCH = 2000  # mutants a child process makes
TRIES = 60  # of sizes for a text
FILE = "mutant.mlir"
# Recognition may round a scale to 2^-21; two float64 results of one attention differ by little else.
SCALE_ROUNDING = 2.0**-20
EXACT = 1e-9


@dataclass
class Finding:
    """A mutant that was accepted and means something else."""

    kind: str
    base: str
    changes: list[str]
    details: str
    text: str

    def report(self) -> str:
        head = [f"// {self.kind}: {self.details}", f"// from {self.base}", *(f"// {c}" for c in self.changes)]
        return "\n".join(line.replace("\n", " ") for line in head) + "\n" + self.text


@dataclass
class Figures:
    """outcomes: how many mutants were invalid, refused, equal, wrong, undefined (accepted, but without a value)."""

    outcomes: Counter[str] = field(default_factory=Counter)
    changes: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        self.outcomes += other.outcomes
        self.changes += other.changes
        self.findings += other.findings


# --- small sizes --------------------------------------------------------------------------------------------------
_TENSOR = re.compile(r"tensor<((?:\d+x)+)")
_SHAPE = re.compile(r"(output_shape \[)([\d, ]+)(\])")


def resized(text: str, sizes: Mapping[int, int]) -> str:
    """The text with other lengths of dimensions."""

    def tensor(match: re.Match[str]) -> str:
        lengths = match[1].rstrip("x").split("x")
        return "tensor<" + "".join(f"{sizes.get(int(n), int(n))}x" for n in lengths)

    def shape(match: re.Match[str]) -> str:
        lengths = (int(n) for n in match[2].split(","))
        return match[1] + ", ".join(str(sizes.get(n, n)) for n in lengths) + match[3]

    return _SHAPE.sub(shape, _TENSOR.sub(tensor, text))


def small(text: str, rng: random.Random) -> tuple[Any, Attention] | None:
    """The text as a module of small sizes that is recognised; None where no sizes were found."""
    old = sorted({int(n) for lengths in _TENSOR.findall(text) for n in lengths.rstrip("x").split("x")} - {1})
    for attempt in range(TRIES):
        if rng.random() < 0.4:
            same = rng.randrange(2, 4)
            sizes = {n: same if n >= 32 else n for n in old}
        else:
            sizes = {n: rng.randrange(2, 7) if n >= 32 or attempt % 2 else n for n in old}
        try:
            module = read(resized(text, sizes))
            return module, recognise(module, FILE)[0]
        except (ir.MLIRError, NpucError, ValueError):
            continue
    return None


def read(text: str) -> Any:
    """The module of a text that is known to be harmless; where it has to be lowered, by the way of all others."""
    if any(dialect in text for dialect in ("tosa.", "stablehlo.", "torch.", "iree_linalg_ext.")):
        return parse(text, FILE)
    with new_context(b"attn."):
        return ir.Module.parse(text)


# --- inputs -------------------------------------------------------------------------------------------------------
def draws(attention: Attention, seed: int) -> Iterator[list[np.ndarray]]:
    """Inputs in argument order, two of four kinds: ordinary, all scores negative, large, and nearly equal scores with
    values far off."""
    generator = np.random.default_rng(seed)
    for kind in generator.choice(4, 2, replace=False):
        arrays = []
        for argument in attention.parameters:
            shape = argument.source_shape
            values = generator.standard_normal(shape)
            if argument.role == "scale":
                values = generator.uniform(0.1, 0.5, shape) * (1.0 if argument.rooted or kind else -1.0)
            elif argument.dtype == "i1":
                values = generator.random(shape) < 0.7
                values[..., :1] = True
                values = values != getattr(argument, "inverted", False)
            elif argument.dtype in ("i16", "i32", "i64"):
                values = np.asarray(generator.integers(0, 8, shape), f"int{argument.dtype[1:]}")
            elif argument.role == "mask":
                values[generator.random(shape) < 0.2] = -np.inf
                values[..., :1] = generator.standard_normal()
            elif argument.dtype == "i8":
                values = np.clip(np.rint(32 * values), -127, 127).astype(np.int8)
            elif kind == 1:
                values = {"q": 1.0, "k": -1.0}.get(argument.role, 0.5) * (np.abs(values) + 0.5)
            elif kind == 2:
                values = 5.0 * values - 1.0
            elif kind == 3:
                values = 100.0 * values + 300.0 if argument.role == "v" else 0.02 * values
            arrays.append(values)
        yield arrays


def difference(module: Any, attention: Attention, arrays: Sequence[np.ndarray]) -> float:
    """The largest difference of what is recognised from what the source computes, in units of what rounding allows.

    Rows that see no key are left out, as by `--check`.
    """
    source = evaluate(module, FILE, attention.function, arrays).whole()
    given = {a.name: array for a, array in zip(attention.parameters, arrays, strict=True)}
    named = {a.name: inward(a.layout, attention.taken(given)[a.name]) for a in attention.inputs}
    attention = attention.called(given)
    source = inward(attention.argument("out").layout, source)
    wanted = check.expected(attention, named)
    q, k, v = (
        named[attention.argument(role).name].reshape(attention.closed_shape(role)).astype(np.float64) for role in "qkv"
    )
    scores = attention.scale * (q @ np.repeat(k, attention.heads // attention.kv_heads, 1).swapaxes(-1, -2))
    top = np.abs(scores).max()
    if attention.mask == "add":
        mask = named[attention.argument("mask").name]
        top += np.abs(mask[np.isfinite(mask)]).max(initial=0.0)
    allowed = (EXACT + SCALE_ROUNDING * top) * np.abs(v).max()
    with np.errstate(invalid="ignore"):
        apart = np.where((source == wanted) | (np.isnan(source) & np.isnan(wanted)), 0.0, np.abs(source - wanted))
    apart = np.where(_hidden(attention, named)[..., None], 0.0, apart.reshape(attention.closed_shape("out")))
    return float(np.where(np.isnan(apart), np.inf, apart).max(initial=0.0) / allowed)


def _hidden(attention: Attention, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which rows see no key, [B, H, S]."""
    batch, queries, _ = attention.lengths
    rows = np.arange(queries)
    heads = range(attention.heads)
    return np.array([[check.hidden_rows(attention, arrays, b, h, rows) for h in heads] for b in range(batch)])


# --- one mutant ---------------------------------------------------------------------------------------------------
def outcome_of(module: Any, seed: int) -> tuple[str, str]:
    """What becomes of a module that verifies: refused, equal (with what is left on the host), wrong, undefined or
    crash; and details."""
    try:
        found = recognise(module, FILE)
    except NpucError as error:
        return "refused", str(error)
    except Exception:
        return "crash", traceback.format_exc(limit=-3)
    try:
        for attention in found:
            source = module
            if attention.outlined is not None:
                with module.context:
                    source = ir.Module.parse(attention.outlined)
            for number, arrays in enumerate(draws(attention, seed)):
                apart = difference(source, attention, arrays)
                if apart > 1.0:
                    scale = f"@{attention.function} recognised with scale {attention.scale!r}"
                    return "wrong", f"inputs {number}: {apart:.3g} times what rounding allows; {scale}"
    except NpucError as error:
        return "undefined", str(error)
    return "equal", "" if found[0].within is None else "within"


def _mutated(base: Any, rng: random.Random) -> tuple[Any, list[str]]:
    module = base.operation.clone()
    changes: list[str] = []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 2, 3))):
        function = next(o.operation for o in module.regions[0].blocks[0].operations if o.operation.name == "func.func")
        done = rng.choice(MUTATIONS)(function, rng)
        if done is not None:
            changes.append(done)
    return module, changes


def _valid(module: Any) -> bool:
    try:
        return bool(module.operation.verify())
    except ir.MLIRError:
        return False


def batch(texts: Mapping[str, str], seed: int, count: int) -> Figures:
    """Make and judge `count` mutants in this process."""
    rng = random.Random(seed)
    figures = Figures()
    names = list(texts)
    wrong: set[str] = set()
    while sum(figures.outcomes.values()) < count:
        name = rng.choice(names)
        base = small(texts[name], rng)
        if base is None:
            figures.outcomes["no small sizes"] += 1
            continue
        with base[0].context, ir.Location.unknown():
            outcome, details = outcome_of(base[0], seed)
            if outcome != "equal":
                if name not in wrong:
                    figures.findings.append(Finding(outcome, name, ["unchanged"], details, str(base[0])))
                wrong.add(name)
                figures.outcomes[f"unchanged {outcome}"] += 1
                continue
            for _ in range(MUTANTS_PER_BASE):
                module, changes = _mutated(base[0], rng)
                if not changes:
                    continue
                details = ""
                outcome = "invalid"
                if _valid(module):
                    outcome, details = outcome_of(module, rng.randrange(1 << 30))
                figures.outcomes[outcome] += 1
                figures.changes.update(f"{outcome} {change.split(':')[0]}" for change in changes[:1])
                if outcome in ("wrong", "undefined", "crash"):
                    figures.findings.append(Finding(outcome, name, changes, details, str(module)))
    return figures


# --- many ---------------------------------------------------------------------------------------------------------
def campaign(
    texts: Mapping[str, str],
    seed: int,
    count: int,
    progress: Callable[[Figures], None] | None = None,
    workers: int = 1,
    scheduler: str | None = None,
) -> Figures:
    """`count` mutants in child processes of BATCH each; one that dies is a finding. progress: called after each.

    workers, scheduler: as `npuc tune` has them; the figures are the same.
    """
    total = Figures()
    batches = [
        (texts, seed * 1_000_003 + number, min(BATCH, count - number * BATCH)) for number in range(-(-count // BATCH))
    ]
    done = in_order(_in_child, batches, workers, scheduler)
    for (_, batch_seed, size), figures in zip(batches, done, strict=True):
        if figures is None:
            total.outcomes["died"] += size
            total.findings.append(Finding("died", "", [], f"batch of seed {batch_seed}", ""))
        else:
            total.add(figures)
        if progress is not None:
            progress(total)
    return total


def _in_child(batch_of: tuple[Mapping[str, str], int, int]) -> Figures | None:
    texts, seed, count = batch_of
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(readable)
            figures = batch(texts, seed, count)
            with os.fdopen(writable, "wb") as pipe:
                pickle.dump(figures, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    return pickle.loads(data) if status == 0 else None


def accepted(texts: Mapping[str, str]) -> dict[str, str]:
    """Those that recognition accepts."""
    found = {}
    for name, text in texts.items():
        try:
            recognise(read(text), name)
            found[name] = text
        except (NpucError, ir.MLIRError):
            continue
    return found


def main() -> None:
    from mutant_sources import sources

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, help="folder for the mutants that are wrong")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument(
        "--scheduler", help="address of a Dask scheduler, whose workers have tests/compiler in PYTHONPATH"
    )
    options = parser.parse_args()
    texts = accepted(sources())
    print(f"seed {options.seed}, {len(texts)} sources", flush=True)
    written = 0

    def show(figures: Figures) -> None:
        nonlocal written
        print(dict(figures.outcomes), flush=True)
        for number, finding in enumerate(figures.findings[written:], written):
            if options.findings is not None:
                options.findings.mkdir(parents=True, exist_ok=True)
                name = f"{finding.kind}_{options.seed}_{number:04}.mlir"
                (options.findings / name).write_text(finding.report())
            print(finding.kind, finding.base, "|", " | ".join(finding.changes), "|", finding.details[-300:], flush=True)
        written = len(figures.findings)

    campaign(texts, options.seed, options.count, show, options.workers, options.scheduler)


if __name__ == "__main__":
    main()
