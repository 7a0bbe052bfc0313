"""What came of reading a text in another process, and its bytes on the way between the processes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class Read:
    """The module, verified and lowered, as MLIR bytecode with its locations."""

    bytecode: bytes


@dataclass(frozen=True)
class Refused:
    """The reason, as a message for the user. file: None where it is the text itself."""

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    remedy: str | None = None


@dataclass(frozen=True)
class Died:
    """The process ended before it was done.

    stage: what it was doing. cause: 'signal', 'time' or 'memory'. offset: the byte of the text that ends the parser.
    """

    stage: str
    cause: str
    offset: int | None = None


@dataclass(frozen=True)
class Fault:
    """An error of npuc's own in the other process, as its traceback."""

    traceback: str


Outcome: TypeAlias = "Read | Refused | Died | Fault"

STARTING = "starting"  # the stage before any is told of

_KINDS = {kind.__name__: kind for kind in (Refused, Died, Fault)}


def stage_line(stage: str) -> bytes:
    """What a process writes before it begins a stage."""
    return f"stage {stage}\n".encode()


def done(outcome: Outcome) -> bytes:
    """What a process writes in the end: the kind, the size of the contents, the contents."""
    if isinstance(outcome, Read):
        kind, contents = "Read", outcome.bytecode
    else:
        kind, contents = type(outcome).__name__, json.dumps(asdict(outcome)).encode()
    return f"done {kind} {len(contents)}\n".encode() + contents


class Answer:
    """A process's output as it comes in: its last stage, and its outcome once that is whole."""

    def __init__(self) -> None:
        self.stage = STARTING
        self.outcome: Outcome | None = None
        self._rest = bytearray()

    def take(self, data: bytes) -> None:
        self._rest += data
        while self._rest.startswith(b"stage ") and b"\n" in self._rest:
            line, _, self._rest = self._rest.partition(b"\n")
            self.stage = line.removeprefix(b"stage ").decode()
        if not self._rest.startswith(b"done ") or b"\n" not in self._rest[:100]:
            return
        line, _, contents = self._rest.partition(b"\n")
        _, kind, size = line.decode().split(" ")
        if len(contents) == int(size):
            self.outcome = Read(bytes(contents)) if kind == "Read" else _KINDS[kind](**json.loads(contents))
