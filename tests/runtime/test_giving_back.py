"""What failed to be given back holds nothing; what failed before it keeps its traceback."""

from __future__ import annotations

import contextlib
import traceback
import weakref
from collections.abc import Iterator

import pytest

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.devices.giving_back import close_all, closed


class Gone:
    """Whose parts fail to close one after the other, each in frames that hold all of it."""

    def part(self) -> None:
        try:
            raise OSError("no such device")
        except OSError as error:
            raise BackendError("the part has gone") from error

    def close(self) -> None:
        with contextlib.ExitStack() as parts:
            for _ in range(3):
                parts.callback(self.part)


@pytest.mark.usefixtures("no_search")
def test_what_has_gone_is_forgotten_at_once() -> None:
    gone = Gone()
    there = weakref.ref(gone)
    closed(gone.close)
    del gone
    assert there() is None


def test_the_failure_that_is_handled_meanwhile_keeps_its_traceback() -> None:
    def failing() -> None:
        raise BackendError("the run failed")

    try:
        failing()
    except BackendError as error:
        closed(Gone().close)
        assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][-1] == "failing"


def test_other_errors_are_not_passed_over() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        closed(interrupted)


class Part:
    def __init__(self, number: int, done: list[int]) -> None:
        self.number, self.done = number, done

    @contextlib.contextmanager
    def refused(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise BackendError(f"part {self.number} has gone") from error

    def request(self) -> None:
        try:
            raise OSError
        except OSError:
            self.done.append(self.number)
            raise

    def close(self) -> None:
        with self.refused():
            self.request()


def test_all_steps_are_done_and_the_first_failure_is_told() -> None:
    done: list[int] = []
    with pytest.raises(BackendError, match="part 0 has gone"):
        close_all(Part(number, done).close for number in range(3))
    assert done == [0, 1, 2]


@pytest.mark.usefixtures("no_search")
@pytest.mark.parametrize("handling", [False, True])
def test_of_many_steps_that_fail_nothing_stays(handling: bool) -> None:
    def give_back() -> list[weakref.ref[Part]]:
        parts = [Part(number, []) for number in range(3)]
        closed(lambda: close_all([part.close for part in parts]))
        return [weakref.ref(part) for part in parts]

    if handling:
        try:
            raise BackendError("the run failed")
        except BackendError as error:
            there = give_back()
            assert error.__traceback__ is not None
    else:
        there = give_back()
    assert [one() for one in there] == [None] * 3


def test_an_interrupt_of_a_step_is_told_and_the_others_are_done() -> None:
    done = []

    def failing() -> None:
        raise BackendError("it has gone")

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        close_all((failing, interrupted, lambda: done.append(1)))
    assert done
