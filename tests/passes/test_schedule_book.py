"""The shipped loop schedules: what a search finds, used only where they are schedules of the loop."""

from __future__ import annotations

import random

import pytest

from npuc.passes.attention.write_schedules import core_program, integer_kinds, kinds
from npuc.passes.machine import codegen, modulo_schedule, schedule_book

KINDS = [*kinds(), *integer_kinds()]


@pytest.mark.parametrize("number", random.Random(5).sample(range(len(KINDS)), 3))
def test_the_book_has_every_loop_as_a_search_finds_it(number):
    with schedule_book.recording() as found:
        searched = codegen.generate(core_program(KINDS[number]))
    assert found
    book = schedule_book.book()
    stale = [key for key in found if book.get(key) != found[key]]
    assert not stale, "core programs changed: python -m npuc.passes.attention.write_schedules"
    assert codegen.generate(core_program(KINDS[number])).code == searched.code


@pytest.mark.slow
def test_the_book_is_what_a_search_of_all_kinds_finds():
    with schedule_book.recording() as found:
        for kind in KINDS:
            codegen.generate(core_program(kind))
    assert found == schedule_book.book()


def test_no_search_is_made_for_what_is_in_the_book(monkeypatch):
    def refuse(*_):
        raise AssertionError("searched")

    monkeypatch.setattr(modulo_schedule, "_search", refuse)
    assert codegen.generate(core_program(KINDS[0])).code


@pytest.mark.parametrize(
    "spoil",
    [
        lambda entry: entry._replace(times=entry.times[:-1]),
        lambda entry: entry._replace(times=tuple(0 for _ in entry.times)),
        lambda entry: entry._replace(interval=1),
        lambda entry: entry._replace(choices=tuple(99 for _ in entry.choices)),
    ],
    ids=["too short", "all at once", "interval 1", "no such choice"],
)
def test_what_is_no_schedule_of_the_loop_is_searched_anew(monkeypatch, spoil):
    good = codegen.generate(core_program(KINDS[0])).code
    spoiled = {key: spoil(entry) for key, entry in schedule_book.book().items()}
    monkeypatch.setattr(schedule_book, "book", lambda: spoiled)
    assert codegen.generate(core_program(KINDS[0])).code == good


def test_what_was_searched_for_at_length_is_no_longer_than_what_a_compilation_finds(monkeypatch):
    def intervals():
        program = codegen.generate(core_program(kind))
        return {loop["name"]: loop["interval"] for loop in program.statistics["loops"]}

    kind = next(one for one in integer_kinds() if one.head_dim == 128 and one.recipe == "fast")
    booked = intervals()
    monkeypatch.setattr(schedule_book, "book", dict)
    searched = intervals()
    assert booked.keys() == searched.keys()
    assert all(booked[name] <= searched[name] for name in booked)
    assert any(booked[name] < searched[name] for name in ("scores", "values")), "long searches gain nothing"
