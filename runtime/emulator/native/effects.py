"""Effects of instructions as native functions, shared by all programs.

An effect on vectors becomes a function of its own, unless it is a few lines, and is compiled once for every set of
values of the scalars that it decides on (rounding mode, configuration word): its `Family` finds out which those are by
writing the effect down. Values of a family are told apart at run time by `key`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.runtime.emulator.errors import EmulationError
from npuc.runtime.emulator.native import pieces
from npuc.runtime.emulator.native.ir import Emitter, Lanes, NeedsConstant, Scalar, Untranslatable, i64, scalar, writing
from npuc.runtime.emulator.native.lanes import LANES, UNKNOWN
from npuc.runtime.emulator.semantics import Effect, effect, missing
from npuc.runtime.emulator.semantics.definedness import DefinedLanes, Partial, Undecided

INLINE_LINES = 16
"""Effects of at most so many lines are written where they are used."""

DEFINED = DefinedLanes(LANES)
Kind = int
"""Of a value: 0 a scalar, else the bytes of a vector; -1 - that, where it is a Partial, passed as two values."""


def kind_of(value: Any) -> Kind:
    """The kind of a symbolic value."""
    if isinstance(value, Partial):
        return -1 - kind_of(value.value)
    return value.count * value.bits // 8 if isinstance(value, Lanes) else 0


def flat(kinds: Sequence[Kind]) -> list[Kind]:
    """The kinds of the values that are passed."""
    return [each for kind in kinds for each in ((kind,) if kind >= 0 else (-1 - kind, -1 - kind))]


@functools.cache
def types_of(kind: Kind) -> tuple[str, ...]:
    """The LLVM types in which a value of that kind is passed."""
    return tuple(f"<{width} x i8>" for width in pieces.widths(kind)) if kind else ("i64",)


def passed(value: Any, kind: Kind) -> list[Any]:
    """A value of that kind as it is passed."""
    if kind >= 0:
        return [value]
    if isinstance(value, Partial):
        return [value.value, value.undefined]
    return [value, Lanes("zeroinitializer", -1 - kind, "i8") if kind < -1 else 0]


def as_bits(value: Any) -> Any:
    """A result as it is passed on: bits of a vector, a scalar, or the mark of what is not known."""
    if isinstance(value, Partial):
        return Partial(as_bits(value.value), as_bits(value.undefined))
    if isinstance(value, Lanes):
        return LANES.bits(value)
    return UNKNOWN if value is None else scalar(value)


def as_moved(value: Any) -> Any:
    """The same, as blocks keep it."""
    if isinstance(value, Partial):
        return Partial(as_moved(value.value), as_moved(value.undefined))
    bits = as_bits(value)
    return pieces.split(bits) if isinstance(bits, Lanes) else bits


def operands_of(value: Any) -> list[tuple[str, str]]:
    """Types and texts of the operands for a passed value."""
    texts = pieces.pieces_of(value) if isinstance(value, Lanes) else [i64(value)]
    return list(zip(types_of(kind_of(value)), texts, strict=True))


@functools.cache
def _representatives() -> dict[tuple[Any, ...], str]:
    """The first instruction that has a function with certain parameters."""
    found: dict[tuple[Any, ...], str] = {}
    for name in sorted(set(INSTRUCTIONS) - set(missing())):
        found.setdefault(_identity(effect(name)), name)
    return found


def _identity(each: Effect) -> tuple[Any, ...]:
    function = each.function
    if isinstance(function, functools.partial):
        return (function.func, *sorted(function.keywords.items()))
    return (function,)


class Family:
    """One effect on arguments of certain kinds, for all values of what it decides on.

    decides: positions of the arguments that must be known. inline: None, or that it is short and needs no constants.
    """

    def __init__(self, instruction: str, arguments: tuple[Kind, ...], results: tuple[Kind, ...]) -> None:
        self.name = (instruction, arguments, results)
        self.function = effect(instruction).function
        self.lanes: Any = DEFINED if any(kind < 0 for kind in arguments) else LANES
        self.arguments, self.results = arguments, results
        self.decides: tuple[int, ...] = ()
        self.inline = False
        self._learn()

    @property
    def result_type(self) -> str:
        types = [each for kind in flat(self.results) for each in types_of(kind)]
        return types[0] if len(types) == 1 else "{ " + ", ".join(types) + " }"

    @property
    def passed(self) -> list[int]:
        """Positions of the arguments that are passed at run time."""
        return [i for i in range(len(self.arguments)) if i not in self.decides]

    def _learn(self) -> None:
        known: dict[int, int] = {}
        while True:
            try:
                emitter = self._body(known)
            except (NeedsConstant, Undecided) as need:
                origins, example = (
                    (need.origins, need.example) if isinstance(need, NeedsConstant) else (need.value.value.origins, 0)
                )
                if not origins or origins & set(known):
                    raise Untranslatable(f"{self.name[0]} decides on what it computes") from None
                known.update(dict.fromkeys(origins, example))
                self.decides = tuple(sorted(known))
            except EmulationError:
                if not known:
                    raise
                return  # the example is not among the values it knows; others may be
            else:
                self.inline = not known and len(emitter.lines) <= INLINE_LINES
                return

    def _body(self, known: Mapping[int, int]) -> Emitter:
        emitter = Emitter()
        with writing(emitter):
            arguments: list[Any] = []
            for i, kind in enumerate(self.arguments):
                if i in known:
                    arguments.append(known[i])
                elif kind < 0:
                    arguments.append(Partial(self._argument("a", i, -1 - kind), self._argument("u", i, -1 - kind)))
                else:
                    arguments.append(self._argument("a", i, kind))
            self._return(emitter, self.function(self.lanes, *arguments))
        return emitter

    @staticmethod
    def _argument(letter: str, position: int, kind: Kind) -> Any:
        names = [f"%{letter}{position}_{i}" for i in range(len(types_of(kind)))]
        return pieces.joined(pieces.Pieces(kind, names)) if kind else Scalar(names[0], frozenset((position,)))

    def _return(self, emitter: Emitter, result: Any) -> None:
        results = [as_bits(each) for each in (result if len(self.results) > 1 else (result,))]
        values = [each for value, kind in zip(results, self.results, strict=True) for each in passed(value, kind)]
        kinds = flat(self.results)
        if [kind_of(each) for each in values] != kinds:
            raise Untranslatable(f"{self.name[0]} gives {[kind_of(each) for each in values]} bytes")
        operands = [each for value in values for each in operands_of(value)]
        whole = operands[0][1] if len(operands) == 1 else "poison"
        if len(operands) > 1:
            for i, (kind, text) in enumerate(operands):
                whole = emitter.value(f"insertvalue {self.result_type} {whole}, {kind} {text}, {i}")
        emitter.line(f"ret {self.result_type} {whole}")

    def source(self, values: Sequence[int]) -> str:
        """The module that defines @effect for these values of what it decides on.

        Raises EmulationError for values that have no known meaning, Untranslatable for those it cannot write.
        """
        try:
            emitter = self._body(dict(zip(self.decides, values, strict=True)))
        except (NeedsConstant, Undecided) as need:
            raise Untranslatable(str(need)) from None
        arguments = ", ".join(
            f"{each} %{letter}{i}_{number}"
            for i in self.passed
            for kind, letter in zip(flat(self.arguments[i : i + 1]), "au", strict=False)
            for number, each in enumerate(types_of(kind))
        )
        lines = [
            *sorted(emitter.declarations),
            f"define {self.result_type} @effect({arguments}) nounwind {{",
            *emitter.lines,
            "}",
            "",
        ]
        return "\n".join(lines)


_families: dict[tuple[str, tuple[Kind, ...], tuple[Kind, ...]], Family] = {}


def family(each: Effect, arguments: tuple[Kind, ...], results: tuple[Kind, ...]) -> Family:
    """The family of an effect; instructions with the same effect share one.

    Raises Untranslatable when the translator cannot write it, EmulationError when it has no meaning.
    """
    return named(_representatives()[_identity(each)], arguments, results)


def named(instruction: str, arguments: tuple[Kind, ...], results: tuple[Kind, ...]) -> Family:
    """The family of that name (`Family.name`)."""
    name = (instruction, arguments, results)
    if name not in _families:
        _families[name] = Family(*name)
    return _families[name]
