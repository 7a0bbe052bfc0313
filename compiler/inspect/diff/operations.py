"""Differences of runtime sequences (TXN): operation by operation, aligned like a text diff."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from npuc.compiler.emit import txn
from npuc.compiler.emit.control_template import ControlTemplate
from npuc.compiler.inspect.diff.layouts import compare_layout
from npuc.compiler.inspect.diff.registers import word_differences
from npuc.compiler.inspect.diff.report import REORDERED, Difference, Section, only_in
from npuc.compiler.inspect.diff.sequence import Pair, align, numbered
from npuc.compiler.inspect.diff.values import compare_trees, with_other_bytes
from npuc.compiler.target.npu1.registers import register_name

_HEXADECIMAL = ("address", "value", "mask", "offset")


def compare_txns(a: bytes, b: bytes) -> tuple[Section, ...]:
    """Two TXN files.  Raises InputError when one of them cannot be read."""
    first, second = txn.read_txn(a), txn.read_txn(b)
    header = tuple(compare_layout(txn.HEADER, a, b, follows=("operations", "size")))
    operations = tuple(compare_operations(first.operations, second.operations))
    return with_other_bytes((Section("TXN header", header), Section("operations", operations)), a, b)


def operation_name(operation: txn.Operation) -> str:
    """Kind and place: `BlockWrite shim(0,0).DMA_BD3_0`."""
    kind = type(operation).__name__
    if isinstance(operation, txn.LoadPdi) or not hasattr(operation, "address"):
        return kind
    return f"{kind} {register_name(operation.address)}"


def _text(operation: txn.Operation) -> str:
    """An operation in one line."""
    shown = []
    for name, value in asdict(operation).items():
        if name == "address" and not isinstance(operation, txn.LoadPdi):
            continue
        if isinstance(value, tuple):
            value = " ".join(f"{word:#x}" for word in value)
        elif name in _HEXADECIMAL:
            value = f"{value:#x}"
        shown.append(f"{name}={value}")
    return " ".join([operation_name(operation), *shown])


def _moves(pairs: Sequence[Pair], a: Sequence[txn.Operation], b: Sequence[txn.Operation]) -> dict[int, int]:
    """Place in a -> place in b of operations that stand elsewhere in the other sequence."""
    gone: dict[txn.Operation, list[int]] = {}
    for pair in pairs:
        if pair.a is not None and not pair.equal:
            gone.setdefault(a[pair.a], []).append(pair.a)
    moves = {}
    for pair in pairs:
        if pair.b is not None and not pair.equal and gone.get(b[pair.b]):
            moves[gone[b[pair.b]].pop(0)] = pair.b
    return moves


def compare_operations(a: Sequence[txn.Operation], b: Sequence[txn.Operation]) -> Iterator[Difference]:
    """Operations that are in one sequence only, differ in a field, or stand in another order."""
    names = [operation_name(operation) for operation in a], [operation_name(operation) for operation in b]
    pairs = align(a, b)
    moves = _moves(pairs, a, b)
    arrived = set(moves.values())
    for i, j in moves.items():
        yield Difference(f"operation {i} {names[0][i]}", REORDERED, i, j, f"now operation {j}")
    rest_a = [i for i in range(len(a)) if i not in moves]
    rest_b = [j for j in range(len(b)) if j not in arrived]
    kept = align(
        *([side[i] for i in rest] for side, rest in ((a, rest_a), (b, rest_b))),
        *([side[i] for i in rest] for side, rest in zip(names, (rest_a, rest_b), strict=True)),
    )
    for pair in kept:
        before = None if pair.a is None else rest_a[pair.a]
        after = None if pair.b is None else rest_b[pair.b]
        if pair.equal:
            continue
        if before is not None and after is not None:
            yield from _changed(before, a[before], b[after])
        elif before is not None:
            yield only_in(True, f"operation {before} {names[0][before]}", _text(a[before]))
        elif after is not None:
            yield only_in(False, f"operation {after} {names[1][after]}", _text(b[after]))


def _changed(place: int, a: txn.Operation, b: txn.Operation) -> Iterator[Difference]:
    """Fields of two operations of the same kind and place."""
    title, note = f"operation {place} {operation_name(a)}", f"operation {place}"
    before, after = asdict(a), asdict(b)
    for name in before:
        if name == "value" and not isinstance(a, txn.LoadPdi):
            yield from word_differences(before["address"], before[name], after[name], note)
        elif name == "words":
            yield from _words(before["address"], before[name], after[name], note)
        else:
            old, new = _shown(name, before[name]), _shown(name, after[name])
            yield from compare_trees(old, new, f"{title} {name}")


def _words(address: int, a: Sequence[int], b: Sequence[int], note: str) -> Iterator[Difference]:
    for i, (old, new) in enumerate(zip(a, b, strict=False)):
        yield from word_differences(address + 4 * i, old, new, note)
    for i in range(len(b), len(a)):
        yield only_in(True, register_name(address + 4 * i), f"{a[i]:#x}", note)
    for i in range(len(a), len(b)):
        yield only_in(False, register_name(address + 4 * i), f"{b[i]:#x}", note)


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return [f"{word:#x}" for word in value]
    return f"{value:#x}" if name in _HEXADECIMAL else value


def compare_templates(a: ControlTemplate, b: ControlTemplate) -> Iterator[Difference]:
    """Runtime sequences with words still to fill in."""
    if a.columns != b.columns:
        yield Difference("columns", before=a.columns, after=b.columns)
    yield from compare_operations(a.operations, b.operations)
    yield from compare_trees(_patches(a), _patches(b), "patches")


def _patches(template: ControlTemplate) -> dict[str, str]:
    """Expression by the operation it goes into, so that an operation more in front does not rename them all."""
    starts, at = [], txn.HEADER.size // 4
    for operation in template.operations:
        starts.append(at)
        at += len(txn.pack_operation(operation)) // 4
    names = numbered([operation_name(operation) for operation in template.operations])
    patches = {}
    for patch in template.patches:
        place = sum(start <= patch.word for start in starts) - 1
        (name, times) = names[place] if place >= 0 else ("header", 0)
        word = patch.word - (starts[place] if place >= 0 else 0)
        patches[f"{name}{f' ({times + 1})' if times else ''} word {word}"] = patch.expression
    return patches
