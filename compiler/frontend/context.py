"""MLIR contexts that know what a source may hold."""

from __future__ import annotations

from typing import Any

# Dialects that the bindings load only as dependents of a pass, and that pass.
_BY_PASS = {
    b"tm_tensor.": "builtin.module(func.func(convert-torch-to-tmtensor))",
    b"chlo.": "builtin.module(func.func(convert-torch-to-stablehlo))",
}


def new_context(text: bytes = b"") -> Any:
    """An `ir.Context` for `text`: upstream's dialects, torch, StableHLO and attn, each loaded where it is met.

    Operations of other dialects pass in their generic form.
    """
    from torch_mlir import ir
    from torch_mlir._mlir_libs import _stablehlo, _torchMlir
    from torch_mlir.passmanager import PassManager

    from npuc.compiler.dialects.attn import load_dialect

    context = ir.Context(load_on_create_dialects=[])
    context.enable_multithreading(False)
    context.allow_unregistered_dialects = True
    _torchMlir.register_dialect(context, load=False)
    _stablehlo.register_dialect(context, load=False)
    load_dialect(context)
    for mark, passes in _BY_PASS.items():
        if mark in text or (text.startswith(b"ML") and mark[:-1] in text):  # bytecode has the names without the dot
            with context:
                PassManager.parse(passes).run(ir.Module.create(ir.Location.unknown()).operation)
    return context
