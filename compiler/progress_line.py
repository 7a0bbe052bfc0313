"""The line on a terminal that says how far long work is: on standard error, gone when the work is over."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from npuc.compiler.plain_text import printable
from npuc.compiler.progress import listened_to_by

if TYPE_CHECKING:
    from rich.live import Live

STYLE = "cyan"  # which rich leaves out where NO_COLOR is set


class _Line:
    """Drawn by rich, which is imported when there is something to draw; a terminal that is gone ends no work."""

    def __init__(self) -> None:
        self._live: Live | None = None

    def show(self, text: str) -> None:
        from rich.text import Text

        line = Text(printable(text), style=STYLE, no_wrap=True, overflow="ellipsis")
        with suppress(OSError):
            self._live = self._live or self._started()
            if self._live is not None:
                self._live.update(line, refresh=True)

    @staticmethod
    def _started() -> Live | None:
        from rich.console import Console
        from rich.live import Live

        console = Console(stderr=True)
        if not console.is_terminal or console.is_dumb_terminal:
            return None
        live = Live(
            console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )  # fmt: skip
        live.start()
        return live

    def clear(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            with suppress(OSError):
                live.stop()


@contextmanager
def progress_line(words: Sequence[str]) -> Iterator[None]:
    """Long work of the command with these words is told on standard error, where that is a terminal and a person reads:
    not with --json."""
    if "--json" in words or not sys.stderr.isatty():
        yield
        return
    with listened_to_by(_Line()):
        yield
