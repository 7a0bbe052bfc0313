"""What strict mode adds to the symbolic core: where undefined bits are, and where native code does without them.

Native code mostly runs on defined values: what it reads of a register or memory is tested, and where bits are undefined
the interpreter takes the cycle. Where that happens often, the register parts and loads in question become *tracked*
(`Tracking`): from then on they are read with their undefined bits, as a `Partial` of two values that write IR, and
what is computed from them is computed for both by `DefinedLanes`. The sets only grow, a few times in a program's life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from npuc.runtime.emulator.native import effects, layout, pieces
from npuc.runtime.emulator.native.ir import (
    Bool,
    Lanes,
    NeedsConstant,
    Scalar,
    Untranslatable,
    current,
    i64,
    scalar,
)
from npuc.runtime.emulator.native.lanes import LANES
from npuc.runtime.emulator.native.pieces import alignment, pointer
from npuc.runtime.emulator.native.symbolic import Place, SymbolicCore, passed_on
from npuc.runtime.emulator.register_file import LC, LE, LS, SP
from npuc.runtime.emulator.semantics import Effect
from npuc.runtime.emulator.semantics.definedness import DefinedLanes, Partial, Undecided

DEFINED = DefinedLanes(LANES)
CHUNK = 8
"""Bytes of the smallest part of a vector register."""
_ONES = 0x0101010101010101


Met = tuple[str, int]
"""A place where undefined bits were met: a field of `Tracking`, and the number there."""


class Tracking(NamedTuple):
    """What is read with its undefined bits: scalars by index, chunks of vector registers, bundles with loads."""

    scalars: frozenset[int] = frozenset()
    chunks: frozenset[int] = frozenset()
    loads: frozenset[int] = frozenset()

    @staticmethod
    def of(places: Iterable[Met]) -> Tracking:
        """Of places where undefined bits were met."""
        found: dict[str, set[int]] = {name: set() for name in Tracking._fields}
        for kind, number in places:
            found[kind].add(number)
        return Tracking(*map(frozenset, found.values()))

    def with_more(self, other: Tracking) -> Tracking:
        """Both together."""
        return Tracking(*(mine | his for mine, his in zip(self, other, strict=True)))

    def name(self) -> str:
        """For the names of objects on disk."""
        return " ".join(str(sorted(each)) for each in self)


def nonzero(value: Any) -> Bool:
    """Whether any bit of lanes or a scalar is 1."""
    if isinstance(value, Lanes):
        bits = value.count * value.bits
        whole = current().value(f"bitcast {value.type} {value.ref} to i{bits}")
        return Bool(current().value(f"icmp ne i{bits} {whole}, 0"))
    return scalar(value) != 0


class StrictSymbolicCore(SymbolicCore):
    """tracking: what is read with its undefined bits."""

    strict = True
    lanes = DEFINED  # type: ignore[assignment]

    def __init__(self, return_address: Callable[[int], int]) -> None:
        super().__init__(return_address)
        self.tracking = Tracking()
        self._defined_scalars: set[int] = set()  # known to be defined, in the block up to here
        self._defined_chunks: set[int] = set()  # the same, by their place in the state buffer

    def enter_block(self) -> None:
        super().enter_block()
        self._defined_scalars.clear()
        self._defined_chunks.clear()
        current().line(f"%w = load ptr, ptr {pointer(layout.WRITTEN)}, align 8")

    def save(self) -> Any:
        return super().save(), set(self._defined_scalars), set(self._defined_chunks)

    def restore(self, saved: Any) -> None:
        super().restore(saved[0])
        self._defined_scalars, self._defined_chunks = saved[1], saved[2]

    # registers

    def scalar(self, index: int, pc: int) -> Any:
        """A scalar register."""
        value = self.registers.scalar[index]
        if index in self._defined_scalars:
            return value
        place = pointer(layout.UNDEFINED_SCALARS + 8 * index)
        undefined = Scalar(current().value(f"load i64, ptr {place}, align 8"))
        if index in self.tracking.scalars:
            return Partial(value, undefined)
        self.wrong.append(undefined.ref)
        self._defined_scalars.add(index)
        return value

    def vector(self, place: Place, register: str, pc: int) -> Any:
        """A vector register."""
        value = place.copy()
        chunks = set(range(place.offset // CHUNK, (place.offset + place.size) // CHUNK)) - self._defined_chunks
        if not chunks:
            return value
        undefined = Place(place.offset + layout.UNDEFINED, place.size).copy()
        if any(_chunk(each) in self.tracking.chunks for each in chunks):
            return Partial(value, undefined)
        self.wrong.append(i64(nonzero(undefined)))
        self._defined_chunks |= chunks
        return value

    def land_scalar(self, index: int, value: Any) -> None:
        place = layout.UNDEFINED_SCALARS + 8 * index
        if isinstance(value, Partial):
            if index in (LC, LS, LE, SP):
                raise Untranslatable("a loop register or sp that may be undefined")
            self._defined_scalars.discard(index)
            current().line(f"store i64 {i64(value.undefined)}, ptr {pointer(place)}, align 8")
            value = value.value
        elif index not in self._defined_scalars:
            current().line(f"store i64 0, ptr {pointer(place)}, align 8")
            self._defined_scalars.add(index)
        super().land_scalar(index, value)

    def land_vector(self, place: Place, value: Any) -> None:
        chunks = set(range(place.offset // CHUNK, (place.offset + place.size) // CHUNK))
        at = place.offset + layout.UNDEFINED
        if isinstance(value, Partial):
            self._defined_chunks -= chunks
            undefined = LANES.bits(value.undefined)
            pieces.store(undefined, pointer(at), alignment(at))
            value = value.value
        elif chunks - self._defined_chunks:
            pieces.store(LANES.zeros(8 * place.size), pointer(at), alignment(at))
            self._defined_chunks |= chunks
        super().land_vector(place, value)

    def check_landings(self, slot: int) -> None:
        """What the interpreter would report of the results that land: two for one register, a stack that grows."""
        seen: set[Any] = set()
        for index, value in self.scalar_landings[slot]:
            if index in seen:
                raise Untranslatable("two writes of a register land together")
            seen.add(index)
            if index == SP:
                self._check_stack(value)
        seen.clear()
        for place, _ in self.vector_landings[slot]:
            chunks = set(range(place.offset // CHUNK, (place.offset + place.size) // CHUNK))
            if chunks & seen:
                raise Untranslatable("two writes of a register land together")
            seen |= chunks

    def _check_stack(self, now: Any) -> None:
        """The stack shrinks, or stays inside what the interpreter has looked at."""
        if isinstance(now, Partial):
            raise Untranslatable("sp that may be undefined")
        before = self.registers.scalar[SP]
        low, high = (
            Scalar(current().value(f"load i64, ptr {pointer(place)}, align 8"))
            for place in (layout.STACK_LOW, layout.STACK_HIGH)
        )
        fine = (
            (now <= before) | ((before >= low) & (now <= high))
            if not isinstance(now, int)
            else ((before >= now) | ((before >= low) & (high >= now)))
        )
        self.require(fine)

    # decisions

    def certain(self, value: Any, what: str, pc: int) -> Any:
        """A value that decides something: the interpreter reports it where bits of it are undefined."""
        if not isinstance(value, Partial):
            return value
        self.wrong.append(i64(nonzero(value.undefined)))
        return value.value

    def certain_all(self, addresses: list[Any], pc: int) -> list[Any]:
        return [self.certain(address, "the address of an access", pc) for address in addresses]

    def doubt(self, doubtful: Any, what: Any, pc: int) -> None:
        if isinstance(doubtful, Partial):
            doubtful = doubtful.value & ~doubtful.undefined
        super().doubt(doubtful, what, pc)

    def branch(self, taken: Any, target: Any, pc: int) -> None:
        taken = scalar(self.certain(taken, "whether a branch is taken", pc))
        if isinstance(target, Partial):
            self.wrong.append(i64(nonzero(target.undefined).number() * taken))
            target = target.value
        super().branch(taken, target, pc)

    def request_lock(self, acquire: Any, number: Any, value: Any, enabled: Any, pc: int) -> None:
        enabled = scalar(self.certain(enabled, "whether a lock is used", pc))
        for each in (number, value):
            if isinstance(each, Partial):
                self.wrong.append(i64(nonzero(each.undefined).number() * enabled))
        super().request_lock(acquire, _value(number), _value(value), enabled, pc)

    # memory

    def _written(self, place: Any, size: int, kind: str) -> str:
        """Which bytes of memory are defined, 1 or 0 each, as that LLVM type."""
        at = current().value(f"getelementptr i8, ptr %w, i64 {i64(place)}")
        return current().value(f"load {kind}, ptr {at}, align {min(size, 16)}")

    def load(self, address: Any, size: int, pc: int) -> Any:
        place, value = self.located_load(address, size)
        written = Lanes(self._written(place, size, f"<{size} x i8>"), size, "i8")
        if pc in self.tracking.loads:
            return Partial(value, written - 1)
        self.wrong.append(i64(nonzero(written ^ 1)))
        return value

    def _word(self, place: Scalar | int, size: int, pc: int) -> Any:
        value = super()._word(place, size, pc)
        text = current().value(f"zext i{8 * size} {self._written(place, size, f'i{8 * size}')} to i64")
        undefined = Scalar(text) ^ (_ONES & ((1 << 8 * size) - 1))
        if pc in self.tracking.loads:
            return Partial(value, undefined * 0xFF)
        self.wrong.append(undefined.ref)
        return value

    def gather(self, addresses: list[Any], pc: int) -> Any:
        places = [self.locate(address & 0xFFFF0, 16) for address in addresses]
        starts = [scalar(address & 15) for address in addresses]
        value = self.gathered(places, starts, "%m")
        # Past the end of a half nothing is known: 0 in what is written, undefined.
        written = self.gathered(places, starts, "%w")
        if pc in self.tracking.loads:
            return Partial(value, written - 1)
        self.wrong.append(i64(nonzero(written ^ 1)))
        return value

    def write_stores(self, places: list[Scalar | int]) -> None:
        plain = []
        for place, (address, size, value, pc) in zip(places, self.stores, strict=True):
            at = current().value(f"getelementptr i8, ptr %w, i64 {i64(place)}")
            kind = f"<{size} x i8>"
            defined = "splat (i8 1)"
            if isinstance(value, Partial):
                undefined = value.undefined
                if not isinstance(undefined, Lanes):
                    text = current().value(f"trunc i64 {i64(undefined)} to i{8 * size}")
                    undefined = Lanes(current().value(f"bitcast i{8 * size} {text} to {kind}"), size, "i8")
                defined = LANES.resize(undefined == 0, 8).ref
                value = value.value
            current().line(f"store {kind} {defined}, ptr {at}, align {min(size, 16)}")
            plain.append((address, size, value, pc))
        self.stores[:] = plain
        super().write_stores(places)

    def check_meetings(self, loads: list[tuple[Any, int]], places: list[Scalar | int]) -> None:
        """A load and a store of one cycle touch different bytes, or the interpreter reports it."""
        for place, (_, size, _, _) in zip(places, self.stores, strict=True):
            for first, count in loads:
                start, end = scalar(place), scalar(first)
                if isinstance(start, int) and isinstance(end, int):
                    if end < start + size and start < end + count:
                        raise Untranslatable("a load meets a store")
                    continue
                meet = ((start + size) > end) & ((end + count) > start)
                self.wrong.append(i64(meet))

    # effects

    def effect_function(self, effect: Effect, operands: Mapping[str, Any], pc: int) -> Callable[..., Any]:
        plain = super().effect_function(effect, operands, pc)
        results = self.result_kinds(effect, operands)
        certain = len(results) - (effect.doubt is not None)
        tracked = tuple(-1 - kind if i < certain else kind for i, kind in enumerate(results))

        def compute(_: Any, *arguments: Any) -> Any:
            if effect.unknown or (_partial(arguments) and effect.access is not None and effect.access.kind == "gather"):
                return passed_on(effect.function(DEFINED, *arguments), results)
            if _partial(arguments) and not any(isinstance(_value(each), Lanes) for each in arguments):
                written = len(current().lines)
                try:
                    return passed_on(effect.function(DEFINED, *arguments), results)
                except (NeedsConstant, Undecided):
                    del current().lines[written:]
            given = list(arguments)
            while _partial(given):
                family = effects.family(effect, tuple(map(effects.kind_of, given)), tracked)
                deciding = [i for i in family.decides if isinstance(given[i], Partial)]
                if not deciding:
                    if family.inline:
                        return passed_on(effect.function(DEFINED, *given), results)
                    return self.call_family(family, given)
                for i in deciding:
                    given[i] = self.certain(given[i], "a mode", pc)
            return plain(LANES, *given)

        return compute


def _chunk(absolute: int) -> int:
    """The chunk of the vector registers that lies at a chunk of the state buffer, in either copy of them."""
    place = absolute * CHUNK
    return (place - (layout.BYPASSED if place >= layout.BYPASSED else layout.PLAIN)) // CHUNK


def _partial(values: Any) -> bool:
    return any(isinstance(each, Partial) for each in values)


def _value(value: Any) -> Any:
    return value.value if isinstance(value, Partial) else value
