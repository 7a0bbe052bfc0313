"""Values of the translator: lane operations on them write LLVM IR text.

A `Scalar` is an i64: all that the semantics compute with scalars fits the ring of 64-bit numbers, compared signed. A
`Bool` is an i1. `Lanes` are a vector; a bit vector is `Lanes` of 8 bits, as in the numpy interpretation, whose rules
for mixed types hold (a mask widens to the other operand, Python ints take the other operand's type). A `Partial` of two
such values leaves operations with them to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from npuc.runtime.emulator.semantics.definedness import Partial

MASK64 = (1 << 64) - 1


class Untranslatable(Exception):
    """What the translator leaves to the interpreter; the text says why."""


class NeedsConstant(Exception):
    """A decision depends on inputs (`origins`, their positions) that must be known when the code is written.

    example: a value of theirs that may be among those with a meaning.
    """

    def __init__(self, origins: frozenset[int], example: int = 0) -> None:
        super().__init__(f"inputs {sorted(origins)} must be known")
        self.origins, self.example = origins, example


class Emitter:
    """The text of one function, block by block. stretch: number of the present one of those that no label or call
    interrupts."""

    def __init__(self, label: str = "entry") -> None:
        self.lines: list[str] = [f"{label}:"]
        self.label = label
        self.stretch = 0
        self.declarations: set[str] = set()
        self.count = 0
        self.check: Callable[[Bool], None] | None = None  # leaves the code unless the condition holds

    def value(self, text: str) -> str:
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {text}")
        return name

    def line(self, text: str) -> None:
        self.lines.append(f"  {text}")

    def new_label(self) -> str:
        self.count += 1
        return f"l{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.label = label
        self.stretch += 1

    def intrinsic(self, name: str, result: str, *arguments: tuple[str, str]) -> str:
        """Calls an LLVM intrinsic; arguments are (type, value)."""
        self.declarations.add(f"declare {result} @{name}({', '.join(kind for kind, _ in arguments)})")
        return self.value(f"call {result} @{name}({', '.join(f'{kind} {value}' for kind, value in arguments)})")


_stack: list[Emitter] = []


def current() -> Emitter:
    """The function being written."""
    return _stack[-1]


class writing:  # noqa: N801 (a context manager reads as a verb)
    """Makes an emitter the current one."""

    def __init__(self, emitter: Emitter) -> None:
        self.emitter = emitter

    def __enter__(self) -> Emitter:
        _stack.append(self.emitter)
        return self.emitter

    def __exit__(self, *_: object) -> None:
        _stack.pop()


_NO_ORIGINS: frozenset[int] = frozenset()


def _number(value: int) -> str:
    value &= MASK64
    return str(value - (value >> 63 << 64))


class Bool:
    """An i1."""

    __slots__ = ("origins", "ref")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, ref: str, origins: frozenset[int] = _NO_ORIGINS) -> None:
        self.ref, self.origins = ref, origins

    def _binary(self, op: str, other: Any) -> Bool:
        if isinstance(other, Partial):
            return NotImplemented
        if isinstance(other, int):
            text, origins = ("true" if other else "false"), self.origins
        else:
            text, origins = other.ref, self.origins | other.origins
        return Bool(current().value(f"{op} i1 {self.ref}, {text}"), origins)

    def __and__(self, other: Any) -> Bool:
        return self._binary("and", other)

    def __or__(self, other: Any) -> Bool:
        return self._binary("or", other)

    def __xor__(self, other: Any) -> Bool:
        return self._binary("xor", other)

    def __eq__(self, other: Any) -> Bool:  # type: ignore[override]
        return self._binary("icmp eq", other)

    def __ne__(self, other: Any) -> Bool:  # type: ignore[override]
        return self._binary("icmp ne", other)

    def __invert__(self) -> Bool:
        return self._binary("xor", True)

    def number(self) -> Scalar:
        """1 or 0."""
        return Scalar(current().value(f"zext i1 {self.ref} to i64"), self.origins)


class _Value:
    """A value of the code being written, which may wait in a slot of the state buffer until it is used."""

    __slots__ = ("_fetch", "_ref", "slot")

    def __init__(self, ref: str | None, slot: int | None, fetch: Callable[[], str] | None) -> None:
        self._ref, self.slot, self._fetch = ref, slot, fetch

    @property
    def ref(self) -> str:
        """The SSA name."""
        if self._ref is None:
            self.fetch()
        assert self._ref is not None
        return self._ref

    def fetch(self) -> None:
        """Loads a value that waits in memory; done where it is first used."""
        if self._ref is None:
            assert self._fetch is not None
            self._ref = self._fetch()

    @property
    def loaded(self) -> bool:
        return self._ref is not None

    def forget(self) -> None:
        """The code that loaded it is dropped."""
        self._ref = None


class Scalar(_Value):
    """An i64. origins: positions of the inputs it was computed from. slot: where a pending value is kept."""

    __slots__ = ("origins",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        ref: str | None,
        origins: frozenset[int] = _NO_ORIGINS,
        slot: int | None = None,
        fetch: Callable[[], str] | None = None,
    ) -> None:
        super().__init__(ref, slot, fetch)
        self.origins = origins

    def _binary(self, op: str, other: Any, swapped: bool = False) -> Scalar:
        if isinstance(other, Partial):
            return NotImplemented
        if isinstance(other, int):
            text, origins = _number(int(other)), self.origins
        else:
            other = scalar(other)
            text, origins = other.ref, self.origins | other.origins if self.origins or other.origins else _NO_ORIGINS
        left, right = (text, self.ref) if swapped else (self.ref, text)
        return Scalar(current().value(f"{op} i64 {left}, {right}"), origins)

    def __add__(self, other: Any) -> Scalar:
        return self if isinstance(other, int) and other == 0 else self._binary("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Scalar:
        return self._binary("sub", other)

    def __rsub__(self, other: Any) -> Scalar:
        return self._binary("sub", other, True)

    def __mul__(self, other: Any) -> Scalar:
        return self._binary("mul", other)

    __rmul__ = __mul__

    def __and__(self, other: Any) -> Scalar:
        return self._binary("and", other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Scalar:
        return self._binary("or", other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Scalar:
        return self._binary("xor", other)

    __rxor__ = __xor__

    def __lshift__(self, other: Any) -> Scalar:
        return self._binary("shl", other)

    def __rlshift__(self, other: Any) -> Scalar:
        return self._binary("shl", other, True)

    def __rshift__(self, other: Any) -> Scalar:
        return self._binary("ashr", other)

    def __rrshift__(self, other: Any) -> Scalar:
        return self._binary("ashr", other, True)

    def __neg__(self) -> Scalar:
        return self._binary("sub", 0, True)

    def __invert__(self) -> Scalar:
        return self._binary("xor", -1)

    def _compare(self, predicate: str, other: Any) -> Bool:
        if isinstance(other, Partial):
            return NotImplemented
        result = self._binary(f"icmp {predicate}", other)
        return Bool(result.ref, result.origins)

    def __lt__(self, other: Any) -> Bool:
        return self._compare("slt", other)

    def __le__(self, other: Any) -> Bool:
        return self._compare("sle", other)

    def __gt__(self, other: Any) -> Bool:
        return self._compare("sgt", other)

    def __ge__(self, other: Any) -> Bool:
        return self._compare("sge", other)

    def __eq__(self, other: Any) -> Bool:  # type: ignore[override]
        return self._compare("eq", other)

    def __ne__(self, other: Any) -> Bool:  # type: ignore[override]
        return self._compare("ne", other)

    def __bool__(self) -> bool:
        raise Untranslatable("a scalar decides in Python")


def scalar(value: Any) -> Any:
    """A Bool as a Scalar of 0 or 1; ints and Scalars as they are."""
    if isinstance(value, Bool):
        return value.number()
    return int(value) if isinstance(value, bool) else value


def i64(value: Any) -> str:
    """The text of an i64 operand."""
    value = scalar(value)
    return _number(value) if isinstance(value, int) else value.ref


def i1(value: Any) -> str:
    """The text of an i1 operand: a Bool, or whether a number is not 0."""
    if isinstance(value, Bool):
        return value.ref
    if isinstance(value, int):
        return "true" if value else "false"
    return (value != 0).ref


_BITS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "float": 32, "double": 64}


def double(value: float) -> str:
    """A double constant, exact."""
    import struct

    return "0x" + struct.pack(">d", value).hex().upper()


class Lanes(_Value):
    """A vector of `count` lanes of `kind`. narrow: the lanes before a widening, for products of narrow numbers."""

    __slots__ = ("count", "kind", "narrow", "signed")
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        ref: str | None,
        count: int,
        kind: str,
        signed: bool = False,
        narrow: Lanes | None = None,
        slot: int | None = None,
    ) -> None:
        super().__init__(ref, slot, None)
        self.count, self.kind, self.signed, self.narrow = count, kind, signed, narrow

    @property
    def type(self) -> str:
        return f"<{self.count} x {self.kind}>"

    @property
    def bits(self) -> int:
        """Of a lane."""
        return _BITS[self.kind]

    def like(self, text: str) -> Lanes:
        """A new value of the same type."""
        return Lanes(current().value(text), self.count, self.kind, self.signed)

    def constant(self, value: Any) -> str:
        """The text of a splat of a number in this type."""
        if self.kind == "double":
            return f"splat (double {double(float(value))})"
        if self.kind == "i1":
            return f"splat (i1 {'true' if value else 'false'})"
        value = int(value) & ((1 << self.bits) - 1)
        return f"splat ({self.kind} {value - (value >> (self.bits - 1) << self.bits)})"

    def splat(self, value: Scalar) -> str:
        """A scalar's low bits in every lane of this type."""
        out = current()
        text = value.ref if self.bits == 64 else out.value(f"trunc i64 {value.ref} to {self.kind}")
        single = out.value(f"insertelement {self.type} poison, {self.kind} {text}, i64 0")
        mask = f"<{self.count} x i32> zeroinitializer"
        return out.value(f"shufflevector {self.type} {single}, {self.type} poison, {mask}")

    def operand(self, other: Any) -> tuple[Lanes, str]:
        """The common type of both operands: self in it, and the other's text."""
        if isinstance(other, (int, float)):
            if self.kind == "i1" and not isinstance(other, bool):
                raise Untranslatable("arithmetic on a mask and a number")
            return self, self.constant(other)
        if isinstance(other, Scalar):
            return self, self.splat(other)
        if not isinstance(other, Lanes):
            raise Untranslatable(f"lanes and {type(other).__name__}")
        if other.kind == self.kind and (other.signed == self.signed or self.kind == "i1"):
            return self, other.ref
        if other.kind == "i1":
            return self, current().value(f"zext {other.type} {other.ref} to {self.type}")
        if self.kind == "i1":
            widened = Lanes(
                current().value(f"zext {self.type} {self.ref} to {other.type}"), other.count, other.kind, other.signed
            )
            return widened, other.ref
        if self.bits < other.bits and (other.signed or not self.signed):
            return self.extended(other), other.ref
        if other.bits < self.bits and (self.signed or not other.signed):
            return self, other.extended(self).ref
        raise Untranslatable(f"lanes of {self.type} and {other.type} of different signs")

    def extended(self, wider: Lanes) -> Lanes:
        op = "sext" if self.signed else "zext"
        return Lanes(
            current().value(f"{op} {self.type} {self.ref} to {wider.type}"), wider.count, wider.kind, wider.signed
        )

    def _binary(self, integer: str, floating: str | None, other: Any, swapped: bool = False) -> Lanes:
        if isinstance(other, Partial):
            return NotImplemented
        own, text = self.operand(other)
        op = floating if own.kind == "double" else integer
        if op is None:
            raise Untranslatable(f"{integer} of floating-point lanes")
        left, right = (text, own.ref) if swapped else (own.ref, text)
        return own.like(f"{op} {own.type} {left}, {right}")

    def __add__(self, other: Any) -> Lanes:
        return self._binary("add", "fadd", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Lanes:
        return self._binary("sub", "fsub", other)

    def __rsub__(self, other: Any) -> Lanes:
        return self._binary("sub", "fsub", other, True)

    def __mul__(self, other: Any) -> Lanes:
        return self._binary("mul", "fmul", other)

    __rmul__ = __mul__

    def __and__(self, other: Any) -> Lanes:
        return self._binary("and", None, other)

    __rand__ = __and__

    def __or__(self, other: Any) -> Lanes:
        return self._binary("or", None, other)

    __ror__ = __or__

    def __xor__(self, other: Any) -> Lanes:
        return self._binary("xor", None, other)

    def __lshift__(self, other: Any) -> Lanes:
        return self._binary("shl", None, other)

    def __rshift__(self, other: Any) -> Lanes:
        return self._binary("ashr" if self.signed else "lshr", None, other)

    def __neg__(self) -> Lanes:
        if self.kind == "double":
            return self.like(f"fneg {self.type} {self.ref}")
        return self.like(f"sub {self.type} zeroinitializer, {self.ref}")

    def __invert__(self) -> Lanes:
        return self._binary("xor", None, True if self.kind == "i1" else -1)

    def __abs__(self) -> Lanes:
        if self.kind != "double":
            raise Untranslatable("abs of integer lanes")
        return Lanes(
            current().intrinsic(f"llvm.fabs.v{self.count}f64", self.type, (self.type, self.ref)), self.count, self.kind
        )

    def _compare(self, predicate: str, floating: str, other: Any) -> Lanes:
        if isinstance(other, Partial):
            return NotImplemented
        own, text = self.operand(other)
        if own.kind == "double":
            op = f"fcmp {floating}"
        else:
            sign = "" if predicate in ("eq", "ne") else "s" if own.signed else "u"
            op = f"icmp {sign}{predicate}"
        return Lanes(current().value(f"{op} {own.type} {own.ref}, {text}"), own.count, "i1")

    def __lt__(self, other: Any) -> Lanes:
        return self._compare("lt", "olt", other)

    def __le__(self, other: Any) -> Lanes:
        return self._compare("le", "ole", other)

    def __gt__(self, other: Any) -> Lanes:
        return self._compare("gt", "ogt", other)

    def __ge__(self, other: Any) -> Lanes:
        return self._compare("ge", "oge", other)

    def __eq__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("eq", "oeq", other)

    def __ne__(self, other: Any) -> Lanes:  # type: ignore[override]
        return self._compare("ne", "une", other)

    def __bool__(self) -> bool:
        raise Untranslatable("lanes decide in Python")
