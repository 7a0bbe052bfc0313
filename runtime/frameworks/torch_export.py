"""Programs of torch.export compiled directly: torch-mlir's importer, and npuc's front end on what it gives."""

from __future__ import annotations

import warnings
from typing import Any

from torch.export import ExportedProgram

from npuc.compiler.diagnostics import InputError, UsageError
from npuc.runtime import executor


def to_mlir(program: ExportedProgram, *, decomposed: bool = False) -> str:
    """The program as text in the torch dialect, with scaled_dot_product_attention whole.

    decomposed: its operations, attention too, as torch-mlir decomposes them. Raises InputError where torch-mlir cannot
    import it, UsageError where this torch-mlir has no importer or it is no exported program.
    """
    if not isinstance(program, ExportedProgram):
        raise UsageError(
            f"a {type(program).__name__} is no exported program", remedy="give what torch.export.export gave"
        )
    try:
        from torch_mlir import fx
    except ImportError as error:
        raise UsageError(f"torch-mlir has no importer of exported programs: {error}") from error
    table: dict[Any, Any] | None = None if decomposed else {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of how torch-mlir copies programs
            return str(fx.export_and_import(program, output_type="raw", decomposition_table=table))
    except Exception as error:  # the importer has no error type of its own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"torch-mlir cannot import the program: {reason}") from error


def compile_exported(program: ExportedProgram, **settings: Any) -> executor.Kernel:
    """Compile the attention that a program of torch.export is, lengths that it leaves open too: `.load()` runs it.

    settings: as npuc.compile takes them. Raises InputError, UnsupportedError, UsageError.
    """
    try:
        return executor.compile(to_mlir(program), **settings)
    except InputError:  # it spells attention out: what no one rule reads may be read once it is decomposed
        return executor.compile(to_mlir(program, decomposed=True), **settings)
