"""What is under way in a core whose code is being written: the wheels, and where their values wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

from npuc.runtime.emulator.actions import WHEEL
from npuc.runtime.emulator.native import layout, pieces
from npuc.runtime.emulator.native.ir import Lanes, Scalar, Untranslatable, current
from npuc.runtime.emulator.native.pieces import Pieces, alignment, pointer
from npuc.runtime.emulator.native.shape import Shape
from npuc.runtime.emulator.native.symbolic import SymbolicCore
from npuc.runtime.emulator.semantics.definedness import Partial

Wheels = tuple[list[Any], ...]
"""For each wheel its slots, each a sequence of entries."""
Saved = tuple[Wheels, list[Scalar], dict[int, Any], list[int]]
"""See `Pipeline.save`."""


def store(value: Any, offset: int) -> None:
    """Writes a value into the state buffer."""
    if isinstance(value, Lanes):
        pieces.store(value, pointer(offset), alignment(offset))
    else:
        current().line(f"store i64 {value.ref}, ptr {pointer(offset)}, align 8")


def _fetch_scalar(offset: int) -> str:
    return current().value(f"load i64, ptr {pointer(offset)}, align 8")


class Pipeline:
    """The wheels of a symbolic core. stage_of: the stage function by origin and name.

    planned: slots for some of the values that wait, by how many waited before; of a value that is still under way
    at the end, the one that `settle` would move it to (`to_plan`).
    """

    def __init__(
        self, core: SymbolicCore, stage_of: Callable[[tuple[int, int], str], Any], planned: Mapping[int, int]
    ) -> None:
        self.core, self.stage_of = core, stage_of
        self.wheels: Wheels = (core.late, core.scalar_landings, core.vector_landings, core.bypass_landings)
        self.writes = core.write_landings
        self._waiting: list[Scalar] = []  # values that wait in the state buffer since the block's entry
        # Values whose `slot` holds them, by identity: those in the wheels now or when the present cycle began.
        self._kept: dict[int, Any] = {}
        self._free: Iterator[int] | None = None  # slots for the present cycle
        self._planned, self.to_plan = planned, dict[int, int]()
        self._stored: list[Any] = []  # all values that ever waited, in order

    # the entry of a block

    def enter(self, shape: Shape) -> None:
        """Fills the wheels with what is under way."""
        for wheel in (*self.wheels, self.writes):
            for entries in wheel:
                entries.clear()
        core = self.core
        seen: dict[tuple[Any, ...], Any] = {}
        for delay in range(WHEEL):
            self.writes[delay].extend(shape.writes[delay])
            for origin, stage, values in shape.late[delay]:
                core.late[delay].append(
                    (self.stage_of(origin, stage), tuple(self._value(each, seen) for each in values))
                )
            for index, value in shape.scalar[delay]:
                core.scalar_landings[delay].append((index, self._value(value, seen)))
            for landings, register_writes in (
                (core.vector_landings, shape.vector),
                (core.bypass_landings, shape.bypass),
            ):
                for offset, size, value in register_writes[delay]:
                    landings[delay].append((core.register_at(offset, size), self._value(value, seen)))

    def _value(self, spec: tuple[Any, ...], seen: dict[tuple[Any, ...], Any]) -> Any:
        if spec[0] == "c":
            return spec[1]
        if spec[0] == "l":
            return [self._value(each, seen) for each in spec[1]]
        if spec[0] == "p":
            return Partial(self._value(spec[1], seen), self._value(spec[2], seen))
        if spec not in seen:
            offset = spec[1]
            if spec[0] == "s":
                seen[spec] = Scalar(None, slot=offset, fetch=lambda: _fetch_scalar(offset))
                self._waiting.append(seen[spec])
            else:
                seen[spec] = Pieces(spec[2], None, offset)
            self._kept[id(seen[spec])] = seen[spec]
        return seen[spec]

    # a cycle that may have to be taken back

    def save(self) -> Saved:
        """The wheels as they are, the values that no code has loaded yet, those that wait and where."""
        return (
            tuple([*map(tuple, wheel)] for wheel in (*self.wheels, self.writes)),
            [value for value in self._waiting if not value.loaded],
            self._kept,
            [value.slot for value in self._kept.values()],
        )

    def restore(self, saved: Saved) -> None:
        """Back to what `save` gave; code written since is dropped."""
        self._kept, self._free = saved[2], None
        for wheel, entries in zip((*self.wheels, self.writes), saved[0], strict=True):
            wheel[:] = map(list, entries)
        for value in saved[1]:
            value.forget()
        for value, slot in zip(self._kept.values(), saved[3], strict=True):
            value.slot = slot
        current().stretch += 1

    # where values wait

    def _values(self, but: int | None = None) -> list[Any]:
        """All values in the wheels, lists taken apart. but: a slot whose landings are left out."""
        found: list[Any] = []
        for wheel in self.wheels:
            for _, values in chain.from_iterable(
                wheel if but is None or wheel is self.core.late else wheel[:but] + wheel[but + 1 :]
            ):
                if isinstance(values, (tuple, list, Partial)):
                    _take_apart(values, found)
                else:
                    found.append(values)
        return found

    def keep(self, slot: int) -> None:
        """Stores new values that stay under way beyond this cycle, whose landings are those of a slot, in the scratch
        area, where ways out find them; those read from a register wait in it."""
        new = {
            id(value): value
            for value in self._values(slot)
            if isinstance(value, (Scalar, Lanes)) and id(value) not in self._kept
        }
        for value in new.values():
            if not isinstance(value, Pieces) or value.slot is None:
                self._store(value)
        if new:
            self._kept = {**self._kept, **new}

    def _store(self, value: Any) -> None:
        slot = self._planned.get(len(self._stored))
        self._stored.append(value)
        if slot is None or any(slot == each.slot for each in self._kept.values()):
            if self._free is None:
                taken = {each.slot for each in self._kept.values()}
                self._free = (s for s in range(layout.SCRATCH, layout.SCRATCH_END, layout.SLOT) if s not in taken)
            slot = next(self._free, None)
        if slot is None:
            raise Untranslatable("more results under way than there is room for")
        if isinstance(value, Pieces):
            value.wait(slot)
        else:
            store(value, slot)
            value.slot = slot

    def vacate(self, landings: list[tuple[Any, Any]]) -> None:
        """Values that wait in registers which are written now, by landings that have left the wheels, wait elsewhere.

        Those that land themselves are loaded.
        """
        landing: list[Any] = []
        _take_apart([value for _, value in landings], landing)
        for value in landing:
            if _in_register(value):
                value.fetch()
        written = [(place.offset, place.offset + place.size) for place, _ in landings]
        staying: set[int] | None = None
        for key, value in self._kept.items():
            if not _in_register(value):
                continue
            first = value.slot - (layout.UNDEFINED if value.slot >= layout.SCRATCH_END else 0)
            if any(start < first + value.count and first < end for start, end in written):
                staying = {id(each) for each in self._values()} if staying is None else staying
                if key in staying:
                    value.fetch()
                    self._store(value)

    def end_cycle(self) -> None:
        """The slots of values that have left the wheels may be used again.

        A value that comes back (a register's, read twice) is new then.
        """
        present = {id(value) for value in self._values()}
        self._kept = {key: value for key, value in self._kept.items() if key in present}
        self._free = None

    def settle(self, time: int) -> tuple[Any, ...]:
        """Moves what is under way to the slots of the next block, whose first cycle is `time`; its description.

        What waits in registers is moved, too: a block that is entered from the interpreter has the same shape then.
        """
        order: dict[int, tuple[Any, int]] = {}

        def place(value: Any) -> int:
            if id(value) not in order:
                if len(order) == layout.UNDER_WAY_SLOTS:
                    raise Untranslatable("more results under way than there is room for")
                order[id(value)] = (value, layout.UNDER_WAY + layout.SLOT * len(order))
            return order[id(value)][1]

        described = describe((*self.wheels, self.writes), time, place)
        self.to_plan = {i: order[id(value)][1] for i, value in enumerate(self._stored) if id(value) in order}
        moved = [(value, slot) for value, slot in order.values() if value.slot != slot]
        for value, _ in moved:
            value.fetch()  # before its slot is taken
        for value, slot in moved:
            store(value, slot)
        return described


def _take_apart(values: Any, into: list[Any]) -> None:
    """The values in a list of them, however deep, and the two of a Partial."""
    if isinstance(values, (tuple, list)):
        for value in values:
            _take_apart(value, into)
    elif isinstance(values, Partial):
        into += (values.value, values.undefined)
    else:
        into.append(values)


def _in_register(value: Any) -> bool:
    """Whether a value waits in the vector register that it was read from, or in the undefined bits of one."""
    return (
        isinstance(value, Pieces) and value.slot is not None and not layout.UNDER_WAY <= value.slot < layout.SCRATCH_END
    )


def waiting_place(value: Any) -> int:
    """Where a value that `keep` has stored waits."""
    assert value.slot is not None
    return value.slot


def describe(wheels: Wheels, time: int, place: Callable[[Any], int]) -> tuple[Any, ...]:
    """late, scalar, vector, bypass and writes of the shape whose first cycle is `time`; place: where a value waits."""
    late, scalar, *landings, writes = wheels

    def value_of(value: Any) -> tuple[Any, ...]:
        if value is None or isinstance(value, int):
            return ("c", value)
        if isinstance(value, list):
            return ("l", tuple(map(value_of, value)))
        if isinstance(value, Partial):
            return ("p", value_of(value.value), value_of(value.undefined))
        return ("s", place(value)) if isinstance(value, Scalar) else ("v", place(value), value.count)

    def turned(wheel: list[Any], entry: Callable[..., tuple[Any, ...]]) -> tuple[Any, ...]:
        first = time & (WHEEL - 1)
        return tuple([tuple([entry(*each) for each in slot]) if slot else () for slot in wheel[first:] + wheel[:first]])

    return (
        turned(late, lambda stage, values: (stage.__globals__["origin"], stage.__name__, tuple(map(value_of, values)))),
        turned(scalar, lambda index, value: (index, value_of(value))),
        *(
            turned(wheel, lambda register, value: (register.offset, register.size, value_of(value)))
            for wheel in landings
        ),
        turned(writes, lambda *entry: entry),
    )
