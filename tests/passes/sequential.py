"""Runs a machine-level program one operation after the other, with no pipeline: what the program means.

The instruction semantics are the emulator's; schedules, registers and encodings play no part.  Locks are answered by a
callback, which may also move data as a DMA would.
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
from npuc.runtime.emulator.semantics import NUMPY, effect

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

    def _view(self, operand: Reg | Part) -> np.ndarray:
        reg = operand if isinstance(operand, Reg) else operand.reg
        store = self.vectors.setdefault(reg, np.zeros(BYTES[reg.file], np.uint8))
        if isinstance(operand, Reg):
            return store
        size = BYTES[reg.file] // len(PART_NAMES[reg.file])
        first, last = operand.indices[0], operand.indices[-1]
        return store[first * size : (last + 1) * size]

    def _read(self, operand: Any) -> Any:
        if isinstance(operand, int):
            return operand
        if isinstance(operand, str):
            return self.scalars.get(operand, 0)
        reg = operand if isinstance(operand, Reg) else operand.reg
        if reg.file in BYTES:
            return self._view(operand).copy()
        return self.scalars[operand]

    def _write(self, operand: Any, value: Any) -> None:
        reg = operand if isinstance(operand, Reg) else getattr(operand, "reg", None)
        if reg is not None and reg.file in BYTES:
            self._view(operand)[...] = value
        else:
            width = 20 if reg is not None and reg.file in ("p", "m", "dj", "dn", "dc") else 32
            self.scalars[operand] = int(value) & ((1 << width) - 1)

    def _op(self, op: Op) -> None:
        self.operations += 1
        instruction = INSTRUCTIONS[op.name]
        operands = {o.name: v for o, v in zip(instruction.operands, op.operands, strict=True)}
        what = effect(op.name)
        inputs = [self._read(operands.get(name, name)) for name in what.inputs if not name.startswith("width.")]
        if what.outputs and what.outputs[0] == "lock.acquire":
            acquire, number, value, enabled = what.function(NUMPY, *inputs)
            if enabled:
                self.on_lock(number, value, bool(acquire))
            return
        place = self._address(what.address_update, operands)
        if what.access is not None and what.access.kind == "load":
            inputs.insert(0, self._load(place, what.access.bytes))
        results = what.function(NUMPY, *inputs)
        stores = what.access is not None and what.access.kind == "store"
        count = 1 if stores else len(what.outputs)
        values = results if count > 1 or what.doubt is not None else (results,)
        if what.doubt is not None:
            *values, doubtful = values
            assert not doubtful, f"{op.name}: {what.doubt}"
        if stores:
            self._store(place, what.access.bytes, values[0])
        elif what.outputs:
            for name, value in zip(what.outputs, values, strict=True):
                self._write(operands.get(name, name), value)

    def _address(self, form: Any, operands: dict[str, Any]) -> int:
        if form is None:
            return 0
        base = operands[form.base]
        pointer = self.scalars[base]
        if form.offset is not None:
            return (pointer + self._read(operands[form.offset])) & 0xFFFFF
        if form.update is not None:
            assert form.update == "add"
            self._write(base, pointer + self._read(operands[form.step]))
        return pointer

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
