"""Commands on damaged files, and what must hold however they end; batches of them for long campaigns."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from damage import CHANGES, changed_metadata, changed_program, flipped, truncated
from small_kernels import compiled

LONGEST = 30  # seconds of processor time one command may take; most take milliseconds
MOST_MEMORY = 1 << 20  # KiB by which a process may grow
SMALL: dict[str, int | str] = {"heads": 1, "query_length": 64, "head_dim": 64}
MAX_CYCLES = 30_000  # the undamaged kernel takes about two thirds
RUN = ("run", "--backend", "emulator", "--max-cycles", str(MAX_CYCLES))

# How many of each kind; an xclbin's alternate between inspect and run.
COUNT = {".xclbin": 120, ".npua": 60}
SUFFIXES = (".txn", ".npua", ".pdi", ".xclbin", ".cdo", ".elf")

Npuc = Callable[..., tuple[int, str, str]]
EndsWell = Callable[..., int]


@contextlib.contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Ends a hang: the command then fails with npuc's own fault."""

    def expired(*_: object) -> None:
        raise TimeoutError(f"longer than {seconds} s")

    before = signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """No input makes the process grow without bound."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY


def judge(npuc: Npuc, folder: Path) -> EndsWell:
    """Runs a command on a file of these bytes and judges all but what it says; returns the exit code."""

    def run(data: bytes, suffix: str, *words: str, allowed: tuple[int, ...] = (0, 3)) -> int:
        path = folder / f"k{suffix}"
        path.write_bytes(data)
        command, *options = words
        written = folder / "o.npy"
        output = ["--output", f"o={written}"] if command == "run" else []
        with deadline(LONGEST):
            code, out, err = npuc(command, path, *options, *output)
        errors = [line for line in err.splitlines() if not line.startswith("warning: ")]
        assert code in allowed, (code, err)
        assert len(errors) == (code != 0) and all(line.startswith("error: ") for line in errors), err
        if "--json" in options:
            assert ("error" in json.loads(out)) == (code != 0)
        elif code:
            assert out == ""
        assert "Traceback" not in out + err and err.replace("\n", "").isprintable()
        left = {p.name for p in folder.iterdir()} - {path.name}
        assert left == ({"o.npy"} if code == 0 and command == "run" else set())
        written.unlink(missing_ok=True)
        return code

    return run


def stages() -> dict[str, bytes]:
    """Every binary the compiler makes of a small kernel, by suffix."""
    kernel = compiled(**SMALL)
    files = {f".{stage}": kernel.stage(stage) for stage in ("txn", "npua", "pdi", "xclbin")}
    return {**files, ".cdo": kernel.files["kernel.cdo"], ".elf": kernel.elfs()["core_0_2.elf"]}


def commands_for(suffix: str) -> list[tuple[str, ...]]:
    begun = ("run", "--backend", "emulator", "--max-cycles", "1000")  # most damage is found before the first cycle
    return (
        [("inspect",), begun, ("inspect", "--json"), begun]
        if suffix in COUNT
        else [("inspect",), ("inspect", "--json")]
    )


def check_cut(ends_well: EndsWell, suffix: str, generator: random.Random, count: int) -> None:
    """A proper prefix of a file is no such file."""
    for number, data in enumerate(truncated(stages()[suffix], generator, count)):
        choices = commands_for(suffix)
        ends_well(data, suffix, *choices[number % len(choices)], allowed=(3,))


def check_flipped(ends_well: EndsWell, suffix: str, generator: random.Random, count: int) -> None:
    for number, data in enumerate(flipped(stages()[suffix], generator, count)):
        choices = commands_for(suffix)
        words = choices[number % len(choices)]
        ends_well(data, suffix, *words, allowed=(0, 3, 4) if words[0] == "run" else (0, 3))


def check_changed(ends_well: EndsWell, name: str, generator: random.Random, count: int) -> None:
    """A kernel changed inside, with right checksums, ends in a result or a named error, strict or not."""
    change = next(change for change in CHANGES if change.__name__ == name)
    cycles = "1000" if change is changed_metadata else str(MAX_CYCLES)  # nothing of it reaches the array
    for number in range(count):
        data = change(compiled(**SMALL).xclbin, generator)
        ends_well(data, ".xclbin", "inspect")
        words = ["run", "--backend", "emulator", "--max-cycles", cycles, *(["--strict"] if number % 2 else [])]
        ends_well(data, ".xclbin", *words, allowed=(0, 3, 4))


def check_engines(npuc: Npuc, folder: Path, generator: random.Random, count: int) -> None:
    """A changed program ends alike, interpreted and in native code: same exit code, cycles and output.

    Of two errors within a few cycles each engine may meet another first.
    """
    path = folder / "k.xclbin"
    for _ in range(count):
        path.write_bytes(changed_program(compiled(**SMALL).xclbin, generator))
        ends: list[tuple[object, ...]] = []
        for engine in ("interpreter", "native"):
            output = folder / f"{engine}.npy"
            words = ["--engine", engine, "--max-cycles", str(MAX_CYCLES), "--json", "--output", f"o={output}"]
            code, out, err = npuc("run", path, "--backend", "emulator", *words)
            report = json.loads(out)
            if code == 0:
                report["outputs"]["o"].pop("file")
                ends.append((code, err, report, output.read_bytes()))
                output.unlink()
            else:
                assert code == 4 and err.count("\n") == 1
                ends.append((code,))
        assert ends[0] == ends[1]


# --- batches ------------------------------------------------------------------------------------------------------
def command(*words: object) -> tuple[int, str, str]:
    """Runs a command in this process: (exit code, standard output, standard error)."""
    from npuc.compiler import cli

    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="", write_through=True) for _ in range(2)]
    before, (sys.stdout, sys.stderr) = (sys.stdout, sys.stderr), streams
    try:
        cli.main([str(word) for word in words])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    finally:
        sys.stdout, sys.stderr = before
    out, err = (stream.buffer.getvalue().decode() for stream in streams)  # type: ignore[attr-defined]
    return code, out, err


def batch(kind: str, name: str, seed: str, count: int) -> None:
    """kind: `cut`, `flipped` (name: a suffix), `changed` (name: a change of damage.py) or `engines`. For in_child: on a
    main thread, with the interpreter, as a program that runs once is sooner interpreted than translated."""
    os.environ["NPUC_ENGINE"] = "interpreter"
    checks = {"cut": check_cut, "flipped": check_flipped, "changed": check_changed}
    with tempfile.TemporaryDirectory() as folder:
        compiled(**SMALL)  # what that takes of memory is no input's
        with bounded_memory():
            if kind == "engines":
                check_engines(command, Path(folder), random.Random(seed), count)
            else:
                checks[kind](judge(command, Path(folder)), name, random.Random(seed), count)
