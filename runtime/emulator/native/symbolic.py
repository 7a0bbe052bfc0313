"""A core whose registers, memory and pipeline hold LLVM IR values: what instructions do to it becomes native code.

The interpreter's own stage functions (actions.py) run on it. Registers are read from the state buffer, results go into
wheels like the interpreter's, and what an instruction asks of the core is noted for the end of the cycle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from npuc.runtime.emulator.actions import WHEEL
from npuc.runtime.emulator.core_memory import OWN_MEMORY, MemoryAccess
from npuc.runtime.emulator.native import effects, layout, pieces
from npuc.runtime.emulator.native.ir import Bool, Lanes, NeedsConstant, Scalar, Untranslatable, current, i64, scalar
from npuc.runtime.emulator.native.lanes import LANES, UNKNOWN
from npuc.runtime.emulator.native.pieces import Pieces, alignment, pointer
from npuc.runtime.emulator.register_file import is_scalar, vector_place
from npuc.runtime.emulator.semantics import UNALIGNED, WARNINGS, Doubt, Effect


class _Scalars:
    """Scalar registers by SCALAR_INDEX; what the block has loaded or written is not loaded again."""

    def __init__(self) -> None:
        self.known: dict[int, Any] = {}

    def __getitem__(self, index: int) -> Any:
        if index not in self.known:
            text = current().value(f"load i64, ptr {pointer(layout.SCALARS + 8 * index)}, align 8")
            self.known[index] = Scalar(text)
        return self.known[index]

    def __setitem__(self, index: int, value: Any) -> None:
        value = UNKNOWN if value is None else scalar(value)
        current().line(f"store i64 {i64(value)}, ptr {pointer(layout.SCALARS + 8 * index)}, align 8")
        self.known[index] = value


class Place:
    """A vector register in one of the two buffers."""

    __slots__ = ("offset", "size")

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.size = offset, size

    def copy(self) -> Lanes:
        """Its value, which waits in the register itself (`Pipeline.vacate`)."""
        return Pieces(self.size, None, self.offset)


class _Registers:
    def __init__(self) -> None:
        self.scalar = _Scalars()

    @staticmethod
    def place(register: str, bypassed: bool) -> Place:
        offset, size = vector_place(register)
        return Place((layout.BYPASSED if bypassed else layout.PLAIN) + offset, size)


def wheel() -> list[list[Any]]:
    return [[] for _ in range(WHEEL)]


class SymbolicCore:
    """The part of `Core` that actions use. return_address, call_family: given by the writer of blocks."""

    strict = False
    lanes = LANES
    merge = staticmethod(MemoryAccess.merge)

    def __init__(self, return_address: Callable[[int], int]) -> None:
        self.registers = _Registers()
        self.late, self.scalar_landings, self.vector_landings, self.bypass_landings = (wheel() for _ in range(4))
        self.write_landings = wheel()
        self.stores: list[Any] = []
        self.return_address = return_address
        self.call_family: Callable[[effects.Family, list[Any]], Any] = _no_call
        self.cycle_value: Callable[[], Scalar] = _no_cycle
        self.start_cycle()

    def __getattr__(self, name: str) -> Any:
        raise Untranslatable(f"it asks the core to {name.replace('_', ' ')}")

    def enter_block(self) -> None:
        """What all bundles of a block may use: which bits of the offset of a vector load make the interpreter look at
        it (those below its size only until it has warned)."""
        out = current()
        unwarned = out.value(f"load i64, ptr {pointer(layout.UNWARNED + 8 * WARNINGS.index(UNALIGNED))}, align 8")
        for size in (16, 32):
            low = out.value(f"and i64 {unwarned}, {size - 1}")
            out.line(f"%wrong{size} = or i64 {low}, {~0xFFFF}")

    def save(self) -> Any:
        """What is known in the block up to here, to go back to."""
        return dict(self.registers.scalar.known)

    def restore(self, saved: Any) -> None:
        self.registers.scalar.known = saved

    def land_scalar(self, index: int, value: Any) -> None:
        """A result reaches its register."""
        self.registers.scalar[index] = value

    def land_vector(self, place: Place, value: Any) -> None:
        if not isinstance(value, Lanes) or value.count != place.size:
            raise Untranslatable("a result of another width than its register")
        pieces.store(value, pointer(place.offset), alignment(place.offset))

    def check_landings(self, slot: int) -> None:
        """What strict mode wants of the results that land in a cycle."""

    def check_meetings(self, loads: list[tuple[Any, int]], places: list[Scalar | int]) -> None:
        """What strict mode wants of the loads and stores of a cycle."""

    def start_cycle(self) -> None:
        """Nothing asked for yet. wrong: i64 values that must be 0, or the interpreter has to take the cycle."""
        self.accesses: list[tuple[Any, int]] = []
        self.wrong: list[str] = []
        self.branches: list[tuple[Any, Any]] = []
        self.locks: list[tuple[Any, Any, Any, Any]] = []
        self.stores.clear()

    # what actions ask for

    @property
    def cycle(self) -> Scalar:
        return self.cycle_value()

    @property
    def timer_origin(self) -> Scalar:
        return Scalar(current().value(f"load i64, ptr {pointer(layout.TIMER_ORIGIN)}, align 8"))

    def branch(self, taken: Any, target: Any, pc: int) -> None:
        self.branches.append((scalar(taken), target))

    def doubt(self, doubtful: Any, what: Doubt, pc: int) -> None:
        """The interpreter says what is open, once where that is a warning."""
        if not what.refused and not isinstance(doubtful, int):
            text = f"load i64, ptr {pointer(layout.UNWARNED + 8 * WARNINGS.index(what.text))}, align 8"
            doubtful = doubtful & Scalar(current().value(text))
        self.wrong.append(i64(doubtful))

    def request_lock(self, acquire: Any, number: Any, value: Any, enabled: Any, pc: int) -> None:
        self.locks.append((acquire, number, value, enabled))

    def require(self, condition: Bool) -> None:
        """The code may only go on where this holds."""
        self.wrong.append(i64(~condition))

    # memory

    def touch(self, address: Any, time: int, delays: tuple[int, ...]) -> None:
        self.wrong.append(i64((scalar(address) - OWN_MEMORY) & ~0xFFFF))

    def touch_gather(self, addresses: list[Any], time: int) -> None:
        for address in addresses:
            self.touch(address & 0xFFFFF, time, ())

    def locate(self, address: Any, size: int, wrong: Any = None) -> Scalar | int:
        """The offset of an aligned access in data memory; inside it also where the access must not be made.

        wrong: which bits of the offset must be 0, where not all outside the memory and below the size.
        """
        place = scalar(address) - OWN_MEMORY
        outside = place & ~(0xFFFF & -size)
        if isinstance(outside, int):
            if outside:
                raise Untranslatable("an access that is not aligned or outside the tile's data memory")
        else:
            self.wrong.append(outside.ref if wrong is None else (place & wrong).ref)
            place = place & (0xFFFF & -size)
        self.accesses.append((place, size))
        return place

    def _at(self, place: Scalar | int) -> str:
        return current().value(f"getelementptr i8, ptr %m, i64 {i64(place)}")

    def located_load(self, address: Any, size: int) -> tuple[Scalar | int, Lanes]:
        """Where a vector is loaded from, and the vector."""
        place = self.locate(address, size, Scalar(f"%wrong{size}"))
        return place, Pieces(size, pieces.load(size, self._at(place), min(size, 16)))

    def load(self, address: Any, size: int, pc: int) -> Any:
        return self.located_load(address, size)[1]

    def load_word(self, address: Any, size: int, pc: int) -> Any:
        return self._word(self.locate(address, size), size, pc)

    def _word(self, place: Scalar | int, size: int, pc: int) -> Any:
        out = current()
        text = out.value(f"load i{8 * size}, ptr {self._at(place)}, align {size}")
        return Scalar(out.value(f"zext i{8 * size} {text} to i64"))

    def load_around(self, address: Any, size: int, pc: int) -> Any:
        if size > 1:
            self.wrong.append(i64(scalar(address) & (size - 1)))
        return self._word(self.locate(address & 0xFFFFC, 4), 4, pc)

    def gather(self, addresses: list[Any], pc: int) -> Any:
        places = [self.locate(address & 0xFFFF0, 16) for address in addresses]
        return self.gathered(places, [scalar(address & 15) for address in addresses], "%m")

    @staticmethod
    def gathered(places: list[Scalar | int], starts: list[Any], base: str) -> Lanes:
        """Four fetches of 8 bytes from their halves of 16; past the end of a half 0."""
        out, whole = current(), "poison"
        for lane, (place, start) in enumerate(zip(places, starts, strict=True)):
            at = out.value(f"getelementptr i8, ptr {base}, i64 {i64(place)}")
            row = out.value(f"load i128, ptr {at}, align 16")
            shift = out.value(f"zext i64 {i64(start * 8)} to i128")
            piece = out.value(f"trunc i128 {out.value(f'lshr i128 {row}, {shift}')} to i64")
            whole = out.value(f"insertelement <4 x i64> {whole}, i64 {piece}, i64 {lane}")
        return pieces.split(LANES.bits(Lanes(whole, 4, "i64")))

    def write_stores(self, places: list[Scalar | int]) -> None:
        """Writes the stores of this cycle, at the places that `locate` gave."""
        out = current()
        for place, (_, size, value, _) in zip(places, self.stores, strict=True):
            if isinstance(value, Lanes):
                if value.count != size:
                    raise Untranslatable("a store of another width than its value")
                pieces.store(value, self._at(place), min(size, 16))
            else:
                text = out.value(f"trunc i64 {i64(value)} to i{8 * size}")
                out.line(f"store i{8 * size} {text}, ptr {self._at(place)}, align {size}")

    def register_at(self, offset: int, size: int) -> Place:
        """The vector register at an offset of the state buffer."""
        return Place(offset, size)

    # effects

    def effect_function(self, effect: Effect, operands: Mapping[str, Any], pc: int) -> Callable[..., Any]:
        """Computes an effect on symbolic values: in place, or by a function of its family."""
        results = self.result_kinds(effect, operands)

        def compute(lanes: Any, *arguments: Any) -> Any:
            kinds = tuple(map(effects.kind_of, arguments))
            if effect.access is not None and effect.access.kind == "gather":
                return effect.function(lanes, *arguments)
            if not any(kinds):
                written = len(current().lines)
                try:
                    return passed_on(effect.function(lanes, *arguments), results)
                except NeedsConstant:
                    del current().lines[written:]
            family = effects.family(effect, kinds, results)
            if family.inline:
                return passed_on(effect.function(lanes, *arguments), results)
            return self.call_family(family, list(arguments))

        return compute

    def result_kinds(self, effect: Effect, operands: Mapping[str, Any]) -> tuple[effects.Kind, ...]:
        """The kinds of what the effect's function gives."""
        results = tuple(self._result_kind(each, operands) for each in effect.outputs)
        if effect.access is not None and effect.access.kind in ("store", "load+store"):
            results = (effect.access.bytes if effect.access.bytes > 4 else 0,)
        return results if effect.doubt is None else (*results, 0)

    @staticmethod
    def _result_kind(output: str, operands: Mapping[str, Any]) -> effects.Kind:
        register = operands.get(output, output)
        if not isinstance(register, str) or "." in register or is_scalar(register):
            return 0
        return vector_place(register)[1]


def passed_on(result: Any, results: tuple[effects.Kind, ...]) -> Any:
    """What an effect gave, vectors as bits."""
    if not any(results):
        return result
    return effects.as_moved(result) if len(results) == 1 else tuple(map(effects.as_moved, result))


def _no_call(family: effects.Family, arguments: list[Any]) -> Any:
    raise AssertionError("no block is being written")


def _no_cycle() -> Scalar:
    raise AssertionError("no block is being written")
