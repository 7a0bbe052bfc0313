"""Runs a machine-level program one operation after the other, with no pipeline: what the program means.

The instruction semantics are the emulator's; schedules, registers and encodings play no part.  Locks are answered by a
callback, which may also move data as a DMA would.  What an operation reads, does and writes is found out when it is
first executed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.passes.machine.ir import (
    PART_NAMES,
    Barrier,
    CountedLoop,
    Forever,
    HardwareLoop,
    IfNonzero,
    Op,
    Part,
    Program,
    Reg,
)
from npuc.runtime.emulator.semantics import NUMPY, Effect, effect

BYTES = {"x": 64, "bm": 64, "cm": 128}
OWN_MEMORY = 0x70000


class Stop(Exception):
    """Raised by the lock callback to end the program."""


class Sequential:
    """memory: 65,536 bytes of data memory.  on_lock(number, value, acquire) is called for every lock operation."""

    def __init__(self, memory: np.ndarray, on_lock: Callable[[int, int, bool], None]) -> None:
        self.memory = memory
        self.on_lock = on_lock
        self.vectors: dict[Reg, np.ndarray] = {}
        self.scalars: dict[Any, int] = {}
        self.operations = 0
        self._prepared: dict[int, tuple[Op, Callable[[], None]]] = {}  # by the operation's identity

    def run(self, program: Program) -> None:
        try:
            self._body(program.body)
        except Stop:
            pass

    def _body(self, body: list[Any]) -> None:
        for statement in body:
            if isinstance(statement, Op):
                self._op(statement)
            elif isinstance(statement, HardwareLoop):
                for _ in range(statement.count):
                    self._body(statement.body)
            elif isinstance(statement, CountedLoop):
                while True:
                    self._body(statement.body)
                    self.scalars[statement.count] -= 1
                    if self.scalars[statement.count] == 0:
                        break
            elif isinstance(statement, IfNonzero):
                if self.scalars[statement.condition]:
                    self._body(statement.body)
            elif isinstance(statement, Forever):
                while True:
                    self._body(statement.body)
            else:
                assert isinstance(statement, Barrier)

    def _op(self, op: Op) -> None:
        self.operations += 1
        prepared = self._prepared.get(id(op))
        if prepared is None:
            prepared = self._prepared[id(op)] = op, self._prepare(op)
        prepared[1]()

    # operands

    def _view(self, operand: Reg | Part) -> np.ndarray:
        """The bytes of a vector register, which stay where they are."""
        reg = operand if isinstance(operand, Reg) else operand.reg
        store = self.vectors.setdefault(reg, np.zeros(BYTES[reg.file], np.uint8))
        if isinstance(operand, Reg):
            return store
        size = BYTES[reg.file] // len(PART_NAMES[reg.file])
        first, last = operand.indices[0], operand.indices[-1]
        return store[first * size : (last + 1) * size]

    def _reader(self, operand: Any) -> Callable[[], Any]:
        scalars = self.scalars
        if isinstance(operand, int):
            return lambda: operand
        if isinstance(operand, str):
            return lambda: scalars.get(operand, 0)
        reg = operand if isinstance(operand, Reg) else operand.reg
        if reg.file in BYTES:
            return self._view(operand).copy
        return lambda: scalars[operand]

    def _writer(self, operand: Any) -> Callable[[Any], None]:
        reg = operand if isinstance(operand, Reg) else getattr(operand, "reg", None)
        if reg is not None and reg.file in BYTES:
            view = self._view(operand)
            return lambda value: view.__setitem__(..., value)
        bits = (1 << (20 if reg is not None and reg.file in ("p", "m", "dj", "dn", "dc") else 32)) - 1
        return lambda value: self.scalars.__setitem__(operand, int(value) & bits)

    # operations

    def _prepare(self, op: Op) -> Callable[[], None]:
        """What executes the operation."""
        instruction = INSTRUCTIONS[op.name]
        operands = {o.name: v for o, v in zip(instruction.operands, op.operands, strict=True)}
        what = effect(op.name)
        readers = [self._reader(operands.get(name, name)) for name in what.inputs if not name.startswith("width.")]
        if what.outputs and what.outputs[0] == "lock.acquire":
            return lambda: self._lock(*what.function(NUMPY, *[read() for read in readers]))
        address = self._addresser(what.address_update, operands)
        loaded = what.access.bytes if what.access is not None and what.access.kind == "load" else 0
        finish = self._finisher(op, what, operands)

        def execute() -> None:
            inputs = [read() for read in readers]
            place = address()
            if loaded:
                inputs.insert(0, self._load(place, loaded))
            finish(place, what.function(NUMPY, *inputs))

        return execute

    def _lock(self, acquire: int, number: int, value: int, enabled: int) -> None:
        if enabled:
            self.on_lock(number, value, bool(acquire))

    def _finisher(self, op: Op, what: Effect, operands: dict[str, Any]) -> Callable[[int, Any], None]:
        """What stores or writes the results of the effect, given the address."""
        stored = what.access.bytes if what.access is not None and what.access.kind == "store" else 0
        writers = [] if stored else [self._writer(operands.get(name, name)) for name in what.outputs]
        single = (stored or len(writers) == 1) and what.doubt is None

        def finish(place: int, results: Any) -> None:
            values = (results,) if single else results
            if what.doubt is not None:
                *values, doubtful = values
                assert not doubtful, f"{op.name}: {what.doubt}"
            if stored:
                self._store(place, stored, values[0])
            elif writers:
                for write, value in zip(writers, values, strict=True):
                    write(value)

        return finish

    def _addresser(self, form: Any, operands: dict[str, Any]) -> Callable[[], int]:
        """What forms the address of an access and updates the registers."""
        if form is None:
            return lambda: 0
        base, scalars = operands[form.base], self.scalars
        if form.offset is not None:
            offset = self._reader(operands[form.offset])
            return lambda: (scalars[base] + offset()) & 0xFFFFF
        if form.update is None:
            return lambda: scalars[base]
        assert form.update == "add"
        step, update = self._reader(operands[form.step]), self._writer(base)

        def address() -> int:
            pointer = scalars[base]
            update(pointer + step())
            return pointer

        return address

    def _load(self, address: int, size: int) -> Any:
        offset = address - OWN_MEMORY
        assert 0 <= offset <= 65536 - size and offset % size == 0, hex(address)
        data = self.memory[offset : offset + size]
        return int.from_bytes(data.tobytes(), "little") if size <= 4 else data.copy()

    def _store(self, address: int, size: int, data: Any) -> None:
        offset = address - OWN_MEMORY
        assert 0 <= offset <= 65536 - size and offset % size == 0, hex(address)
        if isinstance(data, int):
            data = np.frombuffer(data.to_bytes(size, "little"), np.uint8)
        self.memory[offset : offset + size] = data
