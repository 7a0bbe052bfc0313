"""A module's text that stands for all of it.

Named operations of linalg are written by their names, without the region that says what they compute; a module in
generic form or in bytecode can hold one whose region is another. What reads back as another module is written in
generic form.
"""

from __future__ import annotations

from typing import Any


def module_text(module: Any) -> str:
    """Text from which parsing makes the same module, in the short form where that does."""
    from torch_mlir import ir

    whole = _generic(module)
    short = str(module)
    with module.context:
        same = _generic(ir.Module.parse(short)) == whole
    return short if same else whole


def _generic(module: Any) -> str:
    text: str = module.operation.get_asm(print_generic_op_form=True)
    return text
