"""Calls of effects that are functions of their own (effects.py), written into a block."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npuc.runtime.emulator.native import effects
from npuc.runtime.emulator.native.ir import Emitter, Scalar, Untranslatable, i64
from npuc.runtime.emulator.native.machine import acquiring_load
from npuc.runtime.emulator.native.pieces import Pieces
from npuc.runtime.emulator.semantics.definedness import Partial

KEYS = 16
"""Lists of a family: each has the functions for some values of what it decides on.

A list is a pointer to its first record: the value (i64), the function for it, the next record. Records are complete
before a single store makes one the first, and are never changed, so that threads may look while another adds; a new
list has one record without function and successor. Of a family that decides on nothing the first list is its function.
"""
HASH = 0x9E3779B97F4A7C15


def call(out: Emitter, family: effects.Family, function: str, arguments: list[Any]) -> Any:
    """The results of a function of the family for these arguments."""
    texts = ", ".join(
        f"{kind} {text}"
        for i in family.passed
        for each in effects.passed(arguments[i], family.arguments[i])
        for kind, text in effects.operands_of(each)
    )
    result = out.value(f"call {family.result_type} {function}({texts}) #1")
    out.stretch += 1
    kinds = effects.flat(family.results)
    count = sum(len(effects.types_of(kind)) for kind in kinds)
    parts = iter(
        [result]
        if count == 1
        else [out.value(f"extractvalue {family.result_type} {result}, {i}") for i in range(count)]
    )
    values = iter(
        [Pieces(kind, [next(parts) for _ in effects.types_of(kind)]) if kind else Scalar(next(parts)) for kind in kinds]
    )
    results = [next(values) if kind >= 0 else Partial(next(values), next(values)) for kind in family.results]
    return results[0] if len(results) == 1 else tuple(results)


def only_function(out: Emitter, table: int) -> str:
    """The function of a family that decides on nothing; table: its place in the module."""
    place = out.value(f"getelementptr i8, ptr @families, i64 {8 * KEYS * table}")
    return out.value(f"load ptr, ptr {place}, align 8, !invariant.load !1")


def key_of(out: Emitter, values: list[Any], wrong: list[str]) -> str:
    """The values a family decides on as one number, 16 bits each when there are several; wrong: see SymbolicCore."""
    key = i64(values[0])
    if len(values) == 1:
        return key
    for position, value in enumerate(values):
        if isinstance(value, int):
            if value >> 16:
                raise Untranslatable("a mode of more than 16 bits")
        else:
            wrong.append(i64(value & ~0xFFFF))
        if position:
            key = out.value(f"or i64 {key}, {out.value(f'shl i64 {i64(value)}, {16 * position}')}")
    return key


def find_function(out: Emitter, table: int, key: str, missing: Callable[[], str]) -> str:
    """The function of a family for a key: the first of its list, or what `@seek` finds or makes.

    missing: the label to go to when there is none.
    """
    hashed = out.value(f"mul i64 {key}, {HASH - (1 << 64)}")
    index = out.value(f"lshr i64 {hashed}, 60")
    base = out.value(f"getelementptr i8, ptr @families, i64 {8 * KEYS * table}")
    first = out.value(f"getelementptr ptr, ptr {base}, i64 {index}")
    record = out.value(acquiring_load(first))
    found = out.value(f"load i64, ptr {record}, align 8")
    function = out.value(f"load ptr, ptr {out.value(f'getelementptr i8, ptr {record}, i64 8')}, align 8")
    same, filled = out.value(f"icmp eq i64 {found}, {key}"), out.value(f"icmp ne ptr {function}, null")
    hit = out.value(f"and i1 {same}, {filled}")
    ask, made_it, go_on = (out.new_label() for _ in range(3))
    out.line(f"br i1 {hit}, label %{go_on}, label %{ask}, !prof !0")
    before = out.label
    out.start(ask)
    made = out.value(f"call ptr @seek(ptr {first}, i64 {table}, i64 {key})")
    nothing = out.value(f"icmp eq ptr {made}, null")
    out.line(f"br i1 {nothing}, label %{missing()}, label %{made_it}")
    out.start(made_it)
    out.line(f"br label %{go_on}")
    out.start(go_on)
    return out.value(f"phi ptr [ {function}, %{before} ], [ {made}, %{made_it} ]")


_SEEK = """
@nothing = private constant { i64, ptr, ptr } { i64 0, ptr null, ptr null }, align 8
@resolve = global ptr null

define internal ptr @seek(ptr %list, i64 %table, i64 %key) noinline cold nounwind {
entry:
  %first = FIRST
  br label %look
look:
  %record = phi ptr [ %first, %entry ], [ %next, %on ]
  %value = load i64, ptr %record, align 8
  %place = getelementptr i8, ptr %record, i64 8
  %function = load ptr, ptr %place, align 8
  %same = icmp eq i64 %value, %key
  %filled = icmp ne ptr %function, null
  %found = and i1 %same, %filled
  br i1 %found, label %end, label %on
on:
  %after = getelementptr i8, ptr %record, i64 16
  %next = load ptr, ptr %after, align 8
  %last = icmp eq ptr %next, null
  br i1 %last, label %ask, label %look
ask:
  %asked = load ptr, ptr @resolve, align 8
  %made = call ptr %asked(ptr @families, i64 %table, i64 %key)
  ret ptr %made
end:
  ret ptr %function
}

define void @publish(ptr %place, ptr %content) nounwind {
  store atomic ptr %content, ptr %place release, align 8
  ret void
}
"""


def seek_text() -> str:
    """Part of each module: `@seek` looks through a list and asks Python for what is not there; `@publish` is how Python
    stores a pointer that other threads may read at any time."""
    return _SEEK.replace("FIRST", acquiring_load("%list"))
