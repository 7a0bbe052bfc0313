"""The one clock of the array: a queue of what happens when."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

Event: TypeAlias = "tuple[int, int, int, Callable[..., None], tuple[Any, ...]]"
"""When, the rank of what acts, the number of the event, the action and its arguments."""

PAST = -64  # cycles before now from which on it makes no difference when something was


def ago(cycle: float, now: int) -> float:
    """A time counted from now; what lies long past is as good as PAST."""
    return max(cycle - now, PAST)


def _order(event: Event) -> tuple[int, int, int]:
    return event[:3]


class Clock:
    """Events in order of cycle, then rank (controller, tiles by column and row, units in a tile), then insertion."""

    def __init__(self) -> None:
        self.cycle = 0
        self.rank = 0  # of the event under way
        self.queue: list[Event] = []  # a heap
        self._count = 0

    def at(self, cycle: int, rank: int, action: Callable[..., None], *arguments: Any) -> None:
        """Call `action` with the arguments at `cycle` (not before the present one)."""
        self._count = count = self._count + 1
        heappush(self.queue, (cycle if cycle > self.cycle else self.cycle, rank, count, action, arguments))

    def next_cycle(self) -> int | None:
        """When the next event is due; None when there is none."""
        return self.queue[0][0] if self.queue else None

    def pending_ranks(self) -> set[int]:
        """Ranks of the events to come."""
        return {event[1] for event in self.queue}

    def due_from_now(self) -> tuple[tuple[int, int], ...]:
        """Cycles from now and rank of the events to come, in their order."""
        return tuple((cycle - self.cycle, rank) for cycle, rank, *_ in sorted(self.queue, key=_order))

    def is_due(self, events: tuple[tuple[int, int], ...]) -> bool:
        """Whether `due_from_now` gives these."""
        if len(self.queue) != len(events):
            return False
        if events and (self.queue[0][0] - self.cycle, self.queue[0][1]) != events[0]:
            return False
        return self.due_from_now() == events

    def drop(self, owner: object) -> None:
        """Forget the events that are calls of an object's methods: it is reset."""
        self.queue[:] = [event for event in self.queue if getattr(event[3], "__self__", None) is not owner]
        heapify(self.queue)

    def step(self) -> None:
        """Advance to the next event and run it."""
        self.cycle, self.rank, _, action, arguments = heappop(self.queue)
        action(*arguments)
