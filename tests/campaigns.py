"""Long campaigns of many random cases in batches, on one process or many; each batch has a seed of its own."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from npuc.runtime.distribute import results

CHILD = """
import pickle, sys
sys.path[:] = pickle.load(sys.stdin.buffer)
function, arguments = pickle.load(sys.stdin.buffer)
result = function(*arguments)
sys.stdout.flush()
sys.stdout.buffer.write(b"\\n" + pickle.dumps(result).hex().encode())
"""


def batches(seed: object, count: int, size: int) -> list[tuple[str, int]]:
    """(seed, how many) of each batch: the same whatever they run on."""
    return [(f"{seed} {start}", min(size, count - start)) for start in range(0, count, size)]


def run(function: Callable[[Any], Any], items: Sequence[Any], processes: dict[str, Any]) -> list[Any]:
    """What a module's function gives for each item, in their order. processes: the fixture of that name."""
    found = dict(results(function, items, **processes))
    return [found[number] for number in range(len(items))]


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a module's function gives in a fresh process, on its main thread: a crash, an alarm's end and what it holds
    of memory are that process's. Raises AssertionError where it fails, with the end of what it said."""
    data = pickle.dumps(list(sys.path)) + pickle.dumps((function, arguments))
    done = subprocess.run([sys.executable, "-c", CHILD], input=data, capture_output=True)
    assert done.returncode == 0, f"{arguments}: exit {done.returncode}: {done.stderr[-4000:].decode(errors='replace')}"
    return pickle.loads(bytes.fromhex(done.stdout.rsplit(b"\n", 1)[1].decode()))
