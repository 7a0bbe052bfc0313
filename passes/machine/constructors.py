"""What a kernel writes instead of names of instructions: a function each, whose operands are checked as it is called.

`instructions.py` beside this holds them, made from the tables: `python -m npuc.passes.machine.constructors` prints it.
"""

from __future__ import annotations

from functools import cache

from npuc.compiler.diagnostics import InternalError
from npuc.compiler.target.aie2.instructions import INSTRUCTIONS
from npuc.compiler.target.aie2.instructions import Operand as Field
from npuc.compiler.target.aie2.registers import REGISTER_CLASSES
from npuc.passes.machine.ir import Label, Op, Operand, Part, Reg
from npuc.passes.machine.nodes import part_name
from npuc.passes.machine.register_allocation import FILES

_HEAD = '''"""A constructor for each instruction of the core; its operands are those of the tables, in their order.

Made by `python -m npuc.passes.machine.constructors`.
"""
# ruff: noqa: E501, E704, I001, N802
# fmt: off

from __future__ import annotations

from npuc.passes.machine.constructors import operation
from npuc.passes.machine.ir import Immediate, Op, Register

'''


def operation(name: str, *operands: Operand) -> Op:
    """The operation; raises InternalError where an operand is none that the instruction's field can name."""
    for field, operand in zip(INSTRUCTIONS[name].operands, operands, strict=True):
        if not _is_possible(field, operand):
            raise InternalError(f"{name}: {operand} is no {field.register_class or field.kind} for {field.name}")
    return Op(name, operands)


def _is_possible(field: Field, operand: Operand) -> bool:
    if field.kind == "immediate":
        return isinstance(operand, int | Label)
    if field.kind != "register":
        return isinstance(operand, str)
    assert field.register_class is not None
    if isinstance(operand, str):
        return operand in REGISTER_CLASSES[field.register_class].values
    if isinstance(operand, Reg):
        return _fits(field.register_class, operand.file, operand.fixed, None)
    return isinstance(operand, Part) and _fits(field.register_class, operand.reg.file, operand.reg.fixed, operand.which)


@cache
def _fits(register_class: str, file: str, fixed: str | None, which: str | None) -> bool:
    """Whether a register of the class can be one of the file, or the fixed one; which: the part that is named."""
    names = FILES[file] if fixed is None else (fixed,)
    encodable = REGISTER_CLASSES[register_class].values
    return any((part_name(file, name, which) if which else name) in encodable for name in names)


def source() -> str:
    """The text of `instructions.py`."""
    return _HEAD + "".join(_constructor(name) for name in sorted(INSTRUCTIONS))


def _constructor(name: str) -> str:
    fields = INSTRUCTIONS[name].operands
    types = {"register": "Register", "immediate": "Immediate"}
    parameters = ", ".join(f"{field.name}: {types.get(field.kind, 'str')}" for field in fields)
    passed = "".join(f", {field.name}" for field in fields)
    return f'def {name}({parameters}) -> Op: return operation("{name}"{passed})\n'


if __name__ == "__main__":
    print(source(), end="")
