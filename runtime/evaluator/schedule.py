"""Evaluating a part of a node: which parts of which nodes, in which order, kept for how long, cut how small.

`tasks_of` lists what a part needs, every (node, part) once, operands first. From the list alone follows the memory the
part takes, so a part that would take too much is cut in two before anything is computed, along the dimension that
repeats the least work.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from npuc.compiler.diagnostics import InputError, ResourceError
from npuc.runtime.evaluator.arithmetic import standing_in
from npuc.runtime.evaluator.nodes import Node, Request
from npuc.runtime.evaluator.regions import Region, count, everything, halves, lengths, put

# Bytes one part should take, and may take. Smaller parts repeat more of what all of them need, larger ones gain little.
PART_BYTES = 128 << 20
MOST_BYTES = 1 << 30
# How much more work two halves may be than the whole, for the sake of PART_BYTES.
MOST_REPEATED = 1.25
# Elementary parts of tensors one evaluation may come to: programs beyond it would take hours.
MOST_TASKS = 1 << 20


@dataclass
class Task:
    """A part of a node; operands: which tasks before it give what it needs; last: the last task that uses it."""

    node: Node
    region: Region
    operands: tuple[int, ...]
    last: int


def tasks_of(node: Node, region: Region) -> list[Task]:
    """All parts that a part needs, itself last. Raises InputError where something needed has no value."""
    numbers: dict[tuple[int, Region], int] = {}
    tasks: list[Task] = []
    needs: dict[tuple[int, Region], list[Request]] = {}
    stack: list[Request] = [(node, region)]
    while stack:
        wanted, part = stack[-1]
        key = (id(wanted), part)
        if key in numbers:
            stack.pop()
            continue
        if key not in needs:
            needs[key] = wanted.needs(part)
            stack += needs[key]
            continue
        stack.pop()
        operands = tuple(numbers[id(n), r] for n, r in needs.pop(key))
        numbers[key] = len(tasks)
        for operand in operands:
            tasks[operand].last = len(tasks)
        tasks.append(Task(wanted, part, operands, len(tasks)))
        if len(tasks) > MOST_TASKS:
            raise ResourceError(
                f"its evaluation takes more than {MOST_TASKS:,} steps", remedy="check a smaller problem"
            )
    return tasks


def peak_bytes(tasks: Sequence[Task]) -> int:
    """The most that results and scratch take at one time when the tasks run in order."""
    held = most = 0
    ending: list[list[int]] = [[] for _ in tasks]
    for number, task in enumerate(tasks):
        ending[task.last].append(number)
    for number, task in enumerate(tasks):
        held += task.node.nbytes(task.region)
        most = max(most, held + task.node.scratch(task.region))
        held -= sum(tasks[ended].node.nbytes(tasks[ended].region) for ended in ending[number])
    return most


def run(tasks: Sequence[Task]) -> np.ndarray:
    """The result of the last task."""
    results: dict[int, np.ndarray] = {}
    with np.errstate(all="ignore"):
        for number, task in enumerate(tasks):
            arrays = [results[operand] for operand in task.operands]
            result = task.node.compute(task.region, arrays)
            assert result.shape == lengths(task.region), f"{task.node.origin.operation} gave {result.shape}"
            for operand in set(task.operands):
                if tasks[operand].last == number:
                    del results[operand]
            results[number] = result
    return results[len(tasks) - 1]


# How parts of a node were cut, by their shape: the axis, None for parts that stay whole.
Cuts = dict[tuple[int, ...], "int | None"]


def evaluate(node: Node, region: Region | None = None, cuts: Cuts | None = None) -> np.ndarray:
    """A part of a node (None: all of it), cut as small as memory asks.

    cuts: what is known of the node's parts from other calls, added to. Raises InputError, ResourceError.
    """
    region = everything(node.shape) if region is None else region
    out = np.empty(lengths(region), node.type.dtype)
    if count(region):
        for part, tasks in _parts(node, region, {} if cuts is None else cuts):
            put(out, region, part, _defined(tasks))
    return out


def _defined(tasks: Sequence[Task]) -> np.ndarray:
    """The result of the last task. Raises InputError where it rests on a conversion that has no result."""
    with standing_in(least=True) as stand:
        try:
            result = run(tasks)
        except InputError:
            if not stand.met:
                raise
            result = None
    if stand.met and result is not None:
        with contextlib.suppress(InputError), standing_in(least=False):
            other = run(tasks)
            if np.all((result == other) | ((result != result) & (other != other))):
                return result
    return run(tasks) if stand.met or result is None else result


def _parts(node: Node, region: Region, cuts: Cuts) -> Iterator[tuple[Region, list[Task]]]:
    """The region in parts, each with its tasks. Parts of one shape are cut alike."""
    waiting = [region]
    while waiting:
        part = waiting.pop()
        shape = lengths(part)
        tasks = None
        if shape not in cuts:
            tasks = tasks_of(node, part)
            cuts[shape] = _cut(node, part, tasks)
        axis = cuts[shape]
        if axis is None:
            yield part, tasks or tasks_of(node, part)
        else:
            waiting += reversed(halves(part, axis))


def _cut(node: Node, region: Region, tasks: Sequence[Task]) -> int | None:
    """The dimension to cut a part along, None where it stays whole. Raises InputError where it is too large."""
    peak = peak_bytes(tasks)
    if peak <= PART_BYTES:
        return None
    choices: list[tuple[float, int]] = []
    for axis, indices in enumerate(region):
        if len(indices) > 1:
            half = tasks_of(node, halves(region, axis)[0])
            if peak_bytes(half) < 0.95 * peak:
                choices.append((2 * _work(half) / _work(tasks), axis))
    repeated, best = min(choices, default=(math.inf, -1))
    if peak > MOST_BYTES and not choices:
        raise node.origin.error("an element of its result takes more than a GiB of operands")
    return best if repeated <= MOST_REPEATED or (choices and peak > MOST_BYTES) else None


def _work(tasks: Sequence[Task]) -> int:
    """A measure of the time that tasks take: the bytes they make."""
    return sum(task.node.nbytes(task.region) + task.node.scratch(task.region) for task in tasks) + 1
