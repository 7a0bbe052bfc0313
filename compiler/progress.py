"""What long work says of how far it is, to whoever listens: a line on a terminal, or nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Tell = Callable[[str], None]


class Listener(Protocol):
    """Shows one line at a time."""

    def show(self, text: str) -> None:
        """This in place of what was shown."""

    def clear(self) -> None:
        """Nothing any more: others write there now."""


_listener: ContextVar[Listener | None] = ContextVar("npuc-progress", default=None)


@contextmanager
def listened_to_by(listener: Listener) -> Iterator[None]:
    """Work inside tells this listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


@contextmanager
def long_work() -> Iterator[Tell]:
    """Gives the function by which work says how far it is; when it is over, nothing of that is left."""
    listener = _listener.get()
    if listener is None:
        yield lambda text: None
        return
    try:
        yield listener.show
    finally:
        listener.clear()
