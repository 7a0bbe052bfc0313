"""Reading a text in another process: in a forked child where this one has no other threads, else in a kept one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from npuc.compiler.frontend.guarded.forked import import_bindings, may_fork, run_forked
from npuc.compiler.frontend.guarded.limits import Limits, limits_for
from npuc.compiler.frontend.guarded.locate import fatal_offset
from npuc.compiler.frontend.guarded.outcome import Died, Outcome
from npuc.compiler.frontend.guarded.reading import PARSING, parses, read


def attempt(text: bytes) -> Outcome:
    """What comes of a text. Raises BackendError where no process can be started."""
    limits = limits_for(len(text))
    import_bindings()
    if may_fork():
        try:
            return read_in_child(text, limits)
        except OSError:  # no child to be had: the kept process may be there
            pass
    from npuc.compiler.frontend.guarded.worker import ask

    return ask(text, limits)


def read_in_child(text: bytes, limits: Limits, close: Sequence[int] = ()) -> Outcome:
    """`read` in a forked child; where the parser ends it, further children find the place. Raises OSError."""
    outcome = run_forked(lambda note: read(text, note), limits, close)
    if not isinstance(outcome, Died) or outcome.stage != PARSING or outcome.cause != "signal":
        return outcome

    def dies(beginning: bytes) -> bool:
        return isinstance(run_forked(lambda note: parses(beginning), limits, close), Died)

    return replace(outcome, offset=fatal_offset(text, dies))
