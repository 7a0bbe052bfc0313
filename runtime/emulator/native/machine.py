"""LLVM: IR text to machine code of this host, and machine code into the process."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

lock = threading.RLock()
"""Held by whoever uses LLVM."""
_loaded: dict[int, Any] = {}
"""What keeps machine code in the process, by the number of its library. Held here alone: were it a library's, the
collector of cycles would finalise both, and close it on its own thread while another one does."""
_retired: list[int] = []
"""Libraries without a user, until LLVM is next in use: finalisers run anywhere and must take no locks."""


@functools.cache
def _binding() -> Any:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


@functools.cache
def host_features() -> frozenset[str]:
    """Names of the processor features that code may use."""
    return frozenset(name for name, present in _binding().get_host_cpu_features().items() if present)


@functools.cache
def host_identity() -> str:
    """What machine code of this process depends on: LLVM, processor, features."""
    import llvmlite

    llvm = _binding()
    features = ",".join(sorted(host_features()))
    return f"{llvmlite.__version__} {llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"


@functools.cache
def register_bytes() -> int:
    """Of the widest vector type that the host's registers hold."""
    return 64 if "avx512bw" in host_features() else 32 if "avx" in host_features() else 16


@functools.cache
def _orders_loads() -> bool:
    return str(_binding().get_process_triple()).startswith(("x86_64", "i386", "i686"))


def acquiring_load(place: str) -> str:
    """The text of a load of a pointer that another thread may have stored, with what it points to, just before.

    On x86 every load is one; there it is not written as an atomic one, which LLVM's fast instruction selection refuses.
    """
    if _orders_loads():
        return f"load volatile ptr, ptr {place}, align 8"
    return f"load atomic ptr, ptr {place} acquire, align 8"


@functools.cache
def _target_machine(level: int) -> Any:
    llvm = _binding()
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=level,
        reloc="pic",
        codemodel="small",
    )


def compile_text(text: str, level: int) -> bytes:
    """IR text to an object file.

    level: 0 for long code of simple steps, which runs as fast without any optimisation (loads, stores, calls), 2 for
    arithmetic.
    """
    llvm = _binding()
    with lock:
        machine = _target_machine(level)
        module = llvm.parse_assembly(text)
        if level:
            options = llvm.create_pipeline_tuning_options(speed_level=level)
            options.loop_vectorization = options.slp_vectorization = False
            options.loop_unrolling = False
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        return machine.emit_object(module)


class Library:
    """Machine code in the process; `address` of its exported symbols. Stays loaded as long as this object lives."""

    _count = 0

    def __init__(self, code: bytes, symbols: Sequence[str]) -> None:
        llvm = _binding()
        with lock:
            while _retired:
                _loaded.pop(_retired.pop()).close()
            Library._count += 1
            self._number = Library._count
            builder = llvm.JITLibraryBuilder().add_object_img(code)
            for symbol in symbols:
                builder.export_symbol(symbol)
            _loaded[self._number] = tracker = builder.link(_linker(), f"npuc{self._number}")
            self.address: dict[str, int] = {symbol: tracker[symbol] for symbol in symbols}

    def __del__(self) -> None:
        number = self.__dict__.get("_number")
        if number in _loaded:
            _retired.append(number)


@functools.cache
def _linker() -> Any:
    return _binding().create_lljit_compiler(_target_machine(2), use_jit_link=False)
