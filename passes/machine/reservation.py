"""Reservation tables: which unit is taken in which cycle, linear or modulo an initiation interval."""

from __future__ import annotations

from collections.abc import Iterable

from npuc.passes.machine.nodes import Choice, Node

_Held = tuple[int, str, str | None]
Row = tuple[str, int]


class ReservationTable:
    """Units by cycle; with an interval, cycles are counted modulo it.

    Two holders of a unit in one cycle collide unless both only avoid users, or hold it in the same
    way for the same register (facts/schedule/aie2_itineraries.json, convention).
    """

    def __init__(self, interval: int | None = None) -> None:
        self.interval = interval
        self._rows: dict[Row, list[_Held]] = {}

    def collisions(self, choice: Choice, time: int) -> set[int] | None:
        """The holders that stand in the way of `choice` at `time`; None when it is in its own way."""
        found: set[int] = set()
        rows, interval = self._rows, self.interval
        for claim in choice.claims:
            cycle = time + claim.cycle
            held = rows.get((claim.unit, cycle % interval if interval else cycle))
            if held:
                for holder, kind, shared in held:
                    if kind == claim.kind and (kind == "avoid" or (shared is not None and shared == claim.shared)):
                        continue
                    found.add(holder)
        if interval and _self_collision(choice, interval):
            return None
        return found

    def free(self, choice: Choice, time: int) -> bool:
        rows, interval = self._rows, self.interval
        for claim in choice.claims:
            cycle = time + claim.cycle
            held = rows.get((claim.unit, cycle % interval if interval else cycle))
            if held:
                for _, kind, shared in held:
                    if kind != claim.kind or (kind != "avoid" and (shared is None or shared != claim.shared)):
                        return False
        return not (interval and _self_collision(choice, interval))

    def take(self, holder: int, choice: Choice, time: int) -> None:
        for row, held in self._claims(holder, choice, time):
            self._rows.setdefault(row, []).append(held)

    def release(self, holder: int, choice: Choice, time: int) -> None:
        for row, held in self._claims(holder, choice, time):
            self._rows[row].remove(held)

    def pick(self, node: Node, time: int) -> Choice | None:
        """The first instruction of the operation that fits at `time`."""
        return next((choice for choice in node.choices if self.free(choice, time)), None)

    def _claims(self, holder: int, choice: Choice, time: int) -> Iterable[tuple[Row, _Held]]:
        interval = self.interval
        for claim in choice.claims:
            cycle = time + claim.cycle
            yield (claim.unit, cycle % interval if interval else cycle), (holder, claim.kind, claim.shared)


def _self_collision(choice: Choice, interval: int) -> bool:
    """A unit held longer than the interval meets its own next pass."""
    if all(claim.cycle < interval for claim in choice.claims):
        return False
    seen: set[Row] = set()
    for claim in choice.claims:
        if claim.kind == "use":
            row = (claim.unit, claim.cycle % interval)
            if row in seen:
                return True
            seen.add(row)
    return False
