"""Work on other processes: of this machine, or of a Dask cluster. Results come as they are ready, none twice.

A process that dies loses nothing: what it had under way is given out again. An item that ended its process ATTEMPTS
times is an error. Processes end with the one that made them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from npuc.compiler.diagnostics import BackendError, UsageError

ATTEMPTS = 3
CONNECT_SECONDS = 10
T = TypeVar("T")
R = TypeVar("R")


def results(
    function: Callable[[T], R], items: Sequence[T], workers: int = 1, scheduler: str | None = None
) -> Iterator[tuple[int, R]]:
    """(number of an item, what the function gave), in the order of their ends.

    function, items: what pickle takes, for more than one worker. scheduler: a Dask scheduler's address, whose workers
    have npuc installed; `workers` is of no account then. Raises what the function raises, UsageError without dask,
    BackendError where no scheduler answers or an item ends every process that takes it.
    """
    if scheduler is not None:
        yield from _on_cluster(function, items, scheduler)
    elif workers <= 1:
        for number, item in enumerate(items):
            yield number, function(item)
    else:
        yield from _on_processes(function, items, workers)


def in_order(
    function: Callable[[T], R], items: Sequence[T], workers: int = 1, scheduler: str | None = None
) -> Iterator[R]:
    """The results in the order of the items, each as soon as it and all before it are there. Raises as `results`."""
    ready: dict[int, R] = {}
    following = 0
    for number, result in results(function, items, workers, scheduler):
        ready[number] = result
        while following in ready:
            yield ready.pop(following)
            following += 1


def _on_processes(function: Callable[[T], R], items: Sequence[T], workers: int) -> Iterator[tuple[int, R]]:
    from concurrent.futures.process import BrokenProcessPool

    left = dict(enumerate(items))
    tried = dict.fromkeys(left, 0)
    while left:
        # Which item ended its process is not told: those that were under way are tried again one by one.
        suspects = {number: left[number] for number in left if tried[number]}
        under_way: set[int] = set()
        try:
            batch, size = (suspects, 1) if suspects else (dict(left), workers)
            for number, result in _round(function, batch, size, under_way):
                del left[number]
                yield number, result
        except BrokenProcessPool:
            for number in under_way:
                tried[number] += 1
                if tried[number] == ATTEMPTS:
                    text = f"work item {number} ended every process that took it, {ATTEMPTS} times"
                    raise BackendError(text, remedy="memory may be short: fewer workers") from None


def _round(function: Callable[[T], R], batch: dict[int, T], size: int, under_way: set[int]) -> Iterator[tuple[int, R]]:
    """All of a batch on a pool of its own. under_way: kept up to date, for who has to know what a dead process had."""
    from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
    from multiprocessing import get_context

    waiting: dict[Future[R], int] = {}
    order = iter(batch)
    with ProcessPoolExecutor(size, mp_context=get_context("spawn"), initializer=_end_with_parent) as pool:
        try:
            while True:
                while len(waiting) < size and (number := next(order, None)) is not None:
                    under_way.add(number)
                    waiting[pool.submit(function, batch[number])] = number
                if not waiting:
                    return
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    number = waiting.pop(future)
                    under_way.discard(number)
                    yield number, result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _end_with_parent() -> None:
    """In a process of a pool: end once the one that made it has, however that ended. By itself it would wait for work
    for ever, as it holds both ends of the pipe that this comes by."""
    from multiprocessing import parent_process
    from multiprocessing.connection import wait

    parent = parent_process()
    assert parent is not None

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), name="npuc-parent", daemon=True).start()


def _on_cluster(function: Callable[[T], R], items: Sequence[T], scheduler: str) -> Iterator[tuple[int, R]]:
    try:
        from distributed import Client, as_completed
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise UsageError("--scheduler needs dask", remedy="pip install 'npuc[cluster]'") from None
    try:
        client: Any = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError) as error:
        raise BackendError(f"no Dask scheduler answers at {scheduler}: {error}") from None
    with client, client.as_current():
        numbers = {client.submit(function, item, pure=False, retries=ATTEMPTS): n for n, item in enumerate(items)}
        for future in as_completed(list(numbers)):
            try:
                yield numbers[future], future.result()
            except KilledWorker as error:
                raise BackendError(f"work item {numbers[future]} ended every worker that took it: {error}") from None
