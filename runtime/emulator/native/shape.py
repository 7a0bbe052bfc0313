"""What a core has under way between two bundles, without the values: the key of a translated block.

A value is described by `("c", number)` when it is known (None: not known to anybody), `("s", offset)` and
`("v", offset, bytes)` when it waits in the state buffer, `("l", (...))` for a list of values, `("p", value, value)` for
one with its undefined bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from npuc.runtime.emulator.actions import WHEEL

Value = tuple[Any, ...]
EMPTY_WHEEL: tuple[tuple[Any, ...], ...] = ((),) * WHEEL


class Loop(NamedTuple):
    """start, end: ls and le where known; active: whether lc may be above 0; fresh: written since the last loop ended.

    What an inactive loop left behind is of no interest and counts as not known, so that code after different loops is
    the same code.
    """

    start: int | None
    end: int | None
    active: bool
    fresh: bool


UNKNOWN_LOOP = Loop(None, None, False, False)


class Shape(NamedTuple):
    """The address of the next bundle and everything under way, by the number of cycles to go.

    delay: delay slots still to come, plus 1; target: where they lead, None when the state buffer holds it.
    late: stages of earlier instructions as ((address, position), stage, values); scalar: landings as (index, value);
    vector, bypass: landings as (offset in the state, bytes, value). In strict mode, writes: landings as (register
    parts, address of the bundle); slots: delay slots still to come of the last transfer, taken or not.
    """

    pc: int
    delay: int
    target: int | None
    loop: Loop
    late: tuple[tuple[Any, ...], ...]
    scalar: tuple[tuple[Any, ...], ...]
    vector: tuple[tuple[Any, ...], ...]
    bypass: tuple[tuple[Any, ...], ...]
    writes: tuple[tuple[Any, ...], ...] = EMPTY_WHEEL
    slots: int = 0

    @property
    def empty(self) -> bool:
        """Whether nothing is under way."""
        return not self.delay and self[4:9] == (EMPTY_WHEEL,) * 5

    def plain(self) -> tuple[Any, ...]:
        """As plain tuples; of each wheel the slots that hold something, each after its number."""
        wheels = ([(i, slot) for i, slot in enumerate(wheel) if slot] for wheel in self[4:9])
        return (*self[:3], tuple(self.loop), *wheels, self.slots)


def shape_from(data: Sequence[Any]) -> Shape:
    """The shape of `Shape.plain`, whose tuples may have become lists."""
    late, scalar, vector, bypass, writes = map(_wheel, data[4:9])
    return Shape(data[0], data[1], data[2], Loop(*data[3]), late, scalar, vector, bypass, writes, data[9])


def _wheel(filled: Sequence[Any]) -> tuple[Any, ...]:
    if not filled:
        return EMPTY_WHEEL
    wheel = list(EMPTY_WHEEL)
    for number, slot in filled:
        wheel[number] = tuples(slot)
    return tuple(wheel)


def tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were."""
    return tuple([tuples(each) if isinstance(each, list) else each for each in value])
