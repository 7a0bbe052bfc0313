"""The progress line: on a terminal, while work goes on, and nowhere else."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from npuc.compiler import driver
from npuc.compiler.frontend.attention import Attention
from npuc.compiler.progress import listened_to_by, long_work
from npuc.runtime.apart import run_apart

pty = pytest.importorskip("pty")

SHOW = """
import sys
from npuc.compiler.progress import long_work
from npuc.compiler.progress_line import progress_line
with progress_line(sys.argv[1:]):
    with long_work() as tell:
        tell("first")
        tell("second \\x1b[2Jhalf")
    print("note: work is over", file=sys.stderr)
    print("result")
"""
PATIENCE = 600.0


def on_a_terminal(command: list[str], **environment: str) -> tuple[int, str, str]:
    """(exit code, standard output, what a terminal gets as standard error)."""
    ours, theirs = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLORTERM")}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=theirs, env={**clean, "TERM": "xterm", "COLUMNS": "80", **environment}
    )
    os.close(theirs)
    assert process.stdout is not None
    streams = {ours: b"", process.stdout.fileno(): b""}
    open_ones, end = set(streams), time.monotonic() + PATIENCE
    while open_ones and time.monotonic() < end:
        for stream in select.select(list(open_ones), [], [], 1)[0]:
            try:
                part = os.read(stream, 1 << 16)
            except OSError:  # the other end of a terminal is closed
                part = b""
            streams[stream] += part
            if not part:
                open_ones.discard(stream)
    code = process.wait(PATIENCE)
    os.close(ours)
    return code, streams[process.stdout.fileno()].decode(), streams[ours].decode()


def shown(*words: str, **environment: str) -> tuple[str, str]:
    code, out, err = on_a_terminal([sys.executable, "-c", SHOW, *words], **environment)
    assert code == 0, err
    return out.replace("\r\n", "\n"), err


def test_a_line_is_shown_and_erased_before_others_write() -> None:
    out, err = shown()
    assert out == "result\n"
    first, second, after = err.index("first"), err.index("second"), err.index("note: work is over")
    assert first < second < after
    assert "\x1b[2K" in err[second:after]  # the line is erased
    assert "\x1b[36m" in err  # and was in colour
    assert r"second \x1b[2Jhalf" in err and "\x1b[2J" not in err


def test_no_color_is_respected() -> None:
    out, err = shown(NO_COLOR="1")
    assert out == "result\n" and "first" in err and "\x1b[36m" not in err


@pytest.mark.parametrize("words", [["--json"], []])
def test_json_and_terminals_that_cannot_go_back_get_no_line(words: list[str]) -> None:
    out, err = shown(*words, **({} if words else {"TERM": "dumb"}))
    assert (out, err) == ("result\n", "note: work is over\r\n")


def test_what_is_no_terminal_gets_no_line() -> None:
    done = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "result\n", "note: work is over\n")


def test_a_run_says_how_far_it_is(tmp_path: Path) -> None:
    kernel = tmp_path / "k.xclbin"
    described = Attention.make(heads=2, query_length=64, head_dim=64)
    kernel.write_bytes(driver.compile_description(described, driver.Settings(use_cache=False)).xclbin)
    words = ["run", str(kernel), "--backend", "emulator", "--check"]
    code, out, err = on_a_terminal([sys.executable, "-m", "npuc", *words], NPUC_CACHE_DIR=str(tmp_path))
    assert code == 0 and out.startswith("kernel "), out + err
    assert "emulating: " in err and " cycles in " in err and "checking: head 2 of 2" in err
    assert err.rstrip("\r\n ").endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A", "\r"))


class Lines:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str | None] = []

    def show(self, text: str) -> None:
        self.told.append(text)

    def clear(self) -> None:
        self.told.append(None)


def test_work_that_fails_leaves_no_line_and_nobody_need_listen() -> None:
    lines = Lines()
    with listened_to_by(lines), pytest.raises(ZeroDivisionError), long_work() as tell:
        tell("halfway")
        raise ZeroDivisionError
    assert lines.told == ["halfway", None]
    with long_work() as tell:
        tell("to nobody")
    assert lines.told == ["halfway", None]


def test_the_waiting_thread_tells_while_work_goes_on_apart() -> None:
    lines = Lines()

    def work() -> str:
        while len(lines.told) < 3:
            time.sleep(0.01)
        return "done"

    with listened_to_by(lines), long_work() as tell:
        assert run_apart(work, lambda: tell(f"look {len(lines.told)}")) == "done"
    assert lines.told[:3] == ["look 0", "look 1", "look 2"] and lines.told[-1] is None
