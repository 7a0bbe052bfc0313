"""The kept process: reads requests from standard input until that is closed, answers on standard output.

A request is a line of JSON (the text's size and the limits) and the text. On Linux each text is read in a forked child,
which may end without ending this process; elsewhere in this process.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys

from npuc.compiler.frontend.guarded.attempt import read_in_child
from npuc.compiler.frontend.guarded.forked import import_bindings, may_fork, on_small_stack, write_all
from npuc.compiler.frontend.guarded.limits import Limits, restrict
from npuc.compiler.frontend.guarded.outcome import STARTING, Died, Outcome, done, stage_line
from npuc.compiler.frontend.guarded.reading import read


def serve() -> int:
    """Answer until there are no more requests."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is no answer
    import_bindings()
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        text = requests.read(request.pop("size"))
        try:
            write_all(answers, done(_read(text, Limits(**request), answers)))
        except BrokenPipeError:
            break
    return 0


def _read(text: bytes, limits: Limits, answers: int) -> Outcome:
    if may_fork():
        try:
            return read_in_child(text, limits, (answers,))
        except OSError:
            return Died(STARTING, "memory")
    restrict(limits)
    # Without the bindings' lock no other thread of Python runs, so none could watch the time.
    with open(os.devnull, "w") as nowhere:
        faulthandler.dump_traceback_later(limits.wall_seconds, exit=True, file=nowhere)
        try:
            return on_small_stack(lambda: read(text, lambda stage: write_all(answers, stage_line(stage))), limits)
        finally:
            faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    sys.exit(serve())
