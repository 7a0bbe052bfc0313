"""What failed to be given back holds nothing; what failed before it keeps its traceback."""

from __future__ import annotations

import contextlib
import gc
import traceback
import weakref
from collections.abc import Iterator

import pytest

from npuc.compiler.diagnostics import BackendError
from npuc.runtime.devices.giving_back import closed


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


@pytest.fixture
def no_search() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


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
