"""Calls as pybind takes them: overloads tried in order, arguments by place or by the names that the binding gives.

Integers are whatever converts to one, but no float and no text (numpy's scalars and booleans do); text is str or bytes,
no path. What fits no overload is a TypeError that lists them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn


class Unfit(Exception):
    """A value that a parameter does not take."""


@dataclass(frozen=True)
class Kind:
    """What a parameter takes: its name in messages, and a function that converts a value or raises Unfit."""

    name: str
    convert: Callable[[Any], Any]


@dataclass(frozen=True)
class Parameter:
    """name: empty where the binding names none, so that it is given by its place alone."""

    kind: Kind
    name: str = ""


Signature = tuple[Parameter, ...]


def instance(of: type, name: str = "") -> Kind:
    """An object of a class."""

    def convert(value: Any) -> Any:
        if not isinstance(value, of):
            raise Unfit
        return value

    return Kind(name or of.__name__, convert)


def whole_number(value: Any) -> int:
    """Of anything that converts to one. Raises Unfit."""
    if isinstance(value, float | str | bytes | bytearray):
        raise Unfit
    try:
        return operator.index(value)
    except TypeError:
        pass
    if not hasattr(value, "__int__"):
        raise Unfit
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as reason:
        raise Unfit from reason


def _integer(name: str, first: int, last: int) -> Kind:
    def convert(value: Any) -> int:
        number = whole_number(value)
        if not first <= number <= last:
            raise Unfit
        return number

    return Kind(name, convert)


C_INT = _integer("int", -(1 << 31), (1 << 31) - 1)
UNSIGNED = _integer("int", 0, (1 << 32) - 1)
SIZE = _integer("int", 0, (1 << 64) - 1)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    if not isinstance(value, str):
        raise Unfit
    return value


def _parameters(value: Any) -> dict[str, int]:
    if not isinstance(value, dict):
        raise Unfit
    return {_text(key): UNSIGNED.convert(number) for key, number in value.items()}


TEXT = Kind("str", _text)
CONFIGURATION = Kind("dict[str, int]", _parameters)


def overload(*parameters: tuple[str, Kind] | Kind) -> Signature:
    """Parameters in order, with names or without."""
    made = (Parameter(one) if isinstance(one, Kind) else Parameter(one[1], one[0]) for one in parameters)
    return tuple(made)


def chosen(
    function: str, signatures: Sequence[Signature], given: Sequence[Any], named: Mapping[str, Any]
) -> tuple[int, list[Any]]:
    """The first overload that takes the arguments: its number, and the values converted. Raises TypeError."""
    for number, signature in enumerate(signatures):
        values = _fitted(signature, given, named)
        if values is not None:
            return number, values
    incompatible(function, signatures, given, named)


def _fitted(signature: Signature, given: Sequence[Any], named: Mapping[str, Any]) -> list[Any] | None:
    behind = signature[len(given) :]
    if len(given) > len(signature) or [one.name for one in behind if one.name in named] != [p.name for p in behind]:
        return None
    if len(behind) != len(named):
        return None
    try:
        return [
            parameter.kind.convert(value)
            for parameter, value in zip(signature, [*given, *(named[p.name] for p in behind)], strict=True)
        ]
    except Unfit:
        return None


def incompatible(
    function: str, signatures: Sequence[Signature], given: Sequence[Any], named: Mapping[str, Any] | None = None
) -> NoReturn:
    """As pybind refuses calls that fit no overload."""
    of, _, method = function.rpartition(".")
    what = "constructor" if method == "__init__" else "function"
    lines = [f"{method}(): incompatible {what} arguments. The following argument types are supported:"]
    for number, signature in enumerate(signatures, 1):
        shown = ", ".join(f"{one.name}: {one.kind.name}" if one.name else one.kind.name for one in signature)
        lines.append(f"    {number}. {of if method == '__init__' else ''}({shown})")
    kinds = [type(value).__name__ for value in given]
    kinds += [f"{name}={type(value).__name__}" for name, value in (named or {}).items()]
    raise TypeError("\n".join([*lines, "", f"Invoked with: {', '.join(kinds)}"]))
